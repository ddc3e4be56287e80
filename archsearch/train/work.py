"""The works ``train``, ``petridish`` and ``test``: what executors run. Each is ``work(spec, context) -> Result``.

All have two metrics of what the job took, earlier attempts included: ``cpu_seconds``, of the processor in this process, and
``compute_madds``, the multiply-adds of all training steps (forward and backward, see ``train.compute``) and evaluations, which
are the same on every machine.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

from archsearch.arch import PRIMITIVES, Architecture, cost
from archsearch.arch.build import Network, build, candidate_prefix, candidate_projection
from archsearch.data import Dataset
from archsearch.jobs import JSON, Context, InputError, Result, derive_seed
from archsearch.train.batches import on_device, resident
from archsearch.train.checkpoint import fingerprint
from archsearch.train.evaluate import evaluate
from archsearch.train.inheritance import warm_start
from archsearch.train.loop import Rungs, fit
from archsearch.train.section import TrainSection, WeakLearnerSection
from archsearch.train.stats import tensorwatch_stats
from archsearch.train.weak_learner import Learned, learn
from archsearch.train.weights import fetch_weights, save_weights


def train(spec: JSON, context: Context) -> Result:
    """Train a network, from scratch or from its parent's weights.

    ``spec``: ``arch``, ``train`` (JSON of an Architecture and a TrainSection), ``inherit`` (None, or as `warm_start` takes it),
    and perhaps ``rungs``, epochs after which to say where the training stands; the metric ``rungs`` has it all.

    Raises:
        InputError: the architecture does not fit the data, or the weights do not fit the architecture.
        NonFinite: the training diverged.
        Interrupted: as the context raised it; a checkpoint was written.
    """
    started = time.process_time()
    section = TrainSection.model_validate(spec["train"])
    arch, dataset = Architecture.from_json(spec["arch"]), context.data()
    _settle(context, arch, dataset)
    auxiliary = section.auxiliary > 0
    model = build(arch, drop_path=section.drop_path, auxiliary=auxiliary, seed=derive_seed(context.job.seed, "init"))
    if spec.get("inherit") is not None and section.warm_start == "parent":
        warm_start(model, spec["inherit"], section.projection_scale, context)
    data = resident(dataset, context.device)
    counted = cost(arch)
    rungs = Rungs(frozenset(spec.get("rungs", ())), counted.madds)
    owner = fingerprint("train", spec, context.job.seed, dataset.hash)
    done = fit(model.to(context.device), data, section, context, owner, rungs)
    state = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("auxiliary.")}
    weights = context.save("weights.safetensors", save_weights(state))
    evaluated = done.train.count + done.val.count * (1 + len(done.curve))  # images; the 1 is before the first step
    metrics: dict[str, JSON] = {
        **done.val.errors("val"),
        "val_loss": done.val.loss,
        "train_error": done.train.error,
        "initial_val_loss": done.initial.loss,
        "initial_val_error": done.initial.error,
        "epochs": section.epochs,
        "best_epoch": done.best_epoch,
        "madds": counted.madds,
        "flops": 2 * counted.madds,
        "params": counted.params,
        "activation_bytes": counted.activation_bytes,
        "curve": done.curve,
        **({"rungs": done.rungs} if done.rungs else {}),
        "seconds_training": done.seconds,
        "tensorwatch": tensorwatch_stats(arch) if section.tensorwatch_stats else None,
        "compute_madds": done.steps_madds + evaluated * counted.madds,
        "cpu_seconds": done.cpu_before + time.process_time() - started,
    }
    return Result(metrics, {"weights": weights})


def petridish(spec: JSON, context: Context) -> Result:
    """Rank the shortcuts that could be attached to a trained parent.

    ``spec``: ``arch``, ``weights`` (JSON of an ArtifactRef) and ``learner`` (a WeakLearnerSection). The metric ``ranked`` has,
    for each cell, the strongest ``[source, operation, alpha]``; the artifact ``candidates`` their learned weights, named as
    ``arch.build.grown_weights`` takes them, without those of candidates that diverged.

    Raises: as `train`.
    """
    started = time.process_time()
    section = WeakLearnerSection.model_validate(spec["learner"])
    if section.primitives is None:
        section = section.model_copy(update={"primitives": PRIMITIVES})
    arch, dataset = Architecture.from_json(spec["arch"]), context.data()
    _settle(context, arch, dataset)
    parent = _trained(arch, spec["weights"], context)
    owner = fingerprint("petridish", spec, context.job.seed, dataset.hash)
    learned = learn(parent, resident(dataset, context.device), section, context, owner)
    candidates = context.save("candidates.safetensors", save_weights(candidate_state(learned)))
    metrics: dict[str, JSON] = {
        "ranked": learned.ranked,
        "steps": section.steps,
        "seconds_training": learned.seconds,
        "compute_madds": learned.steps_madds,
        "cpu_seconds": learned.cpu_before + time.process_time() - started,
    }
    return Result(metrics, {"candidates": candidates})


def test(spec: JSON, context: Context) -> Result:
    """Measure a trained network (``arch``, ``weights``) on the test split, as a whole and class by class."""
    started = time.process_time()
    arch, dataset = Architecture.from_json(spec["arch"]), context.data(test=True)
    _settle(context, arch, dataset)
    model = _trained(arch, spec["weights"], context)
    split = on_device(dataset.x_test, dataset.y_test, context.device)
    score = evaluate(model, split, resident(dataset, context.device).images)
    metrics: dict[str, JSON] = {
        **score.errors("test"),
        "test_loss": score.loss,
        "test_error_by_class": list(score.by_class),
        "compute_madds": score.count * cost(arch).madds,
        "cpu_seconds": time.process_time() - started,
    }
    return Result(metrics)


def candidate_state(learned: Learned) -> dict[str, Tensor]:
    """The ranked candidates' tensors, named as a child takes them over."""
    state: dict[str, Tensor] = {}
    kept = {(name, source, op) for name, rows in learned.ranked.items() for source, op, _ in rows}
    for position, (name, cell) in enumerate(learned.candidates.places):
        state[candidate_projection(position)] = cell.projection.weight
        for edge in cell.edges:
            if (name, edge.source, edge.op) in kept and (name, edge.key) not in learned.diverged:
                prefix = candidate_prefix(position, edge)
                state |= {prefix + key: tensor for key, tensor in cell.ops[edge.key].state_dict().items()}
    return state


def _trained(arch: Architecture, weights: Mapping[str, Any], context: Context) -> Network:
    """The network with its stored weights, on the context's device, in evaluation mode."""
    model = build(arch, seed=0)
    try:
        model.load_state_dict(fetch_weights(weights, context))
    except RuntimeError as error:
        text = f"the weights {weights['key']!r} do not belong to the architecture {arch.hash[:12]}: {error}"
        raise InputError(text) from error
    return model.to(context.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]


def _settle(context: Context, arch: Architecture, dataset: Dataset) -> None:
    """Check that architecture and data fit, and set this process up for the job's threads and device."""
    if (tuple(arch.input), arch.classes) != (dataset.shape, dataset.classes):
        raise InputError(
            f"the architecture takes images of shape {tuple(arch.input)} (C, H, W) and {arch.classes} classes, but the data "
            f"set {dataset.name!r} has {dataset.shape} and {dataset.classes}; use an architecture made for it"
        )
    torch.set_num_threads(context.threads)
    torch.backends.cudnn.benchmark = True
    _keep_freed_memory()


@cache
def _keep_freed_memory() -> None:
    """Let the C library keep freed blocks for the next step, instead of giving them back to the system and having each page
    zeroed anew: a tenth of a training step's time on a CPU, more of an evaluation's. glibc only; nothing happens elsewhere."""
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
            mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD
