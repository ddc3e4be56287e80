"""Which trainings are stopped early: never one that could still join the band or the front, and dominated ones for sure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from searcher_bench import Bench, around, random

from archsearch.arch import cost, seed_architecture
from archsearch.frontier import Frontier, convex_hull, pareto_front
from archsearch.jobs import EventKind, InputError, Job, Stage
from archsearch.searchers.early_stopping import EarlyStopping
from archsearch.searchers.random_search import RandomConfig, RandomSearch
from archsearch.searchers.section import EarlyStoppingSection

RUNGS, EPOCHS = [2, 5], 8
ARCHS = [
    seed_architecture((1, 8, 8), 10, cells=3, reductions=1, nodes=1, channels=c) for c in (2, 3, 4, 6, 8, 12, 16, 24, 32, 48)
]
MADDS = [cost(arch).madds for arch in ARCHS]


def make(**keys: Any) -> EarlyStopping:
    return EarlyStopping(RandomConfig(early_stopping={"rungs": RUNGS, "least": 2, **keys}), [EPOCHS])


def training(id_: int, arch: int, inherit: Any = None) -> Job:
    spec = {"arch": ARCHS[arch].to_json(), "train": {"epochs": EPOCHS}, "inherit": inherit}
    return Job(id_, Stage.SEED_TRAINED, "train", spec, seed=id_)


def row(epoch: int, error: float, standard_error: float = 0.0) -> dict[str, Any]:
    return {"epoch": epoch, "val_error": error, "val_standard_error": standard_error}


@dataclass(frozen=True)
class Curve:
    """A training: which architecture, and its errors at both rungs and at the end."""

    arch: int
    errors: tuple[float, float, float]
    standard_error: float


class Replay:
    """Feeds trainings to the rule, several at a time; those that it stops leave."""

    def __init__(self, early: EarlyStopping, eps: float, multiple: float):
        self.early, self.frontier = early, Frontier(eps, band_standard_errors=multiple)
        self.ended: list[Curve] = []
        self.pruned: list[tuple[Curve, int, float]] = []  # the curve, the rung's place, the largest fall seen there by then

    def advance(self, id_: int, curve: Curve, stage: int) -> bool:
        """To the next rung or the end; False if it left."""
        job = training(id_, curve.arch)
        if stage == len(RUNGS):
            metrics = {"val_error": curve.errors[-1]}
            self.early.ended(job, metrics)
            self.frontier.add(id_, MADDS[curve.arch], curve.errors[-1], curve.standard_error)
            self.ended.append(curve)
            return False
        self.early.reported(job, row(RUNGS[stage], curve.errors[stage], curve.standard_error))
        if self.early.verdict(job, self.frontier) is None:
            return True
        self.early.ended(job)
        falls = [other.errors[stage] - other.errors[-1] for other in self.ended]
        self.pruned.append((curve, stage, max(0.0, *falls)))
        return False

    def run(self, curves: list[Curve], slots: int) -> Replay:
        waiting, running = list(enumerate(curves, 1)), []
        while waiting or running:
            while waiting and len(running) < slots:
                running.append((*waiting.pop(0), 0))
            id_, curve, stage = running.pop(0)
            if self.advance(id_, curve, stage):
                running.append((id_, curve, stage + 1))
        return self


#: Errors on a grid, so that ties and touching bands happen; most curves fall.
ERROR = st.integers(0, 20).map(lambda n: n / 20)
CURVES = st.builds(
    Curve,
    st.integers(0, len(ARCHS) - 1),
    st.one_of(
        st.tuples(ERROR, ERROR, ERROR),
        st.tuples(ERROR, ERROR, ERROR).map(lambda errors: tuple(sorted(errors, reverse=True))),
    ),
    st.sampled_from([0.0, 0.01, 0.05]),
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(CURVES, min_size=5, max_size=30),
    st.integers(1, 4),
    st.sampled_from([0.0, 0.025, 0.3]),
    st.sampled_from([0.0, 1.0]),
    st.sampled_from([1.0, 1.25]),
    st.sampled_from([1.5, 2.0, 4.0]),
)
def test_nothing_is_stopped_that_could_still_join_the_band_or_the_front(curves, slots, eps, multiple, optimism, eta):
    """Held against the definitions of band and front at the end of the run, with every network's true final error."""
    replay = Replay(make(optimism=optimism, eta=eta), eps, multiple).run(curves, slots)
    for curve, stage, fall in replay.pruned:
        if curve.errors[-1] < curve.errors[stage] - optimism * fall:
            continue  # it would have fallen further than the rule allows for: nobody can know
        everyone = [*replay.ended, curve]
        costs, errors = [MADDS[each.arch] for each in everyone], [each.errors[-1] for each in everyone]
        deviations = [each.standard_error for each in everyone]
        _, band = convex_hull(costs, errors, eps, standard_errors=deviations, band_standard_errors=multiple)
        last = len(everyone) - 1
        assert last not in band, (curve, stage)
        equal = [place for place in range(last) if (costs[place], errors[place]) == (costs[last], errors[last])]
        assert last not in pareto_front(list(zip(costs, errors, strict=True))) or equal


def history(early: EarlyStopping, frontier: Frontier, *, arch: int, error: float, count: int = 4) -> None:
    """Finished trainings of one architecture: 0.1 more at both rungs than at the end."""
    for id_ in range(1, count + 1):
        job = training(id_, arch)
        for epoch in RUNGS:
            early.reported(job, row(epoch, error + 0.1))
        early.ended(job, {"val_error": error})
        frontier.add(id_, MADDS[arch], error)


def test_a_dominated_training_is_stopped_and_a_cheap_or_a_promising_one_goes_on():
    early, frontier = make(eta=2), Frontier(0.025)
    history(early, frontier, arch=4, error=0.2)

    def judged(id_: int, arch: int, error: float) -> str | None:
        job = training(id_, arch)
        early.reported(job, row(2, error))
        return early.verdict(job, frontier)

    assert judged(11, 6, 0.30) is None, "among the best half of its rivals so far"
    reason = judged(12, 6, 0.50)
    assert reason is not None and "0.5 after 2 of 8 epochs" in reason and "0.375" in reason  # 0.5 - 1.25 * 0.1
    assert judged(13, 6, 0.31) is None, "it may fall to 0.185 yet, which is below all"
    assert judged(14, 1, 0.89) is None, "nothing as cheap is known: it is on the front whatever it comes to"
    assert judged(15, 3, 0.89) is None, "so is this one"
    assert judged(16, 4, 0.89) is not None


def test_other_kinds_of_trainings_are_no_yardstick():
    early, frontier = make(), Frontier(0.025)
    history(early, frontier, arch=4, error=0.2)
    child = training(9, 6, inherit={"kind": "node"})
    early.reported(child, row(2, 0.9))
    assert early.verdict(child, frontier) is None, "no child has finished yet: how far they fall is not known"


def test_too_few_have_finished_to_judge_by():
    early, frontier = make(least=5), Frontier(0.025)
    history(early, frontier, arch=4, error=0.2)
    job = training(9, 6)
    early.reported(job, row(2, 0.9))
    assert early.verdict(job, frontier) is None
    other = training(10, 4)
    early.reported(other, row(2, 0.3))
    early.ended(other, {"val_error": 0.2})
    assert early.verdict(job, frontier) is not None


def test_rungs_go_into_the_jobs_of_the_pool_alone_and_only_where_they_come_before_the_end():
    plain = random().ask({"train": 1, "search": 0})[0]
    assert "rungs" not in plain.spec, "off by default: jobs are what they were"
    searcher = random(early_stopping={"rungs": [1, 2, 5]})  # seeds have 2 epochs
    assert searcher.ask({"train": 1, "search": 0})[0].spec == {**plain.spec, "rungs": [1]}
    with pytest.raises(InputError, match=r"rungs = \[2, 5\].*2 and 1 epochs"):
        random(early_stopping={"rungs": [2, 5]})
    with pytest.raises(ValueError, match="each rung must be above"):
        EarlyStoppingSection(rungs=[3, 3])


def test_what_a_pruned_training_took_counts_against_the_budgets():
    searcher = RandomSearch(
        RandomConfig(n_cells=3, max_cells=3, n_reductions=1, max_reductions=1, early_stopping={"rungs": [1]}),
        around(compute=500.0),
    )
    bench = Bench(searcher)
    bench.fill()
    spent = {"seconds": 3.0, "compute_madds": 600}
    bench.emit(EventKind.PRUNED, 1, {"attempt": 1, "reason": "", "epoch": 1, **spent})
    assert searcher.device_seconds == 3.0 and "budget.compute" in (searcher.done or "") and not searcher.running


def test_trainings_again_with_other_seeds_have_no_rungs():
    searcher = random({"jobs": 4}, early_stopping={"rungs": [1], "least": 1000}, confirm=1)
    bench = Bench(searcher).run()
    again = [job for job in bench.asked if job.stage is Stage.EVAL_TRAINED]
    assert again and not any("rungs" in job.spec for job in again)
    assert all(job.spec["rungs"] == [1] for job in bench.asked if job.stage is Stage.SEED_TRAINED)


def test_a_training_that_could_come_to_the_front_above_the_hull_goes_on():
    """Its rivals stood better at the rung and ended worse; between a cheap and a dear network, nothing dominates it."""
    early, frontier = make(), Frontier(0.0)
    for id_, (arch, error) in enumerate([(0, 0.5), (1, 0.5), (2, 0.5), (9, 0.1)], 1):
        early.reported(training(id_, arch), row(2, 0.4))
        early.ended(training(id_, arch), {"val_error": error})
        frontier.add(id_, MADDS[arch], error)
    falls = 0.3  # of the dear one
    job = training(9, 7)
    early.reported(job, row(2, 0.48 + 1.25 * falls))
    assert 0.5 - 0.4 * (MADDS[7] - MADDS[0]) / (MADDS[9] - MADDS[0]) < 0.45, "0.48 is well above the hull there"
    assert frontier.would_join(MADDS[7], 0.48) and not frontier.would_join(MADDS[7], 0.5)
    assert early.verdict(job, frontier) is None
    worse = training(10, 7)
    early.reported(worse, row(2, 0.51 + 1.25 * falls))
    assert early.verdict(worse, frontier) is not None
