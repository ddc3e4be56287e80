"""Data sets and augmentation. Loading needs no torch; batches on a device are in ``archsearch.data.augment``."""

from archsearch.data.dataset import Dataset, content_hash, load, normalise
from archsearch.data.section import AugmentSection, DataSection, GlyphsSection

__all__ = ["AugmentSection", "DataSection", "Dataset", "GlyphsSection", "content_hash", "load", "normalise"]
