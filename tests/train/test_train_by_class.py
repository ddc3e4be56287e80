"""Errors class by class: a rare class that is always missed shows, whatever the overall error says."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from train_context import DIGITS, SEED_ARCH, MemoryContext

from archsearch.train import work
from archsearch.train.batches import Split
from archsearch.train.evaluate import Score, evaluate


class Says(nn.Module):
    """Takes an image for the class that its first pixel names."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.one_hot(x[:, 0, 0, 0].long(), 4).float()


def score(said: list[int], truth: list[int], batch_size: int = 3) -> Score:
    x = torch.zeros((len(said), 2, 2, 1), dtype=torch.uint8)
    x[:, 0, 0, 0] = torch.tensor(said)
    return evaluate(Says(), Split(x, torch.tensor(truth)), lambda images: images.permute(0, 3, 1, 2).float(), batch_size)


def test_by_hand() -> None:
    found = score([0, 0, 0, 0, 1, 0, 0, 2], [0, 0, 0, 0, 0, 1, 1, 2])
    assert found.by_class == [pytest.approx(1 / 5), 1.0, 0.0, None], "no image of class 3"
    assert found.error == 3 / 8 and found.balanced_error == pytest.approx((1 / 5 + 1 + 0) / 3)
    assert score([1, 1], [1, 1]).balanced_error == 0


def test_a_search_tells_them_for_validation_and_test() -> None:
    """Nine images in ten are of class 0, and a network of one step knows no other."""
    y = torch.zeros(len(DIGITS.y_val), dtype=torch.int64)
    y[::10] = torch.arange(len(y[::10])) % 9 + 1
    skewed = replace(DIGITS, x_test=DIGITS.x_val, y_val=y.numpy(), y_test=y.numpy(), hash="skewed")
    context = MemoryContext(dataset=skewed)
    section = {"epochs": 1, "batch_size": 100, "tensorwatch_stats": False}
    trained = work.train({"arch": SEED_ARCH.to_json(), "train": section, "inherit": None}, context)
    spec = {"arch": SEED_ARCH.to_json(), "weights": trained.artifacts["weights"].to_json()}
    tested = work.test(spec, context).metrics
    by_class = tested["test_error_by_class"]
    assert len(by_class) == 10 and json.loads(json.dumps(tested, allow_nan=False)) == tested
    assert tested["test_balanced_error"] == pytest.approx(sum(by_class) / 10)
    assert trained.metrics["val_balanced_error"] == pytest.approx(tested["test_balanced_error"])
    weights = torch.bincount(y, minlength=10) / len(y)
    assert tested["test_error"] == pytest.approx(float((torch.tensor(by_class) * weights).sum()))
    assert tested["test_error"] != pytest.approx(tested["test_balanced_error"])
