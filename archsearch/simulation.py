"""Simulated searches: a configuration tried on any number of slots in virtual time; driver, store and searcher are real."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from archsearch.api import Plan, Run, read_config, search
from archsearch.arch import Architecture, cost, growth_candidates
from archsearch.cluster.observer import Observer
from archsearch.cluster.outcomes import Anatomy, Law, Outcomes, Recorded, Subject
from archsearch.cluster.simulated import SimulatedExecutor
from archsearch.config import Config
from archsearch.jobs import JSON, InputError
from archsearch.store import canonical, read_run


@dataclass(frozen=True)
class Simulation:
    """A simulated run. ``seconds`` is virtual time; ``busy_share`` the share of the slots' time that jobs held;
    ``driver_seconds`` the real time that asking, folding and committing took."""

    run: Run
    slots: int
    seconds: float
    busy_share: float
    driver_seconds: float


def simulate(
    source: Config | str | Path | Mapping[str, Any],
    *,
    slots: int,
    run_dir: str | Path,
    recorded: str | Path | None = None,
    failure_share: float = 0.0,
    charge: bool = False,
    overrides: Sequence[str] = (),
    observer: Observer | None = None,
) -> Simulation:
    """Drive a search to its end in virtual time. The same seed gives the same history, unless ``charge`` is set.

    Args:
        slots: jobs that run at once.
        run_dir: folder of the run that this makes; nothing in it can be resumed or loaded, since nothing was trained.
        recorded: a run from which durations and errors are drawn (see `Recorded`); by default they follow a `Law`.
        failure_share: probability that an attempt is lost; only without ``recorded``, which has failures of its own.
        charge: let the virtual clock also run while the driver works.

    Raises:
        InputError: as for `archsearch.search`; or the recorded run is of no use.
    """
    if slots < 1:
        raise InputError(f"slots = {slots}: a simulation needs at least one")
    if not 0.0 <= failure_share < 1.0:
        raise InputError(f"failure share {failure_share}: expected a share from 0 to below 1")
    made: list[SimulatedExecutor] = []

    def executor(plan: Plan) -> SimulatedExecutor:
        devices = plan.config["devices"].names()
        made.append(SimulatedExecutor(outcomes(plan, recorded, failure_share), slots, charge=charge, devices=devices))
        return made[0]

    config = read_config(source, overrides)
    run = search(config, run_dir=run_dir, observer=observer, executor=executor)
    end = made[0]
    return Simulation(run, slots, end.now() - end.start, end.busy_share, end.driver_seconds)


def outcomes(plan: Plan, recorded: str | Path | None = None, failure_share: float = 0.0) -> Outcomes:
    """What jobs of a planned search take and give: by the law, or as in a recorded run."""
    data = plan.dataset
    anatomy = Anatomy(describe, shortcuts, len(data.x_train), len(data.x_val), len(data.x_test), data.classes)
    law = Law(anatomy, failure_share=failure_share)
    return law if recorded is None else Recorded(read_run(recorded).events, anatomy, law)


def describe(arch: JSON) -> Subject:
    """Costs of an architecture's JSON."""
    return _described(canonical(arch))


@lru_cache(4096)
def _described(arch: str) -> Subject:
    read = Architecture.from_json(json.loads(arch))
    found = cost(read)
    return Subject(found.madds, found.params, found.activation_bytes, sum(len(cell.nodes) for cell in read.cells.values()))


def shortcuts(arch: JSON, operations: Sequence[str] | None) -> dict[str, list[tuple[str, str]]]:
    """What may be attached to each cell, as a search task lists it."""
    return _shortcuts(canonical(arch), None if operations is None else tuple(operations))


@lru_cache(4096)
def _shortcuts(arch: str, operations: tuple[str, ...] | None) -> dict[str, list[tuple[str, str]]]:
    read = Architecture.from_json(json.loads(arch))
    return {
        name: [(edge.source, edge.op) for edge in growth_candidates(read, name, operations) if edge.op != "none"]
        for name in read.cells
    }
