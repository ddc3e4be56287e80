"""The measurement protocol: what every runtime's figures have gone through.

Time and memory are measured in processes of their own, since an allocator set up for repeatable memory slows a model down.
Runs are spread over several processes, and in each over blocks in which the subjects take turns in a random order: what drifts
hits all alike, and what differs from process to process is in the interval. A result that is noisy (the interval is wider than
asked for, or others held the cores) is measured again, what was taken before counts too, and if it stays so it is marked.

Knows nothing of Ray: the same function on a laptop and on a device's node.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from archsearch.jobs import JSON, InputError, derive_seed
from archsearch.profile import environment as machine
from archsearch.profile.graph import Described
from archsearch.profile.measurement import Measurement, Profile
from archsearch.profile.models import Model
from archsearch.profile.prepared import check_model, prepared
from archsearch.profile.process import Child, ChildFault
from archsearch.profile.runtimes import Runtime, runtime
from archsearch.profile.settings import Failed, Settings, Subject
from archsearch.profile.taken import Taken

#: Version of the protocol: figures of different versions are not compared. 1 took the narrowest interval of those measured.
PROTOCOL = 2

#: The C library of a process that measures memory gives freed blocks back to the system at once.
STABLE_MEMORY = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}

#: Share of the machine's time that others may use when a process starts; else it is waited for, up to ``patience``.
QUIET = 0.1


@dataclass(frozen=True, slots=True)
class Step:
    """How far a call of `measure` has come. ``latency`` is the subject's, once there is one."""

    phase: str  # "preparing", "waiting", "starting", "time", "memory"
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
    used = {name: runtime(name) for name in {subject.runtime for subject in subjects}}
    for subject in {(str(each.model), each.runtime): each for each in subjects}.values():
        check_model(subject.model, used[subject.runtime])
    cores = machine.choose_cores(settings.threads)
    work = _Measuring(tuple(subjects), settings, cores, watch or (lambda step: None), powercap)
    work.prepare_all(used)
    work.time_all()
    work.memory_all()
    places = {name: _environment(one, settings, cores) for name, one in used.items()}
    return [work.result(number, places[subject.runtime]) for number, subject in enumerate(subjects)]


def describe(model: Model, runtime_name: str, settings: Settings | None = None) -> Described:
    """A model's operations as a runtime sees them, found in a process of its own.

    Raises:
        InputError: the runtime cannot be used, or the model does not load, ends the process or cannot be taken apart.
        ChildFault: the process does not even start.
    """
    settings = settings or Settings()
    used = runtime(runtime_name)
    check_model(model, used)
    ready = prepared(model, used, settings)
    if isinstance(ready, Failed):
        raise InputError(f"{model.name}: {ready.message}")
    request = _request("describe", [Subject(ready, runtime_name)], [0], settings, machine.choose_cores(settings.threads))
    try:
        with Child(request, settings.threads, settings.limit) as child:
            for answer in child.answers():
                if answer["event"] == "described":
                    return Described.from_json(answer)
                if answer["event"] == "failed":
                    raise InputError(f"{model.name}: {answer['message']}")
        raise ChildFault("garbage", "the measuring process did not say what the model's operations are", 0)
    except ChildFault as error:
        if error.subject is None:
            raise
        raise InputError(f"{model.name}: {error}") from error


def device_environment(runtime_name: str, settings: Settings | None = None) -> tuple[str, dict[str, JSON]]:
    """The fingerprint of this device with a runtime, and what it was made from. Starts nothing.

    Raises:
        InputError: the runtime cannot be used, or there are too few cores.
    """
    settings = settings or Settings()
    cores = machine.choose_cores(settings.threads)
    found = _environment(runtime(runtime_name), settings, cores)
    return machine.fingerprint(found), found


def _environment(used: Runtime, settings: Settings, cores: Sequence[int]) -> dict[str, JSON]:
    return machine.environment(used.packages, settings.threads, cores) | used.hardware()


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


class _Measuring:
    """One call of `measure`. ``failed`` and ``taken`` are by the subjects' numbers."""

    def __init__(
        self, subjects: tuple[Subject, ...], settings: Settings, cores: list[int], watch: Watch, powercap: Path
    ) -> None:
        self.subjects, self.settings, self.cores, self.watch, self.powercap = list(subjects), settings, cores, watch, powercap
        self.failed: dict[int, Failed] = {}
        self.taken: dict[int, Taken] = {}
        self.memory: dict[int, list[dict[str, Any]]] = {number: [] for number in range(len(subjects))}
        self.deaths: dict[int | None, int] = {}
        self.others: list[float] = []  # share of the machine's time that others used while blocks ran
        self.rounds = 0  # how often noisy subjects were measured again
        self.patience = settings.patience
        self.steps = dict.fromkeys(range(len(subjects)), 0)  # blocks and peaks of memory taken
        self.planned = dict.fromkeys(self.steps, settings.launches * settings.rounds + settings.memory_runs)

    # ---------------------------------------------------------------------------------------------------------- prepare
    def prepare_all(self, used: Mapping[str, Runtime]) -> None:
        """Each model as its runtime runs it, made once."""
        made: dict[tuple[str, str], Model | Failed] = {}
        for number, subject in enumerate(self.subjects):
            key = str(subject.model), used[subject.runtime].form
            if key not in made:
                if used[subject.runtime].form:
                    self._tell("preparing", number)
                made[key] = prepared(subject.model, used[subject.runtime], self.settings)
            if isinstance(ready := made[key], Failed):
                self.failed[number] = ready
            else:
                self.subjects[number] = replace(subject, model=ready)

    # ------------------------------------------------------------------------------------------------------------- time
    def time_all(self) -> None:
        pending = [number for number in range(len(self.subjects)) if number not in self.failed]
        for repeat in range(self.settings.repeats + 1):
            found = self._launches(pending, repeat)
            pending = []
            for number, taken in found.items():
                taken.judge(self.settings)
                if number in self.taken:
                    taken = self.taken[number].joined(taken, self.settings)
                self.taken[number] = taken
                if taken.because:
                    pending.append(number)
            if not pending or repeat == self.settings.repeats:
                return
            self.rounds += 1
            for number in pending:
                self.planned[number] += self.settings.launches * self.settings.rounds

    def _launches(self, numbers: list[int], repeat: int) -> dict[int, Taken]:
        taken = {number: Taken() for number in numbers}
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
        return {number: each for number, each in taken.items() if number not in self.failed}

    def _launch(self, numbers: list[int], order: int) -> dict[int, list[dict[str, Any]]] | None:
        """What one process said of each subject, or None if it failed; then the subject at fault has been noted."""
        found: dict[int, list[dict[str, Any]]] = {number: [] for number in numbers}
        request = _request("time", [self.subjects[number] for number in numbers], numbers, self.settings, self.cores)
        steps = dict(self.steps)
        self._tell("starting")

        def listen(answer: dict[str, Any]) -> None:
            if answer["event"] == "load":
                self.others.append(answer["others"])
            elif answer["event"] in ("ready", "block"):
                found[answer["subject"]].append(answer)
            if answer["event"] == "block":
                self._step("time", answer["subject"])

        if self._hear(request | {"order": order, "powercap": str(self.powercap)}, {}, listen):
            return found
        self.steps = steps
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
        measured: set[int] = set()
        try:
            with Child(request, self.settings.threads, self.settings.limit, variables) as child:
                for answer in child.answers():
                    if answer["event"] == "failed":
                        self.failed[answer["subject"]] = Failed(answer["kind"], answer["message"])
                    else:
                        listen(answer)
                    if answer["event"] in ("block", "memory"):
                        measured.add(answer["subject"])
            for number in request["numbers"]:
                if number not in self.failed and number not in measured:
                    raise ChildFault("garbage", "the measuring process ended without a figure", number)
            return True
        except ChildFault as error:
            self.deaths[error.subject] = self.deaths.get(error.subject, 0) + 1
            if error.kind == "died" and self.deaths[error.subject] < 2:
                return False
            if error.subject is None:
                raise
            self.failed[error.subject] = Failed(error.kind, str(error))
            return False

    def _step(self, phase: str, number: int) -> None:
        self.steps[number] += 1
        self._tell(phase, number)

    def _tell(self, phase: str, number: int | None = None) -> None:
        taken = None if number is None else self.taken.get(number)
        total = sum(self.steps[each] if each in self.failed else self.planned[each] for each in self.steps)
        self.watch(Step(phase, sum(self.steps.values()), total, number, None if taken is None else taken.latency))

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
            self._tell("waiting")
            self.patience -= time.monotonic() - start

    # ------------------------------------------------------------------------------------------------------------ result
    def result(self, number: int, environment: dict[str, JSON]) -> Profile | Failed:
        if number in self.failed:
            return self.failed[number]
        about: dict[str, JSON] = {
            "repeats": self.rounds,
            "others_share": max(self.others, default=None),
            "settings": self.settings.to_json(),
            "environment": environment,
        }
        return self.taken[number].profile(self.subjects[number].runtime, PROTOCOL, self.memory[number], about)
