"""Means over seeds, shares of images, and how far each may be off."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

#: Level of every interval.
CONFIDENCE = 0.95


def student(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float | None]:
    """Mean, and half the width of its two-sided confidence interval by Student's t with n - 1 degrees of freedom.

    Source: Student, "The probable error of a mean", Biometrika 6(1), 1908. It holds for values that scatter normally around
    the mean, and says nothing of the finite data set that all of them were measured on. None as half width of one value.
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, None
    from scipy.special import stdtrit

    quantile = float(stdtrit(len(values) - 1, 0.5 + confidence / 2))
    return mean, quantile * float(np.std(values, ddof=1)) / math.sqrt(len(values))


def wilson(share: float, count: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The two-sided confidence interval of a share that was counted on ``count`` independent items.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22(158), 1927: the shares
    whose normal approximation does not refuse what was counted. Unlike the plain one it is right for a share of 0, too.
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return max(0.0, centre - half), min(1.0, centre + half)
