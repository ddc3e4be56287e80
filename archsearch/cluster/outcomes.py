"""What simulated jobs would have taken and given: by a law, or drawn from a recorded run. Keyed by the job's seed and attempt.

No network is trained, so the figures say how the driver, the store and the searcher behave, not how good a search is. Artifact
references are of the right form and name nothing.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from overrides import overrides

from archsearch.jobs import (
    JSON,
    RETRIED,
    ArtifactRef,
    Event,
    EventKind,
    Failure,
    FailureKind,
    InputError,
    Job,
    Result,
    Stage,
    derive_seed,
)
from archsearch.train.section import MOST_RANKED

#: What a step of a search task costs, in steps of its parent's training: it holds every candidate.
SEARCH_FACTOR = 4.0

#: Recorded jobs of nearly the same work from which one is drawn.
NEIGHBOURS = 5


@dataclass(frozen=True, slots=True)
class Subject:
    """What is to be known of an architecture: its costs, and the nodes of all its kinds of cells together."""

    madds: int
    params: int
    activation_bytes: int
    nodes: int


@dataclass(frozen=True, slots=True)
class Anatomy:
    """How architectures are read: ``describe(arch)``, and ``shortcuts(arch, operations)``, cell -> (source, operation) pairs.

    ``images`` and ``test_images`` are those of the data set's training and test split, ``val_images`` of its validation split.
    """

    describe: Callable[[JSON], Subject]
    shortcuts: Callable[[JSON, Sequence[str] | None], Mapping[str, Sequence[tuple[str, str]]]]
    images: int
    val_images: int
    test_images: int
    classes: int

    def effort(self, job: Job, subject: Subject) -> float:
        """Multiply-adds of a job's forward passes: its length but for a factor.

        Raises:
            InputError: a work that is not known here.
        """
        spec = job.spec
        if job.work == "train":
            return float(subject.madds) * self.images * float(spec["train"].get("epochs", 1))
        if job.work == "petridish":
            learner = spec["learner"]
            return SEARCH_FACTOR * subject.madds * float(learner.get("steps", 32)) * float(learner.get("batch_size", 64))
        if job.work == "test":
            return subject.madds * self.test_images / 3.0  # no backward pass
        raise InputError(f"a simulation knows the works train, petridish and test, not {job.work!r}: run this one for real")

    def result(self, job: Job, subject: Subject, error: float, rng: np.random.Generator) -> Result:
        """A result as the work itself gives it, with this validation or test error."""
        if job.work == "petridish":
            return Result({"ranked": self._ranking(job, rng)}, {"candidates": _nothing(job, "candidates", 4 * subject.params)})
        images = self.test_images if job.work == "test" else self.val_images
        spread = math.sqrt(max(error * (1 - error), 1.0 / (images + 2)) / (images + 2))
        if job.work == "test":
            return Result({"test_error": error, "test_standard_error": spread})
        metrics: dict[str, JSON] = {
            **_errors(error, spread),
            "madds": subject.madds,
            "flops": 2 * subject.madds,
            "params": subject.params,
            "activation_bytes": subject.activation_bytes,
        }
        if rungs := job.spec.get("rungs"):
            metrics["rungs"] = self._climb(job, subject, error, rungs, rng)
        return Result(metrics, {"weights": _nothing(job, "weights", 4 * subject.params)})

    def _climb(
        self, job: Job, subject: Subject, error: float, rungs: Sequence[int], rng: np.random.Generator
    ) -> list[dict[str, JSON]]:
        """A made-up way from chance to the final error: as a power of the share of the epochs, about its square root."""
        chance, power = 1.0 - 1.0 / self.classes, 0.5 * math.exp(0.2 * rng.standard_normal())
        rows: list[dict[str, JSON]] = []
        for epoch in rungs:
            share = epoch / float(job.spec["train"]["epochs"])
            here = chance * (error / chance) ** (share**power) if error > 0 else 0.0
            spread = math.sqrt(max(here * (1 - here), 1.0 / (self.val_images + 2)) / (self.val_images + 2))
            compute = round(3 * share * self.effort(job, subject))  # forward, and backward for weights and inputs
            rows.append({"epoch": epoch, **_errors(here, spread), "compute_madds": compute})
        return rows

    def _ranking(self, job: Job, rng: np.random.Generator) -> dict[str, JSON]:
        """The strongest shortcuts by made-up |alpha|."""
        ranked: dict[str, JSON] = {}
        for cell, pairs in self.shortcuts(job.spec["arch"], job.spec["learner"].get("primitives")).items():
            alphas = rng.exponential(0.01, len(pairs))
            order = np.argsort(-alphas, kind="stable")[:MOST_RANKED]
            ranked[cell] = [[*pairs[i], float(alphas[i])] for i in order]
        return ranked


@dataclass(frozen=True, slots=True)
class Forecast:
    """How long an attempt holds its slot, and how it ends."""

    seconds: float
    outcome: Result | Failure


class Outcomes(ABC):
    """Tells beforehand what becomes of an attempt: equal for equal seeds and attempts."""

    @abstractmethod
    def forecast(self, job: Job) -> Forecast: ...


@dataclass(frozen=True)
class Law(Outcomes):
    """Durations and errors by a made-up law.

    A duration is ``seconds_per_gigamadd`` for each 1e9 multiply-adds of forward passes, times a log-normal factor of median 1
    and shape ``sigma``, and ``overhead`` seconds. The error falls from chance to ``floor`` as a power law of the multiply-adds
    (halfway at ``half_madds``), and with the power ``-gain`` of the number of nodes, so that each helps less than the
    one before; it scatters by the share ``noise``. A measurement takes ``measuring_seconds``, and gives a latency by a law of
    its own for each device. With probability ``failure_share`` an attempt fails at a random moment, as
    if its worker was lost.
    """

    anatomy: Anatomy
    seconds_per_gigamadd: float = 0.6
    overhead: float = 0.05
    sigma: float = 0.8
    floor: float = 0.01
    half_madds: float = 3e4
    exponent: float = 0.8
    gain: float = 0.15
    noise: float = 0.05
    failure_share: float = 0.0
    measuring_seconds: float = 20.0

    @overrides
    def forecast(self, job: Job) -> Forecast:
        subject = self.anatomy.describe(job.spec["arch"])
        luck = np.random.default_rng(derive_seed(job.seed, "attempt", job.attempt))
        if job.stage is Stage.PROFILE:
            return Forecast(self.measuring_seconds, Result(_measured(job, subject)))
        work = self.seconds_per_gigamadd * 1e-9 * self.anatomy.effort(job, subject)
        seconds = self.overhead + work * math.exp(self.sigma * luck.standard_normal())
        if luck.random() < self.failure_share:
            return Forecast(seconds * luck.random(), Failure(FailureKind.LOST, "the simulated worker was lost"))
        rng = np.random.default_rng(derive_seed(job.seed, "outcome"))  # not of the attempt: a retry gives the same
        return Forecast(seconds, self.anatomy.result(job, subject, self._error(subject, rng), rng))

    def _error(self, subject: Subject, rng: np.random.Generator) -> float:
        chance = 1.0 - 1.0 / self.anatomy.classes
        falling = 1.0 / (1.0 + (subject.madds / self.half_madds) ** self.exponent)
        mean = self.floor + (chance - self.floor) * falling * float(subject.nodes) ** -self.gain
        return float(min(chance, mean * math.exp(self.noise * rng.standard_normal())))


class Recorded(Outcomes):
    """Durations and errors of a recorded run: those of a job of the same work and nearly the same effort, drawn by seed.

    One of the ``NEIGHBOURS`` nearest by effort is drawn. Costs are the architecture's own, rankings are made up by seed (the
    recorded ones belong to other architectures). Attempts fail as often as they did there, in the same ways. A work that the
    recording lacks follows ``otherwise``.
    """

    def __init__(self, events: Iterable[Event], anatomy: Anatomy, otherwise: Outcomes) -> None:
        """
        Raises:
            InputError: nothing was told in the recording.
        """
        self._anatomy = anatomy
        self._otherwise = otherwise
        self._told: dict[str, list[tuple[float, float, float]]] = {}  # work -> (effort, seconds, error), sorted
        self._failures: dict[str, list[tuple[float, Failure]]] = {}
        jobs: dict[int, Job] = {}
        for event in events:
            if event.kind is EventKind.ASKED:
                job = Job.from_json(event.data)
                jobs[job.id] = job
            elif event.kind is EventKind.TOLD and event.job is not None:
                self._take(jobs[event.job], event.data)
            elif event.kind is EventKind.FAILED and event.job is not None and FailureKind(event.data["kind"]) in RETRIED:
                failure = Failure(FailureKind(event.data["kind"]), str(event.data["message"]))
                self._failures.setdefault(jobs[event.job].work, []).append((float(event.data["seconds"]), failure))
        if not self._told:
            raise InputError("the recorded run has no finished job to draw from; name one that has, or leave --from out")
        for rows in self._told.values():
            rows.sort()

    def _take(self, job: Job, data: Mapping[str, JSON]) -> None:
        if job.work in ("train", "petridish", "test"):
            metrics = data["metrics"]
            error = float(metrics.get("val_error", metrics.get("test_error", 0.0)))
            effort = self._anatomy.effort(job, self._anatomy.describe(job.spec["arch"]))
            self._told.setdefault(job.work, []).append((effort, float(data["seconds"]), error))

    @overrides
    def forecast(self, job: Job) -> Forecast:
        rows = self._told.get(job.work)
        if rows is None:
            return self._otherwise.forecast(job)
        luck = np.random.default_rng(derive_seed(job.seed, "attempt", job.attempt))
        failures = self._failures.get(job.work, [])
        if luck.random() < len(failures) / (len(failures) + len(rows)):
            seconds, failure = failures[int(luck.integers(len(failures)))]
            return Forecast(seconds, failure)
        subject = self._anatomy.describe(job.spec["arch"])
        rng = np.random.default_rng(derive_seed(job.seed, "outcome"))
        near = _nearest(rows, self._anatomy.effort(job, subject))
        _, seconds, error = near[int(rng.integers(len(near)))]
        return Forecast(seconds, self._anatomy.result(job, subject, error, rng))


def _measured(job: Job, subject: Subject) -> dict[str, JSON]:
    """A made-up profile: each device, drawn by its name, has its own time for a node, for a multiply-add, for a byte."""
    device = np.random.default_rng(derive_seed(0, job.queue))
    a_node, a_gigamadd, a_gigabyte = np.array([0.03, 2.0, 1.0]) * np.exp(device.standard_normal(3))
    noise = np.exp(0.02 * np.random.default_rng(derive_seed(job.seed, "measured")).standard_normal())
    latency = noise * (a_node * subject.nodes + 1e-9 * (a_gigamadd * subject.madds + a_gigabyte * subject.activation_bytes))
    memory = 60_000 + (4 * subject.params + subject.activation_bytes) / 1024
    chosen = _assignment(job)
    latency *= 1.0 - (chosen["assignment"]["gain"] if chosen else 0.0)
    return {
        **chosen,
        "latency": _made_up(latency, "ms"),
        "load_memory": None,
        "run_memory": _made_up(memory, "KiB"),
        "energy": _made_up(5.0 * latency, "mJ"),
        "runtime": "simulated",
        "fingerprint": job.queue,
        "protocol": 0,
        "about": {},
    }


def _assignment(job: Job) -> dict[str, JSON]:
    """A made-up best assignment, where one is wanted."""
    wanted = job.spec.get("assignment")
    if wanted is None:
        return {}
    luck = np.random.default_rng(derive_seed(job.seed, "assignment"))
    backends = dict(zip(("Conv2D", "Pool2D", "Linear"), luck.choice(["simulated", "made-up"], 3).tolist(), strict=True))
    gain, tried = 0.3 * float(luck.random()), wanted["budget"] + 1
    return {"assignment": {"rule": wanted, "backends": backends, "tried": tried, "gain": gain}}


def _made_up(median: float, unit: str) -> dict[str, JSON]:
    value = float(median)
    ends = {"low": 0.98 * value, "high": 1.02 * value, "minimum": 0.97 * value, "p90": 1.05 * value, "iqr": 0.02 * value}
    return {"median": value, **ends, "unit": unit, "runs": 30, "noisy": False}


def _errors(error: float, spread: float) -> dict[str, JSON]:
    """Errors and standard errors as metrics name them; no class is harder than another here."""
    return {
        "val_error": error,
        "val_standard_error": spread,
        "val_balanced_error": error,
        "val_balanced_standard_error": spread,
    }


def _nearest(rows: Sequence[tuple[float, float, float]], effort: float) -> Sequence[tuple[float, float, float]]:
    """The ``NEIGHBOURS`` rows whose effort is nearest, by difference."""
    low = high = bisect_left(rows, (effort,))
    while high - low < min(NEIGHBOURS, len(rows)):
        below = effort - rows[low - 1][0] if low else math.inf
        above = rows[high][0] - effort if high < len(rows) else math.inf
        low, high = (low - 1, high) if below <= above else (low, high + 1)
    return rows[low:high]


def _nothing(job: Job, name: str, size: int) -> ArtifactRef:
    """A reference as an attempt would have given it. It names nothing: no artifact was written."""
    digest = hashlib.sha256(f"simulated {name} {job.seed}".encode()).hexdigest()
    return ArtifactRef(f"artifacts/{job.id:06d}/{job.attempt}/{name}-{digest[:16]}.safetensors", digest, size)
