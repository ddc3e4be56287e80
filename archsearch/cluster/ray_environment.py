"""What must stand in the environment before ray is imported: Ray reads its settings once, when it is loaded."""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

#: Ray serves metrics to everybody, without a token, from three processes. A port that is none keeps the last two from it.
NO_METRICS = {"RAY_enable_metrics_collection": "0", "AUTOSCALER_METRIC_PORT": "-1", "DASHBOARD_METRIC_PORT": "-1"}


def prepare(address: str, root: str) -> None:
    """Set Ray's environment for a driver of the run whose artifacts are at ``root``.

    Ray listens on all interfaces, so a local cluster asks for a token that only this user can read. Settings that are
    there already are kept; a process that has imported ray before keeps Ray as it is.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_task_oom_retries", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Every process of a local cluster inherits it: what belongs to a run can be told by its environment.
    os.environ["ARCHSEARCH_RUN"] = root
    if address == "local":
        for name, value in NO_METRICS.items():
            os.environ.setdefault(name, value)
    if address != "local" or "ray" in sys.modules or "RAY_AUTH_MODE" in os.environ:
        return
    folder = Path(tempfile.mkdtemp(prefix="archsearch-ray-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}


def prepare_client(address: str) -> None:
    """Set Ray's environment for asking the job server at ``address``: this token, and no other address."""
    os.environ["RAY_API_SERVER_ADDRESS"] = address  # Ray lets this variable and RAY_ADDRESS win over what it is told
    prepare_visit()


def prepare_visit() -> None:
    """Set Ray's environment for a look at a cluster that runs: with this user's token, if there is one."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    at_hand = "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ
    if at_hand or (Path.home() / ".ray" / "auth_token").exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
