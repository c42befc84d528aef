"""Write examples/specialist again: pieces of this package's own source, as text to be good at."""

import json
from pathlib import Path

PIECES, CHARS = 40, 1500


def main() -> None:
    """One piece from the middle of each of the longest modules."""
    root = Path(__file__).parents[1]
    modules = sorted((root / "mixture_assets").rglob("*.py"), key=lambda p: -p.stat().st_size)
    folder = root / "examples" / "specialist"
    folder.mkdir(exist_ok=True)
    with open(folder / "python.jsonl", "w", encoding="utf-8") as file:
        for path in modules[:PIECES]:
            text = path.read_text(encoding="utf-8")
            start = text.index("\n", len(text) // 2 - CHARS // 2) + 1
            file.write(json.dumps({"text": text[start : start + CHARS]}) + "\n")


if __name__ == "__main__":
    main()
