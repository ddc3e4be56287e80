"""What must stand in the environment before any test imports ray, torch or numpy."""

import os
import secrets
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# One thread a process: bit-for-bit repeatable, and no two tests fight for the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell's background jobs are born deaf to Ctrl-C, and so would be all that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Ray listens on all interfaces: its token keeps others on this machine out of the tests' clusters.
if "RAY_AUTH_MODE" not in os.environ:
    token = Path(tempfile.mkdtemp(prefix="archsearch-test-ray-")) / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
# What is measured here is no answer to anybody else's question.
if "ARCHSEARCH_CACHE" not in os.environ:
    os.environ["ARCHSEARCH_CACHE"] = tempfile.mkdtemp(prefix="archsearch-test-cache-")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


#: Files of tests/cluster that start no Ray: they may stand beside anything.
WITHOUT_RAY = ("confirmations", "device_bench", "device_bench_ssh", "devices_inline", "devices_ssh", "kills_evaluation")
WITHOUT_RAY += ("kills_inline", "placement", "retries", "run_loop", "simulated", "supervisor", "warm_start_kills")


def scope_of(nodeid: str) -> str:
    """What stays together: a test's file, and all that start real clusters, which run one after another."""
    file = nodeid.split("::")[0]
    alone = "/cluster/" not in file or Path(file).stem.removeprefix("test_") in WITHOUT_RAY
    return file if alone else "cluster"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where tests run side by side (``make test``), by `scope_of`.

    Not by pytest-xdist's marks of groups: its 3.8.0 writes them where pytest 9 no longer looks, and they have no effect.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByScope(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return scope_of(nodeid)

    return ByScope(config, log)


def stream_numbers() -> Iterator[int]:
    """Each worker's own share of TensorWatch's 500 numbers, each given once: nobody hears another test's stream."""
    first, step = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    yield from range(first + 1, 501, step)


def bound(port: int) -> bool:
    """Whether somebody has it: these lie among those that the system gives to any program that asks for one."""
    with socket.socket() as trial:
        try:
            trial.bind(("", port))
        except OSError:
            return True
    return False


STREAM_NUMBERS = stream_numbers()


@pytest.fixture
def stream_number() -> int:
    """A stream's number whose ports, the publisher's and the server's, are free just now, and that no other test has."""
    return next(number for number in STREAM_NUMBERS if not bound(40859 + number) and not bound(41459 + number))
