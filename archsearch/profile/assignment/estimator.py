"""The face of all estimators: they ask for ids, are told what these are worth, and share one accounting of the budget.

An estimator's state is a fold over what it was told, and each random draw uses a generator keyed by the seed and the number
of distinct ids told: one made anew from recorded tells asks for the same ids as the one that was killed.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod

from overrides import overrides

from archsearch.jobs import derive_seed
from archsearch.profile.assignment.encoding import Encoding
from archsearch.profile.assignment.evaluation import Evaluation

#: Random draws after which the ids that are left are listed instead.
MOST_DRAWS = 64


class Estimator(ABC):
    """Decides which assignment to evaluate next. Register one in ``archsearch.registry.ESTIMATORS``.

    Budget: each distinct id counts once, whether it could run or not; to be told of an id again is free and changes nothing.

    Attributes:
        known: every evaluation told, by id, in order.
    """

    def __init__(self, encoding: Encoding, seed: int) -> None:
        self.encoding = encoding
        self.seed = seed
        self.known: dict[int, Evaluation] = {}

    @property
    def spent(self) -> int:
        """How much of the budget was used."""
        return len(self.known)

    @property
    def feasible(self) -> list[Evaluation]:
        return [each for each in self.known.values() if each.feasible]

    def ask(self) -> int | None:
        """An id that was not told yet, or None when all were. Changes nothing: to ask twice gives the same."""
        return None if self.spent >= self.encoding.size else self._choose()

    def tell(self, evaluation: Evaluation) -> None:
        """Take what an assignment is worth, asked for or not."""
        self.encoding.digits(evaluation.id)  # an id of this model
        if evaluation.id not in self.known:
            self.known[evaluation.id] = evaluation
            self._learn(evaluation)

    @abstractmethod
    def _choose(self) -> int:
        """An id that is not among ``known``; there is one."""

    def _learn(self, evaluation: Evaluation) -> None:  # noqa: B027 - some have nothing to learn
        """Take an evaluation of an id that was not known."""

    def _generator(self, purpose: str) -> random.Random:
        """Random numbers for one decision: the same whenever as many ids were told."""
        return random.Random(derive_seed(self.seed, purpose, self.spent))

    def _random_id(self, purpose: str) -> int:
        """An id that is not known, each as likely as the others."""
        generator = self._generator(purpose)
        for _ in range(MOST_DRAWS):
            id_ = generator.randrange(self.encoding.size)
            if id_ not in self.known:
                return id_
        return generator.choice([id_ for id_ in range(self.encoding.size) if id_ not in self.known])


class BruteForce(Estimator):
    """Every id in order: the table that others are compared with."""

    def __init__(self, encoding: Encoding, seed: int) -> None:
        super().__init__(encoding, seed)
        self._next = 0

    @overrides
    def _choose(self) -> int:
        return self._next

    @overrides
    def _learn(self, evaluation: Evaluation) -> None:
        while self._next in self.known:
            self._next += 1


class RandomSampling(Estimator):
    """Ids at random, none twice."""

    @overrides
    def _choose(self) -> int:
        return self._random_id("random")
