"""All Pareto-optimal assignments of a cost that is made of terms of one and of two symbols, exactly, by dynamic programming.

Symbols are eliminated one after another (Dechter, "Bucket Elimination", Artif. Intell. 113, 1999): for each choice of the
symbols that it is tied to, the best of a symbol's backends are kept, "best" being a set of (time, memory) labels that do not
dominate one another, as in multi-objective shortest paths (Martins, "On a multicriteria shortest path problem", Eur. J.
Oper. Res. 16, 1984). On a chain this is the familiar pass from left to right. Time is a sum; memory is a sum too, or the
largest of its terms: both grow with each of their parts, so that what is dominated in part is dominated as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from archsearch.frontier import pareto_front
from archsearch.profile.assignment.features import Floats, Pair

#: Labels kept of one set; where there are more they are thinned evenly, and the answer is exact no longer.
MOST_LABELS = 128
#: Entries of the largest table: pairs that would make it larger are taken apart (``affordable``).
MOST_ENTRIES = 2048


@dataclass(frozen=True)
class Labels:
    """Partial assignments: ``costs`` (k, 2), and ``digits`` (k, symbols) with -1 where nothing was decided."""

    costs: Floats
    digits: NDArray[np.int8]


@dataclass(frozen=True)
class Factor:
    """What a choice for the symbols in ``scope`` costs: one set of labels for each."""

    scope: tuple[int, ...]
    table: dict[tuple[int, ...], Labels]


def pareto_assignments(
    own: Floats, pairs: Mapping[Pair, Floats], *, largest_memory: bool = False, allowed: Sequence[int] | None = None
) -> NDArray[np.int8]:
    """The assignments on the front, (k, symbols), fastest first; one of those with equal costs.

    Args:
        own: (symbols, base, 2) time and memory of each symbol on each backend.
        pairs: (base, base, 2) for pairs of symbols, lower first.
        largest_memory: memory is the largest of its terms, not their sum; those of pairs do not count then.
        allowed: the backends that may be used; default all.
    """
    symbols, base, _ = own.shape
    backends = range(base) if allowed is None else allowed
    own, pairs = affordable(own, pairs, len(backends))
    empty = np.full((1, symbols), -1, dtype=np.int8)
    factors = [
        Factor(pair, {(a, b): Labels(costs[a, b][None], empty) for a, b in product(backends, repeat=2)})
        for pair, costs in ((pair, _without_memory(costs) if largest_memory else costs) for pair, costs in pairs.items())
    ]
    left = set(range(symbols))
    while left:
        symbol = min(left, key=lambda each: (len(_neighbours(each, [factor.scope for factor in factors])), each))
        left.remove(symbol)
        tied = [factor for factor in factors if symbol in factor.scope]
        factors = [factor for factor in factors if symbol not in factor.scope]
        scope = tuple(sorted(_neighbours(symbol, [factor.scope for factor in tied])))
        table = {}
        for choice in product(backends, repeat=len(scope)):
            chosen = dict(zip(scope, choice, strict=True))
            sets = []
            for backend in backends:
                chosen[symbol] = backend
                labels = Labels(own[symbol, backend][None], empty)
                for factor in tied:
                    labels = _joined(labels, factor.table[tuple(chosen[each] for each in factor.scope)], largest_memory)
                digits = labels.digits.copy()
                digits[:, symbol] = backend
                sets.append(Labels(labels.costs, digits))
            table[choice] = _best(np.concatenate([s.costs for s in sets]), np.concatenate([s.digits for s in sets]))
        factors.append(Factor(scope, table))
    whole = Labels(np.array([[0.0, -np.inf if largest_memory else 0.0]]), empty)
    for factor in factors:
        whole = _joined(whole, factor.table[()], largest_memory)
    return whole.digits


def affordable(own: Floats, pairs: Mapping[Pair, Floats], base: int) -> tuple[Floats, dict[Pair, Floats]]:
    """The terms with only those pairs, the strongest first, that leave every table of the elimination small.

    The others are replaced by the nearest sum of terms of one symbol each: their means over the other symbol's backends.
    """
    kept: dict[Pair, Floats] = {}
    own = own.copy()

    def strength(pair: Pair) -> float:
        costs = pairs[pair]
        alone = costs.mean(axis=0, keepdims=True) + costs.mean(axis=1, keepdims=True) - costs.mean(axis=(0, 1))
        return float(np.ptp(costs - alone, axis=(0, 1)).max())

    everything = _largest_table(list(pairs), len(own), base) <= MOST_ENTRIES
    for pair in sorted(pairs, key=lambda pair: (-strength(pair), pair)):
        costs = pairs[pair]
        if everything or _largest_table([*kept, pair], len(own), base) <= MOST_ENTRIES:
            kept[pair] = costs
        else:
            half = costs.mean(axis=(0, 1)) / 2
            own[pair[0]] += costs.mean(axis=1) - half
            own[pair[1]] += costs.mean(axis=0) - half
    return own, kept


def _largest_table(pairs: list[Pair], symbols: int, base: int) -> int:
    """Entries of the largest table when the symbol with the fewest neighbours goes first."""
    neighbours: dict[int, set[int]] = {symbol: set() for symbol in range(symbols)}
    for a, b in pairs:
        neighbours[a].add(b)
        neighbours[b].add(a)
    width = 0
    while neighbours:
        symbol = min(neighbours, key=lambda each: (len(neighbours[each]), each))
        around = neighbours.pop(symbol)
        width = max(width, len(around))
        for each in around:
            neighbours[each] |= around - {each}
            neighbours[each].discard(symbol)
    return int(base ** (width + 1))


def _neighbours(symbol: int, scopes: list[tuple[int, ...]]) -> set[int]:
    return {each for scope in scopes if symbol in scope for each in scope} - {symbol}


def _without_memory(costs: Floats) -> Floats:
    changed = costs.copy()
    changed[..., 1] = -np.inf
    return changed


def _joined(first: Labels, second: Labels, largest_memory: bool) -> Labels:
    """Every label of one with every label of the other: what they decide are different symbols."""
    if len(first.costs) == len(second.costs) == 1 and not largest_memory:
        return Labels(first.costs + second.costs, np.maximum(first.digits, second.digits))
    costs = first.costs[:, None] + second.costs[None]
    if largest_memory:
        costs[..., 1] = np.maximum(first.costs[:, None, 1], second.costs[None, :, 1])
    digits = np.maximum(first.digits[:, None], second.digits[None])
    return _best(costs.reshape(-1, 2), digits.reshape(-1, digits.shape[-1]))


def _best(costs: Floats, digits: NDArray[np.int8]) -> Labels:
    """Those that no other dominates, thinned where they are too many; the fastest and the smallest stay."""
    if len(costs) == 1:
        return Labels(costs, digits)
    finite = np.where(np.isneginf(costs), -1e300, costs)
    keep = pareto_front(finite)
    if len(keep) > MOST_LABELS:
        keep = keep[np.linspace(0, len(keep) - 1, MOST_LABELS).round().astype(int)]
    return Labels(costs[keep], digits[keep])
