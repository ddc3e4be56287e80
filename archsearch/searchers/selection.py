"""Which shortcuts a child gets: the best set of ranked pairs that was not tried yet."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence

from archsearch.arch import Edge

#: Ranked (source, operation, alpha) triples of one cell, the strongest first.
Ranking = Sequence[tuple[str, str, float]]


def best_sets(ranked: Mapping[str, Ranking], size: int) -> Iterator[dict[str, list[tuple[str, str, float]]]]:
    """Every choice of ``size`` pairs a cell, in falling order of the summed |alpha|, ties in order of rank.

    Lazy best-first search over index tuples: the first answer costs nothing, however many cells and pairs there are.
    A cell with fewer pairs than ``size`` gives all it has; a cell with none cannot grow and is left out.
    """
    names = [name for name in ranked if ranked[name]]
    if not names:
        return
    strengths = {name: [abs(alpha) if alpha == alpha else 0.0 for _, _, alpha in ranked[name]] for name in names}
    start = tuple(tuple(range(min(size, len(ranked[name])))) for name in names)

    def weight(choice: tuple[tuple[int, ...], ...]) -> float:
        return sum(strengths[name][index] for name, indices in zip(names, choice, strict=True) for index in indices)

    heap = [(-weight(start), start)]
    seen = {start}
    while heap:
        _, choice = heapq.heappop(heap)
        yield {name: [ranked[name][i] for i in indices] for name, indices in zip(names, choice, strict=True)}
        for cell, indices in enumerate(choice):
            for place, index in enumerate(indices):
                limit = indices[place + 1] if place + 1 < len(indices) else len(ranked[names[cell]])
                if index + 1 < limit:
                    moved = (*indices[:place], index + 1, *indices[place + 1 :])
                    following = (*choice[:cell], moved, *choice[cell + 1 :])
                    if following not in seen:
                        seen.add(following)
                        heapq.heappush(heap, (-weight(following), following))


def edges(choice: Mapping[str, Sequence[tuple[str, str, float]]]) -> dict[str, list[Edge]]:
    """The chosen pairs as edges of the new node of each cell."""
    return {name: [Edge(source, op) for source, op, _ in pairs] for name, pairs in choice.items()}
