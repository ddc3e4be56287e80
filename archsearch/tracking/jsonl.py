"""``points.jsonl`` in the run's folder: one line of JSON a point, for people's own tools (``tail -f``, jq, pandas)."""

from __future__ import annotations

import json
import os
from pathlib import Path

from overrides import overrides

from archsearch.tracking.callback import Callback, RunStart, TrackedPoint

NAME = "points.jsonl"


class JsonLines(Callback):
    """Each line holds a ``TrackedPoint``, without its description, and those of its metrics that are single values."""

    path: Path

    @overrides
    def on_start(self, start: RunStart) -> None:
        """Writes the past anew: a driver that was killed may have left half a line, or none."""
        self.path = start.folder / NAME
        whole = self.path.with_name(f"{NAME}.new")
        whole.write_text("".join(map(line, start.points)), encoding="utf-8")
        os.replace(whole, self.path)

    @overrides
    def on_point(self, point: TrackedPoint) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line(point))


def line(point: TrackedPoint) -> str:
    """A point as one line of JSON."""
    names = ("number", "id", "stage", "parent", "cost", "error", "standard_error", "best_error", "on_frontier", "hypervolume")
    values = {name: getattr(point, name) for name in (*names, "time", "seconds", "node")}
    metrics = {name: value for name, value in point.metrics.items() if not isinstance(value, dict | list)}
    return json.dumps({**values, "metrics": metrics}) + "\n"
