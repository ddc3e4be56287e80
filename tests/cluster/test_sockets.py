"""Who can reach what a run opens: the listening sockets of a real search on a local Ray cluster."""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest
from real_head import clean
from small_run import small
from test_ray_runs import Driver, told, wait_for


def listening(processes: list[psutil.Process]) -> dict[tuple[str, int], str]:
    """(address, port) -> the process that listens there."""
    found = {}
    for process in processes:
        try:
            for each in process.net_connections("inet"):
                if each.status == psutil.CONN_LISTEN:
                    found[each.laddr.ip, each.laddr.port] = process.name()
        except psutil.Error:
            continue
    return found


def served(address: str, port: int, path: str) -> int | None:
    """The status that a plain HTTP request gets, or None: whoever listens there does not speak it."""
    host = "127.0.0.1" if ipaddress.ip_address(address).is_unspecified else address
    try:
        with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except Exception:
        return None


def health_check(port: int, **environment: str) -> int:
    command = [Path(sys.executable).parent / "ray", "health-check", "--address", f"127.0.0.1:{port}"]
    return subprocess.run(command, env={**clean(), **environment}, capture_output=True, timeout=60).returncode


@pytest.mark.timeout(600)
def test_a_local_cluster_answers_nobody_without_its_token(tmp_path, stream_number):
    path = tmp_path / "run"
    config = small(search={"max_hull_points": 200})
    config["tracking"] = {"callbacks": ["tensorwatch"], "tensorwatch": {"port": stream_number}}
    driver = Driver(path, config, tmp_path)
    try:
        wait_for(lambda: told(path) >= 1, 240, "a job is told")  # Ray is all there then
        processes = [psutil.Process(driver.process.pid), *psutil.Process(driver.process.pid).children(recursive=True)]
        sockets = listening(processes)
        assert sockets.pop(("127.0.0.1", 40859 + stream_number)), "TensorWatch's stream, on loopback"
        assert {"gcs_server", "raylet"} <= set(sockets.values()) and any("Agent" in who for who in sockets.values())
        # What nobody needs is not there, and no port that another cluster of this machine may have (`ray_connection.LOCAL`).
        assert not [process for process in processes if "monitor.py" in " ".join(process.cmdline())]
        assert 52365 not in {port for _, port in sockets}
        for (address, port), who in sockets.items():  # Ray's own: on all interfaces, none of them serves a stranger
            for page in ("/", "/metrics", "/api/version", "/api/jobs/"):
                assert served(address, port, page) in (None, 401, 403, 404, 405), (who, address, port, page)
        # Ray's own protocol, to the process that could start work here: with the token and without.
        [gcs] = [process for process in processes if process.name() == "gcs_server"]
        [port] = [port for (_, port), who in sockets.items() if who == "gcs_server"]
        token = gcs.environ()["RAY_AUTH_TOKEN_PATH"]
        assert os.stat(token).st_mode & 0o077 == 0
        assert health_check(port, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=token) == 0
        assert health_check(port, RAY_AUTH_MODE="disabled") != 0
        assert health_check(port, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="guessed") != 0
        secret = Path(token).read_text()
        assert all(secret not in " ".join(process.cmdline()) for process in processes)
    finally:
        driver.kill()
