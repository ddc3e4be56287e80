"""Joining or starting a Ray cluster, and what its errors say in one line."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from typing import Any

import ray

from archsearch.jobs import ArchsearchError


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
        ray.init(address=address, **common)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise ArchsearchError(
            f"no Ray cluster at {named} = {address!r}: {first_line(error)}. Use 'local' to start one here, "
            "'auto' for the one on this machine, or the head's host:port."
        ) from error


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:500]
