"""The learning rate as a function of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math

from archsearch.train.section import TrainSection

#: One-cycle (Smith and Topin, arXiv 1708.07120), numbers as in PyTorch's: a rise over 30 % of the steps from 1/25 of the
#: peak, then a fall to 1/250,000 of it. Momentum stays as it is.
RISE, START, END = 0.3, 1 / 25, 1 / 250_000


def learning_rate(section: TrainSection, step: int, per_epoch: int) -> float:
    """The rate of step ``step`` (from 0) of a training of ``section.epochs`` epochs of ``per_epoch`` steps."""
    total = section.epochs * per_epoch
    if section.schedule == "one_cycle":
        peak = max(1.0, RISE * total)
        if step < peak:
            return section.lr * _cosine(START, 1.0, step / peak)
        return section.lr * _cosine(1.0, END, (step - peak) / max(1.0, total - peak))
    warm = min(section.warmup_epochs * per_epoch, float(total))
    if step < warm:
        return section.lr * (step + 1) / (math.floor(warm) + 1)
    if section.schedule == "constant":
        return section.lr
    return section.lr * _cosine(1.0, 0.0, (step - warm) / max(1.0, total - warm))


def _cosine(start: float, end: float, share: float) -> float:
    """From start to end along half a cosine wave, ``share`` in [0, 1]."""
    return end + (start - end) * (1 + math.cos(math.pi * min(share, 1.0))) / 2
