"""Labels beside points that do not cover one another, nor other points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Box = tuple[float, float, float, float]  # left, bottom, right, top in typographic points

SIZE = 8.0
#: Where a label may stand around its point: the direction of its centre, the best first.
DIRECTIONS = ((-1, -1), (0, -1), (1, 1), (0, 1), (-1, 0), (1, 0), (1, -1), (-1, 1))
#: Above this many points labels say less than they hide.
MOST = 60


def place_labels(axes: Axes, marks: Sequence[tuple[float, float, str]], *, avoid: Sequence[tuple[float, float]] = ()) -> None:
    """Write each text beside its point (x, y in data units), those first in the list first; one without room is left out.

    Labels keep clear of each other, of the points, of those in ``avoid`` and of the legend; a white rim parts them from lines.
    Widths are estimated from the number of letters, which spares drawing the figure once to measure them.
    """
    marks = marks[:MOST]
    if not marks:
        return
    from matplotlib.patheffects import withStroke

    figure = axes.get_figure(root=True)
    assert figure is not None
    if (layout := figure.get_layout_engine()) is not None:
        layout.execute(figure)
    scale = 72.0 / figure.dpi
    frame = axes.get_window_extent()
    frame_box = (frame.x0 * scale, frame.y0 * scale, frame.x1 * scale, frame.y1 * scale)
    corners = [(x, y) for x, y, _ in marks] + list(avoid)
    places = [(scale * float(px), scale * float(py)) for px, py in axes.transData.transform(corners)]
    taken: list[Box] = [(px - 3, py - 3, px + 3, py + 3) for px, py in places]
    legend = axes.get_legend()
    if legend is not None:
        box = legend.get_window_extent()
        taken.append((box.x0 * scale, box.y0 * scale, box.x1 * scale, box.y1 * scale))
    for (x, y, text), (px, py) in zip(marks, places[: len(marks)], strict=True):
        half_width, half_height = 0.3 * SIZE * len(text) + 0.5, 0.42 * SIZE
        for dx, dy in DIRECTIONS:
            away_x, away_y = dx * (half_width + 4.0), dy * (half_height + (3.0 if dx else 6.5))
            middle_x, middle_y = px + away_x, py + away_y
            box_at = (middle_x - half_width, middle_y - half_height, middle_x + half_width, middle_y + half_height)
            if _inside(box_at, frame_box) and not any(_overlap(box_at, other) for other in taken):
                taken.append(box_at)
                style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": SIZE, "zorder": 7}
                rim = [withStroke(linewidth=2, foreground="white")]
                axes.annotate(text, (x, y), (away_x, away_y), textcoords="offset points", path_effects=rim, **style)
                break


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _inside(a: Box, frame: Box) -> bool:
    return frame[0] <= a[0] and frame[1] <= a[1] and a[2] <= frame[2] and a[3] <= frame[3]
