"""Frames as files for other programs: CSV, Parquet, JSON. What is read is a stranger's: it cannot run code, and is checked
cell by cell when it is imported (see ``archsearch.recipes.checks``)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from archsearch.jobs import InputError, StoreUnavailable
from archsearch.store.durable import write_durably

#: By the end of their names.
KINDS = (".csv", ".parquet", ".json")

#: Bytes of a file that is read at all, and of a Parquet file unpacked.
LARGEST = 1 << 32


def write_snapshot(frame: pd.DataFrame, target: Path) -> None:
    """Write the file whole, or not at all; one of that name is replaced.

    Raises:
        InputError: another kind of file, or Parquet's library is not installed.
        StoreUnavailable: it cannot be written.
    """
    kind = _kind(target)
    if kind == ".csv":
        payload = frame.to_csv(index=False).encode()
    elif kind == ".json":
        lines = ",\n".join(json.dumps(row, allow_nan=False) for row in records(frame))
        payload = f"[\n{lines}\n]\n".encode()
    else:
        payload = _parquet(frame)
    try:
        write_durably(target.expanduser().absolute(), payload)
    except OSError as error:
        raise StoreUnavailable(f"{target} cannot be written: {error}") from error


def read_snapshot(source: Path) -> pd.DataFrame:
    """The file as it is; its values are not checked.

    Raises:
        InputError: there is none, or it is not such a file.
    """
    kind = _kind(source)
    try:
        if not source.is_file():
            raise InputError(f"there is no file {source}")
        if source.stat().st_size > LARGEST:
            raise InputError(f"{source} is larger than {LARGEST} bytes: split it")
        if kind == ".csv":  # all as text: 007 stays a name, and each number is read once, exactly
            return pd.read_csv(source, dtype=str, keep_default_na=False, encoding="utf-8")
        if kind == ".parquet":
            return _read_parquet(source)
        rows = json.loads(source.read_text(encoding="utf-8"))
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError("expected a list of objects")
        return pd.DataFrame.from_records(rows) if rows else pd.DataFrame(columns=["recipe_id", "device", "quantisation"])
    except (ValueError, RecursionError, UnicodeDecodeError, pd.errors.ParserError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{source} is no {kind} file of rows: {' '.join(str(error).split())[:200]}") from error
    except OSError as error:
        raise InputError(f"{source} cannot be read: {error}") from error


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as JSON has them: None where nothing is known."""
    rows = frame.astype(object).to_dict("records")
    return [{name: None if pd.isna(value) else value for name, value in row.items()} for row in rows]


def _kind(path: Path) -> str:
    if path.suffix.lower() not in KINDS:
        raise InputError(f"{path}: give a file whose name ends in {', '.join(KINDS)}")
    return path.suffix.lower()


def _pyarrow() -> Any:
    try:
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise InputError(f"Parquet files need another library ({error}): pip install 'archsearch[parquet]'") from error
    return pyarrow


def _parquet(frame: pd.DataFrame) -> bytes:
    arrow = _pyarrow()
    sink = arrow.BufferOutputStream()
    arrow.parquet.write_table(arrow.Table.from_pandas(frame, preserve_index=False), sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def _read_parquet(source: Path) -> pd.DataFrame:
    arrow = _pyarrow()
    with arrow.parquet.ParquetFile(source) as file:  # its errors are ValueErrors or OSErrors
        groups = (file.metadata.row_group(number) for number in range(file.metadata.num_row_groups))
        if sum(group.total_byte_size for group in groups) > LARGEST:
            raise InputError(f"{source} unpacks to more than {LARGEST} bytes: split it")
        return file.read().to_pandas(ignore_metadata=True)
