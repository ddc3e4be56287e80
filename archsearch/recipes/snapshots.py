"""Frames as files for other programs: CSV, Parquet, JSON. What is read is a stranger's: it cannot run code or fill the memory,
and is checked cell by cell when it is imported (see ``archsearch.recipes.checks``)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from archsearch.jobs import InputError, StoreUnavailable
from archsearch.store.durable import write_durably
from archsearch.store.golden_schema import KEY

#: By the end of their names.
KINDS = (".csv", ".parquet", ".json")

#: Bytes of a file that is read at all, and of a Parquet file unpacked.
LARGEST = 1 << 32

#: What others write into a cell of a CSV file where a number is missing.
_MISSING = ["", "NA", "N/A", "<NA>", "NaN", "nan", "null", "NULL", "None"]


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


def read_snapshot(source: Path, *, numbers: bool = False) -> pd.DataFrame:
    """The file as it is; its values are not checked.

    Args:
        numbers: cells of a CSV file are numbers where all of their column are or are missing; else each is text.

    Raises:
        InputError: there is none, it is not such a file or would fill the memory, or Parquet's library is not installed.
    """
    kind = _kind(source)
    try:
        if not source.is_file():
            raise InputError(f"there is no file {source}")
        if source.stat().st_size > LARGEST:
            raise InputError(f"{source} is larger than {LARGEST} bytes: split it")
        if kind == ".csv":
            return _read_csv(source, numbers)
        if kind == ".parquet":
            return _read_parquet(source)
        rows = json.loads(source.read_text(encoding="utf-8"))
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError("expected a list of objects")
        return pd.DataFrame.from_records(rows) if rows else pd.DataFrame(columns=[*KEY])
    except (ValueError, RecursionError) as error:  # pandas' own errors are of these
        if isinstance(error, InputError):
            raise
        raise InputError(f"{source} is no {kind} file of rows: {' '.join(str(error).split())[:200]}") from error
    except OSError as error:
        raise InputError(f"{source} cannot be read: {error}") from error


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as JSON has them: None where nothing is known."""
    rows = frame.astype(object).to_dict("records")
    return [{name: None if pd.isna(value) else value for name, value in row.items()} for row in rows]


def _read_csv(source: Path, numbers: bool) -> pd.DataFrame:
    """All as text: each number is read once, exactly, by whoever checks it. Or with numbers, but for the columns of names: a
    recipe called 007, or a device called NA, stays so."""
    if not numbers:
        return pd.read_csv(source, dtype=str, keep_default_na=False, encoding="utf-8")
    missing = {name: [""] if name in KEY else _MISSING for name in pd.read_csv(source, nrows=0, encoding="utf-8").columns}
    names = dict.fromkeys(KEY, "str")
    return pd.read_csv(source, dtype=names, na_values=missing, keep_default_na=False, low_memory=False, encoding="utf-8")


def _kind(path: Path) -> str:
    if path.suffix.lower() not in KINDS:
        raise InputError(f"{path}: give a file whose name ends in {', '.join(KINDS)}")
    return path.suffix.lower()


def _pyarrow() -> Any:
    try:
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise InputError(f"Parquet needs pyarrow, pip install 'archsearch[parquet]', or take a .csv file ({error})") from error
    return pyarrow


def _parquet(frame: pd.DataFrame) -> bytes:
    arrow = _pyarrow()
    sink = arrow.BufferOutputStream()
    arrow.parquet.write_table(arrow.Table.from_pandas(frame, preserve_index=False), sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def _read_parquet(source: Path) -> pd.DataFrame:
    arrow = _pyarrow()
    try:
        with arrow.parquet.ParquetFile(source) as file:
            about = file.metadata
            groups = sum(about.row_group(number).total_byte_size for number in range(about.num_row_groups))
            cells = 8 * about.num_rows * about.num_columns  # one value, said to be repeated, takes no room in a file
            if max(groups, cells) > LARGEST:
                raise InputError(f"{source} unpacks to more than {LARGEST} bytes: split it")
            return file.read().to_pandas(ignore_metadata=True)
    except arrow.ArrowException as error:
        raise ValueError(str(error)) from error
