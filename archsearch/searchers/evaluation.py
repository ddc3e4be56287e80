"""The jobs of a final evaluation: each model trained from scratch under several seeds, then measured on the test split."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from overrides import overrides

from archsearch.arch import Architecture, cost
from archsearch.jobs import JSON, Event, EventKind, Job, Resources, Searcher, Stage, derive_seed


@dataclass(frozen=True)
class Entrant:
    """A model to be evaluated: the point that it was, and the network that is trained for it."""

    point: int
    arch: Architecture


class FinalEvaluation(Searcher):
    """A fixed list of trainings, every model once before any a second time and the dearest first; tests come before them.

    A training's seed depends on the run's seed, the network and its repeat alone, not on what else is evaluated.

    Args:
        seeds: trainings of each model.
        settings: JSON of the ``TrainSection`` that all are trained with.
        seed: the run's.
        resources: what a job of a stage holds.
    """

    def __init__(
        self,
        entrants: Sequence[Entrant],
        *,
        seeds: int,
        settings: JSON,
        seed: int,
        resources: Mapping[Stage, Resources],
    ) -> None:
        dearest = sorted(entrants, key=lambda entrant: (-cost(entrant.arch).madds, entrant.point))
        self._open = {(entrant.point, repeat): entrant for repeat in range(seeds) for entrant in dearest}
        self._total = len(self._open)
        self._settings = settings
        self._seed = seed
        self._resources = resources
        self._next_id = 1
        self._running: dict[int, Job] = {}
        self._trained: deque[tuple[Job, JSON]] = deque()  # finished trainings that wait for their test, with their weights

    @overrides
    def ask(self, capacity: Mapping[str, int]) -> list[Job]:
        if not capacity.get("train"):
            return []
        if self._trained:
            training, weights = self._trained[0]
            spec = {"arch": training.spec["arch"], "weights": weights, "point": training.spec["point"]}
            return [self._job(Stage.EVAL, "test", spec, derive_seed(training.seed, "test"), training.id)]
        for (point, repeat), entrant in self._open.items():
            spec = {"arch": entrant.arch.to_json(), "train": self._settings, "inherit": None, "point": point, "repeat": repeat}
            seed = derive_seed(self._seed, "evaluation", entrant.arch.hash, repeat)
            return [self._job(Stage.EVAL_TRAINED, "train", spec, seed, None)]
        return []

    def _job(self, stage: Stage, work: str, spec: JSON, seed: int, parent: int | None) -> Job:
        return Job(self._next_id, stage, work, spec, seed, self._resources.get(stage, Resources()), "train", parent)

    @overrides
    def apply(self, event: Event) -> None:
        if event.kind is EventKind.ASKED:
            job = Job.from_json(event.data)
            self._next_id = job.id + 1
            self._running[job.id] = job
            if job.work == "train":
                self._open.pop((job.spec["point"], job.spec["repeat"]), None)
            else:
                self._trained.popleft()
        elif event.job in self._running:
            if event.kind is EventKind.TOLD:
                job = self._running.pop(event.job)
                if job.work == "train":
                    self._trained.append((job, event.data["artifacts"]["weights"]))
            elif event.kind in (EventKind.CANCELLED, EventKind.PRUNED) or event.data.get("final"):
                del self._running[event.job]

    @property
    @overrides
    def done(self) -> str | None:
        if self._open or self._running or self._trained:
            return None
        return f"all {self._total} trainings have ended"
