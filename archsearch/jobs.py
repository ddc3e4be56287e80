"""What travels between the rooms, and the faces that rooms implement for one another.

Everything here is plain data or an abstract class: a searcher never sees Ray, a worker never sees the searcher, and both
know only this file. Data classes are frozen and go to JSON and back without loss, because the store keeps them as JSON.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, ClassVar, Literal

JSON = Any  # what json.dumps takes; a precise recursive type costs more in casts than it finds


# ---------------------------------------------------------------------------------------------------------------- errors
class ArchsearchError(Exception):
    """An error whose text is meant for the user; the command line prints it without a traceback."""

    exit_code = 2


class InputError(ArchsearchError, ValueError):
    """Bad input: says what was given, where, what was expected and what to do."""


class StoreDamaged(ArchsearchError):
    """Stored bytes are not what was written; the text names the place and the last good event."""


class StoreBusy(ArchsearchError):
    """Another driver holds the run."""


class StoreUnavailable(ArchsearchError):
    """The store cannot be written at the moment (disk full, locked, gone): wait and try again."""


class LeaseLost(ArchsearchError):
    """Another driver took the run over while this one slept; this one must not write any more."""


class Interrupted(Exception):
    """Raised inside a job by ``Context.report`` when the run wants it to stop; the work writes a checkpoint and leaves."""


class NonFinite(ArchsearchError):
    """Training gave a loss or weights that are not finite; the candidate is abandoned and the search goes on."""


# ------------------------------------------------------------------------------------------------------------------ jobs
class Stage(StrEnum):
    """What a job produces. Points are the results of the ``*_TRAINED`` stages."""

    SEED = "SEED"
    SEED_TRAINED = "SEED_TRAINED"
    SEARCH = "SEARCH"
    SEARCH_TRAINED = "SEARCH_TRAINED"
    EVAL = "EVAL"
    EVAL_TRAINED = "EVAL_TRAINED"
    PROFILE = "PROFILE"
    PREDICT = "PREDICT"
    COMPAT = "COMPAT"


#: Stages whose finished jobs are points of the pool.
POOL_STAGES = frozenset({Stage.SEED_TRAINED, Stage.SEARCH_TRAINED})

#: Stages of what is done with finished points: no budget of the search counts or cancels it.
EVALUATION_STAGES = frozenset({Stage.EVAL, Stage.EVAL_TRAINED, Stage.PROFILE})


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"  # the attempt failed; the job will be tried again
    ABANDONED = "abandoned"
    CANCELLED = "cancelled"
    PRUNED = "pruned"


@dataclass(frozen=True, slots=True)
class Resources:
    """What one attempt holds while it runs.

    ``gpu`` is a number of devices, a share of one, or "auto": the share that the job is estimated to need of a device where
    there is any, else none. ``memory`` is the host's, in bytes; 0 means not stated. ``labels`` are those of the node.
    """

    cpu: float = 1.0
    gpu: float | Literal["auto"] = 0.0
    memory: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"cpu": self.cpu, "gpu": self.gpu, "memory": self.memory, "labels": dict(self.labels)}

    @property
    def devices(self) -> float:
        """How many devices an attempt counts for in device hours: its share of GPUs, or one slot."""
        return float(self.gpu) if self.gpu != "auto" and self.gpu > 0 else 1.0

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Resources:
        return cls(**data)


@dataclass(frozen=True, slots=True)
class Job:
    """One unit of work. ``id`` is its number in the run; ``spec`` is a few KB of JSON; ``attempt`` counts from 1."""

    id: int
    stage: Stage
    work: str
    spec: JSON
    seed: int
    resources: Resources = Resources()
    queue: str = "train"
    parent: int | None = None
    attempt: int = 1

    def to_json(self) -> dict[str, Any]:
        """The job as JSON. Its spec is not copied: half of the cost of asking for a job went into that."""
        return {name: getattr(self, name) for name in _JOB_FIELDS} | {"resources": self.resources.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Job:
        """The job of ``to_json``'s data, which nobody changes: several folds read one event, and get one object."""
        global _latest
        of, job = _latest
        if of is not data or job is None:
            stage, resources = Stage(data["stage"]), Resources.from_json(data["resources"])
            job = cls(**{**data, "stage": stage, "resources": resources})
            _latest = data, job
        return job

    def again(self, attempt: int) -> Job:
        """The same job as another attempt: same id, same seed."""
        return replace(self, attempt=attempt)


_JOB_FIELDS = tuple(each.name for each in fields(Job))

#: The job that was read last, and from what.
_latest: tuple[Mapping[str, Any], Job | None] = {}, None


@dataclass(frozen=True, slots=True)
class ArtifactRef:
    """Names one artifact: its key in the run's artifact store, the SHA-256 of its bytes (hex) and its size in bytes."""

    key: str
    sha256: str
    size: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ArtifactRef:
        return cls(**data)


@dataclass(frozen=True, slots=True)
class Result:
    """What a finished attempt returns: JSON metrics and named artifacts."""

    metrics: Mapping[str, JSON]
    artifacts: Mapping[str, ArtifactRef] = field(default_factory=dict)


class FailureKind(StrEnum):
    LOST = "lost"  # worker or node gone, preempted
    HOST_MEMORY = "host_memory"
    DEVICE_MEMORY = "device_memory"
    NON_FINITE = "non_finite"
    EXCEPTION = "exception"
    DAMAGED = "damaged"  # an artifact that the job needs is not what was written: the run stops and names it
    STALLED = "stalled"
    INTERRUPTED = "interrupted"  # the run asked it to stop; its checkpoint is kept


#: Failures that are the machine's fault, not the candidate's: the job is tried again (see ``cluster.retries``).
RETRIED = frozenset({FailureKind.LOST, FailureKind.HOST_MEMORY, FailureKind.DEVICE_MEMORY, FailureKind.STALLED})


@dataclass(frozen=True, slots=True)
class Failure:
    kind: FailureKind
    message: str
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class Completion:
    """One attempt came to its end. ``seconds`` is the time it held its slot, ``node`` where it ran."""

    job: int
    attempt: int
    outcome: Result | Failure
    seconds: float = 0.0
    node: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """A sign of life of one attempt, the first when it begins; ``data`` is for the live display only and is never stored."""

    job: int
    attempt: int
    data: Mapping[str, JSON]


class EventKind(StrEnum):
    # a point of an earlier run; data: {job, metrics, artifacts, origin: {run, id, point}}, perhaps {measured: [metrics]}
    IMPORTED = "imported"
    ASKED = "asked"  # data: Job.to_json()
    STARTED = "started"  # data: {attempt}, and {resources} where they are not those asked for
    TOLD = "told"  # data: {attempt, metrics, artifacts, seconds, device_seconds, node}
    FAILED = "failed"  # data: {attempt, kind, message, traceback, seconds, device_seconds, final}
    CANCELLED = "cancelled"  # data: {attempt, reason, seconds, device_seconds}
    PRUNED = "pruned"  # data: {attempt, reason, epoch, seconds, device_seconds, compute_madds}
    REPORTED = "reported"  # data: {attempt, epoch, val_error, ...}: where a training stands at a rung; or, of the cluster,
    # {waiting: {asked, exists}}: no node has what the job asks for, None: no longer; or {slots: n}
    COLLECTED = "collected"  # data: {keys: [...], bytes}: artifacts that nothing needs any more, about to be deleted
    BUDGET = "budget"  # data: {set: {path: value}}, {exhausted: name}, {resumed: {...}} or {unmeasured: why nobody waits}
    STOPPED = "stopped"  # data: {state: done|failed|interrupted, reason}


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a run's history. Numbers start at 1 and leave no gap; ``time`` is seconds since the epoch."""

    number: int
    time: float
    kind: EventKind
    job: int | None
    data: Mapping[str, JSON]


def derive_seed(seed: int, *key: int | str) -> int:
    """A 63-bit seed from a run's seed and a key: same on every machine, independent for different keys."""
    text = ":".join([str(seed), *map(str, key)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


# ----------------------------------------------------------------------------------------------------------------- faces
class Context(ABC):
    """What a work may touch. One instance per attempt, made by the executor where the work runs."""

    job: Job
    device: str  # "cpu" or a torch device name
    threads: int  # CPU threads that this attempt may use

    @abstractmethod
    def data(self, *, test: bool = False) -> Any:
        """The run's data set (``archsearch.data.Dataset``). The test split is there only with ``test=True``."""

    @abstractmethod
    def load(self, ref: ArtifactRef) -> bytes:
        """The bytes of an artifact, checked against its hash.

        Raises:
            StoreDamaged: the bytes are missing or not those that were written.
        """

    @abstractmethod
    def save(self, name: str, payload: bytes) -> ArtifactRef:
        """Write an artifact of this attempt, durably, before returning."""

    @abstractmethod
    def load_checkpoint(self) -> bytes | None:
        """The newest intact checkpoint of any attempt at this job, or None."""

    @abstractmethod
    def save_checkpoint(self, payload: bytes) -> None:
        """Replace this attempt's checkpoint, atomically."""

    @abstractmethod
    def report(self, **progress: JSON) -> None:
        """A sign of life, with figures for the live display. Cheap: call it at every step.

        Raises:
            Interrupted: the run wants the job to stop; write a checkpoint and let this pass.
        """


#: A registered pure function: the same inline, in a Ray task, on a device node.
Work = Callable[[JSON, Context], Result]


class Searcher(ABC):
    """Decides what to try. Its state is a fold over events, so that a resumed run stands where the killed one stood.

    ``ask`` is pure: it never changes state, and an answer that is not submitted was never given. Each random draw uses a
    generator keyed by (run seed, next job id).
    """

    @abstractmethod
    def ask(self, capacity: Mapping[str, int]) -> list[Job]:
        """Jobs wanted next, most urgent first, given how many more of each queue would fit now."""

    @abstractmethod
    def apply(self, event: Event) -> None:
        """Take one event, in order."""

    def gives_up(self, job: int) -> str | None:
        """Why a running job is not worth finishing after what it reported last, or None. Pure, as ``ask`` is."""
        return None

    @property
    @abstractmethod
    def done(self) -> str | None:
        """Why the search wants no new candidates any more, or None. Running jobs may still be of use."""


class Executor(ABC):
    """Runs jobs. Knows nothing of runs, events or retries: one submit gives exactly one completion, or none if lost."""

    name: ClassVar[str]
    attention: ClassVar[float] = 0.5  # longest wait in seconds: how soon a request to stop is seen

    @abstractmethod
    def submit(self, job: Job) -> None: ...

    @abstractmethod
    def listen(self, listener: Callable[[Progress], bool]) -> None:
        """Who to tell of progress while ``wait`` is busy running a job itself; the answer is whether the job is to stop."""

    @abstractmethod
    def wait(self, timeout: float) -> list[Completion | Progress]:
        """What has happened since the last call; blocks up to ``timeout`` seconds for something to happen."""

    @abstractmethod
    def cancel(self, job: int, *, force: bool) -> None:
        """Stop the running attempt: asked to (it writes its checkpoint), or with ``force`` at once."""

    @abstractmethod
    def capacity(self, planned: Sequence[Job] = ()) -> dict[str, int]:
        """Queue -> how many more jobs are wanted, after those running and those ``planned``; see ``room`` for one job."""

    def placed(self, job: Job) -> Job:
        """The job with the resources that it would hold if it was submitted now: ``gpu`` is a number."""
        return job if job.resources.gpu != "auto" else replace(job, resources=replace(job.resources, gpu=0.0))

    def room(self, job: Job, planned: Sequence[Job] = ()) -> bool:
        """Whether this job is to be submitted now: it would start at once, or nothing else shows the cluster what is wanted."""
        return self.capacity(planned).get(job.queue, 0) > 0

    def waiting(self) -> Mapping[int, Mapping[str, JSON]]:
        """Jobs that were submitted and that no living node could hold: what was ``asked`` for, and what ``exists``; or whose
        device is not to be had, and that ``because`` of what."""
        return {}

    @abstractmethod
    def slots(self) -> dict[str, int]:
        """``{"total": n, "busy": n}`` for the live display."""

    @abstractmethod
    def now(self) -> float:
        """Seconds since the epoch: the wall clock, or the virtual one of a simulation."""

    @abstractmethod
    def close(self) -> None: ...


class Store(ABC):
    """The run's history: an append-only log of events. The only truth."""

    @abstractmethod
    def events(self, after: int = 0) -> Iterator[Event]:
        """Events with a number above ``after``, in order, each checked.

        Raises:
            StoreDamaged: a byte is not what was written, or events are missing at the end.
        """

    @abstractmethod
    def commit(self, events: Sequence[Event]) -> None:
        """Append events in one durable transaction; their numbers continue the log.

        Raises:
            LeaseLost: another driver has taken the run over.
            StoreUnavailable: nothing was written; the same call may be made again.
        """

    @abstractmethod
    def heartbeat(self) -> None:
        """Show drivers on other hosts that this one lives. Raises as ``commit`` does."""

    @abstractmethod
    def close(self) -> None: ...
