"""Runs pip as a process, and says in its own words what went wrong."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from threading import Timer

from archsearch.jobs import ArchsearchError, InputError

#: Seconds after which a call is given up: the wheels of all that archsearch needs are some hundred megabytes.
PATIENCE = 3600.0
#: Lines of pip that are kept to tell what went wrong.
_KEPT = 400


class PipFailed(ArchsearchError):
    """pip did not do it; the message is its last word, ``text`` what it said before."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.text = "\n".join(lines)
        said = [line.strip() for line in lines if line.strip()] or ["it said nothing"]
        errors = [line.removeprefix("ERROR: ") for line in said if line.startswith("ERROR: ")]
        super().__init__((errors or said)[-1])


def clean_environment() -> dict[str, str]:
    """The variables of this process less those that lead a Python to packages or settings beside its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON", "VIRTUAL_ENV"))}
    return {**kept, "PYTHONNOUSERSITE": "1"}


def run_pip(
    arguments: Sequence[str],
    requirements: Sequence[str],
    each: Callable[[str], None] = lambda line: None,
    env: Mapping[str, str] | None = None,
) -> None:
    """Run pip with a file of requirements; ``each`` hears its lines.

    Raises:
        InputError: there is no pip.
        PipFailed: it failed, or took longer than `PATIENCE`.
    """
    if find_spec("pip") is None:
        raise InputError(f"{sys.executable} has no pip: {sys.executable} -m ensurepip")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "requirements.txt"
        file.write_text("".join(f"{line}\n" for line in requirements), encoding="utf-8")
        quiet = ["--no-input", "--no-color", "--disable-pip-version-check"]
        # -P: no pip.py of the current folder; settings may name files in it, so it stays the current one.
        run_python(["-P", "-m", "pip", *quiet, *arguments, "--requirement", str(file)], each, env or os.environ)


def run_python(
    arguments: Sequence[str],
    each: Callable[[str], None] = lambda line: None,
    env: Mapping[str, str] | None = None,
) -> None:
    """Run this interpreter, in a ``clean_environment`` where no other is given.

    Raises:
        PipFailed: it failed, or took longer than `PATIENCE`.
    """
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=dict(env) if env is not None else clean_environment(),
        start_new_session=True,  # pip starts others, which end with it
    )
    assert process.stdout is not None
    lines: deque[str] = deque(maxlen=_KEPT)
    late = Timer(PATIENCE, _end, [process])
    late.start()
    try:
        with process.stdout as stdout:
            for line in stdout:
                lines.append(line.rstrip())
                each(line)
        process.wait()
    finally:
        late.cancel()
        _end(process)
    if process.returncode < 0:
        lines.append(f"ERROR: ended by signal {-process.returncode}; after {PATIENCE:.0f} s archsearch ends it")
    if process.returncode:
        raise PipFailed(lines)


def _end(process: subprocess.Popen[str]) -> None:
    """End it with all that it started, if it still runs."""
    if process.poll() is None:
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()
