"""What a recipe starts from: a parent's weights, found by their content."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from archsearch.jobs import ArtifactRef, InputError, StoreDamaged
from archsearch.recipes.recipe import Recipe
from archsearch.registry import TASKS
from archsearch.store.durable import write_durably

#: The bytes of the artifact with that SHA-256, or None: it is not there.
Source = Callable[[str], bytes | None]


def weights_file(folder: Path, sha256: str) -> Path:
    """Where weights lie in a folder of weights: SHA256.safetensors."""
    return folder / f"{sha256}.safetensors"


def weights_beside(folder: Path) -> Source:
    """Finds ``SHA256.safetensors`` in a folder."""

    def source(sha256: str) -> bytes | None:
        file = weights_file(folder, sha256)
        return file.read_bytes() if file.is_file() else None

    return source


def start_ref(sha256: str, size: int) -> ArtifactRef:
    """How a work that trains a recipe reads what it starts from."""
    return ArtifactRef(f"artifacts/000000/0/weights-{sha256[:16]}.safetensors", sha256, size)


def needed_weights(recipe: Recipe) -> dict[str, int]:
    """SHA-256 and size of the artifacts that a filled recipe starts from; none where it trains from scratch."""
    needed: dict[str, int] = {}

    def refer(sha256: str, size: int) -> ArtifactRef:
        needed[sha256] = size
        return start_ref(sha256, size)

    TASKS.get(recipe.task).spec(recipe, refer)
    return needed


def copy_weights(recipe: Recipe, source: Source, folder: Path) -> list[Path]:
    """Lay what a recipe starts from into a folder, as ``weights_beside`` finds it.

    Raises:
        InputError: the source does not have it.
    """
    files = []
    for sha256, size in needed_weights(recipe).items():
        if source(sha256) is None:
            raise InputError(
                f"the weights that the recipe starts from ({sha256[:12]}…) are no longer there: a run keeps what run.keep "
                "says. Make the recipe of a point that was trained from scratch, or search with run.keep=all."
            )
        files.append(weights_file(folder, sha256))
        write_durably(files[-1], fetched(sha256, size, [source]))
    return files


def fetched(sha256: str, size: int, sources: Sequence[Source]) -> bytes:
    """The bytes of an artifact from the first source that has it.

    Raises:
        InputError: none has it.
        StoreDamaged: what one has is something else.
    """
    for source in sources:
        payload = source(sha256)
        if payload is None:
            continue
        if len(payload) != size or hashlib.sha256(payload).hexdigest() != sha256:
            raise StoreDamaged(
                f"the weights {sha256[:12]} that were found are not what the recipe was made with; take a whole copy"
            )
        return payload
    raise InputError(
        f"weights: the recipe starts from a parent's weights ({sha256[:12]}…, {size} bytes), which are not here. Say where "
        "they are with --weights RUN_OR_FOLDER, or train from scratch with --scratch, which is another recipe."
    )
