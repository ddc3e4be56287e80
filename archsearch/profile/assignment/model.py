"""A Gaussian process over assignments whose parts have a meaning, with their variances estimated from what was measured.

The covariance is a sum: linear features in groups, each group with a variance of its own; a part that says that assignments
which differ in few symbols are alike, for what the features miss; and noise. Variances follow the data by the MM algorithm for
variance components (Zhou, Hu, Qiao and Lange, "MM Algorithms for Variance Components Models", J. Comput. Graph. Stat. 28(2),
2019), each step of which raises the likelihood; a weak prior keeps few data from saying too much.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular

from archsearch.profile.assignment.features import Features

Floats = NDArray[np.float64]

#: Prior variance of what the features miss, in units of the objective's variance.
MISSED = 0.1
#: How many measurements the prior of a variance counts for.
STRENGTH = 2.0
STEPS = 12
#: Smallest noise variance: keeps the covariance invertible.
LEAST_NOISE = 1e-6


@dataclass(frozen=True)
class Variances:
    """Of each group of features, of what they miss, and of the noise, in units of the objective's variance."""

    groups: Floats
    missed: float
    noise: float


class Model:
    """One objective, as far as it was measured.

    Args:
        known: (n, features) what was measured; n is at least 1.
        values: (n,) in any unit.
        noise: variance of the values in that unit, as their intervals have it; 0 unknown.
        variances: those of an earlier fit; None learns them.
    """

    def __init__(
        self, features: Features, known: Floats, values: Floats, noise: float = 0.0, variances: Variances | None = None
    ) -> None:
        self.features, self._known = features, known
        self.mean = float(values.mean())
        self.scale = float(values.std()) or abs(self.mean) or 1.0
        self._standard = (values - self.mean) / self.scale
        self._alike = features.alike(known, known)
        self._least = max(LEAST_NOISE, noise / self.scale**2)
        self.variances = variances or Variances(features.prior, MISSED, max(self._least, 1e-3))
        for _ in range(0 if variances else STEPS):
            self._improve()
        self._factor()

    def _factor(self) -> None:
        kept = self.variances
        weighted = self._known * kept.groups[self.features.group]
        covariance = weighted @ self._known.T + kept.missed * self._alike + kept.noise * np.eye(len(self._standard))
        self._root = cholesky(covariance, lower=True)
        self._alpha: Floats = cho_solve((self._root, True), self._standard)

    def _improve(self) -> None:
        """One step of the MM algorithm, under a prior on the logarithm of each variance."""
        self._factor()
        old, alpha = self.variances, self._alpha
        inverse = cho_solve((self._root, True), np.eye(len(alpha)))
        groups, count = self.features.group, len(self.features.prior)
        fit = np.bincount(groups, (self._known.T @ alpha) ** 2, minlength=count).astype(np.float64)
        trace = np.bincount(groups, np.einsum("nf,nf->f", self._known, inverse @ self._known), count).astype(np.float64)

        def step(value: Floats, prior: Floats, explained: Floats, used: Floats) -> Floats:
            moved = np.sqrt((explained + STRENGTH * prior / value**2) / (used + STRENGTH / value))
            return np.asarray(np.clip(value * moved, 1e-9, 1e6))

        rest = step(
            np.array([old.missed, old.noise]),
            np.array([MISSED, max(self._least, 1e-3)]),
            np.array([alpha @ self._alike @ alpha, alpha @ alpha]),
            np.array([np.sum(inverse * self._alike), np.trace(inverse)]),
        )
        self.variances = Variances(
            step(old.groups, self.features.prior, fit, trace), float(rest[0]), max(self._least, float(rest[1]))
        )

    def predict(self, features: Floats) -> tuple[Floats, Floats]:
        """Expected value and standard deviation of each of (n, features) assignments, without measurement noise."""
        kept = self.variances
        weighted = features * kept.groups[self.features.group]
        covariance = weighted @ self._known.T + kept.missed * self.features.alike(features, self._known)
        before = np.einsum("nf,nf->n", weighted, features) + kept.missed
        explained = (solve_triangular(self._root, covariance.T, lower=True) ** 2).sum(axis=0)
        deviation = np.sqrt(np.maximum(before - explained, 1e-12))
        return self.mean + self.scale * (covariance @ self._alpha), self.scale * deviation

    def weights(self, generator: np.random.Generator | None = None) -> Floats:
        """(features,) expected weights in units of the value, or with a generator a draw of what they may be.

        A draw is one of the prior, moved by what was measured (Matheron's rule).
        """
        variances = self.variances.groups[self.features.group]
        drawn = np.zeros(self.features.size)
        alpha = self._alpha
        if generator is not None:
            drawn = generator.standard_normal(self.features.size) * np.sqrt(variances)
            unexplained = self.variances.missed * self._alike + self.variances.noise * np.eye(len(alpha))
            other = cholesky(unexplained, lower=True) @ generator.standard_normal(len(alpha))
            alpha = cho_solve((self._root, True), self._standard - self._known @ drawn - other)
        return np.asarray(self.scale * (drawn + variances * (self._known.T @ alpha)))

    def left_out(self) -> Floats:
        """(n,) what each measurement would be expected to be from the others alone."""
        inverse = np.diag(cho_solve((self._root, True), np.eye(len(self._alpha))))
        return np.asarray(self.mean + self.scale * (self._standard - self._alpha / inverse))
