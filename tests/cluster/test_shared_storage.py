"""A cluster whose nodes do not share the artifact folder is refused before anything is trained."""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from small_run import small

from archsearch import api
from archsearch.cluster.ray_connection import LOCAL
from archsearch.jobs import InputError

CLONE_NEWNS = 0x00020000


@contextmanager
def with_another_disk(place: Path, step: Callable[[], Any]) -> Iterator[Any]:
    """Do something in a thread, and so in the processes that it starts, for which ``place`` is another, empty disk. The thread
    lives until the block ends, and Ray's processes with it. Gives None where this is not permitted."""
    done: Future[Any] = Future()
    over = threading.Event()

    def body() -> None:
        try:
            if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS):
                raise OSError(ctypes.get_errno(), "unshare")
            subprocess.run(["mount", "--make-rprivate", "/"], check=True)
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(place)], check=True)
        except (OSError, subprocess.CalledProcessError):
            done.set_result(None)
            return
        done.set_result(step())
        over.wait()

    thread = threading.Thread(target=body)
    thread.start()
    try:
        yield done.result(60)
    finally:
        over.set()
        thread.join()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, **LOCAL})
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount another disk for one node")
def test_a_node_with_another_disk_at_that_path(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small(cluster={"executor": "ray", "address": cluster.address}, search={"max_hull_points": 2})
    shared, apart = tmp_path / "shared", tmp_path / "apart"
    for place in (shared, apart):
        place.mkdir()
    monkeypatch.setattr("ray._private.node.Node._register_shutdown_hooks", lambda node: None)  # for the main thread only
    with with_another_disk(apart, lambda: cluster.add_node(num_cpus=1)) as node:
        if node is None:
            pytest.skip("another mount is not permitted")
        cluster.wait_for_nodes()
        with pytest.raises(InputError, match="a local folder is not shared storage") as error:
            api.search(config, run_dir=apart / "run")
        assert str(apart / "run") in str(error.value) and "Set run.artifacts" in str(error.value)
        assert not (apart / "run" / "run.db").exists() and error.value.exit_code == 2
        run = api.search(config, run_dir=shared / "run")
        assert run.outcome is not None and run.outcome.state == "done"
        assert not list((shared / "run").rglob("signs"))
        cluster.remove_node(node)
