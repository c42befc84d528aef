"""Texts from columnar shards: parquet, and the Arrow files that `datasets` saves."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from mixture_assets.core.errors import MixtureError, shortlist
from mixture_assets.data.compression import gone
from mixture_assets.data.messages import first_sentence
from mixture_assets.data.shards import RawShard

_ROWS = 512  # read at a time: texts of 1 MB are half a GB then, in Arrow and in Python


def parquet_texts(shard: RawShard, column: str) -> Iterator[list[str]]:
    """One column of a parquet file, a list per batch of rows."""
    with _opened(shard) as file:
        parquet = pq.ParquetFile(file)
        _require_column(shard, parquet.schema_arrow, column)
        batches = parquet.iter_batches(_ROWS, columns=[column], use_threads=False)
        yield from _texts(shard, batches, column)


def arrow_texts(shard: RawShard, column: str) -> Iterator[list[str]]:
    """One column of an Arrow IPC file or stream, a list per record batch."""
    with _opened(shard) as file:
        is_file = file.read(6) == b"ARROW1"
        file.seek(0)
        if is_file:
            reader = pa.ipc.open_file(file)
            batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
        else:
            batches = reader = pa.ipc.open_stream(file)
        _require_column(shard, reader.schema, column)
        yield from _texts(shard, batches, column)


@contextmanager
def _opened(shard: RawShard) -> Iterator[Any]:
    """The open file; Arrow's errors name no file, so they become ours."""
    kind = shard.format
    try:
        with fsspec.open(shard.url, "rb") as file:
            if file.seek(0, 2) != shard.n_bytes:
                raise gone(shard)
            file.seek(0)
            yield file
    except FileNotFoundError as error:
        raise gone(shard) from error
    except UnicodeDecodeError as error:
        raise MixtureError(
            f"{shard.name!r} has text that is not UTF-8: byte 0x{error.object[error.start]:02x}",
            hint=f"write the {kind} file again from valid strings",
        ) from error
    except MixtureError:
        raise
    # A damaged file leads Arrow, and Python after it, into errors of a dozen kinds.
    except Exception as error:
        raise MixtureError(
            f"{shard.name!r} cannot be read as {kind}: {first_sentence(error)}",
            hint="it is damaged or half-written: write or download it again",
        ) from error


def _require_column(shard: RawShard, schema: Any, column: str) -> None:
    found = schema.names.count(column)
    if found != 1:
        names = shortlist(schema.names, 12) if schema.names else "none"
        problem = f"has {found} columns" if found else "has no column"
        raise MixtureError(
            f"{shard.name!r} {problem} {column!r}: it has {names}",
            hint="name the column that holds the text: [data] text_field",
        )


def _texts(shard: RawShard, batches: Iterable[Any], column: str) -> Iterator[list[str]]:
    row = 1
    for batch in batches:
        values = batch.column(column)
        _require_sound(values)
        texts: list[str] = values.to_pylist()
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                kind = "nothing" if text is None else type(text).__name__
                raise MixtureError(
                    f"{shard.name!r} row {row + i:,} has {kind} in {column!r} instead of text",
                    hint="leave the row out, or name another column: [data] text_field",
                )
        row += len(texts)
        yield texts


def _require_sound(values: Any) -> None:
    """Look at every offset: Arrow follows a damaged one into foreign memory, and dies."""
    try:
        values.validate(full=True)
    except pa.ArrowInvalid as error:
        if "UTF8" not in str(error):  # to_pylist names the byte
            raise
