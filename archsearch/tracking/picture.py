"""The frontier as an image array, drawn in the callbacks' thread."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from archsearch.tracking.callback import TrackedPoint


def frontier_picture(points: Sequence[TrackedPoint], cost: str, error: str) -> np.ndarray:
    """All points and the steps of the frontier as it was after the last one; (H, W, 3) uint8.

    Only the figure's own objects are touched: Matplotlib's settings belong to the whole process, and another thread may be
    drawing the report.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    places = {p.id: (p.cost, 100 * p.error) for p in points if p.cost is not None and p.error is not None}
    front = [places[id_] for id_ in points[-1].frontier]
    axes.plot(*zip(*places.values(), strict=True), "o", color="#8A8A8A", alpha=0.4, markersize=4)
    axes.step(*zip(*front, strict=True), where="post", color="#D55E00", marker="o", markersize=6)
    if min(cost for cost, _ in places.values()) > 0:
        axes.set_xscale("log")
    axes.set_xlabel(cost)
    axes.set_ylabel(f"{error} (%)")
    axes.set_title(f"Frontier: {len(front)} of {len(points)} points")
    axes.grid(color="#E4E4E4", linewidth=0.6)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()  # type: ignore[no-untyped-call]
