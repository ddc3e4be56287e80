"""Whether all nodes of a cluster keep artifacts in one place: a local folder is none that they share."""

from __future__ import annotations

from typing import Any

import ray

from archsearch.jobs import InputError
from archsearch.store import Artifacts

#: Seconds within which every node must have written its sign: its first worker has to start and to import archsearch.
PATIENCE = 120.0


def leave_sign(root: str) -> str:
    """Body of a task."""
    return Artifacts(root).leave_sign()


def refuse_unshared(root: str) -> None:
    """Where there are several nodes, let a worker on each write a sign into the artifact store, and read it here.

    Raises:
        InputError: one cannot be read; the text names the node.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if len(nodes) == 1:
        return
    task = ray.remote(num_cpus=0, max_retries=0)(leave_sign)
    signs = [task.options(label_selector={"ray.io/node-id": node["NodeID"]}).remote(root) for node in nodes]
    ray.wait(signs, num_returns=len(signs), timeout=PATIENCE)
    place = Artifacts(root)
    for node, sign in zip(nodes, signs, strict=True):
        try:
            found = place.finds_sign(ray.get(sign, timeout=0.1))
        except (ray.exceptions.NodeDiedError, ray.exceptions.TaskUnschedulableError):
            continue  # it has left meanwhile
        except ray.exceptions.RayError as error:
            raise _unshared(root, node, f"cannot be written there: {str(error).strip().splitlines()[-1]}") from error
        if not found:
            raise _unshared(root, node, "is another place there: a local folder is not shared storage")


def _unshared(root: str, node: dict[str, Any], what: str) -> InputError:
    ray.shutdown()  # the executor that asked will not come to be
    name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']}, {node['NodeID'][:8]})"
    return InputError(
        f"run.artifacts: {root}, as the node {name} sees it, {what}. Set run.artifacts to a folder that all nodes mount, or to "
        "s3://bucket/prefix."
    )
