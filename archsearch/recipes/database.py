"""The golden database: every finished point of every run that was added, with its recipe and what was measured of it, where.

It is a SQLite file or a PostgreSQL database (``postgresql://...``; several hosts, several users). As a pandas frame it has one
row for each recipe, device and quantisation:

``device``
    what the run calls it, or ``framework``: a row that every recipe has, of what was found where it was trained. A query is
    over one device at a time.
``task_metric``
    a share, bigger is better: the validation accuracy that this very recipe, with its seed, came to; ``test_metric``: the
    same of the test split, where that was looked at.
``relative_task_metric``
    ``task_metric`` divided by the best that the database has of the same task, metric and data set (by its hash), so that 1 is
    the best known. A share, since a difference to the best would be negative, and what is negative is no metric to a query.
    Worked out whenever the database is read: a better recipe that is added later lowers all others.
``if_inf_macs``, ``if_inf_size``
    in the framework: multiply-adds for one image; MB (1e6 bytes) of the trained weights' file.
``od_inf_rate_ms``, ``od_inf_energy_mJ``
    on the device: milliseconds and millijoules of one call, divided by the images in its batch.
``od_total_time``
    milliseconds of one call with its whole batch.
``od_total_mem_MB``, ``od_cpu_mem_MB``, ``od_gpu_mem_MB``, ``od_unified_mem_MB``, ``od_size_MB``
    MB: the peak of the process that runs the model; its part in the host's memory, in a GPU's, in one that both share; the
    model as the runtime keeps it. On devices without a GPU the first two are the same measurement.

Medians and shares have ``_low`` and ``_high`` beside them, a 95 % interval, and ``_noisy``: whether the interval stayed wider
than was asked for. What was not measured is missing (NaN), never filled in.

Nothing that was added is ever changed. A point that is measured again is another observation of the same key, and **the latest
one that is not noisy counts** (the latest of all, if all are noisy), as a whole: a row's figures always belong together, with
their ``fingerprint``, ``runtime`` and ``protocol``. All of them: ``read_frame(db, history=True)``.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from archsearch.jobs import InputError, StoreDamaged
from archsearch.recipes.checks import checked_frame, checked_recipe, refuse_unknown
from archsearch.recipes.observations import Found, rows_of
from archsearch.recipes.snapshots import read_snapshot, write_snapshot
from archsearch.store.golden import Added, open_golden
from archsearch.store.golden_schema import COLUMNS, FLAGS, KEY, READ

if TYPE_CHECKING:
    from archsearch.recipes.points import FinishedRun
    from archsearch.recipes.recipe import Recipe

#: What is compared with the best of: one task and metric on one data set.
COMPARED = ["task", "task_metric_name", "dataset_hash"]


def read_frame(place: str | Path, *, history: bool = False, recipes: bool = False) -> pd.DataFrame:
    """The database as a frame, one row for each recipe, device and quantisation, in this order.

    Args:
        place: the path of a SQLite file, or a PostgreSQL URL.
        history: all observations instead, the latest last; ``current`` says which of them counts.
        recipes: with the column ``recipe``, each recipe as JSON text, checked against its id.

    Raises:
        InputError: there is no golden database; ``place`` may be a stranger's, and nothing of it is run.
        StoreDamaged: it is not whole, or a row or recipe is not what was written.
        StoreUnavailable: it cannot be reached.
    """
    database = open_golden(place)
    rows = database.observations()
    frame = _typed(pd.DataFrame.from_records(rows, columns=READ, exclude=["digest"]))
    current = _current(frame)
    relative = _relative(frame[current])
    frame.insert(frame.columns.get_loc("task_metric"), "relative_task_metric", relative.reindex(frame.index))
    if history:
        frame["current"] = current
    else:
        frame = frame[current]
    if recipes:
        ids = sorted(set(frame["recipe_id"]))
        texts = database.recipes(ids)
        for id_ in ids:
            _recipe(str(database), id_, texts.get(id_))
        frame = frame.assign(recipe=frame["recipe_id"].map(texts))
    return frame.reset_index(drop=True)


def read_recipe(place: str | Path, beginning: str) -> Recipe:
    """The recipe whose id begins so.

    Raises:
        InputError: none does, or several do; else as ``read_frame``.
    """
    database = open_golden(place)
    return _recipe(str(database), *database.recipe(beginning))


def add_runs(
    place: str | Path,
    runs: Sequence[FinishedRun],
    names: Mapping[str, str] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> list[tuple[Added, Found]]:
    """Add runs' points to a database, which is made if there is none. What is there already stays as it is, so that a run can
    be added again when it has gone on.

    Args:
        runs: ``archsearch.load_run(path)``; they are only read.
        names: what devices are to be called that the runs call otherwise: ``{"here": "laptop-7"}``.
        say: told how far it is.

    Raises: as ``rows_of`` and ``read_frame``, and
        InputError: no run has a device of such a name; nothing was added.
    """
    database = open_golden(place)
    database.there()
    found = [rows_of(run, names or {}, say) for run in runs]
    devices = sorted({device for each in found for device in each.devices})
    if strangers := sorted(set(names or {}) - set(devices)):
        raise InputError(f"nothing was measured on a device {strangers[0]!r} there; on: {', '.join(devices) or 'none'}")
    done = []
    for run, each in zip(runs, found, strict=True):
        say(f"{run.folder.path}: writing {len(each.rows)} rows …")
        done.append((database.add(each.recipes, each.rows, adder()), each))
    return done


def import_frame(place: str | Path, frame: pd.DataFrame, what: str = "the frame") -> Added:
    """Add the rows of a frame with columns as ``read_frame`` gives them: all, or none if one is wrong. ``recipe`` may be
    missing for recipes that the database has. What is worked out on reading, and who added a row elsewhere, is passed over.

    Raises:
        InputError: what is wrong, by row (the first is 1).
        Others as ``read_frame``.
    """
    database = open_golden(place)
    database.there()
    found = checked_frame(frame, what)
    if lacking := {row["recipe_id"] for row in found.rows} - found.recipes.keys():
        refuse_unknown(found, database.recipes(sorted(lacking)) if database.there() else (), what)
    return database.add(found.recipes, found.rows, adder())


def export_file(place: str | Path, target: str | Path, *, history: bool = False) -> int:
    """Write the database, with its recipes, into a .csv, .parquet or .json file; how many rows. Raises as ``read_frame``, and
    InputError for another kind of file."""
    frame = read_frame(place, history=history, recipes=True)
    write_snapshot(frame, Path(target))
    return len(frame)


def import_file(place: str | Path, source: str | Path) -> Added:
    """Add what ``export_file`` wrote. Raises as ``import_frame``."""
    return import_frame(place, read_snapshot(Path(source)), str(source))


def adder() -> str:
    """Who adds: ``user@host``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # nobody has that number here
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def _recipe(place: str, id_: str, text: str | None) -> Recipe:
    """
    Raises:
        StoreDamaged: it is not the recipe of that id.
    """
    try:
        if not isinstance(text, str):
            raise InputError(f"it has {'no text' if text is None else 'another type'}")
        return checked_recipe(id_, json.loads(text))
    except (InputError, ValueError, RecursionError) as error:
        raise StoreDamaged(f"{place}: recipe {id_} is not what was written: {error}") from error


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers are floats with NaN where unknown; whole numbers and flags are pandas' own types, which have a missing value."""
    kinds: dict[str, Any] = {name: "float64" for name, kind in COLUMNS.items() if kind is float}
    kinds |= {name: "Int64" for name, kind in COLUMNS.items() if kind is int} | dict.fromkeys(FLAGS, "boolean")
    return frame.astype(kinds | {"added_at": "float64"})


def _current(frame: pd.DataFrame) -> pd.Series:
    """Which row of each key counts: of those that are not noisy, or else of all, the last; rows come in the order of time."""
    noisy = frame[list(FLAGS)].fillna(False).any(axis=1).astype(bool)
    ranked = frame[list(KEY)].assign(noisy=~noisy).sort_values("noisy", kind="stable")
    chosen = ranked.drop_duplicates(list(KEY), keep="last").index
    return pd.Series(frame.index.isin(chosen), index=frame.index)


def _relative(frame: pd.DataFrame) -> pd.Series:
    """``relative_task_metric`` of the rows that count; NaN where nothing above 0 is known to compare with."""
    best = frame.groupby(COMPARED)["task_metric"].transform("max")
    return frame["task_metric"] / best.where(best > 0, np.nan)
