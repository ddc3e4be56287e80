"""The recipe of what a run has trained: enough to train it again, elsewhere, to the same figure."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Protocol

from archsearch.arch import Architecture
from archsearch.config import Config
from archsearch.jobs import JSON, InputError, JobState
from archsearch.recipes.classification import CLASSIFICATION, architecture, data, training
from archsearch.recipes.ingredient import Ingredient, made
from archsearch.recipes.recipe import Recipe
from archsearch.recipes.task import Task
from archsearch.store import JobRecord, Point, RunFolder, RunState, plain
from archsearch.train.section import TrainSection

#: Half the width of a 95 % interval in standard errors.
NORMAL_95 = 1.959964


class FinishedRun(Protocol):
    """What is read of a run (``archsearch.load_run``)."""

    meta: Mapping[str, Any]
    state: RunState
    config: Config
    folder: RunFolder


def recipe_of(run: FinishedRun, point: Point | int) -> Recipe:
    """The recipe of a finished point, or of any other training of a run that has ended, such as one of an evaluation.

    On the same kind of processor with as many threads it trains to the same weights, bit for bit; elsewhere to an error within
    the interval of ``recorded``.

    Raises:
        InputError: no such training, one that was simulated, or one that was taken over from another run.
    """
    record = _record(run, point)
    spec = plain(record.job.spec)
    section = TrainSection.model_validate(spec["train"])
    config, meta = run.config["data"], run.meta
    place = {} if config.path is None else {"path": os.path.abspath(os.path.join(meta["directory"], config.path))}
    inherit = spec.get("inherit") if section.warm_start == "parent" else None
    slots = {
        "model": architecture(Architecture.from_json(spec["arch"])),
        "data": data(config, meta["dataset"]["hash"], **place),
        "training": training(section, f"{section.epochs}-epochs", (section.optimizer, _augmentation_name(section))),
        "weights": None if inherit is None else _weights(inherit),
        "export": None,
    }
    rungs = tuple(spec.get("rungs", ())) if section.keep == "best" else ()  # elsewhere they change nothing
    return Recipe("classification", record.job.seed, slots, rungs)


def recorded(run: FinishedRun, point: Point | int) -> dict[str, JSON]:
    """What the training came to: ``{metric, value, interval: [low, high], threads}``.

    The interval is that of the error on other validation images, 95 %, from its standard error (see ``train.evaluate.Score``).
    Raises as ``recipe_of``.
    """
    record = _record(run, point)
    return {**figure(record.metrics), "threads": max(1, int(record.job.resources.cpu))}


def figure(metrics: Mapping[str, JSON], task: Task = CLASSIFICATION) -> dict[str, JSON]:
    """The metric of a training with its interval: ``{metric, value, interval}``."""
    value, error = metrics[task.metric], metrics[task.standard_error]
    interval = [max(0.0, value - NORMAL_95 * error), min(1.0, value + NORMAL_95 * error)]
    return {"metric": task.metric, "value": value, "interval": interval}


def _record(run: FinishedRun, point: Point | int) -> JobRecord:
    number = point if isinstance(point, int) else point.id
    record = run.state.jobs.get(number)
    name = run.folder.path
    if record is None or record.job.work != "train" or record.state is not JobState.COMPLETED:
        ids = ", ".join(map(str, run.state.point_ids()))
        raise InputError(f"{name} has no point {number} that is trained. Points: {ids or 'none yet'}.")
    if run.meta.get("simulated"):
        raise InputError(f"{name} was simulated: its points were never trained. Give a run that was searched.")
    if "train" not in record.job.spec:
        found = run.state.point(number)
        origin = (found.origin if found is not None else None) or {}
        raise InputError(
            f"{name}: point {number} was taken over from run {origin.get('run')!r} (point {origin.get('point')} there), "
            "which knows how it was trained. Make its recipe there."
        )
    return record


def _augmentation_name(section: TrainSection) -> str:
    changed = section.augment.model_dump(exclude_defaults=True)
    return "-".join(changed) or "none"


def _weights(inherit: Mapping[str, JSON]) -> Ingredient:
    """What the network grew out of, its artifacts by content."""
    parameters = {name: inherit[name] for name in ("kind", "parent", "edges") if inherit.get(name) is not None}
    for name in ("weights", "candidates"):
        if inherit.get(name) is not None:
            parameters[name] = {"sha256": inherit[name]["sha256"], "size": inherit[name]["size"]}
    return made("parent_weights", f"parent-{inherit['weights']['sha256'][:12]}", parameters)
