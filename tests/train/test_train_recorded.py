"""A recorded training step, on a CPU: a recorder that keeps operations with their memory and scalars, as a CUDA graph does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from train_context import SEED_ARCH, MemoryContext

from archsearch.jobs import Interrupted
from archsearch.train import recorded
from archsearch.train.schedule import learning_rate
from archsearch.train.work import train

replays = 0


class Tape(TorchDispatchMode):
    """Keeps every operation with the very tensors and numbers that it was given, and undoes what it wrote.

    Replaying writes to the memory of the first time: whatever a step takes from Python stays as it was recorded.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, list[Tensor]]] = []
        self.before: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        for leaf in tree_leaves((args, kwargs)):  # all: batch norm's operation does not say that it writes its statistics
            if isinstance(leaf, Tensor):
                self.before.setdefault(id(leaf), (leaf, leaf.clone()))
        out = func(*args, **kwargs)
        owned = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        fresh = [each for each in tree_leaves(out) if isinstance(each, Tensor)]
        fresh = [each for each in fresh if each.untyped_storage().data_ptr() not in owned]
        self.calls.append((func, args, kwargs, fresh))
        return out

    def replay(self) -> None:
        global replays
        replays += 1
        with torch.no_grad():
            for func, args, kwargs, fresh in self.calls:
                if fresh:
                    found = [each for each in tree_leaves(func(*args, **kwargs)) if isinstance(each, Tensor)]
                    for old, new in zip(fresh, found, strict=True):
                        old.copy_(new)
                elif any(a.alias_info is not None and a.alias_info.is_write for a in func._schema.arguments):
                    func(*args, **kwargs)


def record_on_tape(body):
    with Tape() as tape:
        body()
    with torch.no_grad():
        for tensor, value in tape.before.values():
            tensor.copy_(value)  # a graph is recorded without being run
    return tape.replay


def trained(context, **more):
    settings = {"epochs": 3, "batch_size": 30, "lr": 0.02, "tensorwatch_stats": False, "schedule": "one_cycle", **more}
    found = train({"arch": SEED_ARCH.to_json(), "train": settings, "inherit": None}, context)
    return found.metrics["curve"], found.artifacts["weights"].sha256


@pytest.fixture
def tape(monkeypatch):
    global replays
    replays = 0
    monkeypatch.setitem(recorded.RECORDERS, "cpu", record_on_tape)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_recorded_step_trains_as_the_plain_one_does(optimizer, tape, monkeypatch):
    single = lambda *given: float(torch.tensor(learning_rate(*given), dtype=torch.float32))  # noqa: E731
    monkeypatch.setattr("archsearch.train.loop.learning_rate", single)  # a tensor's rate is in single precision
    plain = trained(MemoryContext(), optimizer=optimizer)
    assert replays == 0
    found = trained(MemoryContext(), optimizer=optimizer, cuda_graph=True)
    assert found == plain, "learning rates, batches, clipping, batch norm's statistics and the optimizer's: all bits"
    assert replays == 3 * (MemoryContext().dataset.y_train.size // 30) - recorded.EAGER


def test_a_recorded_training_is_resumed_bit_for_bit(tape):
    undisturbed = trained(MemoryContext(), cuda_graph=True)
    context = MemoryContext(stop_at=lambda call: call == 11)
    with pytest.raises(Interrupted):
        trained(context, cuda_graph=True)
    context.stop_at = lambda call: False
    assert trained(context, cuda_graph=True) == undisturbed


def test_with_drop_path_a_step_is_not_recorded(tape):
    """Its probability rises from step to step, and a recorded one would stay."""
    trained(MemoryContext(), cuda_graph=True, drop_path=0.2)
    assert replays == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_a_recorded_step_trains_as_the_plain_one_does():
    runs = []
    for graph in (False, True):
        context = MemoryContext()
        context.device = "cuda"
        runs.append(trained(context, cuda_graph=graph, bf16=False))
    for (_, loss, error), (_, other_loss, other_error) in zip(runs[0][0], runs[1][0], strict=True):
        assert loss == pytest.approx(other_loss, rel=0.02) and error == pytest.approx(other_error, abs=0.05)
