"""What a configuration plans, checked before anything is written: its data loaded, its searcher made, its folder found."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch import config as configuration
from archsearch.config import Config
from archsearch.jobs import InputError, Searcher
from archsearch.measured import parse_objective
from archsearch.registry import RUNTIMES, SEARCHERS, WORKS
from archsearch.run import objectives
from archsearch.searchers.surroundings import Measuring, Surroundings
from archsearch.store import RunFolder

if TYPE_CHECKING:
    from archsearch.data import Dataset


@dataclass(frozen=True)
class Plan:
    """A configuration with its data set loaded and its seeds known: everything that can be checked has been."""

    config: Config
    dataset: Dataset
    searcher: Searcher


def plan(config: Config, *, directory: str = "") -> Plan:
    """Load the data and make the searcher, without writing anything.

    Args:
        directory: where a relative ``data.path`` begins; the working directory unless a run began in another.

    Raises:
        InputError: bad data, or no seed that fits.
    """
    dataset = load_data(config, directory)
    around = Surroundings(
        seed=config["run"].seed,
        input=dataset.shape,
        classes=dataset.classes,
        budget=config["budget"],
        settings={name: config[name].model_dump(mode="json") for name in ("seed_train", "post_train", "weak_learner")},
        resources=config["resources"].by_stage(),
        measuring=_measuring(config),
    )
    searcher = SEARCHERS.get(config["search"].name)(config["search"], around)
    return Plan(config, dataset, searcher)


def _measuring(config: Config) -> Measuring:
    """How the devices measure that the search section names.

    Raises:
        InputError: nobody knows the work or a runtime; or this machine is a device and lacks its runtime: how to get it, or a
            backend of it.
    """
    section, devices, cluster = config["profile"], config["devices"], config["cluster"]
    wanted = [parse_objective(name) for name in objectives(config)]
    named: dict[str, str] = {}
    for each in wanted:
        named.setdefault(each.device, each.quantity)  # the first that is wanted of a device
    limits: dict[str, list[tuple[str, float, bool]]] = {name: [] for name in named}
    for limit in getattr(config["search"], "measured_limits", ()):
        quantity, device = parse_objective(limit.name)
        limits[device].append((quantity, limit.limit, limit.strict))
    here = cluster.executor == "inline" or cluster.address == "local"
    for name in named:
        WORKS.get(section.work)
        RUNTIMES.get(section.runtime_of(name))
        if here and devices.root[name].runner == "local" and section.work == "profile":
            from archsearch.profile.runtimes import runtime

            found = runtime(section.runtime_of(name))
            if section.assignment is not None:
                section.assignment.refuse(name, found)
    specs = {name: section.spec(name, quantity, limits[name]) for name, quantity in named.items()}
    return Measuring(section.work, specs)


def load_data(config: Config, directory: str = "") -> Dataset:
    """The data set that a configuration names; ``directory`` as for ``plan``."""
    from archsearch.data import load

    section = config["data"]
    if section.path is not None:
        section = section.model_copy(update={"path": os.path.join(directory, section.path)})
    return load(section)


def same_data(made: Plan, folder: RunFolder, meta: Mapping[str, Any]) -> Plan:
    """The plan, if its data set is the one that the run began with.

    Raises:
        InputError: it is another one now.
    """
    was = meta["dataset"]["hash"]
    if made.dataset.hash != was:
        raise InputError(
            f"{folder.path}: the data set has changed since the run began (hash {made.dataset.hash[:12]}, was {was[:12]}). "
            "Put the old data back, or start a new search."
        )
    return made


def refuse_unasked(config: Config, overrides: Sequence[str], folder: RunFolder) -> None:
    """
    Raises:
        InputError: a run's own configuration names a cluster or a device elsewhere, and the user has not.
    """
    address = config["cluster"].address
    asked = {configuration.parse_override(each)[0] for each in overrides}
    for name, host in config["devices"].hosts().items():
        if not asked & {("devices", name, "host"), ("devices", name), ("devices",)}:
            raise InputError(
                f"the run in {folder.path} measures on {host}, reached by SSH from here or from its cluster. Say yourself that "
                f"it may: --set devices.{name}.host={host}"
            )
    if config["cluster"].executor == "ray" and ":" in address and ("cluster", "address") not in asked:
        raise InputError(
            f"the run in {folder.path} names the cluster at {address}. Whoever runs that can run code here, so say yourself "
            f"that it is to be joined: --address {address}"
        )


def read_config(source: Config | str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Config:
    """A configuration from what a user may hand over: a file's path, plain values, or one that is checked already."""
    if isinstance(source, Config):
        return source
    if isinstance(source, Mapping):
        return configuration.from_values(source, overrides=overrides)
    return configuration.load(source, overrides=overrides)


def new_folder(config: Config) -> RunFolder:
    """A folder below ``run.dir`` that holds no run yet: NAME, NAME-2, NAME-3..."""
    section = config["run"]
    name = section.name or "run"
    for number in range(1, 100_000):
        folder = RunFolder.at(Path(section.dir) / (name if number == 1 else f"{name}-{number}"))
        if not folder.path.exists():
            return folder
    raise InputError(f"run.dir = {section.dir} is full of runs called {name}; choose another run.name")
