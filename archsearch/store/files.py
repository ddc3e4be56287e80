"""Whole files below one root, on a local disk or any store that fsspec reaches."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from archsearch.jobs import ArchsearchError, InputError, StoreUnavailable
from archsearch.store.durable import write_durably

#: Protocols of stores without folders: what is missing there is the bucket, perhaps because of a wrong letter in its name.
_BUCKETS = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "az", "oss"})


class Files:
    """Keys are relative paths with ``/``; one that would leave the root, also through a symbolic link, is refused.

    All methods raise ``StoreUnavailable`` when the store cannot be reached and ``InputError`` for a key that leaves the root.
    """

    def __init__(self, url: str) -> None:
        try:
            self._fs, root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise InputError(f"artifacts in {url!r} cannot be reached: {error}") from error
        self._root = str(root).rstrip("/")
        self._local = isinstance(self._fs, LocalFileSystem)
        self.url = self._root if self._local else url  # absolute, so that it names the same place in every process

    def read(self, key: str) -> bytes | None:
        """The file's bytes, or None if there is none."""
        path = self._path(key)
        with self._reachable(key):
            try:
                return bytes(self._fs.cat_file(path))
            except (FileNotFoundError, IsADirectoryError):
                return None

    def write(self, key: str, payload: bytes, *, once: bool) -> None:
        """Write the file whole and durably. ``once``: its name tells its content, so a file of that name need not change."""
        path = self._path(key)
        with self._reachable(key):
            if self._local:
                write_durably(Path(path), payload)
            elif not once:
                self._pipe(path, payload, "overwrite")
            else:
                try:
                    self._pipe(path, payload, "create")
                except FileExistsError:  # this very attempt, before its connection broke
                    if self._fs.cat_file(path) != payload:
                        self._pipe(path, payload, "overwrite")

    def keys(self, folder: str) -> list[str]:
        """Keys of all files below ``folder``, sorted; none if there is no such folder."""
        if self._local and not os.path.lexists(f"{self._root}/{folder}"):
            return []  # asked for every job that ends: the checks below take a tenth of a driver's time
        path = self._path(folder)
        with self._reachable(folder):
            self._fs.invalidate_cache()
            return sorted(found[len(self._root) + 1 :] for found in self._fs.find(path))

    def remove(self, key: str) -> None:
        """Remove the file, and on a local disk the folders that this leaves empty."""
        path = self._path(key)
        with self._reachable(key):
            try:
                self._fs.rm_file(path)
            except FileNotFoundError:
                return
            if self._local:
                for folder in list(Path(path).parents)[: key.count("/")]:
                    try:
                        folder.rmdir()
                    except OSError:  # not empty
                        break

    def _pipe(self, path: str, payload: bytes, mode: str) -> None:
        try:
            self._fs.pipe_file(path, payload, mode=mode)
        except FileNotFoundError:  # a store with real folders; elsewhere this would make a bucket
            if _BUCKETS.intersection([self._fs.protocol] if isinstance(self._fs.protocol, str) else self._fs.protocol):
                raise
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            self._fs.pipe_file(path, payload, mode=mode)

    def _path(self, key: str) -> str:
        if any(part in ("", ".", "..") for part in key.split("/")) or "\\" in key or "\0" in key:
            raise InputError(f"artifact key {key!r} leads out of {self.url}: expected one such as artifacts/000001/1/a.bin")
        path = f"{self._root}/{key}"
        if self._local and os.path.realpath(path) != os.path.join(os.path.realpath(self._root or "/"), key):
            raise InputError(f"artifact key {key!r} leads through a symbolic link in {self.url}: set run.artifacts instead")
        return path

    @contextmanager
    def _reachable(self, key: str) -> Iterator[None]:
        try:
            yield
        except ArchsearchError:
            raise
        except Exception as error:  # each protocol has errors of its own
            raise StoreUnavailable(f"{key} in {self.url} cannot be read or written: {type(error).__name__}: {error}") from error
