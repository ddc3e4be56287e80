"""The command line as these tests call it: in a process of its own, or in this one, where another would show nothing more;
and a small search for it."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TRAIN = {"epochs": 1, "batch_size": 50, "tensorwatch_stats": False}
SMALL: dict[str, Any] = {
    "run": {"name": "tiny", "seed": 2},
    "data": {"name": "digits", "max_train": 150},
    "search": {"name": "petridish", "init_node_ch": [2, 3], "max_hull_points": 4, "band_standard_errors": 2},
    "seed_train": {**_TRAIN},
    "post_train": {**_TRAIN},
    "weak_learner": {"steps": 2},
    "cluster": {"executor": "inline"},
}


@dataclass(frozen=True)
class Said:
    stdout: str
    stderr: str
    returncode: int


def archsearch(*words: object, cwd: Path, code: int = 0) -> Said:
    """A command that must end with ``code``, as a shell starts it."""
    command = [sys.executable, "-c", "from archsearch.cli import main; main()", *map(str, words)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=240)
    return _checked(Said(done.stdout, done.stderr, done.returncode), code)


def called(*words: object, cwd: Path, code: int = 0) -> Said:
    """The same without the seconds that an interpreter and torch take to start. What is no ArchsearchError comes through."""
    from archsearch.cli import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(word) for word in words])
        except SystemExit as left:
            return _checked(Said(out.getvalue(), err.getvalue(), int(left.code or 0)), code)
    raise AssertionError("main has returned")


def _checked(said: Said, code: int) -> Said:
    assert said.returncode == code, (said.returncode, said.stdout[-1500:], said.stderr[-3000:])
    assert "Traceback" not in said.stderr
    return said
