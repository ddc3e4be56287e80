"""Real searches for the store's tests: digits, two-channel networks; driven by the command line in processes of their own."""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from archsearch.jobs import Event, EventKind
from archsearch.store import read_run

#: About 0.2 s a job on one core.
CONFIG: dict[str, Any] = {
    "run": {"seed": 5},
    "data": {"name": "digits", "max_train": 200},
    "search": {"name": "petridish", "init_node_ch": [2, 3], "max_hull_points": 8, "band_standard_errors": 2},
    "seed_train": {"epochs": 2, "batch_size": 50, "optimizer": "adamw", "lr": 0.02, "tensorwatch_stats": False},
    "post_train": {"epochs": 2, "batch_size": 50, "optimizer": "adamw", "lr": 0.01, "tensorwatch_stats": False},
    "weak_learner": {"steps": 4},
    "cluster": {"executor": "inline", "backoff": 0.01},
}


def config(**changes: Any) -> dict[str, Any]:
    """``config(search={"max_hull_points": 3})`` changes single keys."""
    return {name: {**section, **changes.get(name, {})} for name, section in {**{k: {} for k in changes}, **CONFIG}.items()}


def results(path: Path) -> dict[int, Any]:
    """What each told job gave: the hashes of its artifacts and its error. No job ended twice."""
    told = [event for event in read_run(path).events if event.kind is EventKind.TOLD]
    assert len({event.job for event in told}) == len(told), "a result was counted twice"
    return {event.job: ({n: ref["sha256"] for n, ref in event.data["artifacts"].items()}, error(event)) for event in told}


def error(event: Event) -> Any:
    return event.data["metrics"].get("val_error", event.data["metrics"].get("test_error"))


@dataclass(frozen=True)
class Said:
    stdout: str
    stderr: str
    code: int


def called(*words: Any) -> Said:
    """One command to its end, in this process. What is no ArchsearchError comes through."""
    from archsearch.cli import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(word) for word in words])
        except SystemExit as left:
            return Said(out.getvalue(), err.getvalue(), int(left.code or 0))
    raise AssertionError("main has returned")


def archsearch(*words: Any, code: int = 0) -> Said:
    """One command that must end with that code."""
    said = called(*words)
    assert said.code == code, (said.code, said.stdout[-2000:], said.stderr[-4000:])
    return said


class Driver:
    """``archsearch search`` or ``resume`` of the run at ``path`` in a process of its own; its messages go to ``log``."""

    def __init__(self, path: Path, conf: dict[str, Any] | None = None, *flags: str) -> None:
        self.log = path.parent / f"{path.name}.log"
        words = ["resume", str(path)]
        if conf is not None:
            source = path.parent / f"{path.name}.yaml"
            source.write_text(yaml.safe_dump(conf))
            words = ["search", str(source), "--run-dir", str(path)]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "from archsearch.cli import main; main()", *words, *flags, "--json"],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        atexit.register(self.process.kill)  # a test that fails leaves nobody behind

    def end(self, code: int = 0) -> dict[str, Any]:
        out, _ = self.process.communicate(timeout=120)
        assert self.process.returncode == code, self.log.read_text()[-3000:]
        return json.loads(out) if out else {}

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def wait_for(self, condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, f"it left before: {what}\n{self.log.read_text()[-3000:]}"
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}\n{self.log.read_text()[-3000:]}"
            time.sleep(0.05)

    def more(self, count: int = 1) -> None:
        """Wait until so many more jobs are done."""
        before = self.log.read_text().count(" done in ")
        self.wait_for(lambda: self.log.read_text().count(" done in ") >= before + count, f"{count} more jobs done")

    def says(self, text: str) -> Callable[[], bool]:
        return lambda: text in self.log.read_text()
