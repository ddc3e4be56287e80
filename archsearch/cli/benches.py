"""Where ``profile`` and ``assign`` measure: here, or on the device that ``--device`` names."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from archsearch.jobs import InputError

if TYPE_CHECKING:
    from archsearch.config import Config
    from archsearch.profile.bench import Bench


@dataclass(frozen=True)
class Place:
    """A bench, and as many threads as are measured with there unless the user says otherwise."""

    bench: Bench
    threads: int = 1


@contextlib.contextmanager
def opened(
    device: str | None, conf: Path | None, address: str | None, say: Callable[[str], None], *, run: Path | None = None
) -> Iterator[Place]:
    """The place of ``--device``, ``--config`` and ``--address``, until the block ends.

    Args:
        run: the run that is measured: its configuration counts where ``conf`` names none.

    Raises:
        InputError: no such device, an option that does not fit, or a run's own configuration names what is elsewhere.
        ArchsearchError: no cluster answers at the address.
    """
    if device is None:
        for name, value in (("--config", conf), ("--address", address)):
            if value is not None:
                raise InputError(f"{name} says where the device of --device is: name the device too")
        from archsearch.profile.bench import Here

        yield Place(Here())
        return
    config = _configuration(device, conf, address, run)
    at = address or ("auto" if config is None else _address(config))
    if at != "local":
        with _on_cluster(device, config, at, say) as place:
            yield place
        return
    from archsearch.cluster.device_bench import DeviceBench, Near

    known = {} if config is None else config["devices"].root
    if device not in known:
        if config is None:
            raise InputError(f"no device is called {device!r}: without --config or a run there is none but in a cluster")
        raise InputError(f"no device is called {device!r} in {conf or run}. Known: {', '.join(known) or 'none'}.")
    settings = known[device]
    yield Place(DeviceBench(Near(device, settings, say), settings, say), settings.threads)


@contextlib.contextmanager
def _on_cluster(device: str, config: Config | None, address: str, say: Callable[[str], None]) -> Iterator[Place]:
    from archsearch.cluster import ray_environment

    say(f"joining the cluster at {address} …")
    ray_environment.prepare_visit()
    from archsearch.cluster.device_bench import DeviceBench
    from archsearch.cluster.device_visit import OnCluster, settings_of, visited

    with contextlib.redirect_stdout(sys.stderr), visited(address):  # Ray's threads print
        settings = settings_of(device, None if config is None else config["devices"], say)
        bench = DeviceBench(OnCluster(device, say), settings, say)
        yield Place(bench, settings.threads)


def _configuration(device: str, conf: Path | None, address: str | None, run: Path | None) -> Config | None:
    from archsearch import config as configuration

    if conf is not None:
        return configuration.load(conf)
    if run is None:
        return None
    from archsearch import api

    config = api.load_run(run).config
    hosts = config["devices"].hosts()
    if device in hosts:
        raise InputError(
            f"the run in {run} reaches {device} at {hosts[device]}, by SSH from here or from its cluster. Say yourself that it "
            "may: --config with a configuration of yours that has this device"
        )
    if address is None and ":" in _address(config):
        raise InputError(
            f"the run in {run} names the cluster at {_address(config)}. Whoever runs that can run code here, so say yourself "
            f"that it is to be joined: --address {_address(config)}"
        )
    return config


def _address(config: Config) -> str:
    cluster = config["cluster"]
    return "local" if cluster.executor == "inline" else str(cluster.address)
