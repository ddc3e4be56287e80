"""What ``archsearch runs rm`` may delete, and deleting it so that no half of a run is left under its name."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from archsearch.cli.options import size_text
from archsearch.jobs import ArchsearchError, InputError, StoreBusy, StoreDamaged, StoreUnavailable
from archsearch.store import IncompleteRun, RunFolder, list_runs
from archsearch.store.database import Database, database_of
from archsearch.store.lease import FileLock

#: The paths, below a run's folder, of what archsearch writes there. Its evaluations are runs of their own.
OWN = re.compile(
    r"""(?:.*/)?\.writing-[0-9a-f]{32}  # left by a write that was cut short
    | evaluations(?:/[A-Za-z0-9_][\w.-]*)?
    | (?:evaluations/[A-Za-z0-9_][\w.-]*/)?
      (?: run\.db(?:\.new)?(?:-wal|-shm|-journal)? | store\.json(?:\.new)? | HEAD | lock | config\.yaml
        | artifacts(?:/\d{6,}(?:/\d+(?:/[A-Za-z0-9_][\w.-]*)?)?)?
        | OWNER | signs(?:/[0-9a-f]{32})?
        | checkpoints(?:/\d{6,}(?:/\d+\.ckpt)?)?
        | full_pool\.tsv | pareto_(?:front_summary|eps_summary|xy)\.tsv
        | convex_hull\.png | seed_models_madds\.png | model_gallery_accuracy_[a-z_]+\.png
        | report\.html | evaluation\.(?:tsv|json|png)
        | points\.jsonl(?:\.new)? | tensorboard(?:/points(?:/\d+)?)?(?:/events\.out\.tfevents\.[\w.-]+)?
        | model_desc_gallery(?:/model_desc_\d+\.(?:yaml|png|svg))?
      )
    """,
    re.VERBOSE,
)


@dataclass(frozen=True)
class Removal:
    """One run that is about to be deleted, and is held meanwhile. ``elsewhere``: where weights lie that stay, if any do;
    ``databases``: its own and its evaluations'."""

    folder: RunFolder
    databases: Sequence[Database]
    state: str
    files: int
    size: str
    elsewhere: str | None

    def carry_out(self) -> None:
        """Delete the folder. It loses its name first, so that a run is there whole or not at all; before that its tables on a
        server are deleted, so that they are never left without a folder that names them.

        Raises:
            StoreUnavailable: the server cannot be reached, the folder cannot be renamed, or something in it cannot be deleted.
        """
        for database in self.databases:
            database.drop()
        path = self.folder.path
        gone = path.with_name(f".removing-{path.name}-{uuid.uuid4().hex[:8]}")
        try:
            os.replace(path, gone)
        except OSError as error:
            raise StoreUnavailable(f"{path} cannot be deleted: {error}; nothing was changed") from error
        try:
            shutil.rmtree(gone)  # unlinks symbolic links and never follows them
        except OSError as error:
            raise StoreUnavailable(f"a part of {path} cannot be deleted: {error}; what is left lies in {gone}") from error


@contextmanager
def removal(path: Path, *, force: bool) -> Iterator[Removal]:
    """Check that the run may be deleted, and keep drivers away from it until the end of the block.

    Raises:
        InputError: no run is there, or (without ``force``) files that are not its own; the text names them.
        StoreBusy: the run is being driven, here or on another host.
    """
    from archsearch import api

    folder = RunFolder.at(path)
    if folder.path.is_symlink():
        raise InputError(f"{folder.path} is a symbolic link; name the folder itself: {os.path.realpath(folder.path)}")
    if not folder.started:
        raise InputError(f"there is no run in {folder.path}: expected a folder that `archsearch search` made")
    elsewhere, state = None, "damaged"
    try:
        run = api.load_run(folder.path)
    except IncompleteRun:
        state = "incomplete"
    except StoreDamaged:
        pass
    except ArchsearchError as error:  # of a newer version, for instance: a run all the same
        state = f"unreadable: {error}"
    else:
        if run.driver:
            raise StoreBusy(f"the run in {folder.path} is held by {run.driver}: wait for its end, or stop it first")
        root = api.artifacts_root(run.config, folder)
        elsewhere, state = None if root == folder.url else root, f"{len(run.points())} points"
    inner = [] if folder.evaluations.is_symlink() else list_runs(folder.evaluations)
    own = [folder, *(each for each in inner if not each.path.is_symlink())]
    with ExitStack() as held:
        for each in own:  # also of a run that cannot be read
            held.callback(FileLock(each.lock, patience=0.0).release)
        databases = []
        for each in own:
            with suppress(StoreDamaged):
                databases.append(database_of(each))
        names, total = _contents(folder.path)
        foreign = [name for name in names if not OWN.fullmatch(name)]
        if foreign and not force:
            listed = ", ".join(foreign[:5]) + (f" and {len(foreign) - 5} more" if len(foreign) > 5 else "")
            raise InputError(f"{folder.path} holds what is not the run's own: {listed}. Move it away, or say --force.")
        yield Removal(folder, databases, state, len(names), size_text(total), elsewhere)


def _contents(root: Path) -> tuple[list[str], int]:
    """Everything below ``root`` but plain folders that archsearch makes itself, by relative path; and their bytes.

    A symbolic link is never archsearch's: it is named with a trailing ``@``.
    """
    names, total = [], 0
    for place, folders, files in os.walk(root, followlinks=False):
        for name in sorted([*folders, *files]):
            full = os.path.join(place, name)
            relative = os.path.relpath(full, root)
            if os.path.islink(full):
                names.append(f"{relative}@")
            elif os.path.isdir(full):
                if not OWN.fullmatch(relative):
                    names.append(f"{relative}/")
            else:
                names.append(relative)
                total += os.lstat(full).st_size
    return names, total
