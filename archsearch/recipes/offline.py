"""Preparing recipes for work without network: all that one would fetch is fetched now, and kept by its content.

With a network:

>>> from archsearch.recipes import offline
>>> from archsearch.recipes.pantry import Pantry
>>> pantry = Pantry.load("my_pantry")
>>> recipe = offline.single_recipe(empty_recipe().fill_empty_recursively(pantry))
>>> best = offline.GRDB_recipe("3f2a", pantry, db="golden.db", sources=[weights_of_run("runs/petridish_digits")])

and later without one, on the same machine:

>>> recipe = empty_recipe().fill_empty_recursively(offline.setup(pantry))
>>> run_recipe(recipe, "runs/without_network")

What was prepared lies in the folder ``offline`` of archsearch's cache (``ARCHSEARCH_CACHE``, or ``~/.cache/archsearch``), by
its content (see ``recipes.prepared``): a recipe whose data name their hash finds them there, whatever else its parameters say,
and keeps its id. To carry it to another machine: ``archsearch offline pack``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from archsearch.jobs import InputError
from archsearch.recipes.ingredient import Ingredient
from archsearch.recipes.pantry import Pantry, from_recipe_id
from archsearch.recipes.prepared import Prepared, own
from archsearch.recipes.recipe import Recipe
from archsearch.recipes.rehearsal import rehearse
from archsearch.recipes.weights import Source, fetched, needed_weights
from archsearch.registry import TASKS


def single_recipe(
    recipe: Recipe,
    task: str = "train",
    *,
    sources: Sequence[Source] = (),
    device: str = "cpu",
    prepared: Prepared | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Recipe:
    """Fetch and keep all that training a recipe needs, and try it out.

    Data are loaded, generated or downloaded, and kept with their splits; so are the weights that it starts from. Then a copy of
    it with two steps is trained, on single images (pairs where a batch norm needs them), from its parent's weights, validated,
    interrupted and gone on with: whatever is imported late, and what writes and reads checkpoints, has been used once.

    Args:
        task: what it is prepared for: the work of the recipe's task, which is ``train``.
        sources: where weights are found that it starts from, besides those that are prepared already.
        prepared: where to keep things; by default this user's cache.

    Returns:
        The recipe with nothing left open, data by their hash: ``run_recipe`` trains it without network. The one that was
        handed in is not changed.

    Raises:
        InputError: an empty slot; data, weights or a package that cannot be had.
        StoreDamaged: weights that are others than the recipe says.
        StoreUnavailable: nothing can be kept there.
    """
    known = TASKS.get(recipe.task)
    if task != known.work:
        raise InputError(f"task {task!r}: recipes for {recipe.task} are prepared for {known.work!r}")
    if empty := [str(finding) for finding in recipe.check(load=False) if finding.error]:
        raise InputError(f"the recipe has empty slots: {'; '.join(empty)}. Fill them: archsearch recipe fill.")
    place = prepared or _own()
    say("loading the data …")
    data = known.load(recipe)
    pinned: Recipe = known.pinned(recipe, data)
    payloads = {each: fetched(*each, [*sources, place.weights]) for each in needed_weights(pinned).items()}
    known.keep(data, place)
    for (sha256, _), payload in payloads.items():
        place.keep_weights(sha256, payload)
    for path, _ in recipe.all_slots():
        given, found = recipe.at(path), pinned.at(path)
        if given is not None and given.sha256 is None and found is not None and found.sha256 is not None:
            place.note(given, found.sha256)
    say("trying it out for two steps …")
    try:
        rehearse(pinned, data, lambda sha256, size: payloads[sha256, size], device)
    except ImportError as error:
        raise InputError(f"the recipe needs the package {error.name or error}, which is not installed here") from error
    return pinned


def setup(pantry: Pantry, *, prepared: Prepared | None = None) -> Pantry:
    """The pantry as it can be used without network: what was prepared of it stands for its content, which is kept here.

    Ingredients that name no content and were prepared (as a part of some recipe) get the hash of what they led to; recipes
    that are filled from the pantry then find it in the cache. Others are as they were. Nothing is loaded, nothing is written.
    """
    place = prepared or _own()
    ingredients = {}
    for key, each in pantry.ingredients.items():
        sha256 = place.led_to(each) if each.sha256 is None else None
        ingredients[key] = each if sha256 is None else replace(each, sha256=sha256)
    return replace(pantry, ingredients=ingredients)


def GRDB_recipe(
    id: str,
    pantry: Pantry,
    *,
    db: str | Path | None = None,
    data_generator: str | Ingredient | None = None,
    sources: Sequence[Source] = (),
    prepared: Prepared | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Recipe:
    """The recipe of that id, prepared as by ``single_recipe``. (GRDB: golden recipe database. The name is a given.)

    Args:
        pantry: has the recipe, if no database is named, and data generators by name.
        db: a golden database, where the beginning of an id will do.
        data_generator: other data to train on: the name of a data ingredient of the pantry, or one. That is another recipe,
            with another id, and its network must fit them.

    Raises: as ``single_recipe`` and ``from_recipe_id`` or ``read_recipe``.
    """
    if db is None:
        recipe = from_recipe_id(id, pantry)
    else:
        from archsearch.recipes.database import read_recipe  # imports pandas

        recipe = read_recipe(db, id)
    if data_generator is not None:
        path, slot = next((path, slot) for path, slot in recipe.all_slots() if "data" in slot.kinds)
        found = pantry.find(slot, data_generator) if isinstance(data_generator, str) else data_generator
        recipe = recipe.with_(path, found)
    return single_recipe(recipe, sources=sources, prepared=prepared, say=say)


def _own() -> Prepared:
    """
    Raises:
        InputError: there is no place for it.
    """
    found = own()
    if found is None:
        raise InputError("nobody knows where this user's home is: name a folder in ARCHSEARCH_CACHE")
    return found
