"""What a recipe starts from: a parent's weights, found by their content in a run or in a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from archsearch.jobs import ArtifactRef, InputError, StoreDamaged
from archsearch.recipes.recipe import Recipe
from archsearch.registry import TASKS
from archsearch.run import Run, artifacts_root, load_run
from archsearch.store import Artifacts, RunFolder
from archsearch.store.durable import write_durably

#: The bytes of the artifact with that SHA-256, or None: it is not there.
Source = Callable[[str], bytes | None]


def weights_of_run(run: Run | str | Path) -> Source:
    """Finds artifacts of a run by their content."""
    found = run if isinstance(run, Run) else load_run(run)
    artifacts = Artifacts(artifacts_root(found.config, found.folder))
    refs = {ref.sha256: ref for record in found.state.jobs.values() for ref in record.artifacts.values()}

    def source(sha256: str) -> bytes | None:
        ref = refs.get(sha256)
        return None if ref is None or ref.key in found.state.collected else artifacts.load(ref)

    return source


def weights_in(folder: str | Path) -> Source:
    """Finds ``SHA256.safetensors`` in a folder, or whatever a run there has."""
    path = Path(folder)
    if RunFolder.at(path).started:
        return weights_of_run(path)

    def source(sha256: str) -> bytes | None:
        file = path / f"{sha256}.safetensors"
        return file.read_bytes() if file.is_file() else None

    return source


def needed_weights(recipe: Recipe) -> dict[str, int]:
    """SHA-256 and size of the artifacts that a filled recipe starts from; none where it trains from scratch."""
    needed: dict[str, int] = {}

    def refer(sha256: str, size: int) -> ArtifactRef:
        needed[sha256] = size
        return ArtifactRef("", sha256, size)

    TASKS.get(recipe.task).spec(recipe, refer)
    return needed


def copy_weights(recipe: Recipe, source: Source, folder: Path) -> list[Path]:
    """Lay what a recipe starts from into a folder, as ``weights_in`` finds it.

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
        file = folder / f"{sha256}.safetensors"
        write_durably(file, fetched(sha256, size, [source]))
        files.append(file)
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
