"""What must stand in the environment before any test imports ray, torch or numpy."""

import os
import secrets
import tempfile
from pathlib import Path

import pytest

# One thread a process: bit-for-bit repeatable, and no two tests fight for the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Ray listens on all interfaces: its token keeps others on this machine out of the tests' clusters.
if "RAY_AUTH_MODE" not in os.environ:
    token = Path(tempfile.mkdtemp(prefix="archsearch-test-ray-")) / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where tests run side by side (``make test``), a file stays whole, and those of clusters run one after another."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group("cluster" if item.path.parent.name == "cluster" else item.path.name))
