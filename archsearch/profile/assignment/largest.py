"""Memory as the largest of its parts: each symbol has a peak on each backend, and the largest of them is what is seen."""

from __future__ import annotations

import numpy as np

from archsearch.profile.assignment.features import Floats, Ints


class LargestPart:
    """The largest peaks that explain what was measured.

    A symbol's peak on a backend is at most the smallest memory that was seen with it; those bounds are the estimates.

    Args:
        digits: (n, symbols) what was measured; n is at least 2.
        values: (n,) memory.
        base: how many backends there are.
    """

    def __init__(self, digits: Ints, values: Floats, base: int) -> None:
        n, symbols = digits.shape
        self._unseen = float(values.min())
        shape = (symbols, base)
        self.peaks = np.full(shape, np.inf)
        second, by = np.full(shape, np.inf), np.full(shape, -1)
        order = np.argsort(values, kind="stable")[::-1]
        for i in order:  # from the largest down, so that the last one written is the smallest
            place = np.arange(symbols), digits[i]
            second[place], self.peaks[place], by[place] = self.peaks[place], values[i], i
        own = by[np.arange(symbols), digits] == np.arange(n)[:, None]
        without = np.where(own, second[np.arange(symbols), digits], self.peaks[np.arange(symbols), digits])
        #: (n,) what each would be expected to be from the others.
        self.left_out = np.where(np.isfinite(without), without, self._unseen).max(axis=1)
        self.peaks[~np.isfinite(self.peaks)] = self._unseen

    def predict(self, digits: Ints) -> Floats:
        """(n, symbols) to (n,)."""
        return np.asarray(self.peaks[np.arange(digits.shape[1]), digits].max(axis=1))
