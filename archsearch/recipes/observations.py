"""What a run has to say to the golden database: a row for each point in the training framework, and one for each device that
has measured it. All of a row belongs together: one point of one run on one device, nothing put together from several.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from archsearch.jobs import InputError, JobState, Stage
from archsearch.measured import QUEUE, Objective, read_answer
from archsearch.recipes.points import FinishedRun, recipe_of, recorded
from archsearch.store import JobRecord, Point, canonical

#: The device of what was found in the training framework itself: every point has a row for it.
FRAMEWORK = "framework"

#: What all runtimes of archsearch compute in so far.
FLOAT32 = "float32"

#: Parts of a runtime's name that say that the process's memory is not all of its memory.
_ON_GPU = ("cuda", "gpu", "tensorrt")

#: Seconds between two signs that recipes are being made.
SAID_EVERY = 2.0


@dataclass
class Found:
    """``recipes``: texts by id. ``left_out``: why points have no row, and which. ``devices``: what has measured, as the run
    calls it. ``fingerprints``: those of each device, as it is called here."""

    recipes: dict[str, str] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    left_out: dict[str, list[int]] = field(default_factory=dict)
    devices: set[str] = field(default_factory=set)
    fingerprints: dict[str, set[str]] = field(default_factory=dict)


def rows_of(run: FinishedRun, names: Mapping[str, str], say: Callable[[str], None]) -> Found:
    """What is known of a run's points by now; the run is only read.

    Args:
        names: what devices are to be called that the run calls otherwise.
        say: told how far it is, every two seconds.

    Raises:
        InputError: it was simulated, or is an evaluation.
    """
    if run.meta.get("simulated"):
        raise InputError(f"{run.folder.path} was simulated: its figures are made up. Give a run that was searched.")
    if "evaluation" in run.meta:
        raise InputError(f"{run.folder.path} is an evaluation. Give the run that it is of.")
    profiles = _profiles(run)
    found, said, points = Found(devices={device for _, device in profiles}), time.monotonic(), run.state.points()
    for number, point in enumerate(points):
        if time.monotonic() - said > SAID_EVERY:
            said = time.monotonic()
            say(f"recipes: {number} of {len(points)} …")
        if point.origin is not None:
            found.left_out.setdefault(f"taken over from run {point.origin.get('run')!r}: add that run", []).append(point.id)
            continue
        recipe = recipe_of(run, point)
        found.recipes[recipe.id] = canonical(recipe.to_json())
        trained = {"recipe_id": recipe.id, **_trained(run, point)}
        found.rows.append(trained)
        hash_ = str(run.state.jobs[point.id].job.spec.get("hash", ""))
        for device in sorted(found.devices):
            if (record := profiles.get((hash_, device))) is not None:
                row = trained | _on_device(device, record) | {"device": names.get(device, device)}
                found.rows.append(row)
                found.fingerprints.setdefault(row["device"], set()).add(row["fingerprint"] or "")
    return found


def _profiles(run: FinishedRun) -> dict[tuple[str, str], JobRecord]:
    """The latest answer of each device, by the hash of the architecture and the device."""
    found: dict[tuple[str, str], JobRecord] = {}
    for record in run.state.jobs.values():
        job = record.job
        parent = run.state.jobs.get(job.parent) if job.parent is not None else None
        if job.stage is Stage.PROFILE and record.state is JobState.COMPLETED and parent is not None:
            key = str(parent.job.spec.get("hash", "")), job.queue.removeprefix(QUEUE)
            if key not in found or (found[key].finished or 0.0) <= (record.finished or 0.0):
                found[key] = record
    return found


def _trained(run: FinishedRun, point: Point) -> dict[str, Any]:
    """A point's row for ``FRAMEWORK``."""
    meta, record, figure = run.meta, run.state.jobs[point.id], recorded(run, point)
    test = _tested(point, str(figure["metric"]))
    weights = record.artifacts.get("weights")
    low, high = figure["interval"]
    return {
        "device": FRAMEWORK,
        "quantisation": FLOAT32,
        "task": "classification",
        "dataset": meta["dataset"]["name"],
        "dataset_hash": meta["dataset"]["hash"],
        "task_metric_name": _as_accuracy(str(figure["metric"])),
        **_figure("task_metric", 1.0 - figure["value"], 1.0 - high, 1.0 - low, noisy=False),
        **(_figure("test_metric", *test, noisy=False) if test else {}),
        "if_inf_macs": _float(point.metrics.get("madds")),
        "if_inf_size": None if weights is None else weights.size / 1e6,
        "measured_at": record.finished,
        "run": meta["name"],
        "run_id": meta["id"],
        "point": point.id,
        "archsearch_version": str(meta["versions"]["archsearch"]),
    }


def _as_accuracy(error: str) -> str:
    return f"{error.removesuffix('error')}accuracy"


def _tested(point: Point, metric: str) -> tuple[float, float, float] | None:
    """What the test split said, if it was looked at: a share with its 95 % interval."""
    name = metric.replace("val_", "test_", 1)
    error = _float(point.metrics.get(name))
    deviation = _float(point.metrics.get(f"{name.removesuffix('_error')}_standard_error"))
    if error is None or deviation is None:
        return None
    return 1.0 - error, max(0.0, 1.0 - error - 1.959964 * deviation), min(1.0, 1.0 - error + 1.959964 * deviation)


def _on_device(device: str, record: JobRecord) -> dict[str, Any]:
    """What a device's answer adds to a point's row. The answer is read with distrust: what is no figure is not there."""
    metrics = record.metrics
    about: Any = metrics.get("about")
    about = about if isinstance(about, Mapping) else {}
    settings: Any = about.get("settings")
    batch = settings.get("batch") if isinstance(settings, Mapping) else None
    runtime, size, protocol = _text(metrics.get("runtime")), _float(about.get("file_size")), metrics.get("protocol")
    row: dict[str, Any] = {
        "fingerprint": _text(metrics.get("fingerprint")),
        "runtime": runtime,
        "protocol": protocol if type(protocol) is int else None,
        "measured_at": record.finished,
        "od_size_MB": None if size is None else size / 1e6,
    }
    figures = read_answer(device, metrics).figures

    def put(column: str, quantity: str, share: int = 1) -> None:
        if (one := figures.get(str(Objective(quantity, device)))) is not None:
            row.update(_figure(column, one.value / share, one.low / share, one.high / share, noisy=one.noisy))

    put("od_total_time", "latency_ms")
    if type(batch) is int and batch > 0:
        put("od_inf_rate_ms", "latency_ms", batch)
        put("od_inf_energy_mJ", "energy_mj", batch)
    put("od_cpu_mem_MB", "peak_memory_mb")
    if runtime is not None and not any(word in runtime for word in _ON_GPU):
        put("od_total_mem_MB", "peak_memory_mb")  # there is no other memory
    return row


def _figure(name: str, value: float, low: float, high: float, *, noisy: bool) -> dict[str, Any]:
    """A figure's four columns. What rounding has moved past an end of its interval moves that end."""
    low, high = min(low, value), max(high, value)
    return {name: value, f"{name}_low": low, f"{name}_high": high, f"{name}_noisy": int(noisy)}


def _float(value: Any) -> float | None:
    """A finite number that is not negative, or None."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
    return float(value) if number else None


def _text(value: Any) -> str | None:
    """A short printable text, or None."""
    return value if isinstance(value, str) and value.isprintable() and 0 < len(value) <= 200 else None


def listed(left_out: Mapping[str, list[int]]) -> Iterator[str]:
    """What was left out, a line for each reason."""
    for reason, ids in left_out.items():
        yield f"{len(ids)} points left out ({reason}): {', '.join(map(str, ids[:5]))}{', …' if len(ids) > 5 else ''}"
