"""What a run shows while it goes: a live panel on a terminal, one line an event elsewhere. All of it on stderr."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping
from types import TracebackType

from overrides import overrides
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from archsearch.cluster.loop import RunLoop
from archsearch.cluster.observer import Observer
from archsearch.cluster.placement import waits_for
from archsearch.jobs import EVALUATION_STAGES, JSON, Event, EventKind, Job, JobState, Stage
from archsearch.measured import QUEUE, read_answer
from archsearch.report import error_label, quantity
from archsearch.searchers.base import FrontierSearcher

#: Rows of the frontier that the live panel shows at most.
MOST_ROWS = 14


def clock(seconds: float) -> str:
    """A duration for people: 4 s, 3:07, 2:05:11."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


class Lines(Observer):
    """One line an event that a person would want in a log."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.start = time.time()
        self.origin: float | None = None  # that moment on the clock of the run's events, which may be a virtual one

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Nothing is held."""

    @overrides
    def on_events(self, loop: RunLoop, events: list[Event]) -> None:
        if self.origin is None:
            self.origin = events[0].time - (time.time() - self.start)
        for event in events:
            text = self._line(loop, event)
            if text:
                self.console.print(f"[{event.time - self.origin:7.1f} s] {text}", markup=False, highlight=False, soft_wrap=True)

    def _line(self, loop: RunLoop, event: Event) -> str:
        if event.kind is EventKind.STOPPED:
            return f"{event.data['state']}: {event.data['reason']}"
        if event.kind is EventKind.BUDGET:
            return str(event.data.get("exhausted") or event.data.get("unmeasured") or "")
        if event.job is None:
            return f"the cluster has {event.data['slots']} slots now" if "slots" in event.data else ""
        job = loop.state.jobs[event.job].job
        head = f"job {job.id} {job.stage}"
        if job.stage in EVALUATION_STAGES:
            head += f" of point {job.spec.get('point', job.parent)}"
        if event.kind is EventKind.STARTED:
            return f"{head} started" + (f" (attempt {event.data['attempt']})" if event.data["attempt"] > 1 else "")
        if event.kind is EventKind.TOLD:
            return f"{head} done in {event.data['seconds']:.1f} s{_figures(event, loop)}"
        if event.kind is EventKind.FAILED:
            fate = "abandoned" if event.data["final"] else "to be tried again"
            return f"{head} failed, {fate}: {event.data['kind']}: {event.data['message']}"
        if event.kind is EventKind.REPORTED and event.data.get("waiting"):
            return f"{head} {waits_for(event.data['waiting'])}"
        if event.kind is EventKind.PRUNED:
            return f"{head} stopped early: {event.data['reason']}"
        return f"{head} {event.kind}" if event.kind is EventKind.CANCELLED else ""

    @overrides
    def on_tick(self, loop: RunLoop) -> None:
        """Nothing moves in a log."""

    @overrides
    def on_message(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def _figures(event: Event, loop: RunLoop) -> str:
    metrics = event.data["metrics"]
    if "val_error" in metrics:
        name = loop.searcher.config.error if isinstance(loop.searcher, FrontierSearcher) else "val_error"
        kind = "error" if name == "val_error" else error_label(name)
        return f": {kind} {metrics[name]:.2%}, {quantity(metrics['madds'])} multiply-adds"
    if "test_error" in metrics:
        return f": test error {metrics['test_error']:.2%}"
    job = loop.state.jobs[event.job or 0].job
    return _latency(job, metrics) if job.stage is Stage.PROFILE else ""


def _latency(job: Job, metrics: Mapping[str, JSON]) -> str:
    """What a device has told, in words."""
    device = job.queue.removeprefix(QUEUE)
    answer = read_answer(device, metrics)
    figure = answer.figures.get(f"latency_ms@{device}")
    if figure is None:
        return f": {device} gave no latency"
    ends = f"{figure.low:.3g} to {figure.high:.3g}{', noisy' if figure.noisy else ''}"
    return f": {figure.value:.3g} ms on {device} ({ends})" + (f" by {answer.choice}" if answer.choice else "")


class Panels(Observer):
    """The live panel: slots, jobs by stage, pool, current frontier."""

    def __init__(self, console: Console, title: str) -> None:
        self.console = console
        self.title = title
        self.live = Live(Text("starting…"), console=console, refresh_per_second=4, transient=True)
        self.drawn = 0.0
        self.stages = Stages()

    def __enter__(self) -> Panels:
        self.live.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.live.__exit__(kind, error, trace)

    @overrides
    def on_events(self, loop: RunLoop, events: list[Event]) -> None:
        for event in events:
            if event.job is not None:
                self.stages.update(loop, event.job)
            if event.kind is EventKind.FAILED and event.data["kind"] != "interrupted":
                self.on_message(f"job {event.job} failed: {event.data['kind']}: {event.data['message']}")
        self.on_tick(loop)

    @overrides
    def on_tick(self, loop: RunLoop) -> None:
        now = time.monotonic()
        if now - self.drawn > 0.25:
            self.drawn = now
            self.live.update(self._render(loop))

    @overrides
    def on_message(self, text: str) -> None:
        self.live.console.print(text, markup=False, highlight=False)

    def _render(self, loop: RunLoop) -> RenderableType:
        slots = loop.executor.slots()
        busy = Text.assemble((" ".join(["■"] * slots["busy"] + ["□"] * max(0, slots["total"] - slots["busy"]))[:60], "cyan"))
        spent = clock(loop.ledger.spent(loop.executor.now()))
        limit = f" of {clock(loop.wall_clock)}" if loop.wall_clock else ""
        ended = "" if loop.searcher.done is None else f"  · ending: {loop.searcher.done}"
        head = Text.assemble("slots ", busy, f" {slots['busy']}/{slots['total']}  · time {spent}{limit}{ended}")
        body: list[RenderableType] = [head, self.stages.text(loop), _running(loop)]
        for job, about in loop.state.waiting.items():
            body.append(Text(f"  {job:>4}  {waits_for(about)}", "yellow"))
        if isinstance(loop.searcher, FrontierSearcher):
            body.append(_frontier(loop.searcher))
        return Panel(Group(*body), title=self.title, title_align="left", border_style="dim")


class Stages:
    """Jobs by stage and state, kept up to date: a large run is not counted anew for every frame."""

    def __init__(self) -> None:
        self._states: dict[int, JobState] = {}
        self._counts: dict[str, Counter[JobState]] = {}

    def update(self, loop: RunLoop, job: int) -> None:
        """Take the state that a job has come to."""
        record = loop.state.jobs[job]
        counts = self._counts.setdefault(str(record.job.stage), Counter())
        if job in self._states:
            counts[self._states[job]] -= 1
        self._states[job] = record.state
        counts[record.state] += 1

    def text(self, loop: RunLoop) -> Text:
        """``SEED_TRAINED 7/7 · SEARCH 3/4``: completed of all."""
        if len(self._states) < len(loop.state.jobs):  # a resumed run: its past was not watched
            for job in loop.state.jobs:
                self.update(loop, job)
        parts = []
        for stage, counts in self._counts.items():
            without = [f"{counts[state]} {state}" for state in (JobState.PRUNED, JobState.ABANDONED) if counts[state]]
            parts.append(
                f"{stage} {counts[JobState.COMPLETED]}/{counts.total()}" + (f" ({', '.join(without)})" if without else "")
            )
        return Text("jobs  " + "  · ".join(parts))


def _running(loop: RunLoop) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for attempt in list(loop.running.values())[:8]:
        job: Job = attempt.job
        figures = loop.progress.get(job.id, {})
        step, steps, error = (figures.get(name) for name in ("step", "steps", "val_error"))
        bar: RenderableType = ProgressBar(total=steps, completed=step, width=20) if step and steps else Text("")
        table.add_row(f"  {job.id:>4}", str(job.stage), bar, "" if error is None else f"error {error:.2%}")
    return table


def _frontier(searcher: FrontierSearcher) -> RenderableType:
    pool = searcher.pool
    ids = pool.frontier.front()
    hull = set(pool.frontier.hull())
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("point", searcher.config.cost, "error", ""):
        table.add_column(name, justify="left" if name == "" else "right")
    for id_ in ids[-MOST_ROWS:]:
        point = pool.points[id_]
        table.add_row(str(id_), quantity(point.cost), f"{point.error:.2%}", "hull" if id_ in hull else "")
    return Group(Text(f"pool  {len(pool)} points, {len(ids)} on the frontier, {len(pool.frontier.band())} in the band"), table)


def observer(title: str, *, quiet: bool = False) -> Lines | Panels:
    """The display that fits the terminal; ``quiet`` writes nothing but failures' lines are still in the store."""
    console = Console(stderr=True, quiet=quiet)
    return Panels(console, title) if console.is_terminal and not quiet and sys.stderr.isatty() else Lines(console)
