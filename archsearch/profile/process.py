"""The other side of a measuring process: starts it, reads its answers, and ends it whatever it does.

One JSON document goes in on stdin, which then stays open: its end tells the process that nobody listens any more. One JSON
document a line comes out on stdout.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from archsearch.jobs import JSON, ArchsearchError

_NUMBER = (int, float)
#: What each answer holds, and of which kind.
ANSWERS: dict[str, dict[str, tuple[type, ...]]] = {
    "begin": {"subject": (int,)},
    "failed": {"subject": (int,), "kind": (str,), "message": (str,)},
    "prepared": {"subject": (int,)},
    "described": {"graph": (list,), "backends": (list,), "supported": (list,)},
    "ready": {"subject": (int,), "build_seconds": _NUMBER, "file_size": (int,), "deviation": _NUMBER},
    "block": {
        "subject": (int,),
        "ms": (list,),
        "seconds": _NUMBER,
        "energy_mj": (*_NUMBER, type(None)),
        "waited": (*_NUMBER, type(None)),
        "clock_mhz": (*_NUMBER, type(None)),
        "temperature": (*_NUMBER, type(None)),
    },
    "load": {"others": _NUMBER},
    "memory": {"subject": (int,), "baseline": (int,), "load": (int,), "run": (int,), "apart": (bool,)},
    "done": {},
}

#: Longest line that is taken for an answer: a block of a million runs is shorter.
LONGEST = 64 << 20


class DeviceGone(ArchsearchError):
    """What measures cannot be reached any more: says nothing about what was to be measured, which is not recorded."""

    exit_code = 3


class ChildFault(DeviceGone):
    """A measuring process did not do what it should; ``kind`` is "died", "hung" or "garbage", ``subject`` the number of what
    it was at work on. None: it had not begun, and nothing that was to be measured is to blame."""

    def __init__(self, kind: str, message: str, subject: int | None = None) -> None:
        self.kind, self.subject = kind, subject
        super().__init__(message)


class Child:
    """A measuring process. To be used in a ``with`` statement, which ends it.

    Raises:
        ChildFault: the system has no room for another process.
    """

    def __init__(
        self, request: Mapping[str, JSON], threads: int, limit: float, variables: Mapping[str, str] | None = None
    ) -> None:
        self.limit = limit
        self.numbers = request.get("numbers", ())  # what its subjects are called
        number = str(threads)
        environment = {
            **os.environ,
            **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), number),
            **(variables or {}),
        }
        root = str(Path(__file__).parents[2])
        environment["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        try:
            self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`; no name: two calls at once share nothing
            self.process = subprocess.Popen(
                command(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.errors,
                env=environment,
                start_new_session=True,  # its own processes (a compiler's, say) end with it
            )
        except OSError as error:
            raise ChildFault("died", f"no measuring process can be started: {error.strerror or error}") from error
        self.rest = b""
        self._send(request)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def answers(self) -> Iterator[dict[str, Any]]:
        """Its answers up to ``{"event": "done"}``, which is not among them.

        Raises:
            ChildFault: it ended before, was silent for too long, or said what is no answer.
        """
        at_work: int | None = None
        while True:
            try:
                answer = read_answer(self._line(time.monotonic() + self.limit))
                if "subject" in answer and answer["subject"] not in self.numbers:
                    raise ChildFault("garbage", f"the measuring process answered of subject {answer['subject']}")
            except ChildFault as error:
                error.subject = at_work
                raise
            if answer["event"] == "done":
                return
            if answer["event"] == "begin":
                at_work = answer["subject"]
            yield answer

    def close(self) -> None:
        """End the process, and those that it started."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.errors):
            if stream is not None and not stream.closed:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def _send(self, request: Mapping[str, JSON]) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has died; the first wait for an answer says of what

    def _line(self, deadline: float) -> bytes:
        """The next line of its output."""
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self.rest:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise ChildFault("hung", f"the measuring process gave no answer for {self.limit:g} s{self._said()}")
                piece = os.read(self.process.stdout.fileno(), 1 << 16)
                if not piece:
                    raise self._death()
                self.rest += piece
                if len(self.rest) > LONGEST:
                    raise ChildFault("garbage", "the measuring process answered without an end")
        line, _, self.rest = self.rest.partition(b"\n")
        return line

    def _death(self) -> ChildFault:
        try:
            code = self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return ChildFault("hung", "the measuring process closed its output but did not end")
        cause = f"was ended by signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"ended with exit code {code}"
        return ChildFault("died", f"the measuring process {cause} before it had answered{self._said()}")

    def _said(self) -> str:
        """What it wrote to stderr last."""
        self.errors.seek(0)
        lines = self.errors.read()[-4000:].decode(errors="replace").strip().splitlines()
        return f": {lines[-1][:300]}" if lines else ""


def read_answer(line: bytes) -> dict[str, Any]:
    """One answer, with all that it must hold.

    Raises:
        ChildFault: it is none; the text shows its beginning.
    """
    fault = ChildFault("garbage", f"the measuring process answered {line[:80].decode(errors='replace')!r}")
    try:
        answer = json.loads(line)
        form = ANSWERS[answer["event"]]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise fault from None
    for name, kinds in form.items():
        value = answer.get(name)
        if name not in answer or not isinstance(value, kinds) or (isinstance(value, float) and not math.isfinite(value)):
            raise ChildFault("garbage", f"{fault}: {name} is missing or not what it should be")
    runs = answer.get("ms", [1.0])
    if not runs or not all(isinstance(each, float) and math.isfinite(each) and each > 0 for each in runs):
        raise ChildFault("garbage", f"{fault}: these are no times of runs")
    return dict(answer)


def command() -> Sequence[str]:
    """How a measuring process is started. Its folder is not searched for modules."""
    return [sys.executable, "-P", "-m", "archsearch.profile.child"]
