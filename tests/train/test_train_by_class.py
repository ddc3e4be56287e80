"""Errors class by class: a rare class that is always missed shows, whatever the overall error says."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
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


def counted(wrong: list[int], images: list[int]) -> Score:
    by_class = [bad / n if n else None for bad, n in zip(wrong, images, strict=True)]
    return Score(sum(wrong) / sum(images), 0.0, sum(images), by_class, images)


@pytest.mark.parametrize(
    "images, rates, tolerance",
    [
        ([100, 100, 100, 100], [0.1, 0.2, 0.3, 0.4], 0.02),
        ([900, 60, 30, 10], [0.05, 0.2, 0.5, 0.6], 0.03),
        ([50] * 20, [0.02] * 20, 0.10),  # smoothing shows: one mistake in a class on average
        ([400, 400, 2], [0.1, 0.1, 0.5], 0.10),
        ([400, 400, 1], [0.3, 0.3, 0.3], 0.05),
    ],
)
def test_the_balanced_standard_error_is_the_spread_of_repeated_measurements(
    images: list[int], rates: list[float], tolerance: float
) -> None:
    """20,000 validation sets: how the balanced error scatters, against what each set says of it (root mean square)."""
    rng = np.random.default_rng(0)
    draws = rng.binomial(images, rates, (20_000, len(images)))
    spread = float((draws / images).mean(axis=1).std())
    claimed = [counted(draw, images).balanced_standard_error ** 2 for draw in draws[:4000].tolist()]
    assert math.sqrt(float(np.mean(claimed))) == pytest.approx(spread, rel=tolerance)


def test_the_balanced_standard_error_by_hand() -> None:
    """Equal classes and no mistake: nearly as the plain one; a perfect score is not certain; a class unseen is no matter."""
    perfect = counted([0, 0, 0, 0], [1000] * 4)
    assert perfect.balanced_standard_error == pytest.approx(perfect.standard_error, rel=1e-2) and perfect.standard_error > 0
    found = counted([1, 3], [5, 8])
    one, two = (1 + 0.5) / (5 + 1), (3 + 0.5) / (8 + 1)
    assert found.balanced_standard_error == pytest.approx(math.sqrt(one * (1 - one) / 5 + two * (1 - two) / 8) / 2)
    assert counted([1, 3, 0], [5, 8, 0]).balanced_standard_error == found.balanced_standard_error
    rare = counted([40, 5], [990, 10])
    assert rare.balanced_standard_error > 5 * rare.standard_error, "few images of a class make its mean uncertain"
