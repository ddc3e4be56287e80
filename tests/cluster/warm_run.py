"""A warm start that can be killed: in a process of its own, at a crash point or after a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from small_run import _spawn, died, dying, small

from archsearch import api

#: The earlier run, and the search that starts from it: one seed is new, and so is the run's seed.
FIRST = small(search={"max_hull_points": 5})
SECOND = small(run={"name": "second", "seed": 5}, search={"init_node_ch": [2, 3, 4], "max_hull_points": 8})


def start_or_resume(path: Path, source: Path, reached: Callable[[str], None] = lambda name: None) -> None:
    """Go on with the run at ``path``, or start it if there is none."""
    if (path / "run.db").exists():
        api.resume(path, reached=reached)
    else:
        api.search(SECOND, run_dir=path, warm_from=source, reached=reached)


@contextmanager
def out_of_sight(path: Path, source: Path) -> Iterator[None]:
    """Where there is a run already, its source is not to be found meanwhile: nothing may need it."""
    if not (path / "run.db").exists():
        yield
        return
    hidden = source.rename(source.with_name("removed"))
    try:
        yield
    finally:
        hidden.rename(source)


def die_at(path: Path, source: Path, point: str, occurrence: int) -> None:
    """Run until a crash point is reached so many times, and die there."""
    start_or_resume(path, source, dying(point, occurrence))


def killed_at(path: Path, source: Path, point: str, occurrence: int) -> bool:
    with out_of_sight(path, source):
        return died(_spawn(die_at, path, source, point, occurrence))


def killed_after(path: Path, source: Path, seconds: float) -> bool:
    with out_of_sight(path, source):
        process = _spawn(start_or_resume, path, source)
        process.join(seconds)
        process.kill()
        return died(process)


def finish(path: Path, source: Path) -> None:
    with out_of_sight(path, source):
        assert not died(_spawn(start_or_resume, path, source)), "nobody killed it"


def pool(path: Path) -> list[tuple[Any, ...]]:
    """All points: id, stage, hash of the weights, parent, origin, error."""
    return [
        (p.id, p.stage, p.weights and p.weights.sha256, p.parent, p.origin and p.origin["point"], p.metrics["val_error"])
        for p in api.load_run(path).points()
    ]
