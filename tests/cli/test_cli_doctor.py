"""``archsearch doctor``: what it finds, and that each thing it asks for is noticed when it is missing."""

from __future__ import annotations

import importlib.metadata
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from archsearch.cli import doctor


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", "from archsearch.cli import main; main()", "doctor", *arguments]
    return subprocess.run(line, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def test_it_reports_this_machine_and_leaves_nothing(tmp_path: Path) -> None:
    done = run("--json", "--run-dir", str(tmp_path / "not" / "yet"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["ok"] is True
    assert found["problems"] == []
    assert found["python"]["executable"] == sys.executable
    packages = {package["name"]: package for package in found["packages"]}
    assert packages["torch"]["installed"] == importlib.metadata.version("torch")
    assert packages["ray"]["required"].startswith(">=")
    assert "pytest" not in packages
    assert found["machine"]["cores"] == len(os.sched_getaffinity(0))
    assert found["ray"]["reachable"] is None
    assert found["run_dir"]["writable"] is True
    assert list(tmp_path.iterdir()) == []
    assert "test" in [feature["name"] for feature in found["features"]]


def test_it_can_be_read_by_people(tmp_path: Path) -> None:
    done = run(cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("A search can start here.\n")
    assert f"torch          {importlib.metadata.version('torch')}" in done.stdout
    assert "running the tests" in done.stdout


def test_a_cluster_that_does_not_answer_is_told_with_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        done = run("--address", f"127.0.0.1:{free.getsockname()[1]}", cwd=tmp_path)
    assert done.returncode == 2
    assert "A search cannot start here:" in done.stdout
    assert "nothing answers there" in done.stdout
    assert "ray start --head" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("address", ["nonsense", "host:port", "127.0.0.1:99999999"])
def test_an_address_that_is_none(address: str) -> None:
    problems: list[str] = []
    assert doctor._ray(address, problems)["reachable"] is False
    assert len(problems) == 1


def test_something_that_answers_but_is_no_ray_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "RAY_TIMEOUT", 0.5)
    problems: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = doctor._ray(f"127.0.0.1:{server.getsockname()[1]}", problems)
    assert found["reachable"] is False
    assert "does not answer within" in problems[0]


def test_what_a_cluster_says_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def answer(line: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        asked.append(line)
        return subprocess.CompletedProcess(line, 0, "Active:\n 1 node\n", "")

    monkeypatch.setattr(doctor.subprocess, "run", answer)
    problems: list[str] = []
    found = doctor._ray("auto", problems)
    assert (found["reachable"], found["status"], problems) == (True, "Active:\n 1 node", [])
    assert "--address" not in asked[0]


def test_a_folder_that_cannot_hold_runs_is_a_problem() -> None:
    problems: list[str] = []
    found = doctor._run_dir(Path("/proc/runs"), problems)
    assert found["writable"] is False
    assert "--run-dir" in problems[0]


def test_missing_and_old_packages_are_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "moocore":
            raise importlib.metadata.PackageNotFoundError(name)
        return {"torch": "1.0", "pytest": "1.0"}.get(name) or real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    problems: list[str] = []
    required, features = doctor._packages(problems)
    assert [package["name"] for package in required if not package["ok"]] == ["torch", "moocore"]
    assert ["1.0 is installed" in problems[0], "it is not installed" in problems[1], len(problems)] == [True, True, 2]
    (test,) = (feature for feature in features if feature["name"] == "test")
    assert test["missing"] == ["pytest>=8"]
    assert test["install"] == "pip install -e '.[test]'"


def test_a_slow_step_says_what_it_does(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(doctor, "PATIENCE", 0.01)
    with doctor._said_if_slow("waiting for the moon"):
        time.sleep(0.3)
    assert capfd.readouterr().err == "doctor: waiting for the moon ...\n"
    monkeypatch.setattr(doctor, "PATIENCE", 60.0)
    with doctor._said_if_slow("waiting for the sun"):
        pass
    assert capfd.readouterr().err == ""
