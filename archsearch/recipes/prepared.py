"""What recipes need of the world, kept by its content, so that it is there without network.

``FOLDER/data/HASH.npz``: a data set by its hash. ``FOLDER/weights/SHA256.safetensors``: weights that a recipe starts from.
``FOLDER/led_to/KEY``: for an ingredient that names no content, the hash of what it led to. Nothing here can run code, and what
is read is hashed: a file that is not what its name says is refused. All of it may be deleted, and prepared again.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from archsearch.data import DataSection, Dataset, load
from archsearch.data.npz import write
from archsearch.jobs import InputError, StoreDamaged, StoreUnavailable
from archsearch.places import cache_folder
from archsearch.recipes.ingredient import Ingredient
from archsearch.recipes.weights import weights_file
from archsearch.store.durable import TEMPORARY, make_folders, sync_folder, write_durably


@dataclass(frozen=True)
class Prepared:
    """One such folder, which need not be there yet."""

    folder: Path

    # ------------------------------------------------------------------------------------------------------------- data
    def data_file(self, sha256: str) -> Path:
        return self.folder / "data" / f"{sha256}.npz"

    def dataset(self, sha256: str) -> Dataset | None:
        """The data set of that hash, or None: it was not prepared.

        Raises:
            StoreDamaged: what is there is another one.
        """
        file = self.data_file(sha256)
        if not os.path.isfile(file):
            return None
        with suppress(InputError):
            found = load(DataSection(name="npz", path=str(file)))
            if found.hash == sha256:
                return found
        raise StoreDamaged(f"{file} is not the data set of its name: remove it, and prepare the recipe again")

    def keep_dataset(self, dataset: Dataset) -> Path:
        """Keep a data set, all three splits; the file.

        Raises:
            InputError: a file of this form cannot hold it.
            StoreUnavailable: it cannot be written.
        """
        file = self.data_file(dataset.hash)
        with suppress(StoreDamaged):
            if self.dataset(dataset.hash) is not None:
                return file
        temporary = file.with_name(f"{TEMPORARY}{uuid.uuid4().hex}.npz")
        try:
            make_folders(file.parent)
            write(dataset, temporary)
            if load(DataSection(name="npz", path=str(temporary))).hash != dataset.hash:
                raise InputError(f"data: {dataset.name} cannot be kept as an .npz file: it reads as another set")
            os.replace(temporary, file)
            sync_folder(file.parent)
        except OSError as error:
            raise StoreUnavailable(f"{file} cannot be written: {error}; free the disk or set ARCHSEARCH_CACHE") from error
        finally:
            with suppress(OSError):
                temporary.unlink()
        return file

    # ---------------------------------------------------------------------------------------------------------- weights
    def weights(self, sha256: str) -> bytes | None:
        """The weights of that SHA-256, or None; a ``Source``, whose reader hashes them."""
        file = weights_file(self.folder / "weights", sha256)
        return file.read_bytes() if os.path.isfile(file) else None

    def keep_weights(self, sha256: str, payload: bytes) -> Path:
        file = weights_file(self.folder / "weights", sha256)
        self._write(file, payload)
        return file

    # ------------------------------------------------------------------------------------------------------ ingredients
    def led_to(self, ingredient: Ingredient) -> str | None:
        """The content that an ingredient without a hash led to when it was prepared here, if that is still here."""
        try:
            sha256 = self._note(ingredient).read_text()
        except (OSError, UnicodeDecodeError):
            return None
        known = len(sha256) == 64 and set(sha256) <= set("0123456789abcdef")
        return sha256 if known and os.path.isfile(self.data_file(sha256)) else None

    def note(self, ingredient: Ingredient, sha256: str) -> None:
        """Remember what an ingredient has led to."""
        self._write(self._note(ingredient), sha256.encode())

    def _note(self, ingredient: Ingredient) -> Path:
        """A relative path in the parameters means something else in another folder."""
        path = ingredient.parameters.get("path")
        where = os.getcwd() if isinstance(path, str) and not os.path.isabs(path) else ""
        text = json.dumps([ingredient.identity(), where], sort_keys=True)
        return self.folder / "led_to" / hashlib.sha256(text.encode()).hexdigest()[:32]

    def _write(self, file: Path, payload: bytes) -> None:
        try:
            write_durably(file, payload)
        except OSError as error:
            raise StoreUnavailable(f"{file} cannot be written: {error}; free the disk or set ARCHSEARCH_CACHE") from error


def own() -> Prepared | None:
    """This user's, the folder ``offline`` of archsearch's cache, unless there is no place for it."""
    with suppress(InputError):
        return Prepared(cache_folder() / "offline")
    return None
