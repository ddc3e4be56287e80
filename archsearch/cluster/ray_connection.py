"""Joining or starting a Ray cluster, and what its errors say in one line."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable, Iterator
from functools import partial
from inspect import signature
from typing import Any

import ray

from archsearch.jobs import ArchsearchError

#: What ``ray.init`` lets nobody choose. Its agent wants one port of the machine, and where another cluster has it (that of a
#: driver killed a moment ago will do) it tries for four seconds before it goes without, and the whole start waits for it: any
#: port will do. And nobody needs the autoscaler of a cluster that cannot grow, or the monitor of logs that no driver reads.
LOCAL = {"dashboard_agent_listen_port": 0, "no_monitor": True, "include_log_monitor": False}


def connect(address: str, slots: int | None = None, *, offers: Iterable[str] = (), named: str = "cluster.address") -> None:
    """Join the cluster at ``address``: ``host:port``, ``auto`` for this machine's, ``local`` to start one.

    Args:
        slots: cores of a cluster that is started; default: all.
        offers: custom resources of which it has one each.
        named: what the user calls the address.

    Raises:
        ArchsearchError: no cluster answers there.
    """
    common: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        common |= {"num_cpus": slots or os.cpu_count(), "include_dashboard": False, "resources": dict.fromkeys(offers, 1)}
    try:
        if ":" in address and "://" not in address:  # ray.init waits minutes for a head that is not there
            host, _, port = address.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        with _local_options() if address == "local" else contextlib.nullcontext():
            ray.init(address=address, **common)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise ArchsearchError(
            f"no Ray cluster at {named} = {address!r}: {first_line(error)}. Use 'local' to start one here, "
            "'auto' for the one on this machine, or the head's host:port."
        ) from error


@contextlib.contextmanager
def _local_options() -> Iterator[None]:
    """``LOCAL`` for a cluster that is started in the block, as far as this version of Ray has these options."""
    parameter: Any = getattr(ray._private, "parameter", None)
    usual = getattr(parameter, "RayParams", None)
    if usual is None:
        yield
        return
    known = signature(usual).parameters
    parameter.RayParams = partial(usual, **{name: value for name, value in LOCAL.items() if name in known})
    try:
        yield
    finally:
        parameter.RayParams = usual


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:500]
