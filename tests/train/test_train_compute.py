"""What jobs say that they computed, against PyTorch's FLOP counter on real steps."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count
from train_context import DIGITS, SEED_ARCH, MemoryContext

from archsearch.arch import PRIMITIVES, Architecture, Edge, cost, deepen, grow_node, seed_architecture
from archsearch.arch.build import build
from archsearch.arch.modules.depthwise import DepthwiseConv2d
from archsearch.data import Dataset
from archsearch.jobs import Interrupted, Result
from archsearch.train import WeakLearnerSection, work
from archsearch.train.batches import resident
from archsearch.train.compute import counting
from archsearch.train.weak_learner import learn

NODE = {"normal": [Edge("s0", "none"), Edge("s1", "sep_conv_5x5")], "reduction": [Edge("s1", "skip_connect")]}
GROWN = grow_node(grow_node(deepen(SEED_ARCH, 0), NODE), {"normal": [Edge("n1", "dil_conv_3x3")]})
COLOUR = seed_architecture((3, 9, 9), 7, cells=5, reductions=2, nodes=2, channels=4)
ARCHS = pytest.mark.parametrize("arch", [SEED_ARCH, GROWN, COLOUR], ids=["seed", "grown", "colour"])
N = 6


def backward_flops(grad_out: Any, x: Any, w: Any, *rest: Any, out_shape: Any, **options: Any) -> int:
    """PyTorch's own figure for the weights' gradient multiplies by the number of groups, which a depthwise does not compute."""
    return sum(rest[-1][:2]) * conv_flop_count(x, w, grad_out, transposed=False)


class NoModules:
    """In place of the counter's tracker of modules, whose hooks ``torch.autograd.grad`` does not take."""

    parents: ClassVar = {"Global"}

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


def counter() -> FlopCounterMode:
    mode = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution_backward: backward_flops})
    mode.mod_tracker = NoModules()
    return mode


def batch(arch: Architecture) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    return torch.randn((N, *arch.input), generator=random), torch.randint(0, arch.classes, (N,), generator=random)


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The faster backward pass on a CPU does some things twice; what counts is what the convolution needs."""
    monkeypatch.setattr(DepthwiseConv2d, "forward", nn.Conv2d.forward)


@ARCHS
@pytest.mark.parametrize("auxiliary", [False, True])
def test_training_step(arch: Architecture, auxiliary: bool) -> None:
    model, (x, y) = build(arch, auxiliary=auxiliary, seed=1).train(), batch(arch)
    with counter() as flops, counting(model) as counted:
        output = model(x)
        outputs = output if auxiliary else [output]
        sum(F.cross_entropy(logits, y) for logits in outputs).backward()
    assert 2 * counted.madds == flops.get_total_flops()
    if not auxiliary:  # three times the forward pass, less the gradient by the images
        first = model.stem[0]
        side = (arch.input[1] + 1) // 2 if first.stride[0] == 2 else arch.input[1]
        assert counted.madds == N * (3 * cost(arch).madds - first.weight.numel() * side**2)


@ARCHS
@pytest.mark.parametrize("method", ["alphas", "gradient"])
@pytest.mark.parametrize("train", [False, True], ids=["frozen", "training"])
def test_search_step(arch: Architecture, method: str, train: bool) -> None:
    images = np.random.default_rng(1).integers(0, 256, (N, *arch.input[1:], arch.input[0]), dtype=np.uint8)
    split = (images, np.arange(N) % arch.classes)
    data = Dataset.of("noise", split, split, split, [str(i) for i in range(arch.classes)])
    section = WeakLearnerSection(steps=1, batch_size=N, primitives=PRIMITIVES, method=method, train_parent=train)
    with counter() as flops:
        found = learn(build(arch, seed=1), resident(data, "cpu"), section, MemoryContext(), "me")
    assert 2 * found.steps_madds == flops.get_total_flops()


def test_nothing_is_counted_without_gradients_or_after_the_block() -> None:
    model, (x, _) = build(SEED_ARCH, seed=1).train(), batch(SEED_ARCH)
    with counting(model) as counted, torch.no_grad():
        model(x)
    assert counted.madds == N * cost(SEED_ARCH).madds
    model(x)
    assert counted.madds == N * cost(SEED_ARCH).madds


def run(task: Any, spec: Any, artifacts: dict[str, bytes], stops: set[int] = frozenset()) -> Result:
    context = MemoryContext(stop_at=lambda call: call in stops)
    context.artifacts = artifacts
    while True:
        try:
            result: Result = task(spec, context)
            return result
        except Interrupted:
            continue


def test_jobs_count_all_their_steps_and_evaluations_however_often_they_are_resumed() -> None:
    artifacts: dict[str, bytes] = {}
    section = {"epochs": 3, "eval_every": 2, "batch_size": 60, "tensorwatch_stats": False}
    spec = {"arch": SEED_ARCH.to_json(), "train": section, "inherit": None}
    trained = run(work.train, spec, artifacts)
    madds, first = cost(SEED_ARCH).madds, 9 * 4 * 64  # the stem: 3x3 from 1 to 4 channels on 8x8
    images, val = 3 * 240, len(DIGITS.y_val)  # evaluated before, after epochs 2 and 3, and as many images of the training split
    assert trained.metrics["compute_madds"] == images * (3 * madds - first) + (3 * val + min(val, 240)) * madds
    assert run(work.train, spec, artifacts, {1, 5, 12}).metrics["compute_madds"] == trained.metrics["compute_madds"]

    learner = {"steps": 4, "batch_size": 60}
    search = {"arch": SEED_ARCH.to_json(), "weights": trained.artifacts["weights"].to_json(), "learner": learner}
    found = run(work.petridish, search, artifacts)
    assert found.metrics["compute_madds"] > 4 * 60 * madds
    assert run(work.petridish, search, artifacts, {1, 4}).metrics["compute_madds"] == found.metrics["compute_madds"]
    tested = run(work.test, {key: search[key] for key in ("arch", "weights")}, artifacts)
    assert tested.metrics["compute_madds"] == len(DIGITS.y_test) * madds


def test_processor_seconds_are_of_all_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that goes on by a second at each look: what is left of a job costs less than the whole job."""
    ticks = iter(range(10**6))
    monkeypatch.setattr("time.process_time", lambda: float(next(ticks)))
    section = {"epochs": 1, "batch_size": 60, "tensorwatch_stats": False}
    spec = {"arch": SEED_ARCH.to_json(), "train": section, "inherit": None}
    assert run(work.train, spec, {}).metrics["cpu_seconds"] == 2  # looks: at its start, as its steps start, at its end
    assert run(work.train, spec, {}, {2, 3}).metrics["cpu_seconds"] == 2 + 1 + 1
