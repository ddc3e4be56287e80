"""Making an offline pack of a recipe or of what a run has trained: all that training it again takes, in one file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from archsearch import config as configuration
from archsearch.jobs import JSON, InputError
from archsearch.offline.contents import CONFIG, RECIPE, Figure, about
from archsearch.recipe_weights import weights_of_run
from archsearch.recipes.offline import single_recipe
from archsearch.recipes.pack import PackFile, write_pack
from archsearch.recipes.pack_manifest import Pack
from archsearch.recipes.points import recipe_of, recorded
from archsearch.recipes.prepared import Prepared
from archsearch.recipes.recipe import Recipe
from archsearch.recipes.weights import Source, needed_weights, weights_file
from archsearch.recipes.wheels import ALL, locked, own_wheel, wheels
from archsearch.registry import CALLBACKS, DATASETS, INGREDIENTS, OPERATIONS, TASKS, WORKS
from archsearch.run import Run, load_run

Say = Callable[[str], None]

#: Seconds between two words on how far the asking for packages is.
SELDOM = 2.0


@dataclass(frozen=True)
class Python:
    """What a pack holds of Python: a lock, or wheels too.

    ``platform``: None for a lock; "here", or a tag such as manylinux_2_28_x86_64, for all wheels. ``python``: its version, None
    for this one. ``index``: whether pip's indexes are asked for the hashes of a lock's archives.
    """

    platform: str | None = None
    python: str | None = None
    index: bool = True


def pack_recipe(
    recipe: Recipe,
    target: str | Path,
    *,
    sources: Sequence[Source] = (),
    threads: int = 1,
    python: Python = Python(),
    figure: Figure | None = None,
    origin: Mapping[str, JSON] | None = None,
    more: Sequence[PackFile] = (),
    say: Say = lambda text: None,
) -> Pack:
    """Pack a recipe: its data are loaded or fetched, it is tried out for two steps, and then all is written, or nothing.

    Args:
        target: a new name; .tar and .zip make one file, any other name a folder.
        sources: where weights are found that it starts from.
        threads: with which it is to be trained.
        figure: what it is known to come to.
        origin: where it comes from; ``more``: files from there.

    Raises: as ``single_recipe``, ``write_pack``, ``wheels`` and ``locked``.
    """
    if os.path.lexists(Path(target).expanduser()):
        raise InputError(f"{target} exists already: name a new pack")
    with TemporaryDirectory(prefix="archsearch-offline-") as place:
        prepared = Prepared(Path(place) / "offline")
        pinned = single_recipe(recipe, sources=sources, prepared=prepared, say=say)
        files = [*_prepared_files(pinned, prepared, origin or {}), *more, *_python_files(pinned, python, Path(place), say)]
        say("writing …")
        return write_pack(target, files, about=about(pinned, threads, figure, origin or {}))


def pack_run(
    run: Run | str | Path,
    target: str | Path,
    *,
    point: int | None = None,
    python: Python = Python(),
    say: Say = lambda text: None,
) -> Pack:
    """Pack what a run has trained, by default its best point, with the figure and the weights that it came to.

    Raises: as ``pack_recipe`` and ``recipe_of``.
    """
    found = run if isinstance(run, Run) else load_run(run)
    if point is None:
        if not found.frontier():
            raise InputError(f"{found.path} has no trained point yet: there is nothing to pack")
        point = found.summary()["best"]["id"]
    recipe, source = recipe_of(found, point), weights_of_run(found)
    figure = _figure(found, point)
    origin = {"run": found.meta["name"], "id": found.meta["id"], "point": point}
    where = f"run {found.meta['name']}, id {found.meta['id']}"
    more = [PackFile(CONFIG, configuration.without(found.meta["config"], "run.artifacts").encode(), where, _ours(found.meta))]
    payload = source(str(figure.weights)) if figure.weights is not None else None
    if payload is not None:
        name = weights_file(Path("recorded"), str(figure.weights)).as_posix()
        more.append(PackFile(name, payload, f"{where}, what point {point} was trained to", _ours(found.meta)))
    return pack_recipe(
        recipe,
        target,
        sources=[source],
        threads=figure.threads,
        python=python,
        figure=figure,
        origin=origin,
        more=more,
        say=say,
    )


def _figure(run: Run, point: int) -> Figure:
    """What was recorded. The kind of processor is known where the run's driver trained the point on its own host."""
    record, session = run.state.jobs[point], run.session
    own = record.node == session.get("host")
    return Figure.from_json(
        {
            **recorded(run, point),
            "device": "cuda" if record.job.resources.gpu else "cpu",
            "processor": session.get("processor") if own else None,
            "torch": session.get("versions", {}).get("torch") if own else None,
            "weights": record.artifacts["weights"].sha256 if "weights" in record.artifacts else None,
        }
    )


def _ours(meta: Mapping[str, JSON]) -> str:
    return f"archsearch {meta['versions']['archsearch']}"


def _prepared_files(recipe: Recipe, prepared: Prepared, origin: Mapping[str, JSON]) -> list[PackFile]:
    """The recipe, its data and the weights that it starts from."""
    ours = f"archsearch {version('archsearch')}"
    where = f"run {origin['run']}, point {origin['point']}" if origin else "the recipe that was packed"
    files = [PackFile(RECIPE, recipe.to_yaml().encode(), where, ours)]
    for path, _ in recipe.all_slots():
        each = recipe.at(path)
        if each is not None and each.sha256 is not None:
            file = prepared.data_file(each.sha256)
            said = f"{path}: {each.name}, as loaded with {each.to_json()['parameters']}"
            files.append(PackFile(f"data/{file.name}", file, said, f"content {each.sha256[:12]}"))
    for sha256 in needed_weights(recipe):
        file = weights_file(prepared.folder / "weights", sha256)
        files.append(PackFile(f"weights/{file.name}", file, f"{where}: what it starts from", ours))
    return files


def _python_files(recipe: Recipe, python: Python, place: Path, say: Say) -> list[PackFile]:
    """A lock, and wheels where they are asked for, of archsearch and the plug-ins that this process has come to use."""
    kinds = (CALLBACKS, DATASETS, INGREDIENTS, OPERATIONS, TASKS, WORKS)
    ours = ALL if recipe.slots.get("export") is None else ("archsearch[onnx]",)
    packages = (*ours, *sorted(set().union(*(kind.loaded_from() for kind in kinds))))
    if python.platform is None:
        say("locking the packages …")
        return [own_wheel(), locked(packages, python=python.python, index=python.index, progress=_seldom(say))]
    platform = None if python.platform == "here" else python.platform
    folder = place / "wheels"
    folder.mkdir()
    say("collecting wheels …")
    found = wheels(platform, python.python, folder, packages, progress=_seldom(say))
    return [*found, locked(packages, wheels=found, platform=platform, python=python.python)]


def _seldom(say: Say) -> Say:
    """Says something of what it is told, now and then: there are more than a hundred packages."""
    said = -SELDOM

    def sometimes(text: str) -> None:
        nonlocal said
        if time.monotonic() - said >= SELDOM:
            said = time.monotonic()
            say(text)

    return sometimes
