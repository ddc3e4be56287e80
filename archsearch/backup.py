"""A copy of a run that is whole and goes on by itself, made beside its living driver, of whatever kind its stores are."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from archsearch import config as configuration
from archsearch.jobs import ArtifactRef, InputError, StoreDamaged
from archsearch.run import Run, artifacts_root, load_run
from archsearch.store import (
    Artifacts,
    IncompleteRun,
    RunFolder,
    RunState,
    StoredRun,
    create_run,
    list_runs,
    open_store,
    read_run,
)

#: Seconds between two signs of progress.
SAID_EVERY = 2.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class Backup:
    """What was copied, the run's evaluations included. ``bytes`` is the size of the artifacts."""

    run: str
    backup: str
    events: int
    artifacts: int
    bytes: int


def backup(run: str | os.PathLike[str], to: str | os.PathLike[str], say: Say = lambda text: None) -> Backup:
    """Copy a run's history and artifacts, each checked, into the folder ``to``, where they are a run that can be resumed.

    The copy keeps its log in a SQLite file and its artifacts in its own folder, whatever the run does. It has all that the run
    had at one moment, but for the checkpoints of jobs that ran: these begin again. A backup that was cut short goes on when it
    is made again; reports are written anew with ``archsearch report``.

    Raises:
        InputError: no run is there; or ``to`` holds something else, or a whole run.
        StoreDamaged: something in the run is not what was written.
        StoreUnavailable: a store cannot be reached or is full.
    """
    source, target = load_run(Path(run)), RunFolder.at(to)
    if target.path.is_relative_to(source.path):
        raise InputError(f"{target.path} lies in the run that is to be copied: name a folder outside of it")
    if target.made:
        raise InputError(f"{target.path} holds a whole run already: name another folder")
    place = Artifacts(target.url)
    if not target.path.is_dir() or not any(target.path.iterdir()):
        place.claim(source.meta["id"], new=True)
    else:
        place.claim(source.meta["id"])  # begun before, or nothing of ours
    made = [_copied(source, target, say)]
    for each in list_runs(source.folder.evaluations):
        inner = RunFolder.at(target.evaluations / each.name)
        try:
            if not inner.made:
                made.append(_copied(Run(each), inner, say))
        except IncompleteRun:
            continue  # nothing was begun
    # The run itself comes last: until its database has its name the backup is not there.
    stored, artifacts, size = made[0]
    _create(stored, target)
    total = [len(stored.events) + sum(len(each.events) for each, _, _ in made[1:]), artifacts, size]
    for _, more, bytes_ in made[1:]:
        total[1] += more
        total[2] += bytes_
    return Backup(str(source.path), str(target.path), *total)


def _copied(source: Run, target: RunFolder, say: Say) -> tuple[StoredRun, int, int]:
    """Copy the artifacts of a run as it stands, and, but for the outermost, create the copy; how many, and their bytes."""
    past, place = Artifacts(artifacts_root(source.config, source.folder)), Artifacts(target.url)
    said = 0.0
    while True:
        stored = read_run(source.folder)
        refs = [] if stored.meta.get("simulated") else _kept(RunState(stored.events))
        try:
            for done, ref in enumerate(refs):
                if time.monotonic() - said > SAID_EVERY:
                    said = time.monotonic()
                    say(f"{source.folder.name}: {done} of {len(refs)} artifacts …")
                if not place.holds(ref):
                    place.put(ref, past.load(ref))
            break
        except StoreDamaged:
            now = RunState(read_run(source.folder).events)
            if all(each.key in now.artifact_keys() for each in refs):
                raise
            # Its driver has dropped some meanwhile (run.keep): they are not in the history as it is now.
    if "evaluation" in stored.meta:
        _create(stored, target)
    return stored, len(refs), sum(ref.size for ref in refs)


def _kept(state: RunState) -> list[ArtifactRef]:
    keys = state.artifact_keys()
    return [ref for record in state.jobs.values() for ref in record.artifacts.values() if ref.key in keys]


def _create(stored: StoredRun, target: RunFolder) -> None:
    """The history in the copy's folder, read again from there and compared."""
    text = configuration.without(stored.meta["config"], "run.artifacts")
    create_run(target, config_text=text, meta=stored.meta, events=stored.events)
    open_store(target, write=True).close()  # HEAD then names the last event
    if read_run(target).events != stored.events:
        raise StoreDamaged(f"{target.path}: the copy is not what was read from the run")
