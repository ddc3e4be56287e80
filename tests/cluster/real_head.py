"""A real Ray head with its job server behind a token, as a user would start one; ended by its own process ids."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from archsearch.cluster.ray_environment import NO_METRICS


@dataclass(frozen=True)
class Head:
    """``address`` is the job server's, ``gcs`` what nodes and drivers join; ``token`` is the file with the cluster's token."""

    address: str
    gcs: str
    token: Path
    place: Path  # where it was started: relative paths of submitted runs begin here
    process: subprocess.Popen

    def environment(self, **more: str) -> dict[str, str]:
        """What a client needs to be let in."""
        return {**clean(), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token), **more}

    def processes(self) -> list[psutil.Process]:
        """Everything that the head started: daemons, workers, submitted searches."""
        return psutil.Process(self.process.pid).children(recursive=True)


def clean() -> dict[str, str]:
    """This environment without the tests' own Ray settings, and with this interpreter's programs first on the path."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "ARCHSEARCH_"))}
    return {**mine, "PATH": f"{Path(sys.executable).parent}:{mine['PATH']}", "RAY_USAGE_STATS_ENABLED": "0"}


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def running_head(place: Path, cpus: int = 2, environment: Mapping[str, str] | None = None) -> Iterator[Head]:
    """A head with its dashboard on loopback, until the block ends."""
    gcs, dashboard, agent, client, metrics, runtime = free_ports(6)
    with tempfile.TemporaryDirectory(prefix="as-head-", ignore_cleanup_errors=True) as short:  # socket paths have a limit
        token = Path(short) / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        options = {
            "node-ip-address": "127.0.0.1",
            "port": gcs,
            "dashboard-port": dashboard,
            "dashboard-host": "127.0.0.1",
            "include-dashboard": "true",
            "dashboard-agent-listen-port": agent,
            "ray-client-server-port": client,
            "metrics-export-port": metrics,
            "runtime-env-agent-port": runtime,
            "temp-dir": f"{short}/ray",
            "num-cpus": cpus,
            "object-store-memory": 100_000_000,
        }
        settings = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), **NO_METRICS}
        with (place / "head.log").open("w") as log:
            process = subprocess.Popen(
                [
                    f"{Path(sys.executable).parent}/ray",
                    "start",
                    "--head",
                    "--block",
                    *(f"--{k}={v}" for k, v in options.items()),
                ],
                cwd=place,
                env={**clean(), **settings, **(environment or {})},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        head = Head(f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{gcs}", token, place, process)
        try:
            _await(head)
            yield head
        finally:
            _end(head)


def _await(head: Head) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            return urllib.request.urlopen(f"{head.address}/api/authentication_mode", timeout=2).close()
        except OSError:
            assert head.process.poll() is None and time.monotonic() < deadline, (head.place / "head.log").read_text()
            time.sleep(0.2)


def _end(head: Head) -> None:
    """In order, and whatever is left after some seconds by SIGKILL."""
    everything = [*head.processes(), psutil.Process(head.process.pid)]
    head.process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        head.process.wait(15)
    for process in psutil.wait_procs(everything, timeout=5)[1]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    head.process.wait(5)
