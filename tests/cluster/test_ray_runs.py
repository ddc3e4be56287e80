"""Real Ray: the same results as inline, workers and drivers killed with SIGKILL, nothing left behind."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from small_run import asked, finish, frontier, history, results, small

from archsearch.jobs import EventKind
from archsearch.store import RunState, open_store

#: After the end or a kill, no process of a run is left after this many seconds (the promise to users).
GONE_AFTER = 90


def processes_of(path: Path) -> list[psutil.Process]:
    """Processes that carry the run in their environment: its driver, Ray's daemons and workers."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("ARCHSEARCH_RUN") == str(path) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


class Driver:
    """``archsearch search`` or ``resume`` in a process of its own, on a local Ray."""

    def __init__(self, path: Path, config: dict, tmp_path: Path, slots: int = 1):
        conf = tmp_path / "conf.yaml"
        conf.write_text(yaml.safe_dump({**config, "cluster": {**config["cluster"], "executor": "ray", "slots": slots}}))
        verb = ["resume", str(path)] if (path / "run.db").exists() else ["search", str(conf), "--run-dir", str(path)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self.log = (tmp_path / "driver.log").open("a")
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from archsearch.cli import main; main()", *verb, "--json"],
            stdout=subprocess.PIPE,
            stderr=self.log,
            env=environment,
            text=True,
        )

    def end(self, timeout: float = 180) -> dict:
        try:
            out, _ = self.process.communicate(timeout=timeout)
        finally:
            self.process.kill()  # where it is late: nothing of a failed test is to run on
        assert self.process.returncode == 0, Path(self.log.name).read_text()[-2000:]
        return json.loads(out)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def told(path: Path) -> int:
    return sum(kind is EventKind.TOLD for _, kind, _, _ in history(path)) if (path / "run.db").exists() else 0


def wait_for(condition, timeout: float, what: str) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(0.1)


def kill_the_driver(tmp_path: Path, kills: int, config: dict, seed: int) -> None:
    """Kill the driver so many times, each once at least one more job was told; the last session ends as if nothing had been."""
    reference, path = tmp_path / "reference", tmp_path / "run"
    finish(reference, config)
    rng = random.Random(seed)
    committed: list = []
    for _ in range(kills):
        before = told(path)
        driver = Driver(path, config, tmp_path)
        wait_for(lambda before=before: told(path) > before, 120, "a job is told")
        time.sleep(rng.uniform(0, 0.3))
        assert driver.process.poll() is None, "the run ended before the kill"
        driver.kill()
        now = history(path)
        assert now[: len(committed)] == committed, "a committed event is missing or changed"
        committed = now
    assert Driver(path, config, tmp_path).end(timeout=600)["state"] == "done"
    assert history(path)[: len(committed)] == committed
    assert asked(path) == list(range(1, len(asked(path)) + 1))
    assert results(path) == results(reference)
    assert frontier(path) == frontier(reference)
    wait_for(lambda: not processes_of(path), GONE_AFTER, "every process of the run has gone")


def test_the_driver_killed_five_times(tmp_path):
    kill_the_driver(tmp_path, 5, small(search={"max_hull_points": 10}), seed=3)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_the_driver_killed_twenty_times(tmp_path):
    kill_the_driver(tmp_path, 20, small(search={"max_hull_points": 50}), seed=4)


def test_killed_workers_cost_attempts_but_no_jobs(tmp_path):
    """Two slots; workers are killed while they run a job; the search ends with every point it wanted."""
    path = tmp_path / "run"
    config = small(search={"max_hull_points": 6}, seed_train={"epochs": 25}, post_train={"epochs": 20})
    driver = Driver(path, config, tmp_path, slots=2)
    wait_for(lambda: told(path) >= 1, 120, "a job is told")
    killed = 0
    while killed < 3 and driver.process.poll() is None:
        workers = [p for p in processes_of(path) if "ray::" in " ".join(p.cmdline()) and "_TRAINED" in " ".join(p.cmdline())]
        for worker in workers[:1]:
            worker.send_signal(signal.SIGKILL)
            killed += 1
        time.sleep(1.0)
    end = driver.end()
    assert killed == 3 and end["state"] == "done" and end["points"] >= 6
    with open_store(path, write=False) as store:
        state = RunState(store.events())
    lost = [data for _, kind, _, data in history(path) if kind is EventKind.FAILED and data["kind"] == "lost"]
    assert len(lost) >= 1 and not any(data["final"] for data in lost)
    assert len(asked(path)) == len(set(asked(path))) == len(state.jobs)


def test_a_second_driver_is_refused_and_ctrl_c_leaves_a_resumable_run(tmp_path):
    path = tmp_path / "run"
    config = small(search={"max_hull_points": 30}, seed_train={"epochs": 60})
    driver = Driver(path, config, tmp_path)
    wait_for(lambda: (path / "run.db").exists() and asked(path), 60, "a job is asked")
    second = subprocess.run(
        [sys.executable, "-c", "from archsearch.cli import main; main()", "resume", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert second.returncode == 2 and str(driver.process.pid) in second.stderr, second.stderr
    driver.process.send_signal(signal.SIGINT)
    out, _ = driver.process.communicate(timeout=60)
    assert driver.process.returncode == 130
    assert "archsearch resume" in json.loads(out)["resume"] and json.loads(out)["state"] == "interrupted"
    assert "archsearch resume" in (tmp_path / "driver.log").read_text()


def test_sigterm_leaves_checkpoints_and_resume_goes_on_from_them(tmp_path):
    """As a cluster's scheduler does before it takes a machine away."""
    path = tmp_path / "run"
    training = {"epochs": 120, "checkpoint_every": {"epochs": 10}}
    config = small(search={"max_hull_points": 1, "init_node_ch": [2], "test_frontier": False}, seed_train=training)
    driver = Driver(path, config, tmp_path)
    wait_for(lambda: (step_in(path, 1) or 0) >= 80, 120, "the training has written some checkpoints")
    driver.process.send_signal(signal.SIGTERM)
    before = step_in(path, 1)
    driver.process.communicate(timeout=60)
    left = step_in(path, 1)
    assert driver.process.returncode == 130 and left > before, "it wrote another one before it left"
    (failed,) = [data for _, kind, _, data in history(path) if kind is EventKind.FAILED]
    assert failed["kind"] == "interrupted" and not failed["final"]
    driver = Driver(path, config, tmp_path)
    wait_for(lambda: step_in(path, 2), 120, "the second attempt has written one")
    assert step_in(path, 2) > left, "the steps before are not made again"
    assert driver.end()["state"] == "done"
    (told,) = [data for _, kind, _, data in history(path) if kind is EventKind.TOLD]
    assert told["attempt"] == 2 and told["metrics"]["epochs"] == 120


def step_in(path: Path, attempt: int) -> int | None:
    """The step that an attempt's checkpoint of the first job holds."""
    try:
        payload = (path / f"checkpoints/000001/{attempt}.ckpt").read_bytes()
    except FileNotFoundError:
        return None
    found = re.search(rb'\\"step\\": (\d+)', payload)
    return int(found[1]) if found else None


#: A driver that takes a run over when its owner, on another host, has been silent for two seconds instead of thirty.
TAKE_OVER = """
from archsearch.store import log
log.SqlStore.__init__.__kwdefaults__["ttl"] = log.open_store.__kwdefaults__["ttl"] = 2.0
from archsearch.cli import main
main()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="another host's name and file locks need namespaces, those need root")
def test_a_suspended_driver_that_wakes_after_a_takeover_cannot_commit(tmp_path):
    """SIGSTOP, a takeover from another host (its own name, its own view of the lock's file), SIGCONT."""
    path, conf = tmp_path / "run", tmp_path / "conf.yaml"
    conf.write_text(yaml.safe_dump(small(search={"max_hull_points": 8})))
    command = [sys.executable, "-c", "from archsearch.cli import main; main()"]
    first = subprocess.Popen([*command, "search", str(conf), "--run-dir", str(path)], stderr=subprocess.PIPE, text=True)
    wait_for(lambda: told(path) >= 2, 120, "two jobs are told")
    first.send_signal(signal.SIGSTOP)
    time.sleep(2.5)
    (tmp_path / "lock").touch()
    there = f"hostname elsewhere; mount --bind {tmp_path}/lock {path}/lock"
    there += f"; exec {sys.executable} -c '{TAKE_OVER}' resume {path}"
    second = subprocess.run(["unshare", "--mount", "--uts", "sh", "-c", there], capture_output=True, text=True, timeout=120)
    assert second.returncode == 0, second.stderr[-2000:]
    ended = history(path)
    first.send_signal(signal.SIGCONT)
    _, said = first.communicate(timeout=60)
    assert first.returncode == 2 and "taken over" in said, said[-2000:]
    assert history(path) == ended and len(results(path)) == len(set(asked(path)))
