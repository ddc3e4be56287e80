"""Axes for costs, errors and accuracies that show small and large values alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from archsearch.report.view import quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Errors that span more than this factor get a logarithmic axis.
WIDE = 8.0


def cost_axis(axes: Axes, costs: np.ndarray) -> None:
    """Logarithmic where all costs allow it, with room at both ends for labels; ticks such as 10 k, 1 M."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = float(costs.min()), float(costs.max())
    if low > 0:
        axes.set_xscale("log")
        room = max((high / low) ** 0.06, 1.15)
        axes.set_xlim(low / room, high * room)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 300 else (1,)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(low, high * 1.06 if high > 0 else 1.0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, position: quantity(value)))


def error_axis(axes: Axes, errors: Sequence[float] | np.ndarray) -> None:
    """Limits that hold ``errors`` (percent, at least one); logarithmic if they span a decade, down to 0 if one is 0."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

    low, high, least = _range(np.asarray(errors, dtype=float))
    if high <= WIDE * least:
        room = 0.07 * max(high - low, 0.1 * high, 1e-3)
        axes.set_ylim(low - room, high + room)
        return
    axes.set_yscale("symlog", linthresh=least, linscale=0.4) if low == 0 else axes.set_yscale("log")
    axes.set_ylim(-0.3 * least if low == 0 else low / 1.3, high * 1.25)
    axes.yaxis.set_major_locator(FixedLocator([*([0.0] if low == 0 else []), *_round_numbers(least, high)]))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:g}"))


def accuracy_axis(axes: Axes, accuracies: Sequence[float] | np.ndarray) -> None:
    """As ``error_axis`` for 100 % minus the error: 90, 99 and 99.9 stand equally far apart where errors span a decade."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low, high, least = _range(100 - np.asarray(accuracies, dtype=float))
    if high <= WIDE * least:
        room = 0.07 * max(high - low, 0.1 * high, 1e-3)
        axes.set_ylim(100 - high - room, min(100 - low + room, 100.5))
        return
    axes.set_yscale("function", functions=_towards_100(least))
    axes.set_ylim(100 - high * 1.25, 100 + 0.3 * least if low == 0 else 100 - low / 1.3)
    ticks = [100 - error for error in _round_numbers(least, high)]
    axes.yaxis.set_major_locator(FixedLocator([*ticks, *([100.0] if low == 0 else [])]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:.6g}"))


def _towards_100(least: float) -> tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]:
    """The scale -log10(error) of an accuracy, and its inverse; a straight line where the error is below ``least``."""
    edge, slope = -np.log10(least), 1 / (least * np.log(10))

    def forward(accuracy: np.ndarray) -> np.ndarray:
        error = 100 - np.asarray(accuracy, dtype=float)
        place: np.ndarray = np.where(error > least, -np.log10(np.maximum(error, least)), edge + (least - error) * slope)
        return place

    def inverse(place: np.ndarray) -> np.ndarray:
        v = np.asarray(place, dtype=float)
        accuracy: np.ndarray = np.where(v < edge, 100 - 10.0 ** -np.minimum(v, edge), 100 - least + (v - edge) / slope)
        return accuracy

    return forward, inverse


def _range(errors: np.ndarray) -> tuple[float, float, float]:
    """Smallest, largest, and smallest above 0 (an error of 0 with none above it counts as 1 percent)."""
    above = errors[errors > 0]
    return max(float(errors.min()), 0.0), float(errors.max()), float(above.min()) if above.size else 1.0


def _round_numbers(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten around and between the two."""
    exponents = range(int(np.floor(np.log10(low))) - 1, int(np.ceil(np.log10(high))) + 1)
    return [value for e in exponents for step in (1, 2, 5) if low / 1.3 <= (value := step * 10.0**e) <= high * 1.25]
