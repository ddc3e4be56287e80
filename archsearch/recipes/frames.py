"""Frames of recipes from where they are kept: golden databases, and files exported from them or made by other programs."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from archsearch.jobs import InputError
from archsearch.recipes.snapshots import KINDS, read_snapshot


def read_recipes(place: str) -> pd.DataFrame:
    """The rows of a .csv, .parquet or .json file, or of a golden database (a SQLite file or a PostgreSQL URL).

    Raises:
        InputError: what ``read_snapshot`` or ``archsearch.recipes.database.read_frame`` refuses; a file without recipes.
    """
    if Path(place).suffix.lower() not in KINDS:
        from archsearch.recipes.database import read_frame

        return read_frame(place)
    frame = read_snapshot(Path(place), numbers=True)
    if "recipe_id" not in frame.columns:
        raise InputError(f"{place} has no column 'recipe_id'; columns: {', '.join(map(str, frame.columns)) or 'none'}")
    return frame
