"""From the run loop's one observer to many callbacks, in a thread of their own: none can stop the run, or hold it up."""

from __future__ import annotations

import contextlib
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from overrides import overrides

from archsearch.cluster.observer import Observer
from archsearch.jobs import JSON, POOL_STAGES, ArchsearchError, Event, EventKind, InputError
from archsearch.store import Point
from archsearch.tracking.callback import Callback, RunEnd
from archsearch.tracking.news import About, Call, Item, News, Trained

if TYPE_CHECKING:
    from archsearch.cluster.loop import RunLoop

#: Seconds between two reports of progress.
PROGRESS_EVERY = 0.5
#: Progress is left out while so many news wait for a slow callback.
MOST_WAITING = 1000
#: Seconds that the end of a run waits for callbacks.
PATIENCE = 60.0
#: Seconds after which it says so.
SAID_AFTER = 2.0


@contextlib.contextmanager
def tracked(
    callbacks: Sequence[Callback], about: About, observer: Observer | None, *, patience: float = PATIENCE
) -> Iterator[Observer | None]:
    """The observer for a session that these callbacks follow, beside ``observer``; that one alone if there are none.

    Raises:
        InputError: a callback lacks something that it needs, or ``callbacks`` holds something else.
    """
    if not callbacks:
        yield observer
        return
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise InputError(f"callbacks: expected instances of archsearch.Callback, got {callback!r}. Write MyCallback().")
    with contextlib.ExitStack() as stack:
        if observer:
            observer.on_message(f"tracking: {', '.join(map(name_of, callbacks))}")
        for callback in callbacks:
            _open(callback)
            stack.callback(_close, callback, observer)
        tracker = Tracker(callbacks, about, observer)
        try:
            yield tracker
        except BaseException as error:
            left = isinstance(error, KeyboardInterrupt)  # a second Ctrl-C: at once
            tracker.finish(
                RunEnd("crashed", f"{type(error).__name__}: {error}"), min(patience, SAID_AFTER) if left else patience
            )
            raise
        tracker.finish(None, patience)


def name_of(callback: Callback) -> str:
    """What messages call it: its name in ``tracking.callbacks``, or its class."""
    return callback.name or type(callback).__qualname__


def _open(callback: Callback) -> None:
    try:
        callback.open()
    except ArchsearchError:
        raise
    except Exception as error:
        raise InputError(
            f"the callback {name_of(callback)} cannot start: {_where(error)}. Repair it, or leave it out (tracking.callbacks)."
        ) from error


def _close(callback: Callback, observer: Observer | None) -> None:
    try:
        callback.close()
    except Exception as error:
        if observer:
            observer.on_message(f"note: the callback {name_of(callback)} raised in close: {_where(error)}")


def _where(error: BaseException) -> str:
    """An error in one line, with the line of code that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"


class Tracker(Observer):
    """Shows a run to ``display`` at once, and tells callbacks of it through a queue that one thread empties."""

    def __init__(self, callbacks: Sequence[Callback], about: About, display: Observer | None = None) -> None:
        self._callbacks = list(callbacks)
        self._about = about
        self._display = display
        self._news: News | None = None
        self._stopped: Mapping[str, JSON] = {}
        self._queue: SimpleQueue[Sequence[Item | Call] | None] = SimpleQueue()
        self._progressed = 0.0
        self._progress: dict[int, Mapping[str, JSON]] = {}  # what was told last, by job
        self._failures: Counter[str] = Counter()
        self._notes: deque[str] = deque()  # of the callbacks' thread: the display belongs to the driver's
        self._ended = threading.Event()  # not the thread's own ``join``: interrupted, it takes the thread for ended
        threading.Thread(target=self._work, name="archsearch callbacks", daemon=True).start()

    # ------------------------------------------------------------------------------------------------ the driver's thread
    @overrides
    def on_events(self, loop: RunLoop, events: list[Event]) -> None:
        if self._display:
            self._display.on_events(loop, events)
        if self._news is None:  # the session's first commit: the state is what earlier sessions left
            self._news = News(self._about, [_trained(loop, point) for point in loop.state.points()])
        if events[-1].kind is EventKind.STOPPED:
            self._stopped = events[-1].data
        self._queue.put([_item(loop, event) for event in events])
        self._pass_notes()

    @overrides
    def on_tick(self, loop: RunLoop) -> None:
        if self._display:
            self._display.on_tick(loop)
        now = time.monotonic()
        if now - self._progressed < PROGRESS_EVERY:
            return
        self._progressed = now
        self._pass_notes()
        if self._queue.qsize() > MOST_WAITING:
            return
        before, self._progress = self._progress, dict(loop.progress)
        calls: list[Item | Call] = [
            ("on_job_progress", (job, loop.running[job].job.attempt, dict(figures)))
            for job, figures in self._progress.items()
            if job in loop.running and before.get(job) is not figures
        ]
        if calls:
            self._queue.put(calls)

    @overrides
    def on_message(self, text: str) -> None:
        if self._display:
            self._display.on_message(text)

    @overrides
    def on_report(self, files: Sequence[Path]) -> None:
        if self._display:
            self._display.on_report(files)
        self._queue.put([("on_report", (tuple(files),))])

    def finish(self, end: RunEnd | None, patience: float) -> None:
        """Tell callbacks of the end (as the run's last event has it, unless ``end`` is given), and wait for them."""
        if self._news is not None:
            stopped = RunEnd(str(self._stopped.get("state", "crashed")), str(self._stopped.get("reason", "")))
            self._queue.put([("on_end", (end or stopped,))])
        self._queue.put(None)
        with contextlib.suppress(KeyboardInterrupt):
            if not self._ended.wait(min(SAID_AFTER, patience)) and patience > SAID_AFTER:
                self.on_message(f"waiting for callbacks, {patience:.0f} s at most (Ctrl-C leaves them) …")
                self._ended.wait(patience - SAID_AFTER)
        self._pass_notes()
        if not self._ended.is_set():
            self.on_message("note: callbacks have not ended; the last news did not reach all of them")
        for name, count in self._failures.items():
            if count > 1:
                self.on_message(f"note: the callback {name} raised {count} times in all")

    def _pass_notes(self) -> None:
        while self._notes:
            self.on_message(self._notes.popleft())

    # ---------------------------------------------------------------------------------------------- the callbacks' thread
    def _work(self) -> None:
        while (batch := self._queue.get()) is not None:
            for entry in batch:
                for call in self._calls(entry) if isinstance(entry, Item) else [entry]:
                    self._tell(*call)
        self._ended.set()

    def _calls(self, item: Item) -> list[Call]:
        assert self._news is not None
        try:
            return list(self._news.calls(item))
        except Exception as error:  # an event that a plug-in's work made in a way that nobody foresaw
            self._notes.append(f"note: callbacks are not told of event {item.event.number}: {_where(error)}")
            return []

    def _tell(self, method: str, arguments: tuple[Any, ...]) -> None:
        for callback in list(self._callbacks):
            try:
                getattr(callback, method)(*arguments)
            except BaseException as error:  # whatever it is, SystemExit too: the next callback hears the news all the same
                name = name_of(callback)
                self._failures[name] += 1
                fate = "it is told nothing more" if method == "on_start" else "it is told of what comes next all the same"
                if self._failures[name] == 1:
                    self._notes.append(f"note: the callback {name} raised in {method}, {fate}: {_where(error)}")
                if method == "on_start":
                    self._callbacks.remove(callback)


def _trained(loop: RunLoop, point: Point) -> Trained:
    record = loop.state.jobs[point.id]
    return Trained(point, record.asked if record.finished is None else record.finished, record.seconds, record.node)


def _item(loop: RunLoop, event: Event) -> Item:
    if event.job is None:
        return Item(event, None)
    job = loop.state.jobs[event.job].job
    point = loop.state.point(event.job) if event.kind is EventKind.TOLD and job.stage in POOL_STAGES else None
    return Item(event, job, None if point is None else _trained(loop, point))
