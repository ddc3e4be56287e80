"""A real search small enough for fault tests: digits, two-channel networks, one epoch; and ways to kill its driver."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from archsearch import api
from archsearch.jobs import EventKind
from archsearch.store import open_store

#: Sections of the small search; about 0.2 s a job on one core.
SMALL: dict[str, Any] = {
    "run": {"name": "small", "seed": 5},
    "data": {"name": "digits", "max_train": 200},
    "search": {"name": "petridish", "init_node_ch": [2, 3], "max_hull_points": 8, "band_standard_errors": 2},
    "seed_train": {"epochs": 2, "batch_size": 50, "optimizer": "adamw", "lr": 0.02, "tensorwatch_stats": False},
    "post_train": {"epochs": 2, "batch_size": 50, "optimizer": "adamw", "lr": 0.01, "tensorwatch_stats": False},
    "weak_learner": {"steps": 4},
    "cluster": {"executor": "inline", "backoff": 0.01},
}


def small(**changes: Any) -> dict[str, Any]:
    """The small configuration; ``small(search={"max_hull_points": 3})`` changes single keys."""
    return {name: {**section, **changes.get(name, {})} for name, section in {**{k: {} for k in changes}, **SMALL}.items()}


def history(path: Path) -> list[tuple[Any, ...]]:
    """The committed events: number, kind, job, data."""
    with open_store(path, write=False) as store:
        return [(event.number, event.kind, event.job, event.data) for event in store.events()]


def results(path: Path) -> dict[int, Any]:
    """What each told job returned, less what a clock measured."""
    told = [(job, data) for _, kind, job, data in history(path) if kind is EventKind.TOLD]
    assert len({job for job, _ in told}) == len(told), "a result was counted twice"
    return {
        job: (
            {
                name: value
                for name, value in data["metrics"].items()
                if not name.endswith("seconds") and not name.startswith("seconds")
            },
            digests(data),
        )
        for job, data in told
    }


def digests(data: Any) -> dict[str, str]:
    return {name: ref["sha256"] for name, ref in data["artifacts"].items()}


def asked(path: Path) -> list[int]:
    return [job for _, kind, job, _ in history(path) if kind is EventKind.ASKED]


def frontier(path: Path) -> list[tuple[Any, ...]]:
    return [tuple(sorted(point.items())) for point in api.load_run(path).frontier()]


#: Children are forked from a server process that has loaded all that a search needs and has run nothing: importing it takes
#: longer than the small search. Installed modules only: Python 3.11's server does not look into the tests' folders.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "archsearch.api",
        "archsearch.train.work",
        "archsearch.cluster.inline",
        "archsearch.searchers.petridish",
        "archsearch.report.device_pictures",
        "matplotlib.backends.backend_agg",
    ]
)


def start_or_resume(path: Path, config: dict[str, Any], reached: Callable[[str], None] = lambda name: None) -> None:
    """Go on with the run at ``path``, or start it if its creation was not complete."""
    if (path / "run.db").exists():
        api.resume(path, reached=reached)
    else:
        api.search(config, run_dir=path, reached=reached)


def dying(point: str, occurrence: int) -> Callable[[str], None]:
    """What is told of crash points: it dies by SIGKILL when one is reached so many times."""
    seen = 0

    def reached(name: str) -> None:
        nonlocal seen
        seen += name == point
        if point and seen >= occurrence:
            os.kill(os.getpid(), signal.SIGKILL)

    return reached


def die_at(path: Path, config: dict[str, Any], point: str, occurrence: int) -> None:
    """Run until a crash point is reached so many times, and die there."""
    start_or_resume(path, config, dying(point, occurrence))


def finish(path: Path, config: dict[str, Any]) -> None:
    """Start or resume in a process of its own, to the end."""
    assert not died(_spawn(start_or_resume, path, config)), "nobody killed it"


def killed_at(path: Path, config: dict[str, Any], point: str, occurrence: int) -> bool:
    """Run and die at a crash point. False if the run ended before."""
    return died(_spawn(die_at, path, config, point, occurrence))


def killed_after(path: Path, config: dict[str, Any], seconds: float) -> bool:
    """Run and be killed by SIGKILL after so many seconds. False if the run ended before."""
    process = _spawn(start_or_resume, path, config)
    process.join(seconds)
    process.kill()
    return died(process)


def _spawn(body: Callable[..., None], *args: Any) -> Any:
    process = FORKS.Process(target=body, args=args)
    process.start()
    return process


def died(process: Any) -> bool:
    process.join(120)
    assert process.exitcode in (0, -signal.SIGKILL), f"the driver left with {process.exitcode}"
    return process.exitcode == -signal.SIGKILL
