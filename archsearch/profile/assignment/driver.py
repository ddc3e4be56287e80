"""The loop of an estimation: ask, evaluate, record, tell."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from overrides import overrides

from archsearch.jobs import InputError, Interrupted
from archsearch.profile.assignment.encoding import Encoding
from archsearch.profile.assignment.estimator import Estimator
from archsearch.profile.assignment.evaluation import Evaluation, contenders, front
from archsearch.profile.assignment.log import Log, header_of, open_log
from archsearch.profile.assignment.tables import Table
from archsearch.profile.process import DeviceGone
from archsearch.registry import ESTIMATORS

#: Told each new evaluation, and in words how far the estimation has come.
Watch = Callable[[Evaluation, str], None]


class Problem(ABC):
    """What assignments of one model are worth, asked one at a time."""

    encoding: Encoding
    source: str  # what is measured, on what: a log goes on with the same only

    @abstractmethod
    def evaluate(self, id_: int) -> Evaluation:
        """Measure an assignment.

        Raises:
            DeviceGone, Interrupted: the estimation stops, and can go on later.
            Exception: any other is this assignment's: it is recorded as one that cannot run, and the next one follows.
        """

    @property
    def measures(self) -> bool:
        """Whether to evaluate an id again is a new measurement."""
        return True


class TableProblem(Problem):
    """Assignments as they were recorded. One that is missing from the table cannot run."""

    def __init__(self, table: Table, source: str) -> None:
        self.table, self.encoding, self.source = table, table.encoding, source

    @overrides
    def evaluate(self, id_: int) -> Evaluation:
        return self.table.evaluations.get(id_) or Evaluation(id_, error="not in the table")

    @property
    @overrides
    def measures(self) -> bool:
        return False


@dataclass(frozen=True)
class Estimation:
    """What an estimation came to.

    ``evaluations`` are in the order in which they were made, the first measurement of each id. ``again`` holds second
    measurements of those that might be on the front; on ``front`` they stand for the first, which were selected for being low.
    """

    evaluations: tuple[Evaluation, ...]
    again: tuple[Evaluation, ...]
    resumed: int  # evaluations that had been recorded before

    @property
    def front(self) -> list[Evaluation]:
        newest = {each.id: each for each in (*self.evaluations, *self.again)}
        return front(newest[each.id] for each in self.again) if self.again else front(newest.values())

    @property
    def survived(self) -> int | None:
        """How many points of the front as first measured are on the front of the second measurements; None without these."""
        if not self.again:
            return None
        return len({each.id for each in front(self.evaluations)} & {each.id for each in self.front})


def make_estimator(name: str, encoding: Encoding, seed: int) -> Estimator:
    """A new estimator by its registered name.

    Raises:
        InputError: no such name, or its extra is not installed.
    """
    made: Any = ESTIMATORS.get(name)
    estimator: Estimator = made(encoding, seed)
    return estimator


def assign(
    problem: Problem,
    estimator: str,
    budget: int,
    *,
    seed: int = 0,
    log: Path | Log | None = None,
    measure_again: bool = True,
    watch: Watch = lambda evaluation, where: None,
) -> Estimation:
    """Estimate the front of (time, memory) with at most ``budget`` distinct assignments evaluated.

    Args:
        estimator: its name in ``registry.ESTIMATORS``.
        log: a file in which each evaluation is recorded at once; where it exists, the estimation goes on from it. Or a log
            that was opened for this very estimation.
        measure_again: measure what may be on the front a second time at the end, if the problem measures at all.
        watch: told each new evaluation.

    Raises:
        InputError: bad input; nothing was evaluated.
        DeviceGone, Interrupted: as the problem says; what was evaluated is in the log.
    """
    if budget < 1:
        raise InputError(f"the budget is {budget}; expected at least 1 assignment")
    asks = make_estimator(estimator, problem.encoding, seed)
    header = header_of(problem.encoding, estimator, seed, problem.source)
    with open_log(log, header) if isinstance(log, Path) else nullcontext(log) as record:
        before: Sequence[Evaluation] = record.first if record is not None else ()
        for evaluation in before:
            asks.tell(evaluation)
        while asks.spent < budget and (id_ := asks.ask()) is not None:
            evaluation = _evaluated(problem, id_)
            if record is not None:
                record.append(evaluation)
            asks.tell(evaluation)
            watch(evaluation, f"{asks.spent} of {budget} assignments")
        evaluations = tuple(asks.known.values())
        again = _measured_again(problem, evaluations, record, watch) if measure_again and problem.measures else ()
    return Estimation(evaluations, again, len(before))


def _evaluated(problem: Problem, id_: int) -> Evaluation:
    """What the problem says; a failure is an evaluation too."""
    try:
        found = problem.evaluate(id_)
        if found.id != id_:
            raise RuntimeError(f"asked for assignment {id_}, the answer is about {found.id}")
        return found
    except (DeviceGone, Interrupted):
        raise
    except Exception as error:
        return Evaluation(id_, error=f"{type(error).__name__}: {error}"[:500])


def _measured_again(
    problem: Problem, evaluations: Sequence[Evaluation], record: Log | None, watch: Watch
) -> tuple[Evaluation, ...]:
    """Second measurements of all that may be on the front. One that fails now is not on it."""
    done = {each.id: each for each in (record.again if record is not None else ())}
    wanted = [each.id for each in contenders(evaluations)]
    for place, id_ in enumerate(wanted, 1):
        if id_ not in done:
            done[id_] = _evaluated(problem, id_)
            if record is not None:
                record.append(done[id_], again=True)
            watch(done[id_], f"{place} of {len(wanted)} measured again")
    return tuple(done[id_] for id_ in wanted)
