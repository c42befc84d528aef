"""Tokenizing a jsonl file to parquet: ours against `datasets.map(batched=True)`, one core each.

Text: the Python standard library's sources. Both start from the same jsonl file and the same
8k byte-level BPE, end in a parquet file with `input_ids`, and run on one core in a process of
their own, so that no cache is warm. CPU seconds, without imports and without opening the
tokenizer. Not named tokenize.py: a script's folder comes first on sys.path, and it would take
the standard library's `tokenize` from every script beside it.

    python benchmarks/tokenizing.py
"""

import argparse
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

ONE_CORE = {
    "RAYON_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
}
REPEATS = 3  # ours; the median counts


def write_jsonl(path: Path, n_bytes: int) -> int:
    """Fill a jsonl file with source files; return the bytes of text in it."""
    written = 0
    with path.open("w", encoding="utf-8") as file:
        for source in sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")):
            if "site-packages" in source.parts or written >= n_bytes:
                continue
            try:
                text = source.read_text(encoding="utf-8")
            except UnicodeDecodeError:  # test files of the tokenizer module
                continue
            if text.strip():
                file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
                written += len(text.encode())
    return written


def ours(folder: Path) -> tuple[float, int]:
    """CPU seconds and tokens of `tokenize_shard`."""
    import pandas  # noqa: F401  (pyarrow imports it at the first array, `datasets` before)

    from mixture_assets.data.shards import discover
    from mixture_assets.data.tokenize import tokenize_shard
    from mixture_assets.data.tokenizer import load_tokenizer

    (shard,) = discover(str(folder / "raw"), cache=folder / "cache.json")["python"]
    with tempfile.TemporaryDirectory(dir=folder) as store:
        tokenizer = load_tokenizer(str(folder / "tokenizer.json"), store=Path(store))
        start = time.process_time()
        made = tokenize_shard(shard, tokenizer, store=Path(store))
        return time.process_time() - start, made.n_tokens


def theirs(folder: Path) -> tuple[float, int]:
    """CPU seconds and tokens of `datasets.map`."""
    import datasets
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def encode(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        return {"input_ids": [e.ids for e in tokenizer.encode_batch(batch["text"])]}

    start = time.process_time()
    data = datasets.Dataset.from_json(
        str(folder / "raw/python/text.jsonl"), cache_dir=str(folder / "cache")
    )
    done = data.map(encode, batched=True, remove_columns=data.column_names)
    done.to_parquet(str(folder / "theirs.parquet"))
    seconds = time.process_time() - start
    return seconds, sum(map(len, done["input_ids"]))


def measure(which: str, folder: Path) -> tuple[float, int]:
    """Run one side in a process of its own on one core."""
    command = [sys.executable, __file__, "--side", which, str(folder)]
    env = {**os.environ, **ONE_CORE}
    out = subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout
    seconds, tokens = json.loads(out.splitlines()[-1])
    return seconds, tokens


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=25)
    parser.add_argument("--side", nargs=2, metavar=("ours|theirs", "FOLDER"))
    args = parser.parse_args()
    if args.side:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        side, folder = {"ours": ours, "theirs": theirs}[args.side[0]], Path(args.side[1])
        print(json.dumps(side(folder)))
        return
    from mixture_assets.data.shards import discover
    from mixture_assets.data.tokenizer import train_tokenizer

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "raw/python").mkdir(parents=True)
        n_bytes = write_jsonl(folder / "raw/python/text.jsonl", int(args.megabytes * 1e6))
        shards = discover(str(folder / "raw"), cache=folder / "cache.json")
        tokenizer = train_tokenizer(shards, vocab_size=8192, store=folder / "store")
        (folder / "tokenizer.json").write_bytes(tokenizer.path.read_bytes())
        runs = sorted(measure("ours", folder) for _ in range(REPEATS))
        seconds, tokens = runs[REPEATS // 2]
        their_seconds, their_tokens = measure("theirs", folder)
        assert tokens == their_tokens, (tokens, their_tokens)
    print(
        json.dumps(
            {
                "benchmark": "tokenizing",
                "megabytes": round(n_bytes / 1e6, 1),
                "tokens": tokens,
                "ours_mb_per_core_second": round(n_bytes / seconds / 1e6, 1),
                "datasets_map_mb_per_core_second": round(n_bytes / their_seconds / 1e6, 2),
                "ratio": round(their_seconds / seconds, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
