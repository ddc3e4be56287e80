"""What a measuring process does (see ``archsearch.profile.child``):

- ``prepare``: a model's file, where its runtime runs files (see ``prepared``);
- ``describe``: a model's operations and the backends that can run each;
- ``time``: load and warm up every subject, then rounds of blocks of runs, the subjects in a random order each round;
- ``memory``: the peak of the process up to the loaded model, and while it runs.

A subject that fails says so and the others go on; each step is announced, so that the subject at work is known if the process
dies.
"""

from __future__ import annotations

import gc
import json
import math
import os
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from archsearch.jobs import InputError
from archsearch.profile import environment
from archsearch.profile.graph import Described
from archsearch.profile.models import Loaded, Model, load_model, save_prepared
from archsearch.profile.prepared import reference_of
from archsearch.profile.runtimes import Compiled, Runtime, Unsupported, runtime
from archsearch.profile.runtimes.face import Arrays, deviation
from archsearch.profile.settings import Settings, Subject

Say = Callable[..., None]

#: A warm-up is over when the medians of this many runs and of the last as many differ by less than this share.
WINDOW, STEADY = 5, 0.02
#: Seconds that the listener gets to note an announcement before the clock starts, so that it does not run meanwhile.
BREATH = 0.002
#: Unmeasured runs at the head of each block: the subject before left its own data in the caches.
HEAD = 2
#: Runs of a process that measures memory.
MEMORY_RUNS = 5


# ------------------------------------------------------------------------------------------------------------------ prepare
def prepare(subjects: list[Subject], settings: Settings, request: Any, say: Say) -> None:
    subject, folder = subjects[0], Path(request["folder"])

    def made() -> None:
        model = load_model(subject.model, settings.batch)
        file = runtime(subject.runtime).prepare(model, folder)
        reference = reference_of(model, lambda: _settled("pytorch", settings))
        save_prepared(folder, file, model.inputs, reference)
        say("prepared", subject=0)

    _tried(0, say, made)


# ----------------------------------------------------------------------------------------------------------------- describe
def describe(subjects: list[Subject], settings: Settings, request: Any, say: Say) -> None:
    subject = subjects[0]

    def found() -> None:
        used = _settled(subject.runtime, settings)
        graph = used.graph(load_model(subject.model, settings.batch))
        backends = used.backends
        supported = tuple(frozenset(name for name in backends if used.supports(node, name)) for node in graph.nodes)
        say("described", **Described(graph, backends, supported).to_json())

    _tried(0, say, found)


# --------------------------------------------------------------------------------------------------------------------- time
class Timed:
    """One subject made ready for the clock."""

    def __init__(self, compiled: Compiled, inputs: Arrays) -> None:
        self.compiled = compiled
        self.inputs = compiled.load(inputs)

    def once(self) -> float:
        """Milliseconds of one run."""
        run, inputs = self.compiled.run, self.inputs
        start = time.perf_counter_ns()
        run(inputs)
        return (time.perf_counter_ns() - start) / 1e6

    def block(self, runs: int, seconds: float) -> list[float]:
        """At least so many runs and so long."""
        for _ in range(HEAD):
            self.once()
        found: list[float] = []
        end = time.perf_counter() + seconds
        while len(found) < runs or time.perf_counter() < end:
            found.append(self.once())
        return found

    def warm_up(self, longest: float) -> tuple[int, bool]:
        """Run until the times are steady, at most so long; how many runs it took, and whether they were."""
        found: list[float] = []
        end = time.perf_counter() + longest
        while True:
            found.append(self.once())
            if len(found) >= 2 * WINDOW and len(found) % WINDOW == 0:
                before, last = statistics.median(found[-2 * WINDOW : -WINDOW]), statistics.median(found[-WINDOW:])
                if abs(last - before) <= STEADY * before:
                    return len(found), True
            if time.perf_counter() > end and len(found) >= 2 * WINDOW:
                return len(found), False


def measure_time(subjects: list[Subject], settings: Settings, request: Any, say: Say) -> None:
    numbers: list[int] = request["numbers"]  # what each subject is called outside
    models, counter = _Models(settings), environment.EnergyCounter.find(Path(request["powercap"]))
    ready: dict[int, Timed] = {}
    counters: dict[int, environment.EnergyCounter | None] = {}
    for number, subject in zip(numbers, subjects, strict=True):

        def load(number: int = number, subject: Subject = subject) -> None:
            ready[number] = _load(number, subject, settings, models, say)
            counters[number] = counter if models.runtime(subject.runtime).on_processor else None

        _tried(number, say, load)
    share = settings.launches * settings.rounds
    runs, seconds = math.ceil(settings.runs / share), settings.seconds / share
    order = random.Random(request["order"])
    gc.collect()
    gc.disable()
    began = environment.load_now()
    for _ in range(settings.rounds):
        for number in order.sample(sorted(ready), len(ready)):

            def one(number: int = number) -> None:
                _block(number, ready[number], runs, seconds, counters[number], request["cores"], say)

            if not _tried(number, say, one):
                del ready[number]
    say("load", others=began.others(environment.load_now()))


def _load(number: int, subject: Subject, settings: Settings, models: _Models, say: Say) -> Timed:
    used = models.runtime(subject.runtime)
    model, reference = models.load(subject.model)
    start = time.perf_counter()
    compiled = used.compile(model, subject.assignment)
    seconds = time.perf_counter() - start
    subject_ready = Timed(compiled, model.inputs)
    away = deviation(compiled.fetch(compiled.run(subject_ready.inputs)), reference)
    if not away <= settings.tolerance:
        text = f"its output differs from the reference's by {away:.2g} of its largest value; {settings.tolerance:g} is allowed"
        say("failed", subject=number, kind="differs", message=text)
        raise _Said
    runs, settled = subject_ready.warm_up(settings.warmup)
    about = {"build_seconds": seconds, "file_size": compiled.file_size, "deviation": away, "warmup_runs": runs}
    say("ready", subject=number, **about, warmup_settled=settled)
    return subject_ready


def _block(
    number: int,
    subject: Timed,
    runs: int,
    seconds: float,
    counter: environment.EnergyCounter | None,
    cores: list[int],
    say: Say,
) -> None:
    load = environment.load_now()
    before = counter.read() if counter else ()
    found = subject.block(runs, seconds)
    spent = counter.spent(before, counter.read()) if counter else None
    after = environment.load_now()
    say(
        "block",
        subject=number,
        ms=found,
        energy_mj=None if spent is None else spent / (len(found) + HEAD),
        seconds=after.wall - load.wall,
        waited=load.kept_waiting(after, len(cores)),
        clock_mhz=environment.clock_mhz(cores),
        temperature=environment.temperature(),
    )


class _Models:
    """What several subjects share: a model is built once, and its reference's output is worked out once."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.runtimes: dict[str, Runtime] = {}
        self.loaded: dict[str, tuple[Loaded, Arrays]] = {}

    def runtime(self, name: str) -> Runtime:
        if name not in self.runtimes:
            self.runtimes[name] = _settled(name, self.settings)
        return self.runtimes[name]

    def load(self, model: Model) -> tuple[Loaded, Arrays]:
        key = json.dumps(model.to_json(), sort_keys=True)
        if key not in self.loaded:
            loaded = load_model(model, self.settings.batch)
            self.loaded[key] = loaded, reference_of(loaded, lambda: self.runtime("pytorch"))
        return self.loaded[key]


# ------------------------------------------------------------------------------------------------------------------- memory
def measure_memory(subjects: list[Subject], settings: Settings, request: Any, say: Say) -> None:
    """Peaks in KiB. The process's environment has the C library give freed memory back at once (see ``protocol``)."""
    number, subject = request["numbers"][0], subjects[0]

    def found() -> None:
        _settled(subject.runtime, settings)  # the library is imported before the model comes
        gc.collect()
        baseline = _peak_after(lambda: None)
        made: list[Any] = []

        def load() -> None:
            model = load_model(subject.model, settings.batch)
            used = _settled(subject.runtime, settings)  # one that does not outlive this, with what it knows of the model
            compiled = used.compile(model, subject.assignment)
            made.extend((compiled, compiled.load(model.inputs)))

        loading = _peak_after(load)
        gc.collect()
        compiled, inputs = made

        def run() -> None:
            for _ in range(MEMORY_RUNS):
                compiled.run(inputs)

        running = _peak_after(run)
        say("memory", subject=number, baseline=baseline, load=loading, run=running, apart=_RESETTABLE)

    _tried(number, say, found)


_RESETTABLE = os.access("/proc/self/clear_refs", os.W_OK)


def _peak_after(action: Callable[[], None]) -> int:
    """The peak of this process's resident memory while the action goes on, in KiB; where the kernel does not let the mark be
    reset, since the process began."""
    if _RESETTABLE:
        Path("/proc/self/clear_refs").write_text("5")
    action()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise InputError("this system does not tell a process's peak of memory (VmHWM in /proc/self/status)")


# ------------------------------------------------------------------------------------------------------------------- common
class _Said(Exception):
    """The failure has been reported already."""


def _settled(name: str, settings: Settings) -> Runtime:
    used = runtime(name)
    used.settle(settings.threads)
    return used


def _tried(number: int, say: Say, step: Callable[[], None]) -> bool:
    """Announce and do one step of a subject; a failure is told, not raised."""
    say("begin", subject=number)
    time.sleep(BREATH)
    try:
        step()
        return True
    except _Said:
        pass
    except Unsupported as error:
        say("failed", subject=number, kind="unsupported", message=str(error))
    except InputError as error:
        say("failed", subject=number, kind="input", message=str(error))
    except Exception as error:  # a kernel that refuses its input: infeasible, and the others go on
        text = str(error).strip().splitlines() or [""]
        say("failed", subject=number, kind="error", message=f"{type(error).__name__}: {text[0]}")
    return False


TASKS = {"prepare": prepare, "describe": describe, "time": measure_time, "memory": measure_memory}


def do(request: Any, say: Say) -> None:
    """The task of a request (see ``protocol``)."""
    subjects = [Subject.from_json(each) for each in request["subjects"]]
    TASKS[request["task"]](subjects, Settings.from_json(request["settings"]), request, say)
