"""Measuring on a device of this machine without a run and without Ray: ``--device`` of ``profile`` and ``assign``."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from listed_run import until

from archsearch.arch import seed_architecture
from archsearch.cli import main
from archsearch.cluster import device_process
from archsearch.cluster.context import AttemptContext, perform
from archsearch.cluster.device_bench import NOWHERE, DeviceBench, Near
from archsearch.cluster.device_measure import no_data
from archsearch.cluster.devices_section import DeviceSettings
from archsearch.jobs import Failure, FailureKind, Job, Stage
from archsearch.profile import process
from archsearch.profile.assignment.live import ModelProblem
from archsearch.profile.bench import Here
from archsearch.profile.cache import _key, own_cache
from archsearch.profile.measurement import Measurement
from archsearch.profile.models import architecture_model, read_model
from archsearch.profile.protocol import device_environment
from archsearch.profile.settings import Settings, Subject
from archsearch.store import Artifacts

ARCH = seed_architecture((3, 8, 8), 10, cells=1, reductions=0, nodes=1, channels=4)
#: Hardly any runs: what is measured here is not looked at. The second as words of the command line.
KNOBS = {
    "launches": 1,
    "rounds": 1,
    "runs": 3,
    "seconds": 0.0,
    "warmup": 0.05,
    "repeats": 0,
    "patience": 0.0,
    "width": 9.0,
    "busy": 1.0,
}
SHORT = ("--seconds", 0, "--repeats", 0, "--memory-runs", 0, "--patience", 0, "--width", 9)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a network and a configuration with devices; locks and cache are this test's own."""
    (tmp_path / "locks").mkdir()
    monkeypatch.setenv("ARCHSEARCH_DEVICE_LOCKS", str(tmp_path / "locks"))
    monkeypatch.setenv("ARCHSEARCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "net.yaml").write_text(ARCH.to_yaml())
    devices = {"here": {}, "board": {"runner": "ssh", "host": "nobody@127.0.0.1", "port": 9}}
    (tmp_path / "conf.yaml").write_text(yaml.safe_dump({"data": {"name": "digits"}, "devices": devices}))
    return tmp_path


def near(**settings: Any) -> DeviceBench:
    there = DeviceSettings(**settings)
    return DeviceBench(Near("here", there, print), there, print)


def archsearch(*words: object) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    return int(left.value.code or 0)


def test_a_known_figure_is_not_measured_again_and_says_so(place, capsys):
    """And the device measures as this process would: the fingerprint is the same."""
    settings, subject = Settings(**KNOBS, memory_runs=0), Subject(architecture_model(ARCH.to_json()))
    seen = []
    (first,) = near().measure([subject], settings, watch=seen.append, fresh=False)
    assert seen and first.latency.median > 0 and "cached" not in first.about
    assert first.fingerprint == device_environment("pytorch", settings)[0]
    kept = [path for path in (place / "cache").rglob("*") if path.is_file()]
    assert len(kept) == (not first.latency.noisy), "the device has kept it, unless others held its core"
    own_cache().keep(_key(subject, settings, first.fingerprint), first)
    for bench in (near(), Here()):
        (second,) = bench.measure([subject], settings, fresh=False)
        made = second.about["cached"]
        assert second == replace(first, about={**first.about, "cached": made}) and made["host"] == os.uname().nodename
    asked = Settings(seconds=0.0, repeats=0, memory_runs=0, patience=0.0, width=9.0)
    assert own_cache().keep(_key(subject, asked, first.fingerprint), first) == ""
    words = ("profile", place / "net.yaml", *SHORT, "--device", "here", "--config", place / "conf.yaml")
    assert archsearch(*words) == 0
    assert f"from cache   measured on {made['host']}, " in capsys.readouterr().out
    assert archsearch(*words, "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["profile"]["latency"] == first.to_json()["latency"] and row["profile"]["about"]["cached"]["at"] > made["at"]


def test_assignments_are_measured_there_side_by_side(place):
    model = architecture_model(ARCH.to_json())
    problem = ModelProblem(model, "pytorch", ("onednn", "nnpack"), "name", Settings(**KNOBS, memory_runs=1), near())
    feasible, infeasible = problem.evaluate_all([0, problem.encoding.size - 1])
    assert feasible.feasible and feasible.memory > 0 and "does not run on nnpack" in infeasible.error
    assert problem.fingerprint == device_environment("pytorch", Settings())[0]


def test_code_runs_on_a_device_of_this_machine_under_its_lock_and_nowhere_else(place, capsys, monkeypatch):
    (place / "made.py").write_text("import torch\n\ndef net():\n    return torch.nn.Linear(4, 4), torch.ones(1, 4)\n")
    monkeypatch.chdir(place)
    with (place / "locks" / "archsearch-device-host.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)

        def let_go(text: str) -> None:
            assert "device here is locked by another" in text
            fcntl.flock(file, fcntl.LOCK_UN)

        monkeypatch.setattr(Near, "say", lambda self, text: let_go(text))
        (found,) = near().measure([Subject(read_model("made:net"))], Settings(**KNOBS, memory_runs=0), fresh=False)
    assert found.latency.median > 0 and "cached" not in found.about
    monkeypatch.setattr(device_process, "command", lambda settings: pytest.fail("something was started"))
    for verb in ("profile", "assign"):
        assert archsearch(verb, "made:net", "--config", place / "conf.yaml", "--device", "board") == 2
        assert "made:net runs code where it is measured, and the device board is not known to be" in capsys.readouterr().err


def test_what_is_waited_for_is_said_and_ctrl_c_ends_it(place):
    command = [sys.executable, "-c", "from archsearch.cli import main; main()", "profile", str(place / "net.yaml")]
    command += ["--device", "here", "--config", str(place / "conf.yaml")]
    lock = place / "locks" / "archsearch-device-host.lock"
    with lock.open("w") as file, (place / "err").open("w") as err:
        fcntl.flock(file, fcntl.LOCK_EX)
        running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err)
        try:
            until(lambda: "profile: device here is locked by another: the lock 'host'" in (place / "err").read_text())
            running.send_signal(signal.SIGINT)
            out, _ = running.communicate(timeout=60)
        finally:
            running.kill()
    assert running.returncode == 130 and out == b"" and "Traceback" not in (place / "err").read_text()


def test_a_device_that_answers_nonsense(place, capsys, monkeypatch):
    """No result and no promise of one: exit code 3."""
    ready, job = json.dumps({"ready": {"host": "x"}}), "import sys; print(sys.argv[1], flush=True); sys.stdin.readline(); "
    nothing = {"latency": None, "load_memory": None, "run_memory": None, "energy": None, "runtime": "pytorch", "protocol": 1}
    nothing |= {"fingerprint": "f", "about": {"noisy_because": []}}
    long_ago = {**nothing, "latency": Measurement(1.0, 1.0, 1.0, "ms", 1.0, 1.0, 0.0, 9).to_json()}
    long_ago["about"] = {**nothing["about"], "cached": {"at": "long ago", "host": "x"}}
    answers = [
        (json.dumps({"result": {"metrics": {"results": [{"profile": profile}]}, "artifacts": {}}}), "none of archsearch's")
        for profile in ({"latency": 1}, nothing, long_ago)
    ]
    for answer, words in (*answers, ('{"hello": 1}', "garbage instead of an answer"), ("[" * 100_000, "garbage instead of an")):
        command = [sys.executable, "-c", f"{job}print(sys.argv[2], flush=True)", ready, answer]
        monkeypatch.setattr(device_process, "command", lambda settings, command=command: command)
        assert archsearch("profile", place / "net.yaml", "--device", "here", "--config", place / "conf.yaml", *SHORT) == 3
        assert f"archsearch: device here: {words}" in capsys.readouterr().err.replace("its answer is ", "")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["/no/such/interpreter"], "no measuring process can be started: No such file or directory"),
        ([sys.executable, "-c", "raise SystemExit('no library')"], "exit code 1 before it had answered: no library"),
    ],
)
def test_processes_that_do_not_start_are_no_fault_of_the_network(place, monkeypatch, command, words):
    """A search asks for it again, and does not take it for infeasible on this device."""
    monkeypatch.setattr(process, "command", lambda: command)
    job = Job(1, Stage.PROFILE, "profile", {"arch": ARCH.to_json(), "protocol": {"patience": 0}}, 0)
    context = AttemptContext(job, no_data, Artifacts(NOWHERE), lambda progress: False, "cpu", 1)
    outcome = perform(job, context, "here").outcome
    assert isinstance(outcome, Failure) and outcome.kind is FailureKind.LOST and words in outcome.message


def test_bad_input(place, capsys, monkeypatch):
    monkeypatch.setattr(device_process, "command", lambda settings: pytest.fail("something was started"))
    net, conf = place / "net.yaml", place / "conf.yaml"
    for words, said in (
        (("profile", net, "--device", "her", "--config", conf), "no device is called 'her' in"),
        (("profile", net, "--device", "her", "--config", conf), "Known: board, here."),
        (("profile", net, "--config", conf), "--config says where the device of --device is: name the device too"),
        (("assign", net, "--device", "here", "--address", "local"), "without --config or a run there is none but in a cluster"),
        (("assign", "--table", net, "--device", "here"), "nothing for --device to do"),
        (("profile", net, "--device", "here", "--config", place / "absent.yaml"), "absent.yaml"),
    ):
        assert archsearch(*words) == 2
        assert said in capsys.readouterr().err


def test_a_runtime_that_the_device_lacks_is_said_by_the_device(place):
    with pytest.raises(ValueError, match=r"device here: no runtime is called 'pytroch'\. Did you mean 'pytorch'"):
        near().measure([Subject(architecture_model(ARCH.to_json()), "pytroch")], Settings(**KNOBS))
