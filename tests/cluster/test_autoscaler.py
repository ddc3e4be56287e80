"""Ray's own autoscaler with its fake provider: it sees what the run wants, and slots grow from none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import ray

CONFIG = {
    "cluster_name": "fake",
    "max_workers": 3,
    "upscaling_speed": 10.0,
    "idle_timeout_minutes": 0.1,
    "provider": {"type": "fake_multinode", "launch_multiple": True, "head_node_id": "FAKE_HEAD_NODE_ID"},
    "auth": {},
    "docker": {},
    **{f"{kind}_commands": [] for kind in ("setup", "head_setup", "worker_setup", "initialization")},
    **{f"{kind}_start_ray_commands": [] for kind in ("head", "worker")},
    "file_mounts": {},
    "cluster_synced_files": [],
    "file_mounts_sync_continuously": False,
    "head_node_type": "ray.head.default",
    "available_node_types": {
        "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "ray.worker.default": {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 3},
    },
}

SETTINGS = {
    "RAY_FAKE_CLUSTER": "1",
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    "RAY_enable_autoscaler_v2": "1",
    "RAY_CLOUD_INSTANCE_ID": "FAKE_HEAD_NODE_ID",
    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": "FAKE_HEAD_NODE_ID",
}

#: In namespaces of its own, so that nothing of it is left: the head, and the driver as soon as the head answers. Ray's wheel
#: lacks a file of the fake provider (its defaults, of which none is needed): there it is put in its place.
SCRIPT = """
ip link set lo up
cp -r {provider} {temp}/provider && echo '{{}}' > {temp}/provider/example.yaml && mount --bind {temp}/provider {provider}
{settings} {ray} start --head --autoscaling-config={config} --num-cpus=0 --port=6379 --node-ip-address=127.0.0.1 \
  --include-dashboard=false --disable-usage-stats --temp-dir={temp} --block >{log} 2>&1 &
for i in $(seq 500); do grep -q "Ray runtime started" {log} && break; sleep 0.3; done
exec {python} {driver} {run} {notes} 127.0.0.1:6379 '{about}'
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")
def test_slots_grow_from_none_as_the_autoscaler_adds_nodes(probes, tmp_path, request):
    config = tmp_path / "cluster.json"
    config.write_text(json.dumps(CONFIG))
    sockets = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # their names must be short
    script = SCRIPT.format(
        settings=" ".join(f"{name}={value}" for name, value in SETTINGS.items()),
        ray=Path(sys.executable).with_name("ray"),
        config=config,
        provider=Path(ray.__file__).parent / "autoscaler/_private/fake_multi_node",
        temp=sockets,
        log=tmp_path / "head.log",
        python=sys.executable,
        driver=Path(__file__).with_name("far_session.py"),
        run=tmp_path / "run",
        notes=tmp_path / "log",
        about=json.dumps({"steps": [60] * 6, "policy": {"ahead": 2}}),
    )
    request.addfinalizer(lambda: shutil.rmtree(sockets, ignore_errors=True))
    inside = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script]
    done = subprocess.run(inside, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-2000:] + (tmp_path / "head.log").read_text()[-2000:]
    end = json.loads(done.stdout.splitlines()[-1])
    assert end["state"] == "done" and sorted(end["told"]) == [1, 2, 3, 4, 5, 6] and not end["failures"]
    assert end["slots"][0] == 0 and max(end["slots"]) == 3, "every node that could be had was"
    assert 1 in end["waited"], "the first job waited for a node, and it was said"
