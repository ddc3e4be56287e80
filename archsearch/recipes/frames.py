"""Frames of recipes from where they are kept: CSV and Parquet files, golden databases. A stranger's file cannot run code."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from archsearch.jobs import InputError

if TYPE_CHECKING:
    import pandas as pd

#: Columns of names: digits alone are no number there, and a recipe called 007 stays so.
NAMES = ("recipe_id", "device", "quantisation")


def read_recipes(place: str) -> pd.DataFrame:
    """The rows of a .csv or .parquet file, or of a golden database (a SQLite file or a PostgreSQL URL).

    Raises:
        InputError: there is no such file, or it is not of its kind; Parquet's library is not installed; whatever
            ``archsearch.recipes.database.read_frame`` refuses.
    """
    path = Path(place)
    kind = path.suffix.lower()
    if kind not in (".csv", ".parquet"):
        return import_module("archsearch.recipes.database").read_frame(place)
    if not path.is_file():
        raise InputError(f"there is no file {place}")
    import pandas as pd

    try:
        if kind == ".csv":
            frame = pd.read_csv(path, dtype=dict.fromkeys(NAMES, "str"))
        else:
            frame = pd.read_parquet(path, engine="pyarrow")
    except ImportError as error:
        text = " ".join(str(error).split())[:120]
        raise InputError(
            f"{place}: Parquet needs pyarrow, pip install 'archsearch[parquet]', or give a .csv ({text})"
        ) from None
    except (ValueError, OSError) as error:  # pandas' and pyarrow's own errors are of these
        raise InputError(f"{place} is no {kind[1:]} file of rows: {' '.join(str(error).split())[:300]}") from None
    if "recipe_id" not in frame.columns:
        raise InputError(f"{place} has no column 'recipe_id'; columns: {', '.join(map(str, frame.columns)) or 'none'}")
    return frame
