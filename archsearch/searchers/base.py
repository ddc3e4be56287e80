"""What searchers that train seeds and grow the frontier have in common: the fold, the budget, the order of work.

Priorities for a free slot: trainings of children, then seeds, then new searches; once the search has ended and nothing
runs any more, band and frontier are trained again (``confirm``), and then measured on the test split. Devices have queues of
their own, in which every trained point waits to be measured if an objective asks for it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
from overrides import overrides

from archsearch.arch import Architecture
from archsearch.jobs import (
    EVALUATION_STAGES,
    JSON,
    POOL_STAGES,
    Event,
    EventKind,
    Job,
    Resources,
    Searcher,
    Stage,
    derive_seed,
)
from archsearch.measured import QUEUE, Answer
from archsearch.searchers.confirmation import Confirmations, again
from archsearch.searchers.early_stopping import EarlyStopping
from archsearch.searchers.measuring import Measurements
from archsearch.searchers.pool import Pool, PoolPoint
from archsearch.searchers.section import BudgetSection, GrowthConfig
from archsearch.searchers.surroundings import Surroundings, seed_list

#: Settings of the kinds of trainings, by their sections.
TRAININGS = ("seed_train", "post_train")


class FrontierSearcher(Searcher):
    """Trains the seeds, then grows points of the band until a budget is used up or nothing is left to try."""

    Config: ClassVar[type[GrowthConfig]] = GrowthConfig

    def __init__(self, config: GrowthConfig, around: Surroundings) -> None:
        self.config = config
        self.around = around
        self.budget = around.budget
        self.pool = Pool(
            config.cost,
            config.convex_hull_eps,
            config.band_standard_errors,
            config.error,
            objectives=config.objectives,
            limits=config.measured_limits,
        )
        self.seeds = self._seeds()
        self.next_id = 1
        self.seeds_asked = 0
        self.imported = 0  # points of an earlier run
        self.running: dict[int, Job] = {}
        self.children: deque[int] = deque()  # finished search jobs whose child is to be trained
        self.tried: set[str] = set()  # hashes of architectures asked to be trained
        self.measurements = Measurements(config.measured)
        self.confirmations = Confirmations()
        self.early = EarlyStopping(config, [around.settings.get(name, {}).get("epochs", 1) for name in TRAININGS])
        self.tested: set[int] = set()
        self.device_seconds = 0.0
        self.compute = 0.0  # multiply-adds of the finished jobs
        self.exhausted: str | None = None  # a clock's budget, as the run loop read it

    def _seeds(self) -> list[Architecture]:
        """What is trained first, without parents; known before the run begins."""
        return seed_list(self.config, self.around)

    # ------------------------------------------------------------------------------------------------------------- ask
    @overrides
    def ask(self, capacity: Mapping[str, int]) -> list[Job]:
        if (job := self._measurement(capacity)) is not None:
            return [job]
        if self.done is not None:
            job = self._afterwards() if capacity.get("train") else None
            return [] if job is None else [job]
        for queue, propose in (("train", self._child), ("train", self._seed), (self.growth_queue, self._grow)):
            if capacity.get(queue) and (job := propose()) is not None and capacity.get(job.queue):
                return [job]
        return []

    def _afterwards(self) -> Job | None:
        """What is done with band and frontier once nothing runs that belongs to the search: each step after the one before."""
        stages = {job.stage for job in self.running.values()}
        if stages - EVALUATION_STAGES or self.measurements.awaited:
            return None
        worth = self._worth_testing()
        if (point := self.confirmations.next(worth, self.config.confirm)) is not None:
            member = self.pool.trained[point]
            return self._job(Stage.EVAL_TRAINED, "train", again(member, self.around.settings), point)
        if Stage.EVAL_TRAINED in stages or not self.config.test_frontier:
            return None
        return next((self._test(id_) for id_ in worth if id_ not in self.tested), None)

    def _measurement(self, capacity: Mapping[str, int]) -> Job | None:
        """The next measurement on a device that would take one."""
        for device in self.measurements.devices:
            if capacity.get(QUEUE + device) and (point := self.measurements.next(device)) is not None:
                measuring = self.around.measuring
                spec = {"arch": self.pool.trained[point].arch, **measuring.specs.get(device, {})}
                return self._job(Stage.PROFILE, measuring.work, spec, point, queue=QUEUE + device)
        return None

    #: The queue that new growth draws on.
    growth_queue: ClassVar[str] = "search"

    @abstractmethod
    def _grow(self) -> Job | None:
        """The job that grows a parent sampled from the band, or None if there is none."""

    def _child(self) -> Job | None:
        """The training of the child of a finished search job."""
        return None

    def _seed(self) -> Job | None:
        if self.seeds_asked >= len(self.seeds):
            return None
        return self._training(self.seeds[self.seeds_asked], Stage.SEED_TRAINED, "seed_train", None, None)

    def _training(self, arch: Architecture, stage: Stage, settings: str, parent: int | None, inherit: JSON) -> Job:
        spec = {"arch": arch.to_json(), "hash": arch.hash, "train": self.around.settings[settings], "inherit": inherit}
        if rungs := self.early.rungs(spec["train"].get("epochs", 1)):
            spec["rungs"] = rungs
        return self._job(stage, "train", spec, parent)

    def _test(self, point: int) -> Job:
        member = self.pool.trained[point]
        return self._job(Stage.EVAL, "test", {"arch": member.arch, "weights": member.weights}, point)

    def _job(self, stage: Stage, work: str, spec: JSON, parent: int | None, queue: str = "train") -> Job:
        resources = self.around.resources.get(stage, Resources())
        seed = derive_seed(self.around.seed, "job", self.next_id)
        return Job(self.next_id, stage, work, spec, seed, resources, queue, parent)

    def _sample(self) -> PoolPoint | None:
        """A parent, drawn with the generator of this decision; a parent that is being grown just now comes last."""
        busy = {job.parent for job in self.running.values() if job.parent is not None}
        return self.pool.sample(self.rng("parent"), busy)

    def rng(self, purpose: str) -> np.random.Generator:
        """The generator of the next decision, for one purpose."""
        return np.random.default_rng(derive_seed(self.around.seed, purpose, self.next_id))

    def fits(self, arch: Architecture) -> bool:
        """Whether an architecture is new and within ``max_madd`` and the constraints."""
        return arch.hash not in self.tried and self.config.admits(arch)

    @overrides
    def gives_up(self, job: int) -> str | None:
        return self.early.verdict(self.running[job], self.pool.frontier) if job in self.running else None

    def kept(self) -> set[int]:
        """Points whose weights the search may still need: members of its frontiers, and what may become one."""
        return self.pool.members() | (self.measurements.pending() - self.pool.out.keys())

    def _worth_testing(self) -> list[int]:
        return sorted(self.pool.members())

    # ----------------------------------------------------------------------------------------------------------- apply
    @overrides
    def apply(self, event: Event) -> None:
        if event.kind is EventKind.ASKED:
            self._asked(Job.from_json(event.data))
        elif event.kind is EventKind.IMPORTED:
            self._imported(Job.from_json(event.data["job"]), event.data)
        elif event.kind is EventKind.BUDGET:
            self._new_budget(event.data)
        elif event.job in self.running:
            if event.kind is EventKind.TOLD:
                job = self.running.pop(event.job)
                if job.stage not in EVALUATION_STAGES:
                    self.device_seconds += _device_seconds(event)
                    self.compute += event.data["metrics"].get("compute_madds") or 0
                self.early.ended(job, event.data["metrics"])
                if job.stage is Stage.PROFILE:
                    self._learn(self.measurements.told(job, event.data["metrics"]))
                else:
                    self._told(job, event.data)
            elif event.kind is EventKind.REPORTED and "epoch" in event.data:
                self.early.reported(self.running[event.job], event.data)
            elif event.kind in (EventKind.CANCELLED, EventKind.PRUNED):
                job = self.running.pop(event.job)
                self.device_seconds += 0.0 if job.stage is Stage.PROFILE else _device_seconds(event)
                if event.kind is EventKind.PRUNED:
                    self.compute += event.data["compute_madds"]
                self._ended(job, event.data)
            elif event.kind is EventKind.FAILED:
                if self.running[event.job].stage not in EVALUATION_STAGES:
                    self.device_seconds += _device_seconds(event)
                if event.data["final"]:
                    self._ended(self.running.pop(event.job), event.data)

    def _asked(self, job: Job) -> None:
        self.next_id = job.id + 1
        self.running[job.id] = job
        if job.stage is Stage.SEED_TRAINED:
            self.seeds_asked += 1
        if job.stage in POOL_STAGES:
            self.tried.add(job.spec["hash"])
        self.confirmations.asked(job)
        if job.stage is Stage.PROFILE:
            self.measurements.take_asked(job)
        if job.stage is Stage.EVAL and job.parent is not None:
            self.tested.add(job.parent)
        if job.parent in self.pool.points and job.stage in (Stage.SEARCH, Stage.SEARCH_TRAINED):
            self.pool.points[job.parent].count += 1

    def _imported(self, job: Job, data: Mapping[str, Any]) -> None:
        """A point of an earlier run, trained there: it is no seed any more, and counts against no budget."""
        self.next_id = job.id + 1
        self.imported += 1
        self.tried.add(job.spec["hash"])
        self.seeds = [seed for seed in self.seeds if seed.hash != job.spec["hash"]]
        self._told(job, data)

    def _told(self, job: Job, data: Mapping[str, Any]) -> None:
        if job.stage in POOL_STAGES:
            if self.pool.add(job, data["metrics"], data["artifacts"]):
                self._joined(self.pool.points[job.id])
            known = self.measurements.trained(job.id, job.spec["hash"], data.get("measured", ()))
            self._learn((job.id, answer) for answer in known)

    def _learn(self, answers: Iterable[tuple[int, Answer]]) -> None:
        """Take what devices have told of points."""
        for point, answer in answers:
            figures = {name: figure.value for name, figure in answer.figures.items()}
            if self.pool.learn(point, figures, {} if answer.again else answer.lacking):
                self._joined(self.pool.points[point])

    def _joined(self, point: PoolPoint) -> None:
        """A point's cost is known now."""

    def _ended(self, job: Job, data: Mapping[str, Any]) -> None:
        """A job ended without a result, as the event's data say."""
        self.early.ended(job)
        if job.stage is Stage.PROFILE:
            self._learn(self.measurements.ended(job, data))

    def _new_budget(self, data: Mapping[str, Any]) -> None:
        """A clock's budget that was used up, or a session that begins, with budgets changed; or devices are given up."""
        if "unmeasured" in data:
            self.measurements.gave_up = data["unmeasured"]
            return
        if "resumed" in data:
            self.measurements.resumed()
        self.exhausted = data.get("exhausted")
        for path, value in (data.get("set") or {}).items():
            section, _, key = path.partition(".")
            if section == "budget":
                self.budget = BudgetSection.model_validate({**self.budget.model_dump(), key: value})
            elif section == "search":
                self.config = type(self.config).model_validate({**self.config.model_dump(), key: value})

    # ------------------------------------------------------------------------------------------------------------ done
    @property
    @overrides
    def done(self) -> str | None:
        reason = self._reason()
        return reason if reason is None else "; ".join([reason, *self.measurements.words()])

    def _reason(self) -> str | None:
        config, budget = self.config, self.budget
        if self.exhausted is not None:
            return self.exhausted
        if config.max_hull_points is not None and len(self.pool) >= config.max_hull_points:
            return f"max_hull_points = {config.max_hull_points} reached"
        if budget.jobs is not None and self._proposed >= budget.jobs:
            return f"budget.jobs = {budget.jobs} reached"
        if budget.device_hours is not None and self.device_seconds >= budget.device_hours * 3600:
            return f"budget.device_hours = {budget.device_hours:g} reached"
        if budget.compute is not None and self.compute >= budget.compute:
            return f"budget.compute = {budget.compute:g} multiply-adds reached"
        if not self.measurements.awaited and self._nothing_left():
            return "nothing is left to try" + (f" within {config.limits}" if config.limits else "")
        return None

    @property
    def _proposed(self) -> int:
        """Jobs of the search itself that were asked for in this run."""
        return self.next_id - 1 - self.imported - len(self.confirmations) - len(self.tested) - self.measurements.asked

    def _nothing_left(self) -> bool:
        """Every seed is trained, nothing runs or waits, and no member of the band can be grown."""
        return not self.running and not self.children and self.seeds_asked >= len(self.seeds) and not self._growable()

    def _growable(self) -> bool:
        """Whether any member of the band can be grown."""
        return bool(self.pool.candidates())


def _device_seconds(event: Event) -> float:
    """What an attempt took of the cluster's devices; runs made before this was noted have the seconds of its slot."""
    return float(event.data.get("device_seconds", event.data.get("seconds", 0.0)))
