"""Measuring on a device for somebody who has no run: ``archsearch profile --device``, ``archsearch assign --device``.

Each measurement is a job in the device's queue, as those of searches are, and so has its turn, its node and its host's lock.
Whoever waits is told for what; nothing is given up for being away, and Ctrl-C ends the waiting.
"""

from __future__ import annotations

import math
import os
import platform
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from overrides import overrides

from archsearch.cluster.context import AttemptContext
from archsearch.cluster.device_lock import host_lock
from archsearch.cluster.device_measure import Cancel, Told, measure, no_data
from archsearch.cluster.devices_section import PREFIX, DeviceSettings
from archsearch.jobs import JSON, Completion, Failure, FailureKind, InputError, Job, Result, Stage
from archsearch.profile.bench import Bench, Description, Here
from archsearch.profile.graph import Described
from archsearch.profile.measurement import Profile
from archsearch.profile.models import Model
from archsearch.profile.process import DeviceGone
from archsearch.profile.protocol import Step, Watch
from archsearch.profile.settings import Failed, Settings, Subject
from archsearch.store import Artifacts

#: An artifact store for jobs that have no artifacts: in the memory of whoever opens it.
NOWHERE = "memory://archsearch-nothing"

#: How often a measurement is tried that is lost with its device's process or connection.
ATTEMPTS = 3

#: Told what is waited for.
Say = Callable[[str], None]


class Lane(ABC):
    """The way to one device: one job at a time."""

    #: Whether the device is this very machine, where this process runs.
    here: bool

    def __init__(self, name: str, say: Say) -> None:
        self.name = name
        self.me = f"process {os.getpid()} on {platform.node()}"  # as others see who has the device
        self._say = say
        self._said = ""

    @abstractmethod
    def run(self, job: Job, settings: DeviceSettings, heard: Callable[[Mapping[str, JSON]], None]) -> Completion:
        """Run a job when its turn has come, however long that takes.

        Args:
            heard: told of its progress.
        """

    def say(self, text: str) -> None:
        """Tell what is waited for, once."""
        if text and text != self._said:
            self._say(text)
        self._said = text


class Near(Lane):
    """From this process: the machine itself, or a board that it reaches. Its lock keeps others on this host away meanwhile."""

    def __init__(self, name: str, settings: DeviceSettings, say: Say) -> None:
        super().__init__(name, say)
        self.here = settings.runner == "local"

    @overrides
    def run(self, job: Job, settings: DeviceSettings, heard: Callable[[Mapping[str, JSON]], None]) -> Completion:
        def post(progress: Mapping[str, JSON]) -> bool:
            heard(progress)
            return False

        def told(state: str, detail: str) -> None:
            self.say(f"device {self.name} is {state}: {detail}" if detail else "")

        context = AttemptContext(job, no_data, Artifacts(NOWHERE), post, settings.torch_device, settings.threads)
        holder, host = f"device {self.name}, {self.me}", platform.node()
        return measure(job, self.name, settings, context, holder=holder, told=Told(told), cancel=Cancel(), node=host)


class DeviceBench(Bench):
    """A device as a place to measure. Architectures travel; what runs code where it is loaded does not."""

    def __init__(self, lane: Lane, settings: DeviceSettings, say: Say) -> None:
        self._lane, self._settings, self._say = lane, settings, say
        self._jobs = 0

    @overrides
    def describe(self, model: Model, runtime: str, settings: Settings) -> Description:
        if not self._travel([model]):
            return Here().describe(model, runtime, settings)
        spec = {"arch": model.value, "runtime": runtime, "protocol": settings.to_json()}
        found = self._ask("describe", spec, settings)
        try:
            described = Described.from_json(found["described"])
            if len(described.supported) != len(described.graph.nodes):
                raise ValueError("not every operation has its backends")
            return Description(described, str(found["fingerprint"]), dict(found["environment"]))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            self._garbage(error)

    @overrides
    def measure(
        self, subjects: Sequence[Subject], settings: Settings, *, watch: Watch | None = None, fresh: bool = True
    ) -> list[Profile | Failed]:
        if not self._travel([subject.model for subject in subjects]):
            return self._measure_here(subjects, settings, watch, fresh)

        def heard(progress: Mapping[str, JSON]) -> None:
            number = progress.get("subject")
            known = number is None or (isinstance(number, int) and 0 <= number < len(subjects))
            step, steps = progress.get("step"), progress.get("steps")
            if watch is not None and known and isinstance(step, int) and isinstance(steps, int) and 0 <= step <= steps > 0:
                watch(Step(str(progress.get("phase")), step, steps, number))

        (runtime,) = {subject.runtime for subject in subjects}
        asked = [{"arch": subject.model.value, "assignment": subject.assignment} for subject in subjects]
        spec = {"subjects": asked, "runtime": runtime, "protocol": settings.to_json(), "fresh": fresh}
        found = self._ask("profile_side_by_side", spec, settings, len(subjects), heard)
        try:
            results = [_result(each) for each in found["results"]]
            if len(results) == len(subjects):
                return results
            raise ValueError(f"{len(results)} results of {len(subjects)}")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            self._garbage(error)

    # ------------------------------------------------------------------------------------------------------------- jobs
    def _ask(
        self,
        work: str,
        spec: JSON,
        settings: Settings,
        count: int = 1,
        heard: Callable[[Mapping[str, JSON]], None] = lambda progress: None,
    ) -> Mapping[str, Any]:
        """Have the device do a work on so many subjects.

        Raises:
            InputError: the work found something wrong with what it was asked.
            DeviceGone: the device failed again and again, or in a way that says that it will.
        """
        self._jobs += 1
        job = Job(self._jobs, Stage.PROFILE, work, spec, settings.seed, queue=PREFIX + self._lane.name)
        limits = self._settings.model_copy(update={"threads": settings.threads, "timeout": count * self._settings.timeout})
        while True:
            outcome = self._lane.run(job, limits, heard).outcome
            if isinstance(outcome, Result):
                return outcome.metrics
            if outcome.kind is not FailureKind.LOST or job.attempt == ATTEMPTS:
                raise _error(self._lane.name, outcome)
            self._say(f"attempt {job.attempt} of {ATTEMPTS} was lost, trying again: {outcome.message}")
            time.sleep(job.attempt)
            job = job.again(job.attempt + 1)

    def _garbage(self, error: Exception) -> NoReturn:
        raise DeviceGone(f"device {self._lane.name}: its answer is none of archsearch's: {error!r}") from error

    # ------------------------------------------------------------------------------------------------------------- here
    def _travel(self, models: Sequence[Model]) -> bool:
        """Whether the models go to the device; else they are measured by this process, whose machine the device is.

        Raises:
            InputError: they neither travel nor are at home there.
        """
        staying = [model for model in models if model.kind != "architecture"]
        if staying and not self._lane.here:
            why = "runs code where it is measured" if staying[0].kind == "function" else "is a file of this machine"
            raise InputError(
                f"{staying[0].name} {why}, and the device {self._lane.name} is not known to be this machine: architectures "
                "alone travel. Measure it there without --device, or here on a device of runner: local without a cluster"
            )
        return not staying

    def _measure_here(
        self, subjects: Sequence[Subject], settings: Settings, watch: Watch | None, fresh: bool
    ) -> list[Profile | Failed]:
        def wait(other: str) -> None:
            self._lane.say(f"device {self._lane.name} is locked by another: {other}")

        with host_lock(self._settings.lock_name, f"device {self._lane.name}, {self._lane.me}", wait):
            return Here().measure(subjects, settings, watch=watch, fresh=fresh)


def _result(data: Mapping[str, Any]) -> Profile | Failed:
    if "failed" in data:
        return Failed(str(data["failed"]["kind"]), str(data["failed"]["message"]))
    found = Profile.from_json(data["profile"])
    if found.latency is None:
        raise ValueError("it has no latency")
    for one in (found.latency, found.load_memory, found.run_memory, found.energy):
        values = () if one is None else (one.median, one.low, one.high, one.minimum, one.p90, one.iqr)
        if not all(isinstance(value, int | float) and math.isfinite(value) and value >= 0 for value in values):
            raise ValueError(f"{one} is no measurement")
    cached = found.about.get("cached") or {"at": 0}
    for value in (cached["at"], found.about.get("baseline_memory_kib") or 0):
        if not isinstance(value, int | float) or not 0 <= value < 1e12:
            raise ValueError(f"{value!r} is no time and no size")
    if not isinstance(found.about["noisy_because"], list) or not isinstance(found.fingerprint, str):
        raise ValueError("it lacks what it was measured on, or how")
    return found


def _error(name: str, failure: Failure) -> InputError | DeviceGone:
    """What a failed job comes to for the user."""
    kind, colon, text = failure.message.partition(": ")
    if failure.kind is FailureKind.EXCEPTION and kind == "InputError" and colon:
        return InputError(f"device {name}: {text}")
    words = failure.message if failure.message.startswith("device ") else f"device {name}: {failure.message}"
    last = f"\n{failure.traceback.strip()}" if failure.traceback.strip() else ""
    return DeviceGone(f"{words}{last}")
