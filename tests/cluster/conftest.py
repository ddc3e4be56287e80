"""One real Ray cluster for all tests of this folder that drive it from their own process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# A node that starts on a machine with too much to do needs longer than Ray's half minute.
os.environ.setdefault("RAY_raylet_start_wait_time_s", "150")
# A node that is killed is known to be dead once so many looks at it, a second apart, were refused; one that is slow to answer
# still has ten seconds a look.
os.environ.setdefault("RAY_health_check_period_ms", "1000")

ENTRY_POINTS = "\n".join(
    [
        "[archsearch.work]",
        *(f"{name} = ray_probes:{name}" for name in ("probe", "wait_for_it", "wait_for_a_child", "count")),
        *(f"{name} = device_probes:{name}" for name in ("on_device", "takes_its_time")),
    ]
)


@pytest.fixture(scope="session")
def probes(tmp_path_factory):
    """``PYTHONPATH`` with the works of ``ray_probes`` as an installed plug-in: workers find it through its entry points."""
    site = tmp_path_factory.mktemp("site")
    info = site / "ray_probes-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ray-probes\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(site), str(Path(__file__).parent), before]))
    yield os.environ["PYTHONPATH"]
    os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)


@pytest.fixture(scope="session")
def cluster(probes):
    """A head with one core; tests add nodes and take them away again."""
    import ray
    from ray.cluster_utils import Cluster

    from archsearch.cluster.ray_connection import LOCAL

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, **LOCAL})
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="session")
def digits():
    from archsearch.data import DataSection, load

    return load(DataSection(name="digits", max_train=100))


@pytest.fixture
def board(tmp_path, probes):
    """An sshd that is not running yet."""
    from ssh_board import Board

    made = Board(tmp_path, probes)
    yield made
    made.stop()
