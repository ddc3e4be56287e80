"""What is known of a network that is exported: the facts of its model card (see ``archsearch.report.model_card``)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from archsearch.arch import Architecture, cost
from archsearch.jobs import JSON, InputError
from archsearch.report.lineage import lineage
from archsearch.report.model_card import metric_rows, seeds_row
from archsearch.report.tables import describe
from archsearch.report.view import tested
from archsearch.run import Run, frontier_settings
from archsearch.session import versions
from archsearch.store import JobRecord, Point

if TYPE_CHECKING:
    from archsearch.data import Dataset


@dataclass(frozen=True)
class Trained:
    """A training whose network is exported: its job in ``run`` (an evaluation is a run, too), and the search's point."""

    run: Run
    record: JobRecord
    arch: Architecture
    point: Point
    source: Mapping[str, JSON]
    tested: Mapping[str, JSON]  # metrics on the test split
    others: Sequence[float]  # test errors of all of the evaluation's trainings of this network


def model_card(
    run: Run,
    trained: Trained,
    dataset: Dataset,
    checks: Mapping[str, JSON],
    files: Mapping[str, bytes],
    pixels: bool,
) -> dict[str, JSON]:
    """What ``model_card.json`` says.

    Args:
        run: the search.
        checks: what was found when a file was checked, by its name.
        files: all others of the folder, by name.
        pixels: whether they take images as a decoder gives them.
    """
    arch, source = trained.arch, trained.source
    counted, point = cost(arch), trained.point
    own = source["evaluation"] is None  # the network that the search trained and devices measured
    measured = point.metrics.get("measured", {}) if own else {}
    profiles = run.state.profiles(point.id) if measured else []
    anew = "" if own else f", evaluation {source['evaluation']}, training {source['repeat']}"
    return {
        "format": "archsearch model 1",
        "name": f"{source['run']}, point {point.id}{anew}",
        "model": {"architecture": describe(arch.to_json()), "hash": arch.hash},
        "source": dict(source),
        "recipe": _recipe(trained),
        "input": _input(dataset, pixels),
        "output": {"name": "logits", "type": "float32", "classes": arch.classes, "class_names": list(dataset.class_names)},
        "metrics": _metrics(run, trained, {"val": len(dataset.y_val), "test": len(dataset.y_test)}),
        "metrics_note": _note(run, trained),
        "costs": {"madds": counted.madds, "params": counted.params, "activation_bytes": counted.activation_bytes},
        "devices": {
            "measured": [{"name": name, **figure} for name, figure in measured.items()],
            "by": [{key: each.get(key) for key in ("runtime", "fingerprint", "protocol")} for each in profiles],
        },
        "data": {
            **{"name": dataset.name, "hash": dataset.hash, "classes": dataset.classes},
            "images": {"train": len(dataset.y_train), "val": len(dataset.y_val), "test": len(dataset.y_test)},
        },
        "lineage": lineage(run.state, point.id),
        "checks": dict(checks),
        "files": {name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for name, data in files.items()},
        "versions": {"searched with": trained.run.meta["versions"], "exported with": _versions(checks)},
    }


def _recipe(trained: Trained) -> str | None:
    """The id of what trains this network again; None of a point that another run trained, which knows its recipe."""
    from archsearch.recipes.points import recipe_of

    try:
        return recipe_of(trained.run, trained.record.job.id).id
    except InputError:
        if trained.point.origin is None:
            raise
        return None


def _input(dataset: Dataset, pixels: bool) -> dict[str, JSON]:
    from archsearch.data import normalise

    mean, deviation = normalise(dataset)
    channels, height, width = dataset.shape
    shape = ("batch", height, width, channels) if pixels else ("batch", channels, height, width)
    return {
        "name": "images",
        "type": "uint8" if pixels else "float32",
        "shape": list(shape),
        "layout": "images, rows, columns, channels" if pixels else "images, channels, rows, columns",
        "meaning": (
            "pixels 0 to 255 as a decoder gives them, channels in the order of the data set's (RGB, or one of grey)"
            if pixels
            else "pixels scaled to 0..1, less the mean of their channel, divided by its deviation"
        ),
        "normalisation": "inside the files, not to be done by the caller" if pixels else "to be done by the caller",
        "mean": list(mean),
        "deviation": list(deviation),
    }


def _metrics(run: Run, trained: Trained, images: Mapping[str, int]) -> list[dict[str, JSON]]:
    """Its own errors, and the mean over seeds where it, or its architecture, was trained more than once."""
    rows = metric_rows({**trained.tested, **trained.record.metrics}, images)
    error = frontier_settings(run.config)["error"]
    if trained.source["evaluation"] is not None:
        if trained.others:
            rows.append(seeds_row(tested(error), trained.others, images["test"]))
    elif confirmations := trained.point.metrics.get("confirmations"):
        rows.append(seeds_row(error, [float(each[error]) for each in confirmations], images["val"]))
    return rows


def _note(run: Run, trained: Trained) -> str:
    """How far the errors can be trusted."""
    if trained.source["evaluation"] is not None:
        return "Test images were looked at for the models of the evaluation only, none was chosen by them."
    return (
        f"The search chose among {len(run.points())} networks by errors on the validation images: on others expect more. "
        "An error on test images does not have this flaw."
    )


def _versions(files: Mapping[str, JSON]) -> dict[str, str]:
    used = ("onnx", "onnxscript", "onnxruntime", "safetensors") if "model.onnx" in files else ("safetensors",)
    return {**versions(), **{name: version(name) for name in used}}
