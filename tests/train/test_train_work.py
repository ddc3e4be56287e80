"""The works as executors call them: specifications in, metrics and artifacts out; children start near their parents."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import pytest
import torch
from torch import nn
from train_context import SEED_ARCH, WHOLE, MemoryContext

from archsearch.arch import Architecture, Edge, cost, deepen, grow_node, growth_candidates, seed_architecture, widen
from archsearch.arch.build import build
from archsearch.jobs import InputError, Interrupted, Result
from archsearch.registry import WORKS
from archsearch.train import work
from archsearch.train.weights import load_weights, save_weights
from archsearch.train.work import petridish, train

SECTION: dict[str, Any] = {"epochs": 14, "batch_size": 64, "optimizer": "adamw", "lr": 0.02, "schedule": "one_cycle"}
SECTION["tensorwatch_stats"] = False
CHILD = {**SECTION, "epochs": 1, "lr": 0.002}


def spec_of(arch: Architecture, section: dict[str, Any], inherit: Any = None) -> dict[str, Any]:
    return {"arch": arch.to_json(), "hash": arch.hash, "train": section, "inherit": inherit}


@pytest.fixture(scope="module")
def context() -> MemoryContext:
    return MemoryContext(seed=7, dataset=WHOLE)


@pytest.fixture(scope="module")
def parent(context: MemoryContext) -> Result:
    """A parent that has really learned: what a child starts with can then be told from noise."""
    result = train(spec_of(SEED_ARCH, SECTION), context)
    context.checkpoint = None
    assert result.metrics["val_error"] < 0.1
    return result


def child(
    context: MemoryContext, parent: Result, arch: Architecture, kind: str, section: dict[str, Any] | None = None, **inherit: Any
) -> Result:
    weights = parent.artifacts["weights"].to_json()
    given = {"kind": kind, "parent": SEED_ARCH.to_json(), "weights": weights, **inherit}
    return train(spec_of(arch, {**CHILD, **(section or {})}, given), context)


def grown(chosen: dict[str, list[Any]]) -> Architecture:
    return grow_node(SEED_ARCH, {name: [Edge(source, op) for source, op, _ in rows] for name, rows in chosen.items()})


@pytest.mark.parametrize("method", ["alphas", "gradient"])
def test_petridish_child_starts_within_ten_percent_of_its_parent(method: str, context: MemoryContext, parent: Result) -> None:
    learner = {"steps": 8, "batch_size": 60, "method": method}
    weights = parent.artifacts["weights"].to_json()
    found = petridish({"arch": SEED_ARCH.to_json(), "weights": weights, "learner": learner}, context)
    assert found.metrics["steps"] == 8
    chosen = {name: rows[:3] for name, rows in found.metrics["ranked"].items()}
    candidates = found.artifacts["candidates"]
    arch = grown(chosen)
    result = child(context, parent, arch, "node", edges=chosen, candidates=candidates.to_json())
    assert result.metrics["initial_val_loss"] == pytest.approx(parent.metrics["val_loss"], rel=0.1)
    assert result.metrics["initial_val_loss"] != parent.metrics["val_loss"]
    silent = child(context, parent, arch, "node", {"projection_scale": 0}, edges=chosen, candidates=candidates.to_json())
    assert silent.metrics["initial_val_loss"] == parent.metrics["val_loss"]


@pytest.mark.parametrize("draw", range(4))
def test_random_child_starts_within_ten_percent_of_its_parent(draw: int, context: MemoryContext, parent: Result) -> None:
    random = torch.Generator().manual_seed(draw)
    chosen = {}
    for name in SEED_ARCH.cells:
        edges = [edge for edge in growth_candidates(SEED_ARCH, name) if edge.op != "none"]
        chosen[name] = [[edges[i].source, edges[i].op, 1.0] for i in torch.randperm(len(edges), generator=random)[:3].tolist()]
    result = child(context, parent, grown(chosen), "node", edges=chosen, candidates=None)
    assert result.metrics["initial_val_loss"] == pytest.approx(parent.metrics["val_loss"], rel=0.1)


def test_width_and_depth_and_the_same_again_start_at_the_parents_function(context: MemoryContext, parent: Result) -> None:
    loss = parent.metrics["val_loss"]
    assert child(context, parent, SEED_ARCH, "same").metrics["initial_val_loss"] == loss
    for position in (0, 2):
        assert child(context, parent, deepen(SEED_ARCH, position), "deepen").metrics["initial_val_loss"] == loss
    wide = child(context, parent, widen(SEED_ARCH, 2), "widen")
    assert wide.metrics["initial_val_loss"] == pytest.approx(loss, rel=1e-4)


def test_without_warm_start_nothing_is_inherited(context: MemoryContext, parent: Result) -> None:
    cold = child(context, parent, SEED_ARCH, "same", {"warm_start": "none"})
    assert cold.metrics["initial_val_loss"] > 1.5 * parent.metrics["val_loss"]


def test_chosen_operations_start_from_the_learners_weights_scaled_by_signed_alpha(
    context: MemoryContext, parent: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = parent.artifacts["weights"].to_json()
    learner = {"steps": 3, "batch_size": 60, "primitives": ["sep_conv_3x3", "max_pool_3x3", "dil_conv_5x5"]}
    found = petridish({"arch": SEED_ARCH.to_json(), "weights": weights, "learner": learner}, context)
    candidates = load_weights(context.load(found.artifacts["candidates"]))
    chosen = {"normal": [["s0", "sep_conv_3x3", -0.4], ["s1", "max_pool_3x3", 0.1]]}
    seen: dict[str, torch.Tensor] = {}

    def stop(model: nn.Module, *rest: Any) -> Any:
        seen.update(model.state_dict())
        raise Interrupted

    monkeypatch.setattr("archsearch.train.work.fit", stop)
    with pytest.raises(Interrupted):
        child(context, parent, grown(chosen), "node", edges=chosen, candidates=found.artifacts["candidates"].to_json())
    for position, channels in ((0, 4), (2, 8)):  # the normal cells
        op = f"cells.{position}.nodes.1.s0_sep_conv_3x3."
        learned = f"cells.{position}.candidates.s0_sep_conv_3x3."
        assert torch.equal(seen[op + "depthwise1.weight"], candidates[learned + "depthwise1.weight"])
        assert torch.equal(seen[op + "norm2.running_mean"], candidates[learned + "norm2.running_mean"])
        assert torch.equal(seen[op + "norm2.weight"], torch.full((channels,), -1.0))
        assert torch.equal(seen[op + "norm1.weight"], torch.ones(channels))
        assert torch.equal(seen[f"cells.{position}.nodes.1.s1_max_pool_3x3.norm.weight"], torch.full((channels,), 0.25))
        projection = candidates[f"cells.{position}.candidates.projection.weight"]
        assert torch.equal(seen[f"cells.{position}.projections.1.weight"], projection * 0.03)


def test_metrics_and_artifacts(context: MemoryContext, parent: Result) -> None:
    metrics = parent.metrics
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    counted = cost(SEED_ARCH)
    assert (metrics["madds"], metrics["flops"], metrics["params"]) == (counted.madds, 2 * counted.madds, counted.params)
    assert metrics["activation_bytes"] == counted.activation_bytes
    assert metrics["epochs"] == len(metrics["curve"]) == 14
    count = len(WHOLE.y_val)
    share = (metrics["val_error"] * count + 1) / (count + 2)
    assert metrics["val_standard_error"] == pytest.approx(math.sqrt(share * (1 - share) / count))
    assert metrics["tensorwatch"] is None
    model = build(SEED_ARCH)
    model.load_state_dict(load_weights(context.load(parent.artifacts["weights"])))
    model.eval()
    mean, std = (torch.tensor(value) for value in (WHOLE.x_train.mean(), WHOLE.x_train.std()))
    x = (torch.from_numpy(WHOLE.x_val).permute(0, 3, 1, 2).float() - mean) / std
    with torch.no_grad():
        error = float((model(x).argmax(1) != torch.from_numpy(WHOLE.y_val)).float().mean())
    assert error == pytest.approx(metrics["val_error"], abs=1e-6)


def test_auxiliary_tower_is_not_part_of_the_result(context: MemoryContext) -> None:
    result = train(spec_of(SEED_ARCH, {**CHILD, "auxiliary": 0.4}), context)
    build(SEED_ARCH).load_state_dict(load_weights(context.load(result.artifacts["weights"])))


def test_test_split_is_measured_only_by_test(context: MemoryContext, parent: Result) -> None:
    spec = {"arch": SEED_ARCH.to_json(), "weights": parent.artifacts["weights"].to_json()}
    metrics = work.test(spec, context).metrics
    names = {"test_error", "test_loss", "test_standard_error", "test_balanced_error", "test_error_by_class"}
    names.add("test_balanced_standard_error")
    assert set(metrics) == names | {"compute_madds", "cpu_seconds"}
    assert metrics["test_error"] == pytest.approx(parent.metrics["val_error"], abs=0.1)
    blind = MemoryContext(dataset=WHOLE.without_test())
    blind.artifacts = context.artifacts
    with pytest.raises(InputError, match="empty split"):
        work.test(spec, blind)


def test_works_are_found_by_name() -> None:
    assert [WORKS.get(name) for name in ("train", "petridish", "test")] == [train, petridish, work.test]


def test_interrupted_works_give_the_result_of_undisturbed_ones(context: MemoryContext, parent: Result) -> None:
    def run(task: Any, spec: Any, stops: set[int]) -> Result:
        own = MemoryContext(seed=3, dataset=WHOLE, stop_at=lambda call: call in stops)
        own.artifacts = context.artifacts
        while True:
            try:
                result: Result = task(spec, own)
                return result
            except Interrupted:
                continue

    weights = parent.artifacts["weights"].to_json()
    given = {"kind": "same", "parent": SEED_ARCH.to_json(), "weights": weights}
    for task, spec in (
        (train, spec_of(SEED_ARCH, {**CHILD, "epochs": 2}, given)),
        (petridish, {"arch": SEED_ARCH.to_json(), "weights": weights, "learner": {"steps": 4, "batch_size": 60}}),
    ):
        whole, resumed = run(task, spec, set()), run(task, spec, {1, 3, 6})
        assert whole.artifacts == resumed.artifacts  # content hashes
        ignored = {"seconds_training", "cpu_seconds"}
        assert {**whole.metrics, **dict.fromkeys(ignored)} == {**resumed.metrics, **dict.fromkeys(ignored)}


def test_bad_input_is_named(context: MemoryContext, parent: Result) -> None:
    weights = parent.artifacts["weights"].to_json()
    other = seed_architecture((3, 8, 8), 10, cells=3, reductions=1, nodes=1, channels=4, stem="conv3x3")
    with pytest.raises(InputError, match=r"\(3, 8, 8\) .* 'digits' has \(1, 8, 8\)"):
        train(spec_of(other, CHILD), context)
    with pytest.raises(InputError, match="do not belong to the architecture"):
        work.test({"arch": widen(SEED_ARCH, 2).to_json(), "weights": weights}, context)
    with pytest.raises(InputError, match="expected node, widen, deepen or same"):
        child(context, parent, SEED_ARCH, "sideways")
    with pytest.raises(InputError, match="not its parent with one cell more"):
        child(context, parent, SEED_ARCH, "deepen")
    foreign = context.save("weights", save_weights({"x": torch.zeros(1)}))
    with pytest.raises(InputError, match="none of the inherited weights"):
        child(context, parent, SEED_ARCH, "same", weights=foreign.to_json())


def test_tensorwatch_figures(context: MemoryContext) -> None:
    figures = train(spec_of(SEED_ARCH, {**CHILD, "tensorwatch_stats": True}), context).metrics["tensorwatch"]
    assert "reason" not in figures
    assert figures["parameters"] == cost(SEED_ARCH).params
    assert figures["MAdd"] > cost(SEED_ARCH).madds  # it counts multiplications and additions apart
    assert all(figures[key] > 0 for key in ("flops", "duration", "mread", "mwrite", "inference_memory"))


def test_tensorwatch_that_is_missing_gives_a_reason(context: MemoryContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorwatch", None)
    figures = train(spec_of(SEED_ARCH, {**CHILD, "tensorwatch_stats": True}), context).metrics["tensorwatch"]
    assert figures["MAdd"] is None and "tensorwatch" in figures["reason"]
