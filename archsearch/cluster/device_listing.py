"""What devices a cluster has and how each stands: its nodes, the devices' actors, and what lost ones have left behind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import ray
from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_list

from archsearch.cluster.device_actor import NAMESPACE
from archsearch.cluster.devices_section import PREFIX
from archsearch.cluster.ray_connection import connect
from archsearch.cluster.ray_nodes import Nodes
from archsearch.jobs import JSON

#: Seconds within which a device's actor must answer.
PATIENCE = 5.0

#: What is said of a device that nobody has measured on yet.
_NEW: dict[str, Any] = {"host": "", "queue": {}, "running": None, "about": {}, "fingerprints": {}}
_NEW |= {"settings": None, "seen": None}


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """A device as ``archsearch devices`` shows it.

    ``state``: ready, measuring, reserving its node, locked by another, unreachable, waiting for node, or silent: its node is
    there and its actor does not answer. ``queue``: jobs that wait, by run. ``seen``: seconds since the epoch, or None: never.
    ``fingerprints``: that of the latest measurement with each runtime, by the runtime's name; it is of the runtime too.
    ``settings``: how the latest job reached it (`DeviceSettings`), or None.
    """

    device: str
    state: str
    detail: str
    host: str
    queue: Mapping[str, int]
    running: Mapping[str, JSON] | None
    about: Mapping[str, JSON] = field(default_factory=dict)
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, JSON] | None = None
    seen: float | None = None

    def to_json(self) -> dict[str, JSON]:
        return asdict(self)


def devices_at(address: str) -> list[DeviceStatus]:
    """The devices of the cluster at ``auto`` or ``host:port``, which is joined and left again.

    Raises:
        ArchsearchError: no cluster answers there.
    """
    connect(address, named="--address")
    try:
        return list_devices()
    finally:
        ray.shutdown()


def list_devices() -> list[DeviceStatus]:
    """Every device of the cluster that this process has joined, by name: those of its nodes, and those that it has known."""
    here: dict[str, list[str]] = {}
    for node in Nodes().living():
        for name in {*node.devices, *([node.labels["device"]] if "device" in node.labels else [])}:
            here.setdefault(name, []).append(node.name)
    space = NAMESPACE.encode()
    known = [key.decode().removeprefix(PREFIX) for key in _internal_kv_list(PREFIX, namespace=space)]
    actors = {name: actor for name in {*known, *here} if (actor := _actor(name)) is not None}
    answers = {actor.state.remote(): name for name, actor in actors.items()}
    ready, _ = ray.wait(list(answers), num_returns=len(answers), timeout=PATIENCE) if answers else ([], [])
    said = {answers[ref]: about for ref in ready if (about := _answer(ref)) is not None}
    found = []
    for name in sorted({*known, *here}):
        if name in said:
            found.append(_status(name, said[name]))
            continue
        left = json.loads(_internal_kv_get(f"{PREFIX}{name}", namespace=space) or "null")
        if name not in here and not (left and left["node"] in {node.id for node in Nodes().living()}):
            detail = "no living node has it: join one with `ray start --labels device=" + name + "`"
            found.append(_status(name, {**(left or {}), "state": "waiting for node", "detail": detail, **_NOBODY}))
        elif name in actors:
            about = {**(left or {}), "state": "silent", "detail": f"no answer within {PATIENCE:g} s", **_NOBODY}
            found.append(_status(name, about))
        else:
            host = ", ".join(here.get(name, []))
            about = {**(left or {}), "host": host, "state": "ready", "detail": "not used yet", **_NOBODY}
            found.append(_status(name, about))
    return found


#: What an actor that does not answer said of its jobs is no longer true.
_NOBODY: dict[str, Any] = {"queue": {}, "running": None}


def _status(name: str, about: Mapping[str, Any]) -> DeviceStatus:
    told = {**_NEW, **about}
    return DeviceStatus(name, **{each.name: told[each.name] for each in fields(DeviceStatus) if each.name != "device"})


def _actor(name: str) -> Any:
    try:
        return ray.get_actor(PREFIX + name, namespace=NAMESPACE)
    except ValueError:  # there is none
        return None


def _answer(ref: Any) -> Mapping[str, Any] | None:
    try:
        found: Mapping[str, Any] = ray.get(ref)
        return found
    except ray.exceptions.RayError:
        return None
