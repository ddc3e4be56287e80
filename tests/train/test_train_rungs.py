"""What a training says at the epochs where a search may stop it."""

from __future__ import annotations

import pytest
from train_context import SEED_ARCH, MemoryContext

from archsearch.jobs import Interrupted
from archsearch.train.work import train


class Listening(MemoryContext):
    """Keeps every report."""

    def __init__(self, **more):
        super().__init__(**more)
        self.heard = []

    def report(self, **progress):
        self.heard.append([dict(row) for row in progress.get("rungs", ())])
        super().report(**progress)


def spec(**more):
    settings = {"epochs": 4, "batch_size": 60, "eval_every": 100, "optimizer": "adamw", "lr": 0.01, "tensorwatch_stats": False}
    return {"arch": SEED_ARCH.to_json(), "train": settings, "inherit": None, **more}


def trained(context, **more):
    found = train(spec(**more), context)
    return {name: value for name, value in found.metrics.items() if "seconds" not in name}, found.artifacts["weights"].sha256


def test_rungs_are_measured_and_said_and_change_nothing_else():
    plain, weights = trained(MemoryContext())
    context = Listening()
    metrics, same = trained(context, rungs=[1, 3, 4, 9])  # the fourth epoch is the end, and there is no ninth
    assert same == weights and metrics["val_error"] == plain["val_error"] and "rungs" not in plain
    rungs = metrics["rungs"]
    assert [row["epoch"] for row in rungs] == [1, 3] and [row[0] for row in metrics["curve"]] == [1, 3, 4]
    assert [row["val_error"] for row in rungs] == [row[2] for row in metrics["curve"][:2]]
    assert context.heard[-1] == rungs and [] in context.heard and rungs[:1] in context.heard
    assert 0 < rungs[0]["compute_madds"] < rungs[1]["compute_madds"] < metrics["compute_madds"]
    steps = (rungs[1]["compute_madds"] - rungs[0]["compute_madds"] - len(context.dataset.y_val) * metrics["madds"]) / 2
    assert plain["compute_madds"] > 4 * steps, "two epochs and one measurement lie between the two rungs"


def test_a_resumed_training_says_the_rungs_that_were_before_it_again():
    metrics, weights = trained(MemoryContext(), rungs=[1, 3])
    per_epoch = MemoryContext().dataset.y_train.size // 60
    context = Listening(stop_at=lambda call: call == 2 * per_epoch + 1)
    with pytest.raises(Interrupted):
        trained(context, rungs=[1, 3])
    context.heard.clear()
    context.stop_at = lambda call: False
    again, same = trained(context, rungs=[1, 3])
    assert same == weights and again == metrics
    assert context.heard[0] == metrics["rungs"][:1], "said with the first report, not only at the next rung"
