"""A trained network of a run as a folder for others: ONNX, a package of ``torch.export``, its weights, and a model card.

Everything is made in memory first and compared with PyTorch; the folder appears whole, with its name, or not at all.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from archsearch.arch import Architecture
from archsearch.evaluation import load_evaluation
from archsearch.export_card import Trained, model_card
from archsearch.jobs import JSON, InputError, StoreUnavailable
from archsearch.planning import load_data
from archsearch.report.intervals import wilson
from archsearch.report.model_card import card_markdown
from archsearch.run import Run, artifacts_root, load_network, load_run
from archsearch.store import Artifacts, Point, plain
from archsearch.store.durable import TEMPORARY, make_folders, sync_folder, write_durably
from archsearch.train.export_section import ExportSection

if TYPE_CHECKING:
    from archsearch.data import Dataset
    from archsearch.train.export import Reference

#: The file of each format.
FORMATS: Mapping[str, str] = {"onnx": "model.onnx", "torch": "model.pt2"}
#: Packages of the extra ``onnx``: a file that could not be run here would be written unchecked.
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
INPUTS = ("pixels", "normalised")
CARD, CARD_TEXT = "model_card.json", "MODEL_CARD.md"
WEIGHTS, DESCRIPTION, EXAMPLE = "weights.safetensors", "architecture.yaml", "example.safetensors"
#: All names that an export may write.
OURS = frozenset({*FORMATS.values(), CARD, CARD_TEXT, WEIGHTS, DESCRIPTION, EXAMPLE})

Say = Callable[[str], None]


@dataclass(frozen=True)
class Export:
    """The folder that was written, and what its ``model_card.json`` says."""

    path: Path
    card: Mapping[str, JSON]


def export(
    run: Run | str | Path,
    output: str | Path,
    *,
    point: int | str = "best",
    formats: Sequence[str] = tuple(FORMATS),
    evaluation: str | None = None,
    repeat: int = 0,
    input: str = "pixels",
    force: bool = False,
    say: Say = lambda text: None,
) -> Export:
    """Write a trained network into the folder ``output`` in each format, with its weights and a model card.

    Args:
        point: a point's id; or "best": the lowest error on the frontier, or, of an evaluation, by validation error.
        formats: of ``FORMATS``.
        evaluation: the name of an evaluation (``archsearch.evaluate``): its network for the point instead of the search's.
        repeat: which of the evaluation's trainings, from 0.
        input: what files take: "pixels", images (N, H, W, C) uint8, with the normalisation inside; or "normalised", images
            (N, C, H, W) float32, normalised as ``archsearch.data.normalise`` says.
        force: replace an earlier export in ``output``.
        say: told what is being done.

    Raises:
        InputError: no such run, point, evaluation or format; weights that were not kept; data that are not there or others
            now; packages that are missing; or ``output`` holds something. Nothing was written.
        StoreDamaged: the weights are not those that were written.
        ExportFailed: a file cannot be made, or does not compute what PyTorch does; nothing was written.
        StoreUnavailable: the folder cannot be written.
    """
    target = Path(output).expanduser().absolute()
    settings = _settings(formats, input)
    _refuse_present(target, force)
    run = run if isinstance(run, Run) else load_run(run)
    trained = _trained(run, point, evaluation, repeat)
    say("loading the data set …")
    dataset = _data_of(run)
    from archsearch.train.export import make, reference  # imports torch

    ref = trained.record.artifacts["weights"]
    judge = reference(load_network(trained.run, trained.arch.to_json(), ref), dataset, pixels=input == "pixels")
    plausible(judge, trained.record.metrics.get("val_error"))
    made = make(judge, settings, say)
    files = {
        **{FORMATS[name]: payload for name, payload in made.files.items()},
        WEIGHTS: Artifacts(artifacts_root(trained.run.config, trained.run.folder)).load(ref),
        DESCRIPTION: trained.arch.to_yaml().encode(),
        EXAMPLE: judge.example(),
    }
    card = model_card(
        run, trained, dataset, {FORMATS[name]: check for name, check in made.checks.items()}, files, input == "pixels"
    )
    texts = {CARD_TEXT: card_markdown(card), CARD: json.dumps(card, indent=2) + "\n"}
    publish(target, {**files, **{name: text.encode() for name, text in texts.items()}})
    return Export(target, card)


def _settings(formats: Sequence[str], input: str) -> ExportSection:
    """
    Raises:
        InputError: there is no format of that name, or what it needs is not installed.
    """
    chosen = list(dict.fromkeys(formats))
    if unknown := [name for name in chosen if name not in FORMATS]:
        raise InputError(f"there is no format {unknown[0]!r} to export to; known: {', '.join(FORMATS)}")
    if not chosen:
        raise InputError(f"no format is named; known: {', '.join(FORMATS)}")
    if input not in INPUTS:
        raise InputError(f"input {input!r}: expected {' or '.join(INPUTS)}")
    refuse_missing(chosen)
    return ExportSection.model_validate({"formats": chosen, "input": input})


def refuse_missing(formats: Sequence[str]) -> None:
    """
    Raises:
        InputError: what one of the formats needs is not installed.
    """
    if "onnx" in formats and (missing := [name for name in ONNX_PACKAGES if find_spec(name) is None]):
        raise InputError(
            f"format onnx needs {' and '.join(missing)}, not installed here: pip install 'archsearch[onnx]'. "
            "The format torch needs nothing."
        )


def _refuse_present(target: Path, force: bool) -> None:
    """
    Raises:
        InputError: something is there that must not be replaced.
    """
    if not os.path.lexists(target):
        return
    if target.is_symlink() or not target.is_dir():
        raise InputError(f"{target} is no folder: name a new one")
    there = {entry.name for entry in target.iterdir()}
    if not there:
        return
    if not force:
        raise InputError(f"{target} exists already: name another folder, or replace an earlier export with --force")
    if foreign := sorted(there - OURS):
        raise InputError(f"{target} holds {foreign[0]!r}, which no export wrote: it is not replaced. Name another folder.")
    if CARD not in there:
        raise InputError(f"{target} has no {CARD}, so it is no export: it is not replaced. Name another folder.")


def _trained(run: Run, point: int | str, evaluation: str | None, repeat: int) -> Trained:
    """
    Raises:
        InputError: there is no such training, or its weights were not kept.
    """
    if "evaluation" in run.meta:
        raise InputError(
            f"{run.path} is an evaluation: name its run, {run.path.parent.parent}, and say --evaluation {run.path.name}"
        )
    if run.meta.get("simulated"):
        raise InputError(f"{run.path} was simulated: its networks were never trained. Export from a real search.")
    if not run.points():
        raise InputError(f"{run.path} has no trained point yet: there is nothing to export.")
    if evaluation is not None:
        return _evaluated(run, point, evaluation, repeat)
    number = run.summary()["best"]["id"] if point == "best" else _number(point)
    found = run.state.point(number)
    if found is None:
        raise InputError(f"{run.path.name} has no point {number}. Points: {', '.join(str(each.id) for each in run.points())}.")
    if found.weights is None:
        raise InputError(
            f"{run.path.name} has not kept the weights of point {number} (run.keep: {run.config['run'].keep}). Train it anew: "
            f"archsearch evaluate {run.path} --points {number} --name point{number}; then export with --evaluation "
            f"point{number}. Or search with run.keep: all."
        )
    return Trained(
        run,
        run.state.jobs[number],
        Architecture.from_json(found.arch),
        found,
        _source(run, found, None, None),
        found.metrics,
        [],
    )


def _evaluated(run: Run, point: int | str, name: str, repeat: int) -> Trained:
    """
    Raises:
        InputError: the evaluation has no such training that has ended.
    """
    found = load_evaluation(run.path, name)
    told = found.summary()
    number = told["best"] if point == "best" else _number(point)
    state = found.run.state
    for record in state.jobs.values():
        spec = record.job.spec
        if record.job.work == "train" and (spec["point"], spec["repeat"]) == (number, repeat) and record.artifacts:
            of = run.state.point(spec["point"])
            assert of is not None
            tests = (
                each.metrics for each in state.jobs.values() if each.job.work == "test" and each.job.parent == record.job.id
            )
            model = next(each for each in told["models"] if each["point"] == number)
            source = _source(run, of, name, repeat)
            return Trained(
                found.run,
                record,
                Architecture.from_json(plain(spec["arch"])),
                of,
                source,
                next(tests, {}),
                model["test_errors"],
            )
    known = sorted({each["point"] for each in told["models"] if each["trainings"]})
    raise InputError(
        f"{found.path} has no finished training {repeat} of point {number}. It has {told['seeds']} trainings (from 0) of "
        f"each of the points {', '.join(map(str, known)) or 'none yet'}."
    )


def _number(point: int | str) -> int:
    try:
        return int(point)
    except ValueError:
        raise InputError(f"point {point!r}: expected a point's number, or best") from None


def _source(run: Run, point: Point, evaluation: str | None, repeat: int | None) -> dict[str, JSON]:
    about = {"run": run.meta["name"], "id": run.meta["id"], "point": point.id, "stage": str(point.stage)}
    return {**about, "evaluation": evaluation, "repeat": repeat}


def _data_of(run: Run) -> Dataset:
    """The data set that the run was made on: for its normalisation, and for the check on real images.

    Raises:
        InputError: it is not there any more, or another one.
    """
    dataset = load_data(run.config, run.meta["directory"])
    if dataset.hash != run.meta["dataset"]["hash"]:
        raise InputError(
            f"{run.path}: the data set is not the one that the run was made on (hash {dataset.hash[:12]}, was "
            f"{run.meta['dataset']['hash'][:12]}). Put the old data back: its normalisation belongs to the network."
        )
    return dataset


def plausible(judge: Reference, recorded: float | None) -> None:
    """
    Raises:
        ExportFailed: the network makes another error on the validation images than its training recorded.
    """
    from archsearch.arch.export import ExportFailed

    low, high = wilson(judge.error, judge.images, 1 - 1e-6)
    if recorded is not None and not low <= recorded <= high:
        raise ExportFailed(
            f"this network errs on {judge.error:.1%} of {judge.images} validation images, its training recorded "
            f"{recorded:.1%}: weights, architecture and data do not belong together. Nothing was written."
        )


def publish(target: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder whole, or not at all, in the place of an earlier one.

    Raises:
        StoreUnavailable: it cannot be written; what was there is there again.
    """
    new, old = (target.with_name(f"{TEMPORARY}{uuid.uuid4().hex}") for _ in range(2))
    try:
        make_folders(target.parent)
        new.mkdir()
        for name, payload in files.items():
            write_durably(new / name, payload)
        if target.exists():
            os.replace(target, old)
        try:
            os.replace(new, target)
        except OSError:
            if old.exists():
                os.replace(old, target)
            raise
        sync_folder(target.parent)
    except OSError as error:
        raise StoreUnavailable(f"{target} cannot be written: {error}; free the disk or check rights") from error
    finally:
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)
