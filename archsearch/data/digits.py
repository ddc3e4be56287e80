"""The embedded data set: 1,797 handwritten digits, 8x8 grey, real (UCI, as scikit-learn ships them)."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from archsearch.data.dataset import Dataset, share_count, stratified_split
from archsearch.jobs import InputError, derive_seed

if TYPE_CHECKING:
    from archsearch.data.section import DataSection


def load(section: DataSection) -> Dataset:
    """Images (N, 8, 8, 1), pixels 0..16 spread over 0..255. Stratified: ``test_share`` of all, ``val_share`` of the rest."""
    rows = np.loadtxt(_file(), delimiter=",", dtype=np.int64)
    x = np.floor(rows[:, :-1].reshape(-1, 8, 8, 1) * 255 / 16 + 0.5).astype(np.uint8)
    y = rows[:, -1]
    rest, test = stratified_split(y, share_count(y, section.test_share), derive_seed(section.seed, "digits", "test"))
    kept = y[rest]
    train, val = stratified_split(kept, share_count(kept, section.val_share), derive_seed(section.seed, "digits", "val"))
    train, val = rest[train], rest[val]
    return Dataset.of("digits", (x[train], y[train]), (x[val], y[val]), (x[test], y[test]), [str(d) for d in range(10)])


def _file() -> Path:
    """scikit-learn's file, read as it is: importing scikit-learn for it takes a second of every start."""
    found = find_spec("sklearn")
    place = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz" if found and found.origin else None
    if place is None or not place.is_file():
        raise InputError(f"data.name = digits reads a file of scikit-learn, which is not at {place}; pip install scikit-learn")
    return place
