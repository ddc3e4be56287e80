"""The equalities that the search task rests on, and its ranking."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from train_context import DIGITS, SEED_ARCH, MemoryContext

from archsearch.arch import PRIMITIVES, Architecture, Cost, Edge, deepen, grow_node, seed_architecture
from archsearch.arch.build import Network, build
from archsearch.arch.operations import Operation
from archsearch.jobs import Interrupted, NonFinite
from archsearch.registry import OPERATIONS
from archsearch.train import WeakLearnerSection
from archsearch.train.batches import Batches, resident
from archsearch.train.candidates import Candidates, StopForward, cells_of
from archsearch.train.weak_learner import Learned, contain, learn, rank
from archsearch.train.work import candidate_state

DEEP = deepen(seed_architecture(DIGITS.shape, DIGITS.classes, cells=3, reductions=1, nodes=2, channels=4, stem="conv3x3"), 0)
GROWN = grow_node(
    DEEP, {"normal": [Edge("s0", "dil_conv_3x3"), Edge("n0", "max_pool_3x3")], "reduction": [Edge("s1", "skip_connect")]}
)
MACRO = seed_architecture(
    DIGITS.shape, DIGITS.classes, cells=3, reductions=1, nodes=1, channels=4, share_cells=False, stem="conv3x3"
)


def parent_of(arch: Architecture, *, train: bool) -> Network:
    torch.set_num_threads(1)
    model = build(arch, seed=3)
    random = torch.Generator().manual_seed(11)
    for norm in model.modules():  # the batch norms of a trained net are no identities
        if isinstance(norm, nn.BatchNorm2d):
            for tensor, low in ((norm.weight, 0.5), (norm.bias, -0.5), (norm.running_mean, -0.5), (norm.running_var, 0.5)):
                assert tensor is not None
                nn.init.uniform_(tensor, low, low + 1, generator=random)
    return model.train(train).requires_grad_(train)


def batch() -> tuple[Tensor, Tensor]:
    data = resident(DIGITS, "cpu")
    return data.images(data.train.x[:40]), data.train.y[:40]


def section(**changes: Any) -> WeakLearnerSection:
    return WeakLearnerSection.model_validate({"steps": 6, "batch_size": 40, "primitives": PRIMITIVES, **changes})


def learned(context: MemoryContext | None = None, arch: Architecture = SEED_ARCH, **changes: Any) -> Learned:
    parent = parent_of(arch, train=False)
    return learn(parent, resident(DIGITS, "cpu"), section(**changes), context or MemoryContext(), "me")


class Explosion(nn.Module):
    """Gives inf, and takes part in the backward pass with a weight of its own."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.conv(x) * float("inf")
        return output


@pytest.fixture
def explosion(monkeypatch: pytest.MonkeyPatch) -> str:
    operation = Operation("explosion", lambda *a: Cost(), lambda channels, stride, affine: Explosion(channels, stride))
    monkeypatch.setitem(OPERATIONS._loaded, "explosion", operation)
    return "explosion"


def test_stop_forward_is_zero_whatever_comes_in_and_passes_the_gradient() -> None:
    alphas = torch.tensor([1.0, 2.0, -3.0], requires_grad=True)
    values = [torch.full((1, 1, 1, 2), value, requires_grad=True) for value in (5.0, float("inf"), float("nan"))]
    output = StopForward.apply(alphas, *values)
    assert torch.equal(output, torch.zeros(1, 1, 1, 2))
    output.backward(torch.tensor([[[[10.0, 20.0]]]]))
    assert [value.grad.flatten().tolist() for value in values if value.grad is not None] == [[10, 20], [20, 40], [-30, -60]]
    assert alphas.grad is not None
    assert alphas.grad[:2].tolist() == [150.0, float("inf")] and alphas.grad[2].isnan()


@pytest.mark.parametrize("arch", [SEED_ARCH, DEEP, GROWN, MACRO], ids=["seed", "deep", "grown", "macro"])
@pytest.mark.parametrize("train", [False, True], ids=["frozen", "training"])
def test_forward_is_the_parents_bit_for_bit(arch: Architecture, train: bool) -> None:
    parent, (x, _) = parent_of(arch, train=train), batch()
    assert torch.equal(Candidates(parent, PRIMITIVES, seed=1)(parent, x), parent(x))


@pytest.mark.parametrize("arch", [SEED_ARCH, DEEP, GROWN], ids=["seed", "deep", "grown"])
def test_parents_gradients_are_those_without_candidates(arch: Architecture, explosion: str) -> None:
    x, y = batch()
    alone, attached = parent_of(arch, train=True), parent_of(arch, train=True)
    F.cross_entropy(alone(x), y).backward()
    candidates = Candidates(attached, [*PRIMITIVES, explosion], seed=1)
    F.cross_entropy(candidates(attached, x), y).backward()
    for (name, one), other in zip(alone.named_parameters(), attached.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None, name
        assert torch.equal(one.grad, other.grad), name
        assert torch.isfinite(one.grad).all()
    for (name, buffer), again in zip(alone.named_buffers(), attached.buffers(), strict=True):
        assert torch.equal(buffer, again), name


def test_training_parent_goes_where_it_would_go_alone() -> None:
    settings = section(train_parent=True, steps=5, lr=0.01, grad_clip=1.0, label_smoothing=0.1)
    data, context = resident(DIGITS, "cpu"), MemoryContext()
    parent, alone = parent_of(SEED_ARCH, train=True), parent_of(SEED_ARCH, train=True).to(memory_format=torch.channels_last)
    learn(parent, data, settings, context, "me")
    optimizer = torch.optim.AdamW(alone.parameters(), lr=0.01, weight_decay=0.0, fused=True)
    batches = Batches(data, 40, settings.augment, context.job.seed)
    for step in range(5):
        x, y = batches.at(step)
        optimizer.zero_grad()
        x = x.contiguous(memory_format=torch.channels_last)
        F.cross_entropy(alone(x), y, label_smoothing=0.1).backward()
        nn.utils.clip_grad_norm_(alone.parameters(), 1.0)
        optimizer.step()
    for (name, one), other in zip(parent.state_dict().items(), alone.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


def test_frozen_parent_does_not_change() -> None:
    parent = parent_of(SEED_ARCH, train=False)
    before = {name: tensor.clone() for name, tensor in parent.state_dict().items()}
    learn(parent, resident(DIGITS, "cpu"), section(), MemoryContext(), "me")
    assert all(torch.equal(before[name], tensor) for name, tensor in parent.state_dict().items())


def probed(parent: Network, candidates: Candidates, x: Tensor) -> tuple[Tensor, list[Tensor], list[dict[str, Tensor]]]:
    """Logits, each cell's probe (what is added at the new node's output: zeros) and each cell's states."""
    outputs, probes, all_states = [parent.stem(x)], [], []
    for placed, cell, (_, extra) in zip(parent.arch.layout, cells_of(parent), candidates.places, strict=True):
        s0, s1 = (outputs[item + 1] for item in placed.inputs)
        states = cell.states(s0, s1)
        node = states[f"n{cell.cell.last}"]
        probe = torch.zeros_like(node, requires_grad=True)
        output = cell.join(states, extra.projection(probe))
        outputs.append(output + s1 if cell.residual else output)
        probes.append(probe)
        all_states.append({name: state.detach() for name, state in states.items()})
    return parent.classifier(parent.pool(outputs[-1]).flatten(1)), probes, all_states


@pytest.mark.parametrize("train", [False, True], ids=["frozen", "training"])
def test_candidates_get_the_gradient_of_the_loss_by_the_nodes_output(train: bool) -> None:
    x, y = batch()
    parent = parent_of(GROWN, train=train).double()
    candidates = Candidates(parent, PRIMITIVES, seed=1).double()
    x = x.double()
    F.cross_entropy(candidates(parent, x), y).backward()
    logits, probes, states = probed(parent, candidates, x)
    by_node = torch.autograd.grad(F.cross_entropy(logits, y), probes)
    expected = {name: torch.zeros_like(alpha) for name, alpha in candidates.alphas.items()}
    for (name, place), gradient, state in zip(candidates.places, by_node, states, strict=True):
        assert gradient.abs().max() > 1e-6  # else nothing is tested
        for i, edge in enumerate(place.edges):
            value = place.ops[edge.key](state[edge.source])
            expected[name][i] += (gradient * value).sum().detach()
            weights = list(place.ops[edge.key].parameters())
            if weights:
                wanted = torch.autograd.grad(value, weights, candidates.alphas[name][i].item() * gradient)
                for weight, want in zip(weights, wanted, strict=True):
                    torch.testing.assert_close(weight.grad, want, rtol=1e-9, atol=1e-14)
    for name, alpha in candidates.alphas.items():
        torch.testing.assert_close(alpha.grad, expected[name], rtol=1e-9, atol=1e-12)


def test_gradient_by_alpha_is_the_change_of_loss_when_the_candidate_is_really_added() -> None:
    """By finite differences, with the candidate's own values added to the parent: nothing of the stop-forward is used."""
    x, y = batch()
    parent = parent_of(SEED_ARCH, train=False).double()
    candidates = Candidates(parent, PRIMITIVES, seed=1).double()
    x = x.double()
    F.cross_entropy(candidates(parent, x), y).backward()
    _, _, states = probed(parent, candidates, x)
    values = [
        [place.ops[edge.key](state[edge.source]).detach() for edge in place.edges]
        for (_, place), state in zip(candidates.places, states, strict=True)
    ]

    def loss(name: str, index: int, amount: float) -> float:
        outputs = [parent.stem(x)]
        for k, (placed, cell) in enumerate(zip(parent.arch.layout, cells_of(parent), strict=True)):
            s0, s1 = (outputs[item + 1] for item in placed.inputs)
            share = amount if placed.cell == name else 0.0
            outputs.append(cell.join(cell.states(s0, s1), candidates.places[k][1].projection(share * values[k][index])))
        return float(F.cross_entropy(parent.classifier(parent.pool(outputs[-1]).flatten(1)), y))

    with torch.no_grad():
        for name, alpha in candidates.alphas.items():
            slopes = [(loss(name, i, 1e-5) - loss(name, i, -1e-5)) / 2e-5 for i in range(len(alpha))]
            torch.testing.assert_close(alpha.grad, torch.tensor(slopes, dtype=torch.float64), rtol=1e-4, atol=1e-7)


def test_batch_norms_of_candidates_have_no_affine_part_and_projections_stay() -> None:
    candidates = Candidates(parent_of(SEED_ARCH, train=False), PRIMITIVES, seed=1)
    norms = [module for module in candidates.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms and not any(norm.affine for norm in norms)
    assert not any(place.projection.weight.requires_grad for _, place in candidates.places)


def test_exploding_candidate_is_ranked_last_and_hurts_nobody(explosion: str) -> None:
    context = MemoryContext()
    with_it = learned(context, primitives=[*PRIMITIVES, explosion])
    without = learned(context)
    for name, rows in with_it.ranked.items():
        assert [row[1] for row in rows[-2:]] == [explosion] * 2  # one on each input
        assert all(torch.isfinite(torch.tensor(float(row[2]))) for row in rows)
        for row, alone in zip(rows[:-2], without.ranked[name], strict=True):
            assert row[:2] == alone[:2] and row[2] == pytest.approx(alone[2], rel=1e-4)
    assert with_it.diverged == {(name, f"{source}_{explosion}") for name in with_it.ranked for source in ("s0", "s1")}
    assert without.diverged == frozenset()
    for tensor in with_it.candidates.state_dict().values():
        assert torch.isfinite(tensor).all()


def test_contain_clips_each_candidate_by_itself() -> None:
    owners = torch.tensor([0, 0, 1, 2])
    weights = [torch.full((4,), 30.0), torch.full((4,), 40.0), torch.full((3,), 0.1), torch.tensor([1.0, float("nan")])]
    alphas = [torch.tensor([5.0, 6.0]), torch.tensor([7.0, float("inf")])]
    finite, ok = contain(torch.tensor(1.0), alphas, weights, owners, limit=5.0)
    assert ok and finite.tolist() == [True, True, False, False]
    assert torch.allclose(torch.cat(weights[:2]).norm(), torch.tensor(5.0))
    assert torch.allclose(weights[0][0] / weights[1][0], torch.tensor(0.75))
    assert torch.equal(weights[2], torch.full((3,), 0.1))
    assert torch.equal(weights[3], torch.zeros(2))
    assert [alpha.tolist() for alpha in alphas] == [[5.0, 6.0], [0.0, 0.0]]
    assert contain(torch.tensor(float("nan")), alphas, [], owners[:0], 5.0)[1] is False


def test_parent_that_is_not_finite_is_named() -> None:
    parent = parent_of(SEED_ARCH, train=False)
    nn.init.constant_(parent.classifier.weight, float("nan"))
    with pytest.raises(NonFinite, match="parent's loss at step 1"):
        learn(parent, resident(DIGITS, "cpu"), section(), MemoryContext(), "me")


def test_rank_is_by_magnitude_ties_in_order_diverged_last() -> None:
    edges = [Edge("s0", op) for op in PRIMITIVES[:5]]
    rows = rank(edges, [0.1, -0.5, 0.3, 0.5, 0.9], [False, False, False, False, True])
    assert [row[1] for row in rows] == [PRIMITIVES[i] for i in (1, 3, 2, 0, 4)]
    assert rows[0][2] == -0.5


def test_only_the_strongest_are_reported_and_keep_their_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = learned()
    monkeypatch.setattr("archsearch.train.weak_learner.MOST_RANKED", 3)
    found = learned()
    assert found.ranked == {name: rows[:3] for name, rows in everything.ranked.items()}
    kept = {
        (place, f"{row[0]}_{row[1]}") for place, (name, _) in enumerate(found.candidates.places) for row in found.ranked[name]
    }
    named = {tuple(key.split(".")[1:4:2]) for key in candidate_state(found) if ".candidates.s" in key}
    assert named == {(str(place), edge) for place, edge in kept if "pool" not in edge and "skip" not in edge}


@pytest.mark.parametrize("method", ["alphas", "gradient"])
@pytest.mark.parametrize("arch", [GROWN, MACRO], ids=["grown", "macro"])
def test_every_pair_is_ranked_once_and_never_none(method: str, arch: Architecture) -> None:
    found = learned(arch=arch, method=method)
    assert set(found.ranked) == set(arch.cells)
    for name, rows in found.ranked.items():
        inputs = ["s0", "s1", *(f"n{i}" for i in range(len(arch.cells[name].nodes)) if i != arch.cells[name].last)]
        assert sorted((row[0], row[1]) for row in rows) == sorted((s, op) for s in inputs for op in PRIMITIVES if op != "none")
        sizes = [abs(float(row[2])) for row in rows]
        assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("changes", [{}, {"method": "gradient"}, {"train_parent": True, "augment": {"mixup": 0.5}}])
def test_same_for_a_seed_and_resumable(changes: dict[str, Any]) -> None:
    whole = learned(**changes)
    assert learned(MemoryContext(seed=2), **changes).ranked != whole.ranked
    stops = {2, 3, 6}
    context = MemoryContext(stop_at=lambda call: call in stops)
    for attempt in range(4):
        try:
            resumed = learned(context, **changes)
        except Interrupted:
            torch.manual_seed(attempt)
    assert context.reports == 6
    assert resumed.ranked == whole.ranked
    for (name, one), other in zip(whole.candidates.state_dict().items(), resumed.candidates.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


def test_penalty_shrinks_the_alphas() -> None:
    def size(l1: float) -> float:
        return sum(abs(float(row[2])) for rows in learned(l1_alphas=l1, steps=20).ranked.values() for row in rows)

    assert size(1.0) < 0.5 * size(0.0)


def test_gradient_method_is_the_mean_of_alphas_gradients() -> None:
    data, settings = resident(DIGITS, "cpu"), section(method="gradient", steps=2)
    parent = parent_of(SEED_ARCH, train=False)
    found = learn(parent, data, settings, MemoryContext(), "me")
    fresh = Candidates(parent, PRIMITIVES, seed=1)
    batches = Batches(data, 40, settings.augment, 1)
    total = {name: torch.zeros(len(edges)) for name, edges in fresh.edges.items()}
    for step in range(2):
        x, y = batches.at(step)
        loss = F.cross_entropy(fresh(parent, x), y)
        for name, gradient in zip(total, torch.autograd.grad(loss, list(fresh.alphas.values())), strict=True):
            total[name] += gradient
    for name, edges in fresh.edges.items():
        values = {(row[0], row[1]): float(row[2]) for row in found.ranked[name]}
        wanted = torch.tensor([values[edge.source, edge.op] for edge in edges])
        torch.testing.assert_close(-total[name] / 2, wanted, rtol=1e-3, atol=1e-6)
