"""A process that does one job on a device, seen from the node: started here or over SSH, and never trusted.

It may crash, hang, be killed, lose its connection or answer anything: each is a failure that says what happened.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from archsearch.cluster.context import MOST_TRACEBACK
from archsearch.cluster.device_command import command, environment
from archsearch.cluster.devices_section import DeviceSettings
from archsearch.config.secrets import mask_text
from archsearch.jobs import (
    JSON,
    ArchsearchError,
    ArtifactRef,
    Context,
    Failure,
    FailureKind,
    Interrupted,
    Job,
    Result,
)

#: Seconds within which a device must say that it is ready: a small board takes its time to load Python.
READY_WITHIN = 60.0

#: Longest line of an answer, in bytes; artifacts travel in lines too.
MOST_ANSWER = 64 << 20

#: Exit code of ssh where it has no connection or loses it.
_NO_CONNECTION = 255


class Unreachable(ArchsearchError):
    """The device does not answer at the moment."""


class Refused(ArchsearchError):
    """The device answers, but not as one on which jobs can be run."""


class DeviceProcess:
    """One process on a device: ``ready`` once, then ``carry_out`` once. ``kill`` may come from another thread at any time."""

    def __init__(self, name: str, settings: DeviceSettings, lock: int) -> None:
        """
        Args:
            name: the device's, for messages.
            lock: descriptor of the host's lock, which the process inherits.
        """
        self._name, self._settings = name, settings
        self._killed = self._late = False
        self._buffer, self._searched = bytearray(), 0
        self._words = bytearray()  # the last of what it said on stderr
        self._process = subprocess.Popen(
            command(settings),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(settings),
            pass_fds=(lock,),
            start_new_session=True,
            bufsize=0,
        )
        assert self._process.stdout is not None and self._process.stderr is not None
        self._selector = selectors.DefaultSelector()
        for stream in (self._process.stdout, self._process.stderr):
            os.set_blocking(stream.fileno(), False)
            self._selector.register(stream, selectors.EVENT_READ)

    def __enter__(self) -> DeviceProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Nothing of it is left when this returns, but what a board must end itself."""
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._selector.close()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def kill(self) -> None:
        """End it at once."""
        self._killed = True
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)

    # -------------------------------------------------------------------------------------------------------------- job
    def ready(self) -> dict[str, JSON]:
        """Wait until it says what it is.

        Raises:
            Unreachable: there is no connection, or no answer in time.
            Refused: something else answers; the text says what.
        """
        line = self._line(time.monotonic() + READY_WITHIN)
        if line is None:
            code = self._process.wait()
            if self._killed or (self._settings.runner == "ssh" and code == _NO_CONNECTION):
                raise Unreachable(self._last_words() or "no connection")
            raise Refused(f"{_how(code)} instead of starting archsearch: {self._last_words()}")
        with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
            return dict(json.loads(line)["ready"])
        raise Refused(f"the answer is none of archsearch's: {_shown(line)}")

    def carry_out(self, job: Job, context: Context) -> Result | Failure:
        """Have the job done. ``context`` does what the work asks of its own: artifacts, checkpoints, signs of life."""
        limit = threading.Timer(self._settings.timeout, self._time_is_up)
        limit.daemon = True
        limit.start()
        try:
            settings = self._settings
            request = {"threads": settings.threads, "torch_device": settings.torch_device, "timeout": settings.timeout}
            self._send({"job": job.to_json(), **request})
            while (line := self._line()) is not None:
                end = self._take(line, context)
                if end is not None:
                    return end
            return self._without_answer(self._process.wait())
        except Refused as error:
            return Failure(FailureKind.EXCEPTION, f"device {self._name}: {error}", self._last_words())
        finally:
            limit.cancel()

    def _time_is_up(self) -> None:
        self._late = True
        self.kill()

    def _take(self, line: bytes, context: Context) -> Result | Failure | None:
        """Take one message; the job's end, if it is that.

        Raises:
            Refused: it is no message.
        """
        try:
            message = json.loads(line)
            kind = next(kind for kind in ("report", "ask", "result", "failure") if kind in message)
            if kind == "result":
                return _result(message["result"])
            if kind == "failure":
                about = message["failure"]
                return Failure(FailureKind(about["kind"]), str(about["message"]), str(about["traceback"])[-MOST_TRACEBACK:])
            if kind == "report":
                progress = {str(key): value for key, value in message["report"].items() if key != "self"}
        except (ValueError, TypeError, KeyError, AttributeError, StopIteration, RecursionError):
            raise Refused(f"garbage instead of an answer: {_shown(line)}") from None
        if kind == "ask":
            self._send(_served(message, context))
            return None
        try:
            context.report(**progress)
        except Interrupted:
            self._send({"stop": True})
        return None

    def _without_answer(self, code: int) -> Failure:
        """What became of a process that ended and said nothing."""
        where, words = f"device {self._name}", self._last_words()
        if self._late:
            message = f"{where}: no answer within {self._settings.timeout:g} s (devices.{self._name}.timeout)"
            return Failure(FailureKind.STALLED, message, words)
        if self._killed:
            return Failure(FailureKind.INTERRUPTED, "cancelled")
        if self._settings.runner == "ssh" and code == _NO_CONNECTION:
            return Failure(FailureKind.LOST, f"{where}: the connection to {self._settings.host} was lost: {words}")
        kind = FailureKind.LOST if _signal(code) == signal.SIGKILL else FailureKind.EXCEPTION  # the first: out of memory, or us
        return Failure(kind, f"{where}: the job's process {_how(code)} without an answer", words)

    # ------------------------------------------------------------------------------------------------------------ lines
    def _send(self, message: Mapping[str, JSON]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended: reading tells how
            rest = memoryview(json.dumps(message).encode() + b"\n")
            while rest:
                rest = rest[self._process.stdin.write(rest) :]

    def _line(self, deadline: float | None = None) -> bytes | None:
        """The next line, or None: it has ended.

        Raises:
            Refused: the line is too long.
            Unreachable: none came until the deadline.
        """
        while True:
            end = self._buffer.find(b"\n", self._searched)
            if end >= 0:
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 1]
                self._searched = 0
                return line
            self._searched = len(self._buffer)
            if self._searched > MOST_ANSWER:
                raise Refused(f"an answer of more than {MOST_ANSWER >> 20} MiB: {_shown(bytes(self._buffer[:200]))}")
            ended = self._process.poll() is not None  # what it started may keep its streams open
            if not self._read(0.0 if ended else 0.5) and ended:
                return None
            if deadline is not None and time.monotonic() > deadline:
                raise Unreachable(f"no answer within {READY_WITHIN:g} s")

    def _read(self, patience: float) -> bool:
        """Take what there is; whether anything was."""
        found = False
        for key, _ in self._selector.select(patience):
            try:
                chunk = os.read(key.fd, 1 << 16)
            except BlockingIOError:
                continue
            if not chunk:
                self._selector.unregister(key.fileobj)
            elif key.fileobj is self._process.stdout:
                self._buffer += chunk
            else:
                self._words = (self._words + chunk)[-MOST_TRACEBACK:]
            found = True
        if not self._selector.get_map() and patience:
            time.sleep(min(patience, 0.05))  # both streams are closed, and the process is about to end
        return found

    def _last_words(self) -> str:
        while self._read(0.0):
            pass
        return mask_text(bytes(self._words).decode(errors="replace").strip())


def _result(about: Any) -> Result:
    artifacts = {str(name): ArtifactRef.from_json(ref) for name, ref in about["artifacts"].items()}
    return Result(dict(about["metrics"]), artifacts)


def _served(message: Mapping[str, Any], context: Context) -> dict[str, JSON]:
    """Do what the work asks of the artifact store.

    Raises:
        Refused: nobody knows what that is.
    """
    try:
        what = message["ask"]
        if what == "load":
            return {"answer": base64.b64encode(context.load(ArtifactRef.from_json(message["ref"]))).decode()}
        if what == "save":
            ref = context.save(str(message["name"]), base64.b64decode(message["payload"], validate=True))
            return {"answer": ref.to_json()}
        if what == "load_checkpoint":
            found = context.load_checkpoint()
            return {"answer": None if found is None else base64.b64encode(found).decode()}
        if what == "save_checkpoint":
            context.save_checkpoint(base64.b64decode(message["payload"], validate=True))
            return {"answer": None}
    except (ArchsearchError, Interrupted) as error:
        return {"failed": type(error).__name__, "text": str(error)}
    except (ValueError, TypeError, KeyError, binascii.Error):
        pass
    raise Refused(f"garbage instead of a question: {_shown(json.dumps(message).encode())}")


def _signal(code: int) -> int:
    """The signal that ended a process, as the system or a shell says it; 0: none did."""
    return -code if code < 0 else code - 128 if 128 < code < 128 + 65 else 0


def _how(code: int) -> str:
    number = _signal(code)
    if number in set(signal.Signals):
        return f"was ended by {signal.Signals(number).name}"
    return f"left with exit code {code}"


def _shown(line: bytes) -> str:
    text = mask_text(repr(line[:200].decode(errors="replace")))
    return text if len(line) <= 200 and len(text) <= 202 else f"{text[:200]} ..."
