"""Killing the driver of a real evaluation; see ``small_run``, whose search it evaluates."""

from __future__ import annotations

from pathlib import Path

from small_run import FORKS, died, dying, small

import archsearch

#: The small search, and an evaluation that takes some seconds: two models (say ``top=2``), two seeds each.
SMALL = small(
    search={"max_hull_points": 4, "test_frontier": False},
    evaluation={
        "seeds": 2,
        "n_cells": 5,
        "train": {"epochs": 3, "batch_size": 50, "optimizer": "adamw", "lr": 0.01, "checkpoint_every": {"epochs": 1}},
    },
)


def evaluate(path: Path, point: str = "", occurrence: int = 0) -> None:
    """Evaluate the run at ``path``; with a crash point die there by SIGKILL, when it is reached so many times."""
    archsearch.evaluate(path, top=2, reached=dying(point, occurrence))


def finish(path: Path) -> None:
    """Evaluate in a process of its own, to the end."""
    assert not killed_at(path, "", 0), "nobody killed it"


def killed_at(path: Path, point: str, occurrence: int) -> bool:
    """Evaluate and die at a crash point. False if the evaluation ended before."""
    process = FORKS.Process(target=evaluate, args=(path, point, occurrence))
    process.start()
    return died(process)


def killed_when(path: Path, file: str) -> bool:
    """Evaluate and be killed as soon as a file of that pattern lies in the run's folder. False if none ever did."""
    process = FORKS.Process(target=evaluate, args=(path,))
    process.start()
    while process.is_alive() and not [*path.glob(file)]:
        process.join(0.005)
    process.kill()
    return died(process)
