"""Nodes behind network namespaces: one is cut off in the middle of a job, and what it does unheard is not counted twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from listed_run import until
from small_run import history

from archsearch.jobs import EventKind
from archsearch.store import Artifacts, RunState, open_store

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

#: What a user should set on every node, so that a cut-off one is known to be dead after seconds (see README).
HEALTH = {
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_grpc_client_keepalive_time_ms": "3000",
    "RAY_grpc_client_keepalive_timeout_ms": "3000",
}
RAY = str(Path(sys.executable).with_name("ray"))


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Hosts:
    """So many namespaces, each with an address on one bridge: 10.77.0.1 and so on."""

    def __init__(self, number: int, path: Path, pythonpath: str) -> None:
        self.hub = f"hub{os.getpid()}"
        self.names = [f"host{os.getpid()}-{n}" for n in range(1, number + 1)]
        self.path = path
        self.sockets = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # their names must be short
        self.environment = {**os.environ, **HEALTH, "PYTHONPATH": pythonpath}
        self.processes: list[subprocess.Popen[bytes]] = []
        ip("netns", "add", self.hub)
        ip("-n", self.hub, "link", "add", "br0", "type", "bridge")
        ip("-n", self.hub, "link", "set", "br0", "up")
        for n, name in enumerate(self.names, 1):
            ip("netns", "add", name)
            ip("link", "add", f"p{n}", "netns", self.hub, "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("-n", self.hub, "link", "set", f"p{n}", "master", "br0", "up")
            ip("-n", name, "addr", "add", f"10.77.0.{n}/24", "dev", "eth0")
            for device in ("eth0", "lo"):
                ip("-n", name, "link", "set", device, "up")

    def cut(self, n: int, *, again: bool = False) -> None:
        ip("-n", self.hub, "link", "set", f"p{n}", "up" if again else "down")

    def start(self, n: int, *command: str, **options) -> subprocess.Popen[bytes]:
        """A command on a host, which is ended with it."""
        with (self.path / f"host{n}.log").open("ab") as log:
            options = {"stdout": log, "stderr": log, **options}
            inside = ["nsenter", f"--net=/run/netns/{self.names[n - 1]}", *command]
            self.processes.append(subprocess.Popen(inside, env=self.environment, **options))
        return self.processes[-1]

    def up(self, n: int) -> None:
        """Wait for a node."""
        log = self.path / f"host{n}.log"
        until(lambda: b"Ray runtime started" in log.read_bytes(), timeout=100, what=f"node {n} is up")

    def of(self, pid: int) -> int:
        """The number of the host where a process runs."""
        there = os.stat(f"/proc/{pid}/ns/net").st_ino
        return next(n for n, name in enumerate(self.names, 1) if os.stat(f"/run/netns/{name}").st_ino == there)

    def close(self) -> None:
        for name in self.names:
            found = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False).stdout
            for pid in map(int, found.split()):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        for process in self.processes:
            process.wait()
        for name in [*self.names, self.hub]:
            subprocess.run(["ip", "netns", "del", name], check=False)
        shutil.rmtree(self.sockets, ignore_errors=True)


@pytest.fixture
def hosts(probes, tmp_path):
    made = Hosts(3, tmp_path, probes)
    yield made
    made.close()


def test_a_node_is_cut_off_in_the_middle_of_a_job(hosts, tmp_path):
    """Alone it writes a result; another node does the job meanwhile. One result counts; the other is collected."""
    common = ["--block", "--object-store-memory=100000000", "--disable-usage-stats"]
    head = ["--head", "--port=6379", "--num-cpus=0", "--include-dashboard=false", f"--temp-dir={hosts.sockets}"]
    hosts.start(1, RAY, "start", *head, "--node-ip-address=10.77.0.1", *common)
    path, log = tmp_path / "run", tmp_path / "log"
    hosts.up(1)
    for n in (2, 3):
        node = ["--address=10.77.0.1:6379", "--num-cpus=1", f"--node-ip-address=10.77.0.{n}"]
        hosts.start(n, RAY, "start", *node, *common)
        hosts.up(n)  # one after the other: they share a folder for their sockets, as no real hosts do
    about = json.dumps({"steps": [120, 20, 20, 20], "policy": {"stall_timeout": 300}})
    script = str(Path(__file__).with_name("far_session.py"))
    driver = hosts.start(1, sys.executable, script, str(path), str(log), "10.77.0.1:6379", about, stdout=subprocess.PIPE)

    def row(job: int, attempt: int, step: int) -> list[str] | None:
        lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
        return next((w for w in lines if [int(w[0]), int(w[1])] == [job, attempt] and int(w[3]) >= step), None)

    cut = hosts.of(int(until(lambda: row(1, 1, 10), timeout=120)[2]))
    hosts.cut(cut)
    out, _ = driver.communicate(timeout=200)
    assert driver.returncode == 0, (tmp_path / "host1.log").read_text()[-3000:]
    end = json.loads(out.decode().splitlines()[-1])
    assert end["state"] == "done" and sorted(end["told"]) == [1, 2, 3, 4] and [1, "lost"] in end["failures"]
    until(lambda: list((path / "artifacts/000001/1").glob("weights*")), what="the node that was cut off has written its result")
    hosts.cut(cut, again=True)
    told = [(job, data["attempt"]) for _, kind, job, data in history(path) if kind is EventKind.TOLD and job == 1]
    assert told == [(1, 2)]
    with open_store(path, write=False) as store:
        state = RunState(store.events())
    artifacts = Artifacts(str(path))
    assert artifacts.load(state.jobs[1].artifacts["weights"]) == b"1 by 2"
    removed = artifacts.collect(state.artifact_keys())
    assert [key.rpartition("/")[0] for key in removed] == ["artifacts/000001/1"]
