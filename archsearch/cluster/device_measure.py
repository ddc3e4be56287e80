"""One job on a device from where it stands first in the queue to its end: the host's lock, the device, the process.

The same for the device's actor and for the inline executor. Whatever is waited for is said, and ends when the job is cancelled.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from archsearch.cluster.device_lock import host_lock
from archsearch.cluster.device_process import DeviceProcess, Refused, Unreachable
from archsearch.cluster.devices_section import DeviceSettings
from archsearch.jobs import JSON, Completion, Context, Failure, FailureKind, InputError, Interrupted, Job, Result

#: Seconds between two tries to reach a device that does not answer.
TRY_AGAIN = 5.0


class Cancel:
    """Ends a job on a device, wherever it stands; from any thread.

    Args:
        asked: looked at again and again while the job waits; whether it is to stop.
    """

    def __init__(self, asked: Callable[[], bool] = lambda: False) -> None:
        self._now = threading.Event()
        self._asked = asked
        self._process: DeviceProcess | None = None

    def now(self) -> None:
        self._now.set()
        if (process := self._process) is not None:
            process.kill()

    def kills(self, process: DeviceProcess | None) -> None:
        """Which process there is to be killed."""
        self._process = process
        if process is not None and self._now.is_set():
            process.kill()

    def look(self, patience: float = 0.0) -> None:
        """Wait so long.

        Raises:
            Interrupted: the job is cancelled.
        """
        if self._now.wait(patience) or self._asked():
            raise Interrupted


@dataclass(frozen=True)
class Told:
    """Who is told of a job on a device.

    ``say(state, detail)``: what it waits for, or that it is "measuring". ``device(facts)``: what the device says of itself.
    ``begin()``: it begins now; False if nobody waits for it any more.
    """

    say: Callable[[str, str], None]
    device: Callable[[Mapping[str, JSON]], None] = lambda facts: None
    begin: Callable[[], bool] = lambda: True


def measure(
    job: Job, name: str, settings: DeviceSettings, context: Context, *, holder: str, told: Told, cancel: Cancel, node: str
) -> Completion:
    """Run a job on a device.

    Args:
        name: the device's.
        holder: who has the host's lock meanwhile, for others who wait for it.
        node: the host's name.
    """

    def wait(other: str) -> None:
        told.say("locked by another", f"the lock {settings.lock_name!r} on {node} is held by {other}")
        cancel.look()

    seconds = 0.0
    outcome: Result | Failure
    try:
        with host_lock(settings.lock_name, holder, wait) as lock, _reached(name, settings, lock, told, cancel) as process:
            start = time.perf_counter()
            told.say("measuring", "")
            outcome = process.carry_out(job, context) if told.begin() else Failure(FailureKind.LOST, "its driver has gone")
            seconds = time.perf_counter() - start
    except Interrupted:
        outcome = Failure(FailureKind.INTERRUPTED, "it had not begun")
    except (Refused, OSError) as error:  # the second: there is no ssh here, or the lock's place is taken
        outcome = Failure(FailureKind.EXCEPTION, f"device {name}: {error}")
    finally:
        cancel.kills(None)
    return Completion(job.id, job.attempt, outcome, seconds, node)


def no_data(test: bool) -> Any:
    """
    Raises:
        InputError: always: data sets do not travel to devices.
    """
    raise InputError("data sets do not travel to devices")


def _reached(name: str, settings: DeviceSettings, lock: int, told: Told, cancel: Cancel) -> DeviceProcess:
    """A process on the device that is ready, however long that takes.

    Raises:
        Interrupted: the job was cancelled meanwhile.
        Refused: something else than archsearch answers.
    """
    while True:
        cancel.look()
        process = DeviceProcess(name, settings, lock)
        cancel.kills(process)
        try:
            told.device(process.ready())
            return process
        except BaseException as error:
            process.__exit__(None, None, None)
            if not isinstance(error, Unreachable):
                raise
            cancel.look()
            told.say("unreachable", f"{settings.host or name}: {error}")
        cancel.look(TRY_AGAIN)
