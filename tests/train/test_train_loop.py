"""The training loop: it learns, resumes bit for bit, names what diverged, and ignores checkpoints that are not its own."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from train_context import DIGITS, SEED_ARCH, MemoryContext

from archsearch.arch.build import Network, build
from archsearch.jobs import InputError, Interrupted, NonFinite
from archsearch.train import TrainSection
from archsearch.train.batches import Batches, resident
from archsearch.train.checkpoint import pack, unpack
from archsearch.train.loop import Trained, fit
from archsearch.train.schedule import learning_rate

STEPS = 4  # in an epoch: 240 training images, 60 in a batch

SETTINGS: dict[str, dict[str, Any]] = {
    "sgd_momentum_drop_path": {"optimizer": "sgd", "lr": 0.05, "drop_path": 0.3},
    "adamw_one_cycle_mixup": {
        "optimizer": "adamw",
        "lr": 0.01,
        "schedule": "one_cycle",
        "augment": {"mixup": 0.4, "shift": 0.125, "cutout": 0.3},
    },
    "auxiliary_smoothing_best": {"auxiliary": 0.4, "label_smoothing": 0.1, "keep": "best", "warmup_epochs": 1.5, "lr": 0.05},
}


def section(**changes: Any) -> TrainSection:
    return TrainSection.model_validate({"epochs": 3, "batch_size": 60, "tensorwatch_stats": False, **changes})


def fitted(settings: TrainSection, context: MemoryContext, owner: str = "me") -> tuple[Network, Trained]:
    torch.set_num_threads(1)
    model = build(SEED_ARCH, auxiliary=settings.auxiliary > 0, seed=5)
    return model, fit(model, resident(DIGITS, "cpu"), settings, context, owner)


def assert_same(one: tuple[Network, Trained], other: tuple[Network, Trained]) -> None:
    for (name, tensor), again in zip(one[0].state_dict().items(), other[0].state_dict().values(), strict=True):
        assert torch.equal(tensor, again), name
    assert (one[1].curve, one[1].val, one[1].train, one[1].initial) == (
        other[1].curve,
        other[1].val,
        other[1].train,
        other[1].initial,
    )


@pytest.mark.parametrize("name", SETTINGS)
def test_interrupted_and_resumed_is_the_same_bit_for_bit(name: str) -> None:
    settings = section(**SETTINGS[name])
    assert Batches(resident(DIGITS, "cpu"), 60, settings.augment, 1).per_epoch == STEPS
    undisturbed = fitted(settings, MemoryContext())
    # In the middle of epochs, right after one, one step apart, and after the very last step.
    context, stops = MemoryContext(), {1, 2, STEPS, STEPS + 3, 2 * STEPS, 3 * STEPS - 1, 3 * STEPS}
    context.stop_at = lambda call: call in stops
    attempts = 0
    while True:
        attempts += 1
        try:
            resumed = fitted(settings, context)
            break
        except Interrupted:
            torch.manual_seed(attempts)  # a new process would have another global state
    assert attempts == len(stops) + 1
    assert context.reports == 3 * STEPS  # no step was repeated
    assert_same(undisturbed, resumed)


def test_global_generator_is_left_alone_and_has_no_influence() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = fitted(section(drop_path=0.3), MemoryContext())
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert_same(one, fitted(section(drop_path=0.3), MemoryContext()))


def test_seed_matters() -> None:
    one, other = (fitted(section(epochs=1), MemoryContext(seed=seed))[0] for seed in (1, 2))
    assert not torch.equal(one.classifier.weight, other.classifier.weight)


@pytest.mark.parametrize("every", [{"epochs": 1, "seconds": None}, {"seconds": 0}])
def test_periodic_checkpoints_serve_a_killed_job(every: dict[str, Any]) -> None:
    settings = section(lr=0.05, checkpoint_every=every)
    undisturbed = MemoryContext()
    whole = fitted(settings, undisturbed)
    assert undisturbed.checkpoints == (2 if every.get("epochs") else 3 * STEPS - 1)

    class Killed(Exception):
        pass

    class DyingContext(MemoryContext):
        def report(self, **progress: Any) -> None:
            super().report(**progress)
            if self.reports == STEPS + 2:
                raise Killed  # unlike Interrupted, nothing may be written at this moment

    context = DyingContext()
    with pytest.raises(Killed):
        fitted(settings, context)
    steps_kept = STEPS if every.get("epochs") else STEPS + 2
    resumed = fitted(settings, context)
    assert context.reports == (STEPS + 2) + (3 * STEPS - steps_kept)
    assert_same(whole, resumed)


def interrupted_context(settings: TrainSection) -> MemoryContext:
    context = MemoryContext(stop_at=lambda call: call == 6)
    with pytest.raises(Interrupted):
        fitted(settings, context)
    return context


def damaged(payload: bytes, kind: str) -> bytes:
    if kind == "cut":
        return payload[:-100]
    if kind == "flipped":
        return payload[:-50] + bytes([payload[-50] ^ 1]) + payload[-49:]
    if kind == "meta":
        return payload.replace(b'\\"step\\": 6', b'\\"step\\": 7')
    return {"empty": b"", "text": b"not a checkpoint at all", "zeros": bytes(100)}[kind]


@pytest.mark.parametrize("kind", ["cut", "flipped", "meta", "empty", "text", "zeros"])
def test_damaged_checkpoint_is_ignored(kind: str) -> None:
    settings = section(lr=0.05)
    context = interrupted_context(settings)
    assert context.checkpoint is not None
    assert unpack(context.checkpoint, "me") is not None
    broken = damaged(context.checkpoint, kind)
    assert broken != context.checkpoint
    assert unpack(broken, "me") is None
    context.checkpoint = broken
    resumed = fitted(settings, context)
    assert context.reports == 6 + 3 * STEPS  # from the start
    assert_same(fitted(settings, MemoryContext()), resumed)


def test_unfitting_checkpoint_is_ignored() -> None:
    settings = section(lr=0.05)
    whole = fitted(settings, MemoryContext(), "other")
    context = interrupted_context(settings)
    assert_same(whole, fitted(settings, context, "other"))
    assert context.reports == 6 + 3 * STEPS
    context.checkpoint = pack({"model.x": torch.zeros(2)}, {"step": 3}, "other")  # its own by name, of another shape
    assert_same(whole, fitted(settings, context, "other"))


def test_checkpoint_is_safetensors_with_json() -> None:
    payload = interrupted_context(section(lr=0.05)).checkpoint
    assert payload is not None
    header = json.loads(payload[8 : 8 + int.from_bytes(payload[:8], "little")])
    assert json.loads(header["__metadata__"]["meta"])["step"] == 6
    assert any(name.startswith("optimizer.") for name in header)


def test_it_learns_and_reports_every_step() -> None:
    seen: list[dict[str, Any]] = []

    class Watching(MemoryContext):
        def report(self, **progress: Any) -> None:
            seen.append(progress)

    _, done = fitted(section(epochs=30, optimizer="adamw", lr=0.03, schedule="one_cycle"), Watching())
    assert done.val.error < 0.35 < done.initial.error  # 90 % for a guess
    assert done.train.error < 0.15
    assert [row["step"] for row in seen] == list(range(1, 30 * STEPS + 1))
    assert seen[-1] == {"step": 120, "steps": 120, "epoch": 30, "epochs": 30, "val_error": done.val.error}
    assert [row[0] for row in done.curve] == list(range(1, 31))
    assert done.curve[-1][1] < done.curve[0][1]


def test_kept_weights_are_those_of_the_last_or_of_the_best_epoch() -> None:
    changes: dict[str, Any] = {"epochs": 8, "optimizer": "adamw", "lr": 0.3, "schedule": "constant"}
    last, best = (fitted(section(keep=keep, **changes), MemoryContext())[1] for keep in ("last", "best"))
    errors = [row[2] for row in last.curve]
    assert min(errors) < errors[-1]  # else this test says nothing: change lr
    assert last.val.error == errors[-1]
    assert best.val.error == min(errors)
    assert best.best_epoch == last.best_epoch == 1 + errors.index(min(errors))


def test_eval_every_still_evaluates_the_last_epoch() -> None:
    _, done = fitted(section(epochs=5, eval_every=2), MemoryContext())
    assert [row[0] for row in done.curve] == [2, 4, 5]


def test_loss_that_is_not_finite_names_its_step(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Batches.at

    def poisoned(self: Batches, step: int) -> Any:
        x, y = real(self, step)
        return (x * float("inf") if step == 5 else x), y

    monkeypatch.setattr(Batches, "at", poisoned)
    with pytest.raises(NonFinite, match="loss of step 6 of 12 is nan"):
        fitted(section(), MemoryContext())


def test_diverged_training_leaves_no_checkpoint() -> None:
    context = MemoryContext(stop_at=lambda call: call == 7)
    with pytest.raises(NonFinite, match="loss of step"):
        fitted(section(lr=1e30, grad_clip=0), context)
    assert context.checkpoint is None


def test_gradient_is_clipped() -> None:
    start = build(SEED_ARCH, seed=5).classifier.weight
    moved = []
    for clip in (1e-3, 0.0):
        changes = {"momentum": 0, "weight_decay": 0, "lr": 1.0, "schedule": "constant", "epochs": 1, "grad_clip": clip}
        model, _ = fitted(section(**changes), MemoryContext())
        moved.append(float((model.classifier.weight - start).detach().norm()))
    assert moved[0] <= STEPS * 1e-3 < moved[1]


def test_drop_path_rises_linearly() -> None:
    rates: list[float] = []
    model = build(SEED_ARCH, seed=5)

    class Watching(MemoryContext):
        def report(self, **progress: Any) -> None:
            rates.append(model.drop_path)

    fit(model, resident(DIGITS, "cpu"), section(drop_path=0.6), Watching(), "me")
    assert rates == pytest.approx([0.6 * step / 12 for step in range(12)])


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle", "constant"])
def test_schedules(schedule: str) -> None:
    settings = section(schedule=schedule, lr=0.4, epochs=10)
    rates = [learning_rate(settings, step, 10) for step in range(100)]
    assert max(rates) == pytest.approx(0.4)
    assert min(rates) > 0
    if schedule == "one_cycle":
        assert rates.index(max(rates)) == 30
        assert rates[0] == pytest.approx(0.4 / 25)
        assert rates[:31] == sorted(rates[:31]) and rates[30:] == sorted(rates[30:], reverse=True)
    elif schedule == "cosine":
        assert rates == sorted(rates, reverse=True)
        assert rates[50] == pytest.approx(0.2)
    else:
        assert set(rates) == {0.4}


def test_warm_up() -> None:
    settings = section(schedule="constant", lr=1.0, epochs=4, warmup_epochs=0.9)
    assert [learning_rate(settings, step, 10) for step in range(11)] == pytest.approx([0.1 * i for i in range(1, 10)] + [1, 1])


def test_batches_shuffle_anew_each_epoch_and_cover_the_split() -> None:
    data = resident(DIGITS, "cpu")
    batches = Batches(data, 60, section().augment, seed=3)
    epochs = [torch.cat([batches.at(step)[0] for step in range(e * STEPS, (e + 1) * STEPS)]) for e in (0, 1)]
    assert not torch.equal(*epochs)
    whole = data.images(data.train.x).flatten(1)
    for epoch in epochs:
        assert torch.equal(epoch.flatten(1).sum(1).sort().values, whole.sum(1).sort().values)
    assert whole.mean().abs() < 1e-4 and abs(float(whole.std()) - 1) < 1e-3


def test_one_image_is_not_a_batch() -> None:
    with pytest.raises(InputError, match="batch_size"):
        Batches(resident(DIGITS, "cpu"), 1, section().augment, 0)
