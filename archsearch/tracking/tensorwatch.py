"""TensorWatch's live stream to notebooks: a publisher on loopback that only sends.

TensorWatch's own ``Watcher`` listens on all interfaces, and answers requests that it unpickles, which lets whoever reaches it
run code in its process. Here only the publisher is used, bound to 127.0.0.1: it takes no requests, and nothing that
arrives there is ever unpickled. What it sends is pickled, so a *reader* trusts whoever listens on that port: see
``experiments/live``.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any, ClassVar

from overrides import overrides
from pydantic import Field

from archsearch.config import Section
from archsearch.jobs import JSON, InputError
from archsearch.tracking.callback import Callback, RunEnd, RunStart, TrackedPoint

#: The only address that is ever bound.
LOOPBACK = "127.0.0.1"
#: Seconds between two copies of the pool for readers that came late.
POOL_EVERY = 1.0
#: Points that such a copy holds at most, the latest ones; the frontier is there in any case.
MOST_POINTS = 5000
#: How long the end of a run may wait, in milliseconds, for the last news to be sent.
LINGER_MS = 1000


class TensorWatchConfig(Section):
    """Where TensorWatch's live stream is published."""

    port: int = Field(
        0,
        ge=0,
        le=500,
        description="TensorWatch's number of the stream, as in WatcherClient(port=0): TCP port 40859 + number, on 127.0.0.1 "
        "only. Whoever can open that port instead can run code in the notebook that reads it (it unpickles)",
    )


class TensorWatch(Callback):
    """Publishes four streams, all of plain dicts and tuples, for ``tensorwatch.WatcherClient(port).open_stream(NAME)``:

    ``points``: each new point. ``hypervolume``: (number of points, share). ``progress``: each running job's figures.
    ``pool``: {run, state, cost, error, number, hypervolume, points: [(id, cost, error), ...], frontier: [id, ...]}, every
    second while there is news, and at the end: a reader that comes late sees the whole search at once.
    """

    Config: ClassVar[type[Section]] = TensorWatchConfig

    def __init__(self, config: Section | None = None) -> None:
        super().__init__(config)
        self._publication: Any = None
        self._sent = Counter[str]()
        self._points: deque[tuple[int, float | None, float | None]] = deque(maxlen=MOST_POINTS)
        self._pool: dict[str, JSON] = {}
        self._pool_sent = -math.inf

    @overrides
    def open(self) -> None:
        """Binds the port.

        Raises:
            InputError: it is taken.
        """
        self._publication = _publication(self.config.port)

    @overrides
    def close(self) -> None:
        if self._publication is not None:
            self._publication.close()

    @overrides
    def on_start(self, start: RunStart) -> None:
        self._pool = {"run": start.name, "state": "running", "cost": start.cost, "error": start.error}
        self._pool |= {"number": 0, "hypervolume": 0.0, "frontier": []}
        self._points.clear()
        for point in start.points:
            self._take(point)
        self._send_pool()

    @overrides
    def on_point(self, point: TrackedPoint) -> None:
        self._take(point)
        names = ("number", "id", "stage", "parent", "cost", "error", "standard_error", "on_frontier", "time")
        self._send("points", {name: getattr(point, name) for name in names})
        self._send("hypervolume", (point.number, point.hypervolume))
        self._send_pool()

    @overrides
    def on_job_progress(self, job: int, attempt: int, figures: Mapping[str, JSON]) -> None:
        self._send("progress", {"job": job, "attempt": attempt, **figures})
        self._send_pool()

    @overrides
    def on_end(self, end: RunEnd) -> None:
        self._pool["state"] = end.state
        self._pool_sent = -math.inf
        self._send_pool()

    def _take(self, point: TrackedPoint) -> None:
        self._points.append((point.id, point.cost, point.error))
        self._pool |= {"number": point.number, "hypervolume": point.hypervolume, "frontier": list(point.frontier)}

    def _send_pool(self) -> None:
        if time.monotonic() - self._pool_sent >= POOL_EVERY:
            self._pool_sent = time.monotonic()
            self._send("pool", {**self._pool, "points": list(self._points)})

    def _send(self, stream: str, value: JSON) -> None:
        from tensorwatch.lv_types import PublisherTopics, StreamItem

        item = StreamItem(value, stream_name=stream, item_index=self._sent[stream])
        self._sent[stream] += 1
        self._publication.send_obj(item, PublisherTopics.StreamItem)


def _publication(port: int) -> Any:
    """TensorWatch's publisher, on loopback whatever its default is.

    Raises:
        InputError: the port is taken.
    """
    from tensorwatch.lv_types import DefaultPorts
    from tensorwatch.zmq_wrapper import ZmqWrapper

    class Loopback(ZmqWrapper.Publication):  # type: ignore[misc]
        refused: Exception | None = None

        # What follows is run by TensorWatch's thread; an error there would be logged and leave the caller waiting for ever.
        def _start_srv(self, port: int, host: str) -> None:
            try:
                super()._start_srv(port, LOOPBACK)
            except Exception as error:
                self.refused = error

        def _end(self) -> None:
            # In this order: a reader that leaves meanwhile is news for the monitor, and ZeroMQ would wait for ever to hand it
            # to a monitor that nobody reads any more.
            with contextlib.suppress(Exception):
                if self._mon_stream is not None:
                    self._socket.disable_monitor()
                    self._mon_stream.close()
            with contextlib.suppress(Exception):
                self._socket.close(linger=LINGER_MS)

        def close(self) -> None:
            ZmqWrapper._io_loop_call(True, self._end)

    number = DefaultPorts.PubSub + port
    publication = Loopback(number)
    if publication.refused is not None:
        publication.close()
        raise InputError(
            f"tracking.tensorwatch.port = {port}: TCP port {number} of {LOOPBACK} cannot be used ({publication.refused}). "
            "Another run, or another driver of this one, may be streaming; a run needs a number of its own, up to 500."
        )
    return publication
