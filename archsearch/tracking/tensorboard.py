"""TensorBoard: scalars and a picture of the frontier over the pool's growth, and a run of its own for each training."""

from __future__ import annotations

import math
import shutil
import textwrap
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

import yaml
from overrides import overrides
from pydantic import Field, NonNegativeInt

from archsearch.config import Duration, Section
from archsearch.jobs import JSON, InputError, Stage
from archsearch.tracking.callback import Callback, RunEnd, RunStart, TrackedJob, TrackedPoint
from archsearch.tracking.picture import frontier_picture

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"


class TensorBoardConfig(Section):
    """What is written for TensorBoard."""

    picture_every: Duration = Field(30.0, description="draw a frontier that has changed this often at most")
    trainings: NonNegativeInt = Field(500, description="the curves of the first so many trainings are written, each as a run")


class TensorBoard(Callback):
    """Writes ``RUN/tensorboard``: ``tensorboard --logdir RUN``, or the folder that holds many runs.

    Scalars by the number of the point (``pool/...``, ``point/...``), the frontier as a picture, the configuration with
    secrets masked as text. The curves of each training are a run ``points/ID`` of their own, by epoch, so that they lie over
    one another and can be chosen by name. A resumed session writes all of it anew from the run's history: nothing stands
    there twice, nothing is missing after a kill, and the folder may be deleted at any time.
    """

    Config: ClassVar[type[Section]] = TensorBoardConfig

    def __init__(self, config: Section | None = None) -> None:
        super().__init__(config)
        self._writer: SummaryWriter | None = None
        self._points: list[TrackedPoint] = []  # without what is large
        self._trainings: set[int | None] = set()  # points whose curves are written
        self._drawn: tuple[int, ...] = ()  # the frontier of the last picture
        self._drawn_at = -math.inf

    @overrides
    def open(self) -> None:
        if find_spec("tensorboard") is None:
            raise InputError(
                "tracking.callbacks: tensorboard needs the package tensorboard, which is not installed. "
                "pip install -e '.[tensorboard]' brings it; --set tracking.callbacks='[]' does without."
            )
        import torch.utils.tensorboard  # noqa: F401 - takes a second or two: better before the run begins than in it

    @overrides
    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    @overrides
    def on_start(self, start: RunStart) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder, self._cost, self._error = start.folder / FOLDER, start.cost, start.error
        self._points, self._trainings, self._drawn = [], set(), ()
        if self._folder.exists():
            shutil.rmtree(self._folder)
        # purge_step: a TensorBoard that has read the old files forgets them.
        self._writer = SummaryWriter(str(self._folder), purge_step=0, flush_secs=10)
        for tag, values in (("configuration", start.config), ("session", start.session)):
            text = yaml.safe_dump(dict(values), sort_keys=False)
            self._writer.add_text(tag, textwrap.indent(text, "    "), 0, start.time)  # indented: code, to Markdown
        for point in start.points:
            self._add(self._writer, point)
        self._show(self._writer)

    @overrides
    def on_point(self, point: TrackedPoint) -> None:
        assert self._writer is not None
        self._add(self._writer, point)
        if time.monotonic() - self._drawn_at >= self.config.picture_every:
            self._show(self._writer)
        self._writer.flush()

    @overrides
    def on_job_told(self, job: TrackedJob, metrics: Mapping[str, JSON], seconds: float, node: str) -> None:
        if job.stage == Stage.EVAL and job.work == "test" and job.parent in self._trainings:
            self._training(job.parent, job.time, {"test_error": [(0, metrics.get("test_error"))]})

    @overrides
    def on_end(self, end: RunEnd) -> None:
        assert self._writer is not None
        self._show(self._writer)

    def _add(self, writer: SummaryWriter, point: TrackedPoint) -> None:
        self._points.append(replace(point, arch={}, metrics={}))
        scalars = {
            "pool/hypervolume": point.hypervolume,
            "pool/best_error": point.best_error,
            "pool/frontier_size": len(point.frontier),
            "pool/size": point.number,
            "point/error": point.error,
            "point/cost": point.cost,
            "point/id": point.id,
        }
        for tag, value in scalars.items():
            if value is not None:
                writer.add_scalar(tag, value, point.number, point.time)
        metrics = point.metrics
        curve = metrics.get("curve") or []
        curves = {
            "training_loss": [(epoch, loss) for epoch, loss, _ in curve],
            "val_error": [(epoch, error) for epoch, _, error in curve],
            "test_error": [(0, metrics.get("test_error"))],
        }
        if point.number <= self.config.trainings:
            self._trainings.add(point.id)
            self._training(point.id, point.time, curves)

    def _training(self, point: int | None, moment: float, curves: Mapping[str, Sequence[tuple[int, Any]]]) -> None:
        """Curves of one point, as far as they are numbers."""
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(self._folder / "points" / str(point))) as writer:
            for tag, values in curves.items():
                for step, value in values:
                    if isinstance(value, int | float):
                        writer.add_scalar(tag, value, step, moment)

    def _show(self, writer: SummaryWriter) -> None:
        """Draw the frontier if it is another one than that of the last picture."""
        if not self._points or self._points[-1].frontier == self._drawn:
            return
        last = self._points[-1]
        self._drawn, self._drawn_at = last.frontier, time.monotonic()
        picture = frontier_picture(self._points, self._cost, self._error)
        writer.add_image("frontier", picture, last.number, last.time, dataformats="HWC")
