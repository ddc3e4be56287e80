"""confs/cluster/: what Ray's own validator, boto3's model of EC2 and KubeRay's fields say of them; tokens on everywhere."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from archsearch.cluster.ray_environment import NO_METRICS

ROOT = Path(__file__).parents[1]
CONFS = ROOT / "confs" / "cluster"

#: Fields of KubeRay's custom resources (v1.6) that ours may use; a misspelt one is dropped by the server without a word.
CLUSTER = {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs", "enableInTreeAutoscaling", "autoscalerOptions"}
HEAD = {"rayStartParams", "template", "serviceType", "resources", "labels"}
WORKER = HEAD - {"serviceType"} | {"groupName", "replicas", "minReplicas", "maxReplicas", "idleTimeoutSeconds", "numOfHosts"}
JOB = {"entrypoint", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "rayClusterSpec", "submissionMode"}
POD = {"securityContext", "containers", "volumes", "serviceAccountName", "nodeSelector", "tolerations"}


def read(name: str) -> Any:
    return yaml.safe_load((CONFS / name).read_text())


@pytest.mark.parametrize("name", ["on_premise.yaml", "aws.yaml"])
def test_ray_up_takes_it_and_nobody_is_let_in_without_the_token(name, monkeypatch):
    from ray.autoscaler._private.util import prepare_config, validate_config

    monkeypatch.chdir(ROOT)  # file_mounts: the repository's root
    raw = read(name)
    validate_config(prepare_config(raw))
    with pytest.raises(Exception, match="setup_comands"):
        validate_config(prepare_config({**raw, "setup_comands": []}))  # the validator is alive

    starts = [line for key in ("head", "worker") for line in raw[f"{key}_start_ray_commands"] if "ray start" in line]
    assert len(starts) == 2
    for line in starts:
        settings = line.partition("ray start")[0].split()
        assert {"RAY_AUTH_MODE=token", "RAY_enable_metrics_collection=0"} <= set(settings), line
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert {f"{name}={value}" for name, value in NO_METRICS.items()} <= set(starts[0].split())
    assert raw["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token" and raw["file_mounts"]["~/archsearch"] == "."
    assert raw["setup_commands"][0] == "chmod 600 ~/.ray/auth_token"
    steps = re.findall(r"install\.sh ([a-z ]+)", " ".join(raw["setup_commands"]))
    known = set(re.findall(r"^install_(\w+)\(\)", (ROOT / "docker" / "install.sh").read_text(), re.MULTILINE))
    assert {"dependencies", "package"} <= {word for step in steps for word in step.split()} <= known


def test_a_device_joins_without_cores_and_under_its_name(tmp_path):
    line = next(line for line in read("on_premise.yaml")["worker_start_ray_commands"] if "ray start" in line)
    options = re.search(r"\$\(test .*\)$", line)[0]
    for device, expected in ((None, ""), ("pi4", "--num-cpus=0 --labels=device=pi4")):
        if device:
            (tmp_path / ".archsearch-device").write_text(f"{device}\n")
        said = subprocess.run(["bash", "-c", f"echo {options}"], env={"HOME": str(tmp_path)}, capture_output=True, text=True)
        assert said.stdout.strip() == expected


def test_ec2_takes_the_nodes_of_aws():
    botocore = pytest.importorskip("botocore.session")
    from botocore.validate import ParamValidator

    shape = botocore.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
    types = read("aws.yaml")["available_node_types"]
    for node in types.values():
        report = ParamValidator().validate({**node["node_config"], "MinCount": 1, "MaxCount": 1}, shape)
        assert not report.has_errors(), report.generate_report()
    assert types["head"]["resources"] == {"CPU": 0} and "InstanceMarketOptions" not in types["head"]["node_config"]


def pods(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    return [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


def test_kuberay_resources_have_known_fields_and_agree_with_the_images():
    claims = {each["metadata"]["name"] for each in yaml.safe_load_all((CONFS / "kuberay_volumes.yaml").read_text())}
    alone, job = read("kuberay_cluster.yaml"), read("kuberay_job.yaml")
    assert (alone["apiVersion"], alone["kind"], job["apiVersion"], job["kind"]) == (
        "ray.io/v1",
        "RayCluster",
        "ray.io/v1",
        "RayJob",
    )
    assert set(job["spec"]) <= JOB
    for cluster in (alone["spec"], job["spec"]["rayClusterSpec"]):
        assert set(cluster) <= CLUSTER and set(cluster["headGroupSpec"]) <= HEAD
        assert all(set(group) <= WORKER and "groupName" in group for group in cluster["workerGroupSpecs"])
        assert cluster["authOptions"] == {"mode": "token"} and cluster["rayVersion"] == version("ray")
        for pod in pods(cluster):
            assert set(pod) <= POD and pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 1000
            [container] = pod["containers"]
            assert re.fullmatch(rf"REGISTRY/archsearch(-cuda)?:{re.escape(version('archsearch'))}", container["image"])
            volumes = {volume["name"]: volume for volume in pod["volumes"]}
            assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
            used = {v["persistentVolumeClaim"]["claimName"] for v in volumes.values() if "persistentVolumeClaim" in v}
            assert used <= claims and "archsearch-weights" in used
        head = pods(cluster)[0]
        assert {"name": "runs", "mountPath": "/home/archsearch/runs"} in head["containers"][0]["volumeMounts"]


def test_the_ray_job_searches_with_a_command_that_exists():
    words = shlex.split(read("kuberay_job.yaml")["spec"]["entrypoint"])
    assert words[:2] == ["archsearch", "supervise"]
    done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True)
    assert done.returncode == 2 and "/search/search.yaml: cannot be read" in done.stderr, done.stderr
