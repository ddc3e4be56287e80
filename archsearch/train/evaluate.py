"""Error and loss on a split."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from archsearch.jobs import InputError
from archsearch.train.batches import Split


@dataclass(frozen=True)
class Score:
    """Top-1 error (a share), mean cross-entropy in nats, and how many images they were measured on.

    ``by_class``: the error on the images of each class, None for a class without any. ``images_by_class``: how many it has.
    """

    error: float
    loss: float
    count: int
    by_class: Sequence[float | None]
    images_by_class: Sequence[int]

    @property
    def balanced_error(self) -> float:
        """Mean of the errors by class: each class counts the same, however many images it has."""
        known = [error for error in self.by_class if error is not None]
        return sum(known) / len(known)

    @property
    def standard_error(self) -> float:
        """Of the error, binomial, smoothed by one image right and one wrong: a perfect score is not certain."""
        share = (self.error * self.count + 1) / (self.count + 2)
        return math.sqrt(share * (1 - share) / self.count)

    @property
    def balanced_standard_error(self) -> float:
        """Of the balanced error: a mean of K independent binomial shares, so its variance is the sum of theirs over K squared.

        p (1 - p) / (n - 1) estimates the variance of a share p of n images without bias; where a class has one image, which
        tells nothing of its spread, the mean share of all classes stands in. Smoothed as ``standard_error`` is, the one right
        and the one wrong image being spread evenly over the classes.
        """
        known = [(error, n) for error, n in zip(self.by_class, self.images_by_class, strict=True) if error is not None]
        part = 1 / len(known)
        shares = [(error * n + part) / (n + 2 * part) for error, n in known]
        mean = sum(shares) * part
        variances = [
            share * (1 - share) / (n - 1 + 2 * part) if n > 1 else mean * (1 - mean)
            for share, (_, n) in zip(shares, known, strict=True)
        ]
        return part * math.sqrt(sum(variances))

    def errors(self, split: str) -> dict[str, float]:
        """Both errors and their standard errors, named as metrics are: ``val_error``, ``val_balanced_standard_error``..."""
        return {
            f"{split}_error": self.error,
            f"{split}_standard_error": self.standard_error,
            f"{split}_balanced_error": self.balanced_error,
            f"{split}_balanced_standard_error": self.balanced_standard_error,
        }


#: Pixels in a batch of an evaluation: on a CPU larger maps no longer fit its caches, on a GPU more images fill it.
PIXELS = {"cpu": 1 << 16, "cuda": 1 << 20}


def evaluate(model: nn.Module, split: Split, images: Callable[[Tensor], Tensor], batch_size: int | None = None) -> Score:
    """Score of a network, in evaluation mode; its mode is put back afterwards.

    Args:
        images: makes a network's input of raw images (``Resident.images``).
        batch_size: by default as many images as have ``PIXELS`` pixels, 16 to 1024.

    Raises:
        InputError: the split is empty.
    """
    if not len(split):
        raise InputError("cannot measure an error on an empty split; the data set that this job was given has none")
    if batch_size is None:
        height, width = split.x.shape[1:3]
        batch_size = min(max(PIXELS.get(split.x.device.type, 1 << 16) // (height * width), 16), 1024)
    training = model.training
    model.eval()
    counts: Tensor | None = None  # images of each class that were recognised, then those that were taken for another
    loss = torch.zeros((), dtype=torch.float64, device=split.y.device)
    with torch.inference_mode():
        for start in range(0, len(split), batch_size):
            y = split.y[start : start + batch_size]
            logits = model(images(split.x[start : start + batch_size])).float()
            if counts is None:
                counts = torch.zeros(2 * logits.shape[1], dtype=torch.int64, device=y.device)
            counts.index_add_(0, y + logits.shape[1] * (logits.argmax(1) != y), torch.ones_like(y))
            loss += F.cross_entropy(logits, y, reduction="sum")
    model.train(training)
    assert counts is not None
    right, wrong = counts.view(2, -1).tolist()
    by_class = [bad / (good + bad) if good + bad else None for good, bad in zip(right, wrong, strict=True)]
    totals = [good + bad for good, bad in zip(right, wrong, strict=True)]
    return Score(sum(wrong) / len(split), float(loss) / len(split), len(split), by_class, totals)
