"""The embedded data set: 1,797 handwritten digits, 8x8 grey, real (UCI, as scikit-learn ships them)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from archsearch.data.dataset import Dataset, share_count, stratified_split
from archsearch.jobs import derive_seed

if TYPE_CHECKING:
    from archsearch.data.section import DataSection


def load(section: DataSection) -> Dataset:
    """Images (N, 8, 8, 1), pixels 0..16 spread over 0..255. Stratified: ``test_share`` of all, ``val_share`` of the rest."""
    # A second to import, and not needed to read a configuration.
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    bunch = load_digits()
    x = np.floor(bunch.images[..., None] * 255 / 16 + 0.5).astype(np.uint8)
    y = bunch.target.astype(np.int64)
    rest, test = stratified_split(y, share_count(y, section.test_share), derive_seed(section.seed, "digits", "test"))
    kept = y[rest]
    train, val = stratified_split(kept, share_count(kept, section.val_share), derive_seed(section.seed, "digits", "val"))
    train, val = rest[train], rest[val]
    return Dataset.of("digits", (x[train], y[train]), (x[val], y[val]), (x[test], y[test]), [str(d) for d in range(10)])
