"""Where the files of a run lie."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from archsearch.jobs import InputError


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The paths of one run. Nothing is read or made by naming them."""

    path: Path

    @classmethod
    def at(cls, path: str | os.PathLike[str] | RunFolder) -> RunFolder:
        """The folder of that path, made absolute, so that a later change of directory does not move it."""
        return path if isinstance(path, RunFolder) else cls(Path(path).expanduser().absolute())

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def db(self) -> Path:
        return self.path / "run.db"

    @property
    def wal(self) -> Path:
        """SQLite's write-ahead log: what was committed and is not in ``db`` yet."""
        return self.path / "run.db-wal"

    @property
    def pointer(self) -> Path:
        """Names the PostgreSQL database that holds the run's tables, instead of ``db`` (see ``archsearch.store.postgres``)."""
        return self.path / "store.json"

    @property
    def made(self) -> bool:
        """Whether a run was made here: its tables exist, or did."""
        return self.db.exists() or self.pointer.exists()

    @property
    def head(self) -> Path:
        """The last event's number, outside the database (see ``archsearch.store.head``)."""
        return self.path / "HEAD"

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def config(self) -> Path:
        """A copy of the configuration to read; the one that counts is in the database."""
        return self.path / "config.yaml"

    @property
    def artifacts(self) -> Path:
        return self.path / "artifacts"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def evaluations(self) -> Path:
        """Holds the evaluations of this run's models: each is a run of its own."""
        return self.path / "evaluations"

    @property
    def url(self) -> str:
        """Root for ``Artifacts`` of a run that keeps them in its own folder; keys start with ``artifacts/``."""
        return str(self.path)

    def file(self, name: str) -> Path:
        """A report file, such as ``convex_hull.png``."""
        return self.path / name

    @property
    def started(self) -> bool:
        """Whether a run's creation has begun here; ``open_store`` says whether it is whole."""
        return self.head.exists() or self.made


def refuse_links(folder: RunFolder) -> None:
    """
    Raises:
        InputError: a name in the folder is a symbolic link: what is written there would land elsewhere. Those below artifacts
            and checkpoints are looked at when they are used.
    """
    for place, folders, files in os.walk(folder.path):
        for name in (*folders, *files):
            path = os.path.join(place, name)
            if os.path.islink(path):
                raise InputError(f"{path} is a symbolic link: a run's folder holds files of its own only (see run.artifacts)")
        folders[:] = [name for name in folders if name not in (folder.artifacts.name, folder.checkpoints.name)]


def list_runs(directory: str | os.PathLike[str]) -> list[RunFolder]:
    """The runs right below ``directory``, by name; incomplete and damaged ones too. An absent directory holds none."""
    try:
        entries = sorted(Path(directory).expanduser().iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [folder for entry in entries if entry.is_dir() and (folder := RunFolder.at(entry)).started]
