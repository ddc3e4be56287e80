"""What a run's events amount to: its jobs, its points and its counts. A pure fold, cheap for every event."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from archsearch.jobs import JSON, POOL_STAGES, ArtifactRef, Event, EventKind, Failure, FailureKind, Job, JobState, Stage
from archsearch.measured import QUEUE, Answers
from archsearch.store.text import plain

#: States after which a job is never tried again.
ENDED = frozenset({JobState.COMPLETED, JobState.ABANDONED, JobState.CANCELLED, JobState.PRUNED})

_END = {
    EventKind.TOLD: JobState.COMPLETED,
    EventKind.CANCELLED: JobState.CANCELLED,
    EventKind.PRUNED: JobState.PRUNED,
}


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One job and how it went. ``attempts`` counts those started; ``seconds`` is the time that all of them held a slot,
    ``device_seconds`` the same times the share of a device that they held (1 for a slot without a GPU).

    ``asked``, ``started`` (the latest attempt) and ``finished`` are seconds since the epoch.
    """

    job: Job
    state: JobState
    asked: float
    attempts: int = 0
    metrics: Mapping[str, JSON] = field(default_factory=dict)
    artifacts: Mapping[str, ArtifactRef] = field(default_factory=dict)
    failure: Failure | None = None
    seconds: float = 0.0
    node: str = ""
    started: float | None = None
    finished: float | None = None
    device_seconds: float = 0.0

    @property
    def ended(self) -> bool:
        return self.state in ENDED


@dataclass(frozen=True, slots=True)
class Point:
    """A trained architecture of the pool. ``arch`` is its JSON; ``parent`` the id of the point that it grew from; ``weights``
    None if they were not kept; ``metrics`` those of its training, with those of its test where there was one, what devices have
    told of it, and ``confirmations``, those of its trainings with other seeds once such have ended (see ``search.confirm``);
    ``sampling_count`` how often it was chosen as a parent; ``origin`` is ``{run, id, point}`` of the earlier run that it was
    taken from, if it was."""

    id: int
    stage: Stage
    arch: Mapping[str, JSON]
    parent: int | None
    metrics: Mapping[str, JSON]
    weights: ArtifactRef | None
    sampling_count: int = 0
    origin: Mapping[str, JSON] | None = None


class RunState:
    """The state of a run after its events, applied in order.

    ``jobs``: records by id, in the order asked. ``counts``: jobs by state. ``stopped``: data of the last ``stopped`` event
    unless the run went on. ``settings``: values that ``budget`` events set, by path. ``device_seconds``: the sum over all jobs.
    ``waiting``: submitted jobs that no node of the cluster can hold, with what each ``asked`` for and what ``exists``.
    ``slots``: those of the cluster, as the driver last said. ``collected``: keys of artifacts that were given up (see
    ``archsearch.store.retention``); ``artifact_bytes``: the size of those that were not.
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.jobs: dict[int, JobRecord] = {}
        self.counts: dict[JobState, int] = dict.fromkeys(JobState, 0)
        self.stopped: Mapping[str, JSON] | None = None
        self.settings: dict[str, JSON] = {}
        self.last_number = 0
        self.device_seconds = 0.0
        self.waiting: dict[int, Mapping[str, JSON]] = {}
        self.slots: int | None = None
        self.collected: set[str] = set()
        self.artifact_bytes = 0
        self._origins: dict[int, Mapping[str, JSON]] = {}
        self._points: dict[int, int | None] = {}  # parent point by id, in the order in which they joined
        self._samplings: dict[int, int] = {}
        self._tests: dict[int, Mapping[str, JSON]] = {}
        self._confirmations: dict[int, list[Mapping[str, JSON]]] = {}
        self._answers = Answers()
        self._devices: dict[str, None] = {}  # those that were asked to measure
        self._running: set[int] = set()
        for event in events:
            self.apply(event)

    def points(self) -> list[Point]:
        """All points, in the order in which they joined the pool."""
        return [self._point(number) for number in self._points]

    def point_ids(self) -> list[int]:
        return list(self._points)

    def point(self, number: int) -> Point | None:
        return self._point(number) if number in self._points else None

    def _point(self, number: int) -> Point:
        record = self.jobs[number]
        metrics = {**self._tests.get(number, {}), **record.metrics}  # of figures that both have, the training's
        if number in self._confirmations:
            metrics["confirmations"] = list(self._confirmations[number])
        metrics |= self._measured(record.job)
        weights, count = record.artifacts.get("weights"), self._samplings.get(number, 0)
        if weights is not None and weights.key in self.collected:
            weights = None
        arch, parent, origin = plain(record.job.spec["arch"]), self._points[number], self._origins.get(number)
        return Point(number, record.job.stage, arch, parent, metrics, weights, count, origin)

    def _measured(self, job: Job) -> dict[str, JSON]:
        """What devices have told of a point: figures by objective, their intervals in ``measured``, and ``unmeasured``: why
        there is none, by objective. ``assignments``, by device: the backends that it was measured with, if they were chosen.
        """
        found: dict[str, JSON] = {}
        for device, answer in self._answers.all_of(job.spec.get("hash", ""), list(self._devices)):
            found |= {name: figure.value for name, figure in answer.figures.items()}
            found.setdefault("measured", {}).update({name: figure.to_json() for name, figure in answer.figures.items()})
            found.setdefault("unmeasured", {}).update({} if answer.again else answer.lacking)
            if (choice := answer.choice) is not None:
                found.setdefault("assignments", {})[device] = {**choice.to_json(), "words": str(choice)}
        return found

    def profiles(self, point: int) -> list[Mapping[str, JSON]]:
        """What devices have told of a point, in their own words."""
        hash_ = self.jobs[point].job.spec.get("hash", "")
        return [answer.metrics for _, answer in self._answers.all_of(hash_, list(self._devices)) if answer.figures]

    def artifact_keys(self) -> set[str]:
        """Keys of all artifacts that an event names and none has given up; any other is of an attempt that came to nothing."""
        return {ref.key for record in self.jobs.values() for ref in record.artifacts.values()} - self.collected

    def open_jobs(self) -> Iterator[JobRecord]:
        """Jobs asked and not ended, in the order asked: those that a resumed run submits again."""
        return (record for record in self.jobs.values() if not record.ended)

    def apply(self, event: Event) -> None:
        """Take the next event.

        Raises:
            ValueError: its number does not follow, or it names a job that was never asked for, or one asked for twice.
        """
        if event.number != self.last_number + 1:
            raise ValueError(f"event {event.number} was given after event {self.last_number}")
        kind, data = event.kind, event.data
        if kind is EventKind.ASKED:
            self._asked(event)
        elif kind is EventKind.IMPORTED:
            self._imported(event)
        elif kind is EventKind.STOPPED:
            self._rest(data)
        elif kind is EventKind.BUDGET:
            self.settings.update(data.get("set") or {})
            if "resumed" in data or "session" in data:
                self.stopped = None
                self.waiting.clear()
                self.slots = (data.get("session") or {}).get("slots")
        elif kind is EventKind.REPORTED:
            self._reported(event.job, data)
        elif kind is EventKind.COLLECTED:
            self.collected.update(data["keys"])
            self.artifact_bytes -= data["bytes"]
        else:
            self._moved(event)
        self.last_number = event.number

    def _asked(self, event: Event) -> None:
        job = Job.from_json(event.data)
        if job.id in self.jobs:
            raise ValueError(f"event {event.number} asks for job {job.id} a second time")
        self.jobs[job.id] = JobRecord(job, JobState.QUEUED, event.time)
        if job.stage is Stage.PROFILE:
            self._devices[job.queue.removeprefix(QUEUE)] = None
        self.counts[JobState.QUEUED] += 1
        self.stopped = None
        parent = self.jobs.get(job.parent) if job.parent is not None else None
        if parent is not None and job.stage in (Stage.SEARCH, Stage.SEARCH_TRAINED) and parent.job.stage in POOL_STAGES:
            self._samplings[parent.job.id] = self._samplings.get(parent.job.id, 0) + 1

    def _reported(self, job: int | None, data: Mapping[str, JSON]) -> None:
        """What a driver saw of the cluster."""
        self.slots = data.get("slots", self.slots)
        if job is not None and data.get("waiting"):
            self.waiting[job] = data["waiting"]
        elif job is not None and "waiting" in data:
            self.waiting.pop(job, None)

    def _imported(self, event: Event) -> None:
        """A point of an earlier run: the record of a job that took nothing here."""
        job, data = Job.from_json(event.data["job"]), event.data
        if job.id in self.jobs:
            raise ValueError(f"event {event.number} imports point {job.id}, but there is such a job")
        artifacts = {name: ArtifactRef.from_json(ref) for name, ref in data["artifacts"].items()}
        self.jobs[job.id] = JobRecord(
            job, JobState.COMPLETED, event.time, metrics=data["metrics"], artifacts=artifacts, finished=event.time
        )
        self.counts[JobState.COMPLETED] += 1
        self.artifact_bytes += sum(ref.size for ref in artifacts.values())
        self._points[job.id] = self._parent_point(job)
        self._origins[job.id] = data["origin"]
        if data.get("measured"):
            self._answers.imported(job.spec["hash"], data["measured"])

    def _moved(self, event: Event) -> None:
        """An event that changes the state of one job."""
        record = self.jobs.get(event.job) if event.job is not None else None
        if record is None:
            raise ValueError(f"event {event.number} ({event.kind}) is about job {event.job}, which was never asked for")
        kind, data = event.kind, event.data
        seconds = float(data.get("seconds") or 0.0)
        device_seconds = float(data.get("device_seconds", seconds * record.job.resources.devices))
        state, started, finished = record.state, record.started, record.finished
        metrics, artifacts, failure = record.metrics, record.artifacts, record.failure
        if kind is EventKind.STARTED:
            self.stopped = None
            state, started = JobState.RUNNING, event.time
        elif kind is EventKind.FAILED:
            failure = Failure(FailureKind(data["kind"]), str(data.get("message", "")), str(data.get("traceback", "")))
            state = _after(failure, bool(data.get("final")))
            finished = event.time if state is JobState.ABANDONED else finished
        else:
            state, finished = _END[kind], event.time
        if kind is EventKind.TOLD:
            metrics = data.get("metrics", {})
            artifacts = {name: ArtifactRef.from_json(ref) for name, ref in data.get("artifacts", {}).items()}
            self.artifact_bytes += sum(ref.size for ref in artifacts.values())
        attempts, node = max(record.attempts, int(data.get("attempt") or 0)), data.get("node") or record.node
        seconds_in_all = record.seconds + seconds
        record = JobRecord(  # in full: ``replace`` takes twice as long
            record.job,
            state,
            record.asked,
            attempts,
            metrics,
            artifacts,
            failure,
            seconds_in_all,
            node,
            started,
            finished,
            record.device_seconds + device_seconds,
        )
        self._put(record)
        self.waiting.pop(record.job.id, None)
        self.device_seconds += device_seconds
        if kind is EventKind.TOLD:
            self._told(record)
        elif record.ended and record.job.stage is Stage.PROFILE:
            self._answers.failed(self._hash_of(record.job), record.job.queue.removeprefix(QUEUE), data)
        elif record.ended and record.job.stage is Stage.EVAL_TRAINED and record.job.parent is not None:
            self._confirmations.setdefault(record.job.parent, [])  # none came of it

    def _put(self, record: JobRecord) -> None:
        number = record.job.id
        self.counts[self.jobs[number].state] -= 1
        self.counts[record.state] += 1
        self.jobs[number] = record
        (self._running.add if record.state is JobState.RUNNING else self._running.discard)(number)

    def _told(self, record: JobRecord) -> None:
        job = record.job
        if job.stage in POOL_STAGES:
            self._points[job.id] = self._parent_point(job)
        elif job.stage is Stage.EVAL and job.work == "test" and job.parent is not None:
            self._tests[job.parent] = record.metrics
        elif job.stage is Stage.EVAL_TRAINED and job.parent is not None:
            self._confirmations.setdefault(job.parent, []).append(record.metrics)
        elif job.stage is Stage.PROFILE:
            self._answers.told(self._hash_of(job), job.queue.removeprefix(QUEUE), record.metrics)

    def _hash_of(self, job: Job) -> str:
        """The architecture that a measurement is of."""
        parent = self.jobs.get(job.parent) if job.parent is not None else None
        return "" if parent is None else str(parent.job.spec.get("hash", ""))

    def _parent_point(self, job: Job) -> int | None:
        """The nearest forebear that is a point: the parent itself, or the parent of the search that came between."""
        parent = job.parent
        while parent is not None and parent in self.jobs:
            if self.jobs[parent].job.stage in POOL_STAGES:
                return parent
            parent = self.jobs[parent].job.parent
        return None

    def _rest(self, data: Mapping[str, JSON]) -> None:
        """A run that has stopped runs nothing: what was running waits to be submitted again."""
        self.stopped = data
        self.waiting.clear()
        for number in sorted(self._running):
            self._put(replace(self.jobs[number], state=JobState.QUEUED))


def _after(failure: Failure, final: bool) -> JobState:
    """A job's state after an attempt's failure; one that the run itself interrupted leaves it queued."""
    if final:
        return JobState.ABANDONED
    return JobState.QUEUED if failure.kind is FailureKind.INTERRUPTED else JobState.FAILED
