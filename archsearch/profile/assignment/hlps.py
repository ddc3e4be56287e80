"""HLPS, the hybrid local Pareto search of Samsung ONE's profiler (tools/pareto_profiler), under the face of estimators.

From a random start a queue is filled around the points of the front as they are found. A point that is new on the front is
*explored*: candidates that differ from it in 1, 2, ... n random symbols. A point that replaced others is *exploited*: all that
differ from it in one symbol. When the queue is empty the search starts again from the front's neighbours, and where these
are all known at random. In mode ``index`` all operations of a name first move together; after some restarts, or when that
smaller space is known, the search goes on around its front in the full one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from overrides import overrides

from archsearch.profile.assignment.encoding import Encoding
from archsearch.profile.assignment.estimator import Estimator
from archsearch.profile.assignment.evaluation import Evaluation, front

#: Empty queues after which mode ``index`` leaves the space of names.
ROUNDS_BY_NAME = 3


class Hlps(Estimator):
    """Hybrid local Pareto search: around the front, wide where a point is new, close where it replaced others."""

    def __init__(self, encoding: Encoding, seed: int) -> None:
        super().__init__(encoding, seed)
        self._by_name = encoding.mode == "index" and encoding.by_name.size < encoding.size
        self._name_ids: dict[int, int] = {}  # of what was proposed in the space of names
        self._rounds = 0
        self._queue: deque[int] = deque()
        self._front: set[int] = set()
        self._visited: set[int] = set()
        self._refill()

    @property
    def _space(self) -> Encoding:
        return self.encoding.by_name if self._by_name else self.encoding

    @overrides
    def _choose(self) -> int:
        return self._queue[0]

    @overrides
    def _learn(self, evaluation: Evaluation) -> None:
        before = self._front
        self._front = {each.id for each in front([*(self.known[id_] for id_ in before), evaluation])}
        replaced = bool(before - self._front)
        for id_ in sorted(self._front - self._visited):
            self._visited.add(id_)
            digits = self._digits(id_)
            if digits is not None:
                self._propose(self._neighbours(digits) if replaced and id_ == evaluation.id else self._wide(digits))
        self._refill()

    def _refill(self) -> None:
        """Drop what is known from the queue's head; where nothing is left start again."""
        while self._queue and self._queue[0] in self.known:
            self._queue.popleft()
        if self._queue or self.spent >= self.encoding.size:
            return
        if self._by_name:
            self._rounds += 1
            all_known = all(self.encoding.lifted(id_) in self.known for id_ in self._some_of_space())
            if self._rounds > ROUNDS_BY_NAME or all_known:
                self._by_name = False
        for id_ in sorted(self._front):
            digits = self._digits(id_)
            if digits is not None:
                self._propose(self._neighbours(digits))
        if not self._queue:
            self._queue.append(self._fresh())

    def _some_of_space(self) -> Iterable[int]:
        """Ids of the space of names; where it is larger than what is known, it is not all known."""
        return range(min(self._space.size, self.spent + 1))

    def _fresh(self) -> int:
        """A random id that is not known, of the space that is being searched."""
        if not self._by_name:
            return self._random_id("start")
        generator = self._generator("start")
        while True:
            name_id = generator.randrange(self._space.size)
            id_ = self.encoding.lifted(name_id)
            if id_ not in self.known:
                self._name_ids[id_] = name_id
                return id_

    def _digits(self, id_: int) -> tuple[int, ...] | None:
        """Places in the space that is being searched; None for an id that it does not have."""
        if not self._by_name:
            return self.encoding.digits(id_)
        return self._space.digits(self._name_ids[id_]) if id_ in self._name_ids else None

    def _propose(self, candidates: Iterator[list[int]]) -> None:
        waiting = set(self._queue)
        for digits in candidates:
            id_ = self._space.id(digits)
            if self._by_name:
                id_, name_id = self.encoding.lifted(id_), id_
                self._name_ids[id_] = name_id
            if id_ not in self.known and id_ not in waiting:
                waiting.add(id_)
                self._queue.append(id_)

    def _neighbours(self, digits: tuple[int, ...]) -> Iterator[list[int]]:
        """All that differ in one symbol: of every symbol, the last one too."""
        for place in range(len(digits)):
            for step in range(1, self.encoding.base):
                yield _shifted(digits, [place], step, self.encoding.base)

    def _wide(self, digits: tuple[int, ...]) -> Iterator[list[int]]:
        """At each distance one choice of symbols, moved on by 1, 2, ... backends."""
        generator = self._generator("explore")
        for distance in range(1, len(digits) + 1):
            places = generator.sample(range(len(digits)), distance)
            for step in range(1, self.encoding.base):
                yield _shifted(digits, places, step, self.encoding.base)


def _shifted(digits: tuple[int, ...], places: list[int], step: int, base: int) -> list[int]:
    moved = list(digits)
    for place in places:
        moved[place] = (moved[place] + step) % base
    return moved
