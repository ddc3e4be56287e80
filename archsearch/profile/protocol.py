"""The measurement protocol: what every runtime's figures have gone through.

Time and memory are measured in processes of their own, since an allocator set up for repeatable memory slows a model down.
Runs are spread over several processes, and in each over blocks in which the subjects take turns in a random order: what drifts
hits all alike, and what differs from process to process is in the interval. A result that is noisy (the interval is wider than
asked for, or others held the cores) is measured again and, if it stays so, marked.

Knows nothing of Ray: the same function on a laptop and on a device's node.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from archsearch.jobs import JSON, ArchsearchError, InputError, derive_seed
from archsearch.profile import environment as machine
from archsearch.profile.graph import Described
from archsearch.profile.measurement import Measurement, Profile
from archsearch.profile.models import NO_ONNX, Model
from archsearch.profile.process import Child, ChildFault
from archsearch.profile.runtimes import runtime
from archsearch.profile.sampling import summarise, width
from archsearch.profile.settings import Failed, Settings, Subject

#: Version of the protocol: figures of different versions are not compared.
PROTOCOL = 1

#: The C library of a process that measures memory gives freed blocks back to the system at once.
STABLE_MEMORY = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}

#: Share of the machine's time that others may use when a process starts; else it is waited for, up to ``patience``.
QUIET = 0.1


@dataclass(frozen=True, slots=True)
class Step:
    """How far a call of `measure` has come. ``latency`` is the subject's, once there is one."""

    phase: str  # "waiting", "starting", "time", "memory"
    done: int
    total: int
    subject: int | None = None
    latency: Measurement | None = None


Watch = Callable[[Step], None]


def measure(
    subjects: Sequence[Subject],
    settings: Settings | None = None,
    *,
    watch: Watch | None = None,
    powercap: Path = machine.POWERCAP,
) -> list[Profile | Failed]:
    """Measure some models, or one model with some assignments, side by side; a result for each, in their order.

    Args:
        watch: told of every step; what it raises ends the measurement and passes.
        powercap: where the energy counters are.

    Raises:
        InputError: a runtime is unknown or lacks something, or there are too few cores; before anything starts.
        ChildFault: measuring processes do not even start.
    """
    settings = settings or Settings()
    packages = {name: runtime(name).packages for name in {subject.runtime for subject in subjects}}
    for subject in subjects:
        _check(subject.model)
    cores = machine.choose_cores(settings.threads)
    work = _Measuring(tuple(subjects), settings, cores, watch or (lambda step: None), powercap)
    work.time_all()
    work.memory_all()
    return [work.result(number, packages[subject.runtime]) for number, subject in enumerate(subjects)]


def describe(model: Model, runtime_name: str, settings: Settings | None = None) -> Described:
    """A model's operations as a runtime sees them, found in a process of its own.

    Raises:
        InputError: the runtime cannot be used, or the model does not load or cannot be taken apart.
        ChildFault: the process failed.
    """
    settings = settings or Settings()
    runtime(runtime_name)
    _check(model)
    request = _request("describe", [Subject(model, runtime_name)], [0], settings, machine.choose_cores(settings.threads))
    with Child(request, settings.threads, settings.limit) as child:
        for answer in child.answers():
            if answer["event"] == "described":
                return Described.from_json(answer)
            if answer["event"] == "failed":
                raise InputError(answer["message"])
    raise ChildFault("garbage", "the measuring process did not say what the model's operations are")


def device_environment(runtime_name: str, settings: Settings | None = None) -> tuple[str, dict[str, JSON]]:
    """The fingerprint of this device with a runtime, and what it was made from. Starts nothing.

    Raises:
        InputError: the runtime cannot be used, or there are too few cores.
    """
    settings = settings or Settings()
    cores = machine.choose_cores(settings.threads)
    found = machine.environment(runtime(runtime_name).packages, settings.threads, cores)
    return machine.fingerprint(found), found


def _check(model: Model) -> None:
    if model.kind == "onnx":
        raise InputError(f"{model.name}: {NO_ONNX}")


def _request(
    task: str, subjects: Sequence[Subject], numbers: Sequence[int], settings: Settings, cores: list[int]
) -> dict[str, Any]:
    return {
        "task": task,
        "subjects": [subject.to_json() for subject in subjects],
        "numbers": list(numbers),
        "settings": settings.to_json(),
        "cores": cores,
    }


@dataclass
class _Taken:
    """What was taken of one subject: for each process its blocks of runs, and what was seen beside them."""

    launches: list[list[list[float]]] = field(default_factory=list)
    energy: list[list[list[float]]] = field(default_factory=list)
    seconds: float = 0.0
    waited: float | None = 0.0  # seconds for which others held the cores
    ready: dict[str, JSON] = field(default_factory=dict)
    seen: list[dict[str, Any]] = field(default_factory=list)
    latency: Measurement | None = None
    because: tuple[str, ...] = ()  # why it is noisy

    def take(self, answers: Sequence[Mapping[str, Any]]) -> None:
        """Add what one process said of the subject."""
        blocks = [answer for answer in answers if answer["event"] == "block"]
        self.launches.append([answer["ms"] for answer in blocks])
        self.energy.append([[answer["energy_mj"]] for answer in blocks if answer["energy_mj"] is not None])
        for answer in blocks:
            self.seconds += answer["seconds"]
            self.waited = None if self.waited is None or answer["waited"] is None else self.waited + answer["waited"]
            self.seen.append({name: answer[name] for name in ("clock_mhz", "temperature")})
        for answer in answers:
            if answer["event"] == "ready":
                self.ready = {name: value for name, value in answer.items() if name not in ("event", "subject")}


class _Measuring:
    """One call of `measure`. ``failed`` and ``taken`` are by the subjects' numbers."""

    def __init__(
        self, subjects: tuple[Subject, ...], settings: Settings, cores: list[int], watch: Watch, powercap: Path
    ) -> None:
        self.subjects, self.settings, self.cores, self.watch, self.powercap = subjects, settings, cores, watch, powercap
        self.failed: dict[int, Failed] = {}
        self.taken: dict[int, _Taken] = {}
        self.memory: dict[int, list[dict[str, Any]]] = {number: [] for number in range(len(subjects))}
        self.deaths: dict[int | None, int] = {}
        self.others: list[float] = []  # share of the machine's time that others used while blocks ran
        self.rounds = 0  # how often noisy subjects were measured again
        self.patience = settings.patience
        self.done = 0
        self.total = (settings.launches * settings.rounds + settings.memory_runs) * len(subjects)

    # ------------------------------------------------------------------------------------------------------------- time
    def time_all(self) -> None:
        pending = list(range(len(self.subjects)))
        for repeat in range(self.settings.repeats + 1):
            found = self._launches(pending, repeat)
            pending = []
            for number, taken in found.items():
                if number in self.failed:
                    continue
                self._judge(taken)
                before = self.taken.get(number)
                if before is None or not taken.because or width(_latency(taken)) < width(_latency(before)):
                    self.taken[number] = taken
                if taken.because:
                    pending.append(number)
            if not pending or repeat == self.settings.repeats:
                return
            self.rounds += 1
            self.total += len(pending) * self.settings.launches * self.settings.rounds

    def _judge(self, taken: _Taken) -> None:
        """The latency, and whether it can be relied on."""
        found = summarise(taken.launches, "ms", self.settings.seed)
        because = []
        if width(found) > self.settings.width:
            because.append(f"the interval is {width(found):.1%} of the median wide, {self.settings.width:.1%} was asked for")
        if taken.waited is not None and taken.waited > self.settings.busy * taken.seconds:
            because.append(f"others held its cores for {taken.waited / taken.seconds:.1%} of the time")
        taken.latency, taken.because = replace(found, noisy=bool(because)), tuple(because)

    def _launches(self, numbers: list[int], repeat: int) -> dict[int, _Taken]:
        taken = {number: _Taken() for number in numbers}
        for launch in range(self.settings.launches):
            going = [number for number in numbers if number not in self.failed]
            while going:
                self._settle_down()
                answers = self._launch(going, derive_seed(self.settings.seed, "order", repeat, launch))
                if answers is not None:
                    for number in going:
                        if number not in self.failed:
                            taken[number].take(answers[number])
                    break
                going = [number for number in going if number not in self.failed]
        return taken

    def _launch(self, numbers: list[int], order: int) -> dict[int, list[dict[str, Any]]] | None:
        """What one process said of each subject, or None if it failed; then the subject at fault has been noted."""
        found: dict[int, list[dict[str, Any]]] = {number: [] for number in numbers}
        request = _request("time", [self.subjects[number] for number in numbers], numbers, self.settings, self.cores)
        done = self.done
        self.watch(Step("starting", self.done, self.total))

        def listen(answer: dict[str, Any]) -> None:
            if answer["event"] == "load":
                self.others.append(answer["others"])
            elif answer["event"] in ("ready", "block"):
                found[answer["subject"]].append(answer)
            if answer["event"] == "block":
                self._step("time", answer["subject"])

        if self._hear(request | {"order": order, "powercap": str(self.powercap)}, {}, listen):
            return found
        self.done = done
        return None

    # ----------------------------------------------------------------------------------------------------------- memory
    def memory_all(self) -> None:
        for number, subject in enumerate(self.subjects):
            while number not in self.failed and len(self.memory[number]) < self.settings.memory_runs:

                def listen(answer: dict[str, Any], number: int = number) -> None:
                    if answer["event"] == "memory":
                        self.memory[number].append(answer)
                        self._step("memory", number)

                self._hear(_request("memory", [subject], [number], self.settings, self.cores), STABLE_MEMORY, listen)

    # ------------------------------------------------------------------------------------------------------------ common
    def _hear(self, request: Mapping[str, Any], variables: Mapping[str, str], listen: Callable[[dict[str, Any]], None]) -> bool:
        """Let a process do its task. False if it failed; then it was noted of the subject at work, or is to be tried again.

        A process that dies is given a second chance, since anything may have ended it; one that hangs or talks nonsense not.
        """
        at_work: int | None = None
        numbers = request["numbers"]
        try:
            with Child(request, self.settings.threads, self.settings.limit, variables) as child:
                for answer in child.answers():
                    if answer.get("subject", numbers[0]) not in numbers:
                        raise ChildFault("garbage", f"the measuring process answered of subject {answer['subject']}")
                    if answer["event"] == "begin":
                        at_work = answer["subject"]
                    elif answer["event"] == "failed":
                        self.failed[answer["subject"]] = Failed(answer["kind"], answer["message"])
                    else:
                        listen(answer)
            return True
        except ChildFault as error:
            self.deaths[at_work] = self.deaths.get(at_work, 0) + 1
            if error.kind == "died" and self.deaths[at_work] < 2:
                return False
            if at_work is None:
                raise
            self.failed[at_work] = Failed(error.kind, str(error))
            return False

    def _step(self, phase: str, number: int) -> None:
        self.done += 1
        taken = self.taken.get(number)
        self.watch(Step(phase, self.done, max(self.total, self.done), number, None if taken is None else taken.latency))

    def _settle_down(self) -> None:
        """Wait until others are quiet and the machine has cooled down, as long as the patience for all such waits lasts."""
        while True:
            before = machine.load_now()
            start = time.monotonic()
            time.sleep(0.25)
            hottest = machine.temperature()
            calm = before.others(machine.load_now()) <= QUIET and (hottest is None or hottest <= self.settings.hot)
            if calm or self.patience <= 0:
                return
            self.watch(Step("waiting", self.done, self.total))
            self.patience -= time.monotonic() - start

    # ------------------------------------------------------------------------------------------------------------ result
    def result(self, number: int, packages: Sequence[str]) -> Profile | Failed:
        if number in self.failed:
            return self.failed[number]
        taken, memory = self.taken[number], self.memory[number]
        environment = machine.environment(packages, self.settings.threads, self.cores)
        clocks = [each["clock_mhz"] for each in taken.seen if each["clock_mhz"] is not None]
        heat = [each["temperature"] for each in taken.seen if each["temperature"] is not None]
        whole = all(taken.energy)
        about: dict[str, JSON] = {
            **taken.ready,
            "interval_width": width(_latency(taken)),
            "noisy_because": list(taken.because),
            "repeats": self.rounds,
            "processes": len(taken.launches),
            "waited_share": None if taken.waited is None else taken.waited / taken.seconds,
            "others_share": max(self.others, default=None),
            "clock_mhz": min(clocks, default=None),
            "temperature_c": max(heat, default=None),
            "baseline_memory_kib": min((each["baseline"] for each in memory), default=None),
            "settings": self.settings.to_json(),
            "environment": environment,
        }
        return Profile(
            latency=_latency(taken),
            load_memory=_peak([each["load"] for each in memory]),
            run_memory=_peak([each["run"] for each in memory if each["apart"]]),
            energy=summarise(taken.energy, "mJ", self.settings.seed) if whole and taken.energy else None,
            runtime=self.subjects[number].runtime,
            fingerprint=machine.fingerprint(environment),
            protocol=PROTOCOL,
            about=about,
        )


def _latency(taken: _Taken) -> Measurement:
    if taken.latency is None:
        raise ArchsearchError("a latency is asked for before it was judged")
    return taken.latency


def _peak(values: Sequence[int]) -> Measurement | None:
    """One value of each process, in KiB. The least and the greatest of n values bound the median with 1 - 2 / 2**n."""
    if not values:
        return None
    found = summarise([[[float(value)]] for value in values], "KiB", 0)
    return replace(found, low=float(min(values)), high=float(max(values)))
