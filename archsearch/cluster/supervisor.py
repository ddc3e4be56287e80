"""Keeps a driver going: starts it again whenever it dies, until it says itself that there is nothing more to do.

The driver is a process of its own, so that nothing that ends it ends its supervisor; the supervisor imports neither Ray nor
torch and has nothing to lose. Going on where the dead driver stood is the driver's affair, from the store.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

#: Exit codes with which a driver means to end: done, bad input, stopped by failures.
FINAL = frozenset({0, 2, 3})

#: What is left with when the driver cannot be kept going (stopped by failures, resumable), and when told to stop.
GAVE_UP, INTERRUPTED = 3, 130

#: Seconds after which a driver's death is not taken for a fault of its start.
SETTLED = 60.0

#: Deaths right after the start, one after another, until the supervisor gives up.
MOST_DEATHS = 5

#: Seconds before the first restart; doubled after each death at the start, at most the second.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0


def supervise(
    command: Sequence[str],
    *,
    say: Callable[[str], None],
    settled: float = SETTLED,
    most_deaths: int = MOST_DEATHS,
    first_pause: float = FIRST_PAUSE,
) -> int:
    """Run ``command`` again and again until it ends with exit code 0, 2 or 3, and return that.

    SIGTERM and SIGINT are passed on, and end this too, with 130: the command is then expected to leave in order.

    Args:
        command: starts the driver; the same words go on with what an earlier driver left.
        say: told of each death.
        settled, most_deaths, first_pause: see the constants.
    """
    deaths = 0
    with _told_to_stop() as asked:
        while True:
            began = time.monotonic()
            code = _run(command, asked)
            lived = time.monotonic() - began
            if code in FINAL:
                return code
            if asked.to_stop:
                return INTERRUPTED
            deaths = deaths + 1 if lived < settled else 0
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            if deaths >= most_deaths:
                say(f"given up: the driver {how} {lived:.1f} s after its start, {deaths} times in a row: see above")
                return GAVE_UP
            pause = min(LONGEST_PAUSE, first_pause * 2 ** max(0, deaths - 1))
            say(f"the driver {how} after {lived:.1f} s: going on in {pause:.1f} s, nothing that finished is lost")
            if asked.within(pause):
                return INTERRUPTED


def _run(command: Sequence[str], asked: _Asked) -> int:
    """One driver, from its start to its end; its exit code, negative for a signal."""
    process = subprocess.Popen(command)
    asked.pass_on_to(process)
    try:
        return process.wait()
    finally:
        asked.pass_on_to(None)


class _Asked:
    """Whether a signal asked to stop, and who else is to be told. No lock: a handler runs inside whatever it interrupts."""

    def __init__(self) -> None:
        self.to_stop = False
        self._process: subprocess.Popen[bytes] | None = None

    def handle(self, number: int, frame: Any) -> None:
        self.to_stop = True
        self.pass_on_to(self._process)

    def pass_on_to(self, process: subprocess.Popen[bytes] | None) -> None:
        """From now on tell this process; at once, if the signal came before it did."""
        self._process = process
        if self.to_stop and process is not None:
            process.send_signal(signal.SIGTERM)

    def within(self, seconds: float) -> bool:
        """Wait so long; whether it was asked meanwhile."""
        end = time.monotonic() + seconds
        while not self.to_stop and time.monotonic() < end:
            time.sleep(0.05)
        return self.to_stop


@contextlib.contextmanager
def _told_to_stop() -> Iterator[_Asked]:
    asked = _Asked()
    before = {number: signal.signal(number, asked.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
