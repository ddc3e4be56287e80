"""The measurement protocol on real processes: what it measures, and that no model and no process can stop it."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from profile_models import FLAWLESS, SHORT, named, stand_in

from archsearch.arch import seed_architecture
from archsearch.jobs import InputError
from archsearch.profile import process, protocol, tasks
from archsearch.profile.environment import allowed_cores, choose_cores
from archsearch.profile.measurement import Measurement, Profile
from archsearch.profile.models import Model, architecture_model
from archsearch.profile.process import Child, ChildFault
from archsearch.profile.protocol import Step, describe, device_environment, measure
from archsearch.profile.runtimes.pytorch import PyTorch
from archsearch.profile.settings import Failed, Settings, Subject

#: An installed runtime that computes something else, and one whose library is not there.
PLUGIN = """
from archsearch.profile.runtimes.pytorch import Eager, PyTorch

class Off(Eager):
    def run(self, inputs):
        return super().run(inputs) + 0.5

class Liar(PyTorch):
    name = "liar"
    def compile(self, model, assignment):
        return Off(model.module)

class Absent(PyTorch):
    name = "absent"
    packages = ("torch", "no-such-distribution")
    extra = "absent_extra"
"""


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "off_runtimes-1.0.dist-info"
    info.mkdir()
    (tmp_path / "off_runtimes.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: off-runtimes\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[archsearch.runtime]\nliar = off_runtimes:Liar\nabsent = off_runtimes:Absent\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    from archsearch.profile.runtimes import face
    from archsearch.registry import Registry

    known = dict(protocol.runtime.__globals__["RUNTIMES"]._lazy)
    monkeypatch.setattr(face, "RUNTIMES", Registry("runtime", known))


def test_models_are_measured_side_by_side_although_a_process_is_killed():
    """Real processes, one of them killed with -9 in the middle: the two are measured all the same, the larger is slower, and
    nothing of the killed process is counted."""
    arch = seed_architecture((3, 8, 8), 10, cells=1, reductions=0, nodes=1, channels=4)
    steps: list[Step] = []

    def watch(step: Step) -> None:
        steps.append(step)
        if sum(each.phase == "time" for each in steps) == 2 and step.phase == "time":
            (victim,) = _children()
            os.kill(victim, signal.SIGKILL)

    subjects = [Subject(named(name)) for name in ("small", "large", "hungry")] + [Subject(architecture_model(arch.to_json()))]
    profiles = [found for found in measure(subjects, SHORT, watch=watch) if isinstance(found, Profile)]
    assert len(profiles) == len(subjects)
    small, large, hungry, _ = profiles
    for found in profiles:
        latency, memory = found.latency, found.run_memory
        assert 0 < latency.minimum <= latency.median <= latency.p90 and 0 <= latency.low <= latency.median <= latency.high
        assert SHORT.runs <= latency.runs <= SHORT.runs + 4, "the runs of the killed process are not among them"
        assert found.about["processes"] == SHORT.launches
        assert memory is not None and memory.unit == "KiB" and memory.median > found.about["baseline_memory_kib"] / 2
        assert Profile.from_json(json.loads(json.dumps(found.to_json()))) == found
        assert found.energy is None or found.energy.median > 0
    assert large.latency.median > 2 * small.latency.median
    assert large.about["file_size"] > small.about["file_size"] > 0
    more = [_kib(found, "run_memory") - _kib(found, "load_memory") for found in (small, large, hungry)]
    assert more[0] < 32 << 10 and more[1] < -(60 << 10) and 60 << 10 < more[2] < 80 << 10, (
        "what a run needs is told apart from what loading takes"
    )
    assert small.fingerprint == device_environment("pytorch", SHORT)[0] == device_environment("pytorch", SHORT)[0]
    assert steps[-1].done == steps[-1].total and _children() == []


def test_what_cannot_be_measured_does_not_end_the_rest(plugins):
    """One failing configuration ended everything in the reference."""
    subjects = [
        Subject(named("deadly")),
        Subject(named("raising")),
        Subject(named("shapeless")),
        Subject(named("small"), assignment=("native", "native", "nnpack", "native")),
        Subject(named("small"), assignment=("native",)),
        Subject(named("small"), "liar"),
        Subject(named("deciding"), assignment=("native",)),
        Subject(named("placed")),
        Subject(named("talking"), assignment=("native", "onednn", "channels_last", "channels_last")),
    ]
    *failed, good = measure(subjects, Settings.from_json(SHORT.to_json() | {"launches": 1, "memory_runs": 0}))
    kinds = {0: "died", 1: "input", 2: "input", 3: "unsupported", 4: "input", 5: "differs", 6: "input", 7: "input"}
    assert {number: one.kind for number, one in enumerate(failed) if isinstance(one, Failed)} == kinds
    texts = [one.message for one in failed if isinstance(one, Failed)]
    for text, part in zip(
        texts,
        [
            "SIGKILL",
            "does not load: RuntimeError: these weights are lost",
            "expected a torch.nn.Module with its inputs",
            "'nnpack' cannot run operation 2 (DepthwiseConv2D)",
            "has 1 backends, the model 4 operations",
            "differs from the reference's",
            "cannot be followed",
            f"on {choose_cores(1)} with 1 threads",
        ],
        strict=True,
    ):
        assert part in text
    assert isinstance(good, Profile) and good.latency.median > 0 and good.load_memory is None


def test_bad_input_is_refused_before_anything_starts(plugins, monkeypatch):
    monkeypatch.setattr(process, "command", lambda: pytest.fail("a process was started"))
    model = named("small")
    with pytest.raises(InputError, match=r"no runtime is called 'pytorhc'\. Did you mean 'pytorch'"):
        measure([Subject(model, "pytorhc")])
    with pytest.raises(InputError, match=r"'absent' needs no-such-distribution.*pip install 'archsearch\[absent_extra\]'"):
        measure([Subject(model, "absent")])
    with pytest.raises(InputError, match="threads = 4000: this process may use"):
        measure([Subject(model)], Settings(threads=4000))
    with pytest.raises(InputError, match="runtime onnxruntime"):
        measure([Subject(Model("onnx", "net.onnx", "net.onnx"))])
    with pytest.raises(InputError, match="width = -1: expected a number from 0 to 10"):
        Settings(width=-1)
    with pytest.raises(InputError, match="unknown setting 'widht'"):
        Settings.from_json({"widht": 1})
    with pytest.raises(InputError, match="no runtime is called 'onrt'"):
        describe(model, "onrt")


def test_subjects_take_turns_in_a_random_order_that_the_seed_decides():
    """Each once a round; what came before them is not always the same."""

    def order(seed: int) -> list[list[int]]:
        said: list[dict] = []
        settings = Settings.from_json(SHORT.to_json() | {"launches": 1, "rounds": 6, "runs": 12})
        request = {"numbers": [4, 7, 9], "cores": [0], "order": seed, "powercap": "/nowhere"}
        try:
            subjects = [Subject(named("small"), assignment=(name,) * 4) for name in ("onednn", "native", "channels_last")]
            tasks.measure_time(subjects, settings, request, lambda event, **data: said.append({"event": event, **data}))
        finally:
            gc.enable()
        blocks = [each for each in said if each["event"] == "block"]
        assert all(len(each["ms"]) >= 2 and min(each["ms"]) > 0 for each in blocks)
        return [[each["subject"] for each in blocks[i : i + 3]] for i in range(0, len(blocks), 3)]

    found = order(1)
    assert len(found) == 6 and all(sorted(each) == [4, 7, 9] for each in found)
    assert len({tuple(each) for each in found}) > 1
    assert order(1) == found != order(2)


def test_the_energy_of_the_processor_is_not_taken_for_that_of_a_gpu(tmp_path, monkeypatch):
    (tmp_path / "intel-rapl:0").mkdir()
    for name, text in (("name", "package-0"), ("energy_uj", "900"), ("max_energy_range_uj", "1000")):
        (tmp_path / "intel-rapl:0" / name).write_text(text)

    def energies() -> set[float | None]:
        said: list[dict] = []
        settings = Settings.from_json(SHORT.to_json() | {"launches": 1, "runs": 2})
        request = {"numbers": [0], "cores": [0], "order": 0, "powercap": str(tmp_path)}
        try:
            tasks.measure_time([Subject(named("small"))], settings, request, lambda event, **data: said.append(data))
        finally:
            gc.enable()
        return {each["energy_mj"] for each in said if "energy_mj" in each}

    assert energies() == {0.0}
    monkeypatch.setattr(PyTorch, "on_processor", False)
    assert energies() == {None}


HOSTILE = {
    "garbage": ("print('Segmentation fault (not really)', flush=True); time.sleep(600)", "Segmentation fault"),
    "a number": ("print(17, flush=True); time.sleep(600)", "'17'"),
    "half an answer": (
        "say('begin', subject=0); say('block', subject=0, ms=[1.0], seconds=1.0); time.sleep(600)",
        "energy_mj is missing",
    ),
    "no end": ("sys.stdout.write('x' * (1 << 21)); sys.stdout.flush(); time.sleep(600)", "without an end"),
    "silence": ("say('begin', subject=0); print('stuck here', file=sys.stderr, flush=True); time.sleep(600)", "stuck here"),
    "no figure": ("say('done')", "ended without a figure"),
    "a stranger": ("say('begin', subject=7); time.sleep(600)", "answered of subject 7"),
    "an exit": ("say('begin', subject=0); sys.exit('no such kernel')", "exit code 1 before it had answered: no such kernel"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_process_that_misbehaves_is_a_failure_and_never_a_hang(what, tmp_path, monkeypatch):
    body, text = HOSTILE[what]
    monkeypatch.setattr(process, "command", lambda: stand_in(tmp_path, "say('begin', subject=0)\n" + body))
    monkeypatch.setattr(process, "LONGEST", 1 << 20)
    settings = Settings.from_json(SHORT.to_json() | {"limit": 6.0 if what == "silence" else 200.0})
    (found,) = measure([Subject(named("small"))], settings)
    assert isinstance(found, Failed) and text in found.message, found
    assert _children() == []


def test_a_process_that_does_not_even_begin_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "command", lambda: stand_in(tmp_path, "sys.exit('no library')"))
    with pytest.raises(ChildFault, match="exit code 1 before it had answered: no library"):
        measure([Subject(named("small"))], SHORT)


def test_what_stops_the_caller_ends_the_process(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "command", lambda: stand_in(tmp_path, FLAWLESS + "time_all(lambda n: [1.0])\ntime.sleep(600)"))

    def watch(step: Step) -> None:
        if step.phase == "time":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure([Subject(named("small"))], SHORT, watch=watch)
    assert _children() == []


def test_a_process_leaves_when_its_caller_is_killed():
    """Or killed searches would leave processes that measure for nobody."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import profile_models\n"
        "from archsearch.profile import process, protocol, settings\n"
        "subject = settings.Subject(profile_models.named('endless'))\n"
        "child = process.Child(protocol._request('describe', [subject], [0], settings.Settings(), [0]), 1, 600.0)\n"
        "print(child.process.pid, next(child.answers()), flush=True); next(child.answers())"
    )
    words = [sys.executable, "-c", code, str(Path(__file__).parent)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as caller:
        assert caller.stdout is not None
        number, said = caller.stdout.readline().split(maxsplit=1)
        assert "begin" in said
        caller.kill()
    deadline = time.monotonic() + 60
    while psutil.pid_exists(int(number)) and psutil.Process(int(number)).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the measuring process goes on"
        time.sleep(0.1)


def test_noisy_results_are_measured_again_and_then_marked(tmp_path, monkeypatch):
    """By the interval's width, or because others held the cores; what is steady is not measured again."""
    body = (
        "turns = []\ndef times(number):\n    turns.append(number)\n"
        "    return [2.0] * 3 if number == 0 else [1.0, 1.0, 3.0] if turns.count(1) % 2 else [3.0, 3.0, 1.0]\n"
        "time_all(times)\nsay('done')"
    )
    monkeypatch.setattr(process, "command", lambda: stand_in(tmp_path, FLAWLESS + body))
    settings = Settings.from_json(SHORT.to_json() | {"width": 0.05, "repeats": 2, "launches": 3})
    starts: list[Step] = []
    watch = lambda step: starts.append(step) if step.phase == "starting" else None  # noqa: E731
    steady, wild = measure([Subject(named("small")), Subject(named("large"))], settings, watch=watch)
    assert isinstance(steady, Profile) and isinstance(wild, Profile)
    assert len(starts) == 3 * settings.launches
    assert not steady.latency.noisy and steady.about["noisy_because"] == []
    assert (steady.latency.low, steady.latency.median, steady.latency.high, steady.latency.iqr) == (2.0, 2.0, 2.0, 0.0)
    assert wild.latency.noisy and "5.0% was asked for" in wild.about["noisy_because"][0]
    assert wild.latency.high - wild.latency.low > 0.05 * wild.latency.median
    assert steady.about["processes"] == 3 and wild.about["processes"] == 9, "what was taken before counts too"

    body = "time_all(lambda number: [2.0] * 3, waited=lambda number: 0.2, energy=5.0)\nsay('done')"
    monkeypatch.setattr(process, "command", lambda: stand_in(tmp_path, FLAWLESS + body))
    (held,) = measure([Subject(named("small"))], SHORT)
    pair = measure([Subject(named("small"))], replace(SHORT, threads=2))[0] if len(allowed_cores()) > 1 else None
    assert pair is None or (isinstance(pair, Profile) and pair.about["waited_share"] == pytest.approx(0.1))
    assert isinstance(held, Profile) and held.latency.noisy
    assert held.about["noisy_because"] == ["others held its cores for 20.0% of the time"]
    assert held.energy is not None and (held.energy.median, held.energy.unit) == (5.0, "mJ")


def test_two_measurements_at_once_share_no_file(tmp_path, monkeypatch):
    """The reference wrote files of fixed names into a shared temporary folder."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(process.tempfile, "tempdir", None)
    monkeypatch.setattr(process, "command", lambda: stand_in(tmp_path, "say('load', others=0.5)\ntime.sleep(600)"))
    with Child({}, 1, 30.0) as first, Child({}, 1, 30.0) as second:
        assert next(first.answers()) == next(second.answers()) == {"event": "load", "others": 0.5}
        assert list((tmp_path / "scratch").iterdir()) == []


def _kib(found: Profile, name: str) -> float:
    one: Measurement = getattr(found, name)
    return one.median


def _children() -> list[int]:
    return [each.pid for each in psutil.Process().children() if "archsearch.profile.child" in " ".join(each.cmdline())]
