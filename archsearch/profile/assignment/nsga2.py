"""NSGA-II by pymoo, under the face of estimators.

Source: Deb et al., "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", IEEE Trans. Evol. Comput. 6(2), 2002.
Needs the extra ``nsga2``; pymoo is imported when an estimator is made and not before.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from overrides import overrides

from archsearch.jobs import InputError, derive_seed
from archsearch.profile.assignment.encoding import Encoding
from archsearch.profile.assignment.estimator import Estimator
from archsearch.profile.assignment.evaluation import Evaluation

#: Generations in a row that may bring nothing new before a random id is asked for.
MOST_STALE = 8


class Nsga2(Estimator):
    """NSGA-II over the symbols' backends: uniform crossover, mutation of about one symbol.

    Its population grows with the space, from 8 to 40. Assignments that cannot run are dominated by all that can.
    """

    def __init__(self, encoding: Encoding, seed: int) -> None:
        super().__init__(encoding, seed)
        try:
            from pymoo.algorithms.moo.nsga2 import NSGA2
            from pymoo.core.problem import Problem
            from pymoo.core.termination import NoTermination
            from pymoo.operators.crossover.ux import UniformCrossover
            from pymoo.operators.sampling.rnd import IntegerRandomSampling
        except ImportError as error:
            raise InputError(
                f"the estimator nsga2 needs pymoo ({error}): pip install -e '.[nsga2]', or choose another estimator"
            ) from error
        variables = len(encoding.symbols)
        problem = Problem(n_var=variables, n_obj=2, n_ieq_constr=1, xl=0, xu=encoding.base - 1, vtype=int)
        self._algorithm = NSGA2(
            pop_size=min(40, max(8, round(math.sqrt(min(encoding.size, 10**6))))),
            sampling=IntegerRandomSampling(),
            crossover=UniformCrossover(),
            mutation=_mutation(encoding.base),
        )
        seed_32 = derive_seed(seed, "nsga2") % 2**32
        self._algorithm.setup(problem, termination=NoTermination(), seed=seed_32, verbose=False)
        self._generation: Any = None  # a pymoo population whose values are not all known yet
        self._ids: list[int] = []
        self._breed()

    @overrides
    def _choose(self) -> int:
        waiting = next((id_ for id_ in self._ids if id_ not in self.known), None)
        return self._random_id("nsga2") if waiting is None else waiting

    @overrides
    def _learn(self, evaluation: Evaluation) -> None:
        for _ in range(MOST_STALE):
            if self._generation is None or any(id_ not in self.known for id_ in self._ids):
                return
            self._advance()

    def _advance(self) -> None:
        """Give the generation its values, those known before too, and let the next one be bred."""
        told = [self.known[id_] for id_ in self._ids]
        worst = np.max([each.values for each in told if each.feasible] or [(0.0, 0.0)], axis=0)
        values = np.array([each.values if each.feasible else worst for each in told], dtype=float)
        self._generation.set("F", values, "G", np.array([[0.0 if each.feasible else 1.0] for each in told]))
        for individual in self._generation:
            individual.evaluated.update(("F", "G", "H"))
        self._algorithm.tell(infills=self._generation)
        self._breed()

    def _breed(self) -> None:
        """The next generation; none where the library finds no child that its population does not have, as in tiny spaces."""
        self._generation = self._algorithm.ask()
        if self._generation is None or len(self._generation) == 0:
            self._generation, self._ids = None, []
            return
        digits = np.asarray(self._generation.get("X"), dtype=float).round().astype(int)
        self._ids = [self.encoding.id(each) for each in digits]


def _mutation(base: int) -> Any:
    """Another backend for each symbol with probability 1 / symbols: backends have no order that a step could follow."""
    from pymoo.core.mutation import Mutation

    class OtherBackend(Mutation):  # type: ignore[misc]
        def _do(self, problem: Any, X: Any, *, random_state: np.random.Generator, **_: Any) -> Any:
            moved = random_state.random(X.shape) < 1.0 / X.shape[1]
            steps = random_state.integers(1, max(base, 2), X.shape)
            return np.where(moved, (X + steps) % base, X)

    return OtherBackend()
