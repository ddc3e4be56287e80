"""What the time or memory of an assignment is made of, as features: the terms that ``structured`` learns.

Each term is linear, and (but for ``use``) belongs to one symbol or to one pair of symbols, so that a sum of terms can be
minimised exactly over the graph (``elimination``):

- *own*: each symbol's cost on each backend;
- *kind*: the same for all symbols of a name, by their share of its data (mode ``index``): what is learned of one convolution
  is expected of the others;
- *pair*: each pair of backends of two symbols that feed one another: what changing the backend costs there, or fusing saves;
- *crossing*: edges between different backends, counted and by their data: what a change of backend costs anywhere;
- *use*: that a backend is used at all, as its library and workspace take memory once.
"""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from archsearch.profile.assignment.encoding import Encoding

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Pair = tuple[int, int]

#: Without a graph every two symbols may be neighbours, as long as these are not too many.
MOST_PAIRS = 64
#: Prior shares of the variance: what a term explains before anything was measured.
OWN, KIND, PAIR, CROSSING, USE = 0.6, 0.3, 0.1, 0.1, 0.1


class Features:
    """The features of one encoding.

    Attributes:
        group: (features,) which variance each feature has.
        prior: (groups,) those variances before anything is known, in units of the objective's variance.
        pairs: symbols that are neighbours, lower first.
    """

    def __init__(self, encoding: Encoding) -> None:
        self.symbols, self.base = len(encoding.symbols), encoding.base
        edges: Counter[Pair] = Counter(encoding.edges)
        if encoding.graph is None and self.symbols * (self.symbols - 1) // 2 <= MOST_PAIRS:
            edges = Counter(combinations(range(self.symbols), 2))
        self.pairs = sorted(edges)
        total = max(1, sum(edges.values()))
        self._crossings = np.array([edges[pair] / total for pair in self.pairs])
        kinds = encoding.by_name.symbols if encoding.mode == "index" and encoding.by_name.size < encoding.size else ()
        self._kinds = _shares(encoding, [kind.name for kind in kinds])  # (kinds, symbols)

        own, pair = self.symbols * self.base, len(self.pairs) * self.base**2
        counts = [self.base] * self.symbols + [self.base**2] * len(self.pairs)
        counts += [len(kinds) * self.base, 1 if self.pairs else 0, self.base]
        self.group = np.repeat(np.arange(len(counts)), counts)
        self.prior = np.concatenate((
            np.full(self.symbols, OWN / self.symbols),
            np.full(len(self.pairs), PAIR / max(1, len(self.pairs))),
            [KIND, CROSSING, USE],
        ))  # fmt: skip
        ends = np.cumsum([own, pair, len(kinds) * self.base, 1 if self.pairs else 0, self.base])
        self._own, self._pair, self._kind, self._crossing, self._use = map(slice, (0, *ends[:-1]), ends)
        self.size = int(ends[-1])

    def of(self, digits: Ints) -> Floats:
        """(n, symbols) places to (n, features)."""
        chosen = (digits[:, :, None] == np.arange(self.base)).astype(np.float64)  # (n, symbols, base)
        n = len(digits)
        found = np.zeros((n, self.size))
        found[:, self._own] = chosen.reshape(n, -1)
        found[:, self._kind] = np.einsum("ks,nsb->nkb", self._kinds, chosen).reshape(n, -1)
        found[:, self._use] = chosen.max(axis=1)
        if self.pairs:
            left, right = np.array(self.pairs).T
            found[:, self._pair] = (chosen[:, left, :, None] * chosen[:, right, None, :]).reshape(n, -1)
            found[:, self._crossing] = ((digits[:, left] != digits[:, right]) @ self._crossings)[:, None]
        return found

    def alike(self, first: Floats, second: Floats) -> Floats:
        """(n, features) and (m, features) to (n, m): 1 for equal assignments, falling by e for each quarter of the symbols."""
        different = 1.0 - first[:, self._own] @ second[:, self._own].T / self.symbols
        return np.asarray(np.exp(-4.0 * different))

    def terms(self, weights: Floats) -> tuple[Floats, dict[Pair, Floats], Floats]:
        """Weights of all features as the costs of each symbol (symbols, base), each pair (base, base) and each use (base,)."""
        own = weights[self._own].reshape(self.symbols, self.base)
        own = own + self._kinds.T @ weights[self._kind].reshape(-1, self.base)
        tables = weights[self._pair].reshape(-1, self.base, self.base)
        if self.pairs:
            changes = 1.0 - np.eye(self.base)
            tables = tables + (weights[self._crossing] * self._crossings)[:, None, None] * changes
        return own, dict(zip(self.pairs, tables, strict=True)), weights[self._use]


def _shares(encoding: Encoding, names: list[str]) -> Floats:
    """(names, symbols): how much of the data of a name's operations is each symbol's."""
    shares = np.zeros((len(names), len(encoding.symbols)))
    often = Counter(encoding.nodes)
    for place, symbol in enumerate(encoding.symbols):
        if symbol.name in names:
            shares[names.index(symbol.name), place] = often[place] * max(1, symbol.size or 1)
    return np.asarray(shares / np.maximum(shares.sum(axis=1, keepdims=True), 1.0))
