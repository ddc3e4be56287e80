"""``structured``: an estimator that learns what an assignment's time and memory are made of.

It explains what was measured by the terms of ``features`` (each operation's cost on each backend, what a change of backend
costs along the graph's edges, ...) with a Gaussian process (``model``), one for time and one for memory, and asks for the
assignment from which the largest gain of hypervolume is to be expected. In a small space every assignment is considered. In a
large one those are that are Pareto-optimal for the learned terms and for terms drawn as they may be as well (``elimination``,
exact over the graph), neighbours of the measured front, and some at random.

That the terms may be wrong is allowed for: the process has a part for what they miss, memory may be the largest of its parts
instead of their sum, whichever predicts better, each tenth id is drawn at random, and what cannot run is learned and avoided.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from overrides import overrides

from archsearch.jobs import derive_seed
from archsearch.profile.assignment.elimination import pareto_assignments
from archsearch.profile.assignment.encoding import Encoding
from archsearch.profile.assignment.estimator import Estimator
from archsearch.profile.assignment.evaluation import MARGIN, Interval, front, width
from archsearch.profile.assignment.features import Features, Floats, Ints
from archsearch.profile.assignment.gain import expected_gains
from archsearch.profile.assignment.largest import LargestPart
from archsearch.profile.assignment.model import Model, Variances

#: Up to so many assignments each of them is considered, every time.
MOST_LISTED = 4096
#: One id in so many is drawn at random.
EXPLORE_EVERY = 10
#: In large spaces: draws of the terms whose fronts are considered, points taken of each front, random ids beside them.
DRAWS, OF_FRONT, RANDOM = 4, 48, 128
#: Backends up to which every choice of those that are used has an optimum of its own.
MOST_SUBSETS = 4
#: Up to so many measurements the variances are learned anew after each, then whenever there are this much more.
LEARN_ALWAYS, LEARN_GROWTH = 24, 1.15
#: Measurements from which on memory may be taken for the largest of its parts.
FEWEST_FOR_LARGEST = 6


class Learned(NamedTuple):
    """What is expected of all assignments."""

    time: Model
    memory: Model  # of what the largest part leaves, where there is one
    largest: LargestPart | None


class Structured(Estimator):
    """Learns per-operation costs and transition costs, and asks where the front is expected to gain most."""

    def __init__(self, encoding: Encoding, seed: int) -> None:
        super().__init__(encoding, seed)
        self._features = Features(encoding)
        self._variances: tuple[int, Variances, Variances] | None = None  # learned from so many measurements
        self._all: tuple[Ints, Floats] | None = None
        if encoding.size <= MOST_LISTED:
            digits = np.array([encoding.digits(id_) for id_ in range(encoding.size)], dtype=np.int64)
            self._all = digits, self._features.of(digits)
        self._uniform = [encoding.id([backend] * len(encoding.symbols)) for backend in range(encoding.base)]

    @overrides
    def _choose(self) -> int:
        for id_ in self._uniform:
            if id_ not in self.known:
                return id_
        if self.spent % EXPLORE_EVERY == EXPLORE_EVERY - 1:
            return self._random_id("explore")
        if len(self.feasible) < 2:
            return self._likely_to_run()
        learned = self._learn_models()
        digits, features = self._candidates(learned)
        gains = self._gains(learned, digits, features) * self._can_run(digits)
        return self.encoding.id(digits[int(np.argmax(gains))])

    # ------------------------------------------------------------------------------------------------------ what is learned
    def _learn_models(self) -> Learned:
        feasible = self.feasible
        digits = np.array([self.encoding.digits(each.id) for each in feasible], dtype=np.int64)
        known = self._features.of(digits)
        time, memory = np.array([each.values for each in feasible]).T
        time_noise, memory_noise = (_noise([each.bounds[kind] for each in feasible]) for kind in (0, 1))
        learn_from = _schedule(len(feasible))
        if self._variances is None or self._variances[0] != learn_from:
            some = slice(0, learn_from)
            first = Model(self._features, known[some], time[some], time_noise)
            second = Model(self._features, known[some], memory[some], memory_noise)
            self._variances = learn_from, first.variances, second.variances
        _, for_time, for_memory = self._variances
        time_model = Model(self._features, known, time, time_noise, for_time)
        memory_model = Model(self._features, known, memory, memory_noise, for_memory)
        if len(feasible) >= FEWEST_FOR_LARGEST:
            largest = LargestPart(digits, memory, self.encoding.base)
            if np.sum((largest.left_out - memory) ** 2) < np.sum((memory_model.left_out() - memory) ** 2):
                rest = memory - largest.left_out
                return Learned(time_model, Model(self._features, known, rest, memory_noise), largest)
        return Learned(time_model, memory_model, None)

    def _gains(self, learned: Learned, digits: Ints, features: Floats) -> Floats:
        """(n,) the gain of hypervolume to be expected, and a little for what is uncertain, which decides where none is."""
        values = np.array([each.values for each in self.feasible])
        low, high = values.min(axis=0), values.max(axis=0)
        span = width(low, high) * (1 + MARGIN)
        best = np.array([each.values for each in front(self.feasible)])
        time, time_deviation = learned.time.predict(features)
        memory, memory_deviation = learned.memory.predict(features)
        if learned.largest is not None:
            memory = memory + learned.largest.predict(digits)
        means = (np.stack([time, memory], axis=1) - low) / span
        deviations = np.stack([time_deviation, memory_deviation], axis=1) / span
        gains = expected_gains((best - low) / span, means, deviations)
        return np.asarray(gains + 1e-9 * deviations.sum(axis=1))

    def _can_run(self, digits: Ints) -> Floats:
        """(n,) a guess at how likely each assignment runs.

        A failure is blamed, in equal shares, on those (symbol, backend) of its assignment that were never seen to run.
        """
        symbols = np.arange(digits.shape[1])
        ran = np.zeros((digits.shape[1], self.encoding.base), dtype=bool)
        blame = np.zeros(ran.shape)
        for each in self.feasible:
            ran[symbols, self.encoding.digits(each.id)] = True
        for each in self.known.values():
            if not each.feasible:
                places = np.array(self.encoding.digits(each.id))
                suspects = symbols[~ran[symbols, places]]
                blame[suspects, places[suspects]] += 1.0 / max(1, len(suspects))
        return np.asarray(np.exp(-2.0 * blame[symbols, digits].sum(axis=1)))

    def _likely_to_run(self) -> int:
        """Of some random ids that which is most likely to run."""
        generator = self._generator("runs")
        ids = {generator.randrange(self.encoding.size) for _ in range(RANDOM)} - set(self.known)
        chosen = sorted(ids) or [self._random_id("runs")]
        likely = self._can_run(np.array([self.encoding.digits(id_) for id_ in chosen], dtype=np.int64))
        return chosen[int(np.argmax(likely))]

    # ------------------------------------------------------------------------------------------------------ what is considered
    def _candidates(self, learned: Learned) -> tuple[Ints, Floats]:
        """Assignments that are not known, (n, symbols), and their features; at least one."""
        if self._all is not None:
            open_ = np.ones(self.encoding.size, dtype=bool)
            open_[list(self.known)] = False
            return self._all[0][open_], self._all[1][open_]
        found: dict[int, None] = {}
        for optimal in self._optimal(learned):
            found[self.encoding.id(map(int, optimal))] = None
        for near in self._neighbours():
            found[self.encoding.id(near)] = None
        generator = self._generator("candidates")
        for _ in range(RANDOM):
            found[generator.randrange(self.encoding.size)] = None
        ids = [id_ for id_ in found if id_ not in self.known] or [self._random_id("candidates")]
        chosen = np.array([self.encoding.digits(id_) for id_ in ids], dtype=np.int64)
        return chosen, self._features.of(chosen)

    def _optimal(self, learned: Learned) -> Iterator[NDArray[np.int8]]:
        """Pareto-optimal assignments for the expected terms, with each set of backends, and for drawn ones with all."""
        generator = np.random.default_rng(derive_seed(self.seed, "terms", self.spent))
        base = self.encoding.base
        subsets = [subset for size in range(2, base) for subset in combinations(range(base), size)]
        for subset in [*(subsets if base <= MOST_SUBSETS else []), tuple(range(base))]:
            yield from self._front_of_terms(learned, None, subset)
        for _ in range(DRAWS):
            yield from self._front_of_terms(learned, generator, tuple(range(base)))

    def _front_of_terms(
        self, learned: Learned, generator: np.random.Generator | None, backends: tuple[int, ...]
    ) -> Iterator[NDArray[np.int8]]:
        time, time_pairs, _ = self._features.terms(learned.time.weights(generator))
        if learned.largest is not None:
            memory, memory_pairs = learned.largest.peaks, {pair: np.zeros((1, 1)) for pair in time_pairs}
        else:
            memory, memory_pairs, _ = self._features.terms(learned.memory.weights(generator))
        shape = (self.encoding.base, self.encoding.base)
        pairs = {
            pair: np.stack([costs, np.broadcast_to(memory_pairs[pair], shape)], axis=2) for pair, costs in time_pairs.items()
        }
        own = np.stack([time, memory], axis=2)
        found = pareto_assignments(own, pairs, largest_memory=learned.largest is not None, allowed=backends)
        yield from found[np.linspace(0, len(found) - 1, min(len(found), OF_FRONT)).round().astype(int)]

    def _neighbours(self) -> Iterator[list[int]]:
        """All that differ in one symbol from a point of the measured front."""
        for each in front(self.feasible)[:OF_FRONT]:
            digits = list(self.encoding.digits(each.id))
            for place, old in enumerate(digits):
                for backend in range(self.encoding.base):
                    if backend != old:
                        yield [*digits[:place], backend, *digits[place + 1 :]]


def _schedule(measured: int) -> int:
    """From how many of the first measurements the variances are learned."""
    if measured <= LEARN_ALWAYS:
        return measured
    steps = math.floor(math.log(measured / LEARN_ALWAYS, LEARN_GROWTH) + 1e-9)
    return min(measured, math.floor(LEARN_ALWAYS * LEARN_GROWTH**steps))


def _noise(bounds: list[Interval]) -> float:
    """The variance of measurements whose 95 % intervals are these; 0 for values without."""
    return float(np.mean([((high - low) / 3.92) ** 2 for low, high in bounds]))
