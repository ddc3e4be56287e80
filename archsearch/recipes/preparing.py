"""Filling the empty slots of a recipe, checking it, and telling two recipes apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from archsearch.jobs import JSON, InputError, derive_seed
from archsearch.recipes.ingredient import Ingredient, Slot
from archsearch.recipes.pantry import Pantry
from archsearch.recipes.recipe import Recipe
from archsearch.registry import INGREDIENTS, TASKS


@dataclass(frozen=True)
class Finding:
    """What a check has found in a slot; a recipe with an ``error`` cannot be run."""

    path: str
    text: str
    error: bool = True

    def __str__(self) -> str:
        return f"{self.path}: {self.text}"


@dataclass(frozen=True)
class Difference:
    """A value that two recipes do not share; None where one has none."""

    path: str
    a: JSON
    b: JSON


def fill_empty_recursively(
    recipe: Recipe,
    pantry: Pantry,
    *,
    choices: Mapping[str, str] | None = None,
    preferences: Sequence[str] = (),
    seed: int | None = None,
) -> Recipe:
    """The recipe with its empty slots filled from a pantry, and the slots of what fills them, and so on.

    A slot is filled by what ``choices`` name for its path; else the first of ``preferences`` that fits; else, with a ``seed``,
    one drawn from all that fit; else the first of the pantry's own preferences that fits; else the only one that fits. An
    optional slot stays empty unless ``choices`` name something for it.

    Raises:
        InputError: nothing fits, or several do and nothing says which; or a choice that fits nothing.
    """
    choices = dict(choices or {})
    done: set[str] = set()
    while True:
        open_ = [(path, slot) for path, slot in recipe.all_slots() if path not in done]
        if not open_:
            break
        path, slot = open_[0]
        done.add(path)
        wanted = choices.pop(path, None)
        present = recipe.at(path)
        if present is not None and wanted is not None:
            raise InputError(f"{path}={wanted}: the recipe has {present.name} there; only empty slots are filled.")
        if present is None and (wanted is not None or not slot.optional):
            chosen = pantry.find(slot, wanted) if wanted is not None else _chosen(path, slot, pantry, preferences, seed)
            recipe = recipe.with_(path, chosen)
    if choices:
        path = next(iter(choices))
        there = ", ".join(name for name, _ in recipe.all_slots())
        raise InputError(f"{path}={choices[path]}: there is no slot {path}. Slots: {there}.")
    return recipe


def _chosen(path: str, slot: Slot, pantry: Pantry, preferences: Sequence[str], seed: int | None) -> Ingredient:
    fitting = pantry.fitting(slot)
    for name in preferences:
        for each in fitting:
            if each.name == name:
                return each
    if not fitting:
        raise InputError(f"{path} is empty, and {pantry.path} has nothing for it: it takes {' or '.join(slot.kinds)}.")
    if seed is not None:
        return fitting[derive_seed(seed, "fill", path) % len(fitting)]
    for name in pantry.preferences:
        for each in fitting:
            if each.name == name:
                return each
    if len(fitting) > 1:
        names = ", ".join(each.name for each in fitting)
        raise InputError(f"{path} is empty, and several fit: {names}. Say which, for instance {path}={fitting[0].name}.")
    return fitting[0]


def check(recipe: Recipe, pantry: Pantry | None = None, *, load: bool = True) -> list[Finding]:
    """What keeps a recipe from being run, and what is worth knowing before.

    Args:
        pantry: also say where its ingredients of the same names differ.
        load: load the data, and see whether they are those of the recipe and fit its network.
    """
    found = []
    for path, slot in recipe.all_slots():
        each = recipe.at(path)
        if each is None:
            text = f"empty: {slot.empty}" if slot.optional else f"empty: it takes {' or '.join(slot.kinds)}"
            found.append(Finding(path, text, error=not slot.optional))
        elif pantry is not None:
            found += _compared(path, each, pantry)
    if load and not any(each.error for each in found):
        task = TASKS.get(recipe.task)
        try:
            task.pinned(recipe, task.load(recipe))
        except InputError as error:
            path, _, text = str(error).partition(": ")
            known = path in (name for name, _ in recipe.all_slots())
            found.append(Finding(path, text) if known else Finding("data", str(error)))
    return found


def _compared(path: str, ingredient: Ingredient, pantry: Pantry) -> list[Finding]:
    there = pantry.ingredients.get((ingredient.kind, ingredient.name))
    if there is None:
        return []
    mine, theirs = _whole(ingredient), _whole(there)
    keys = [key for key in sorted({*mine, *theirs}) if mine.get(key) != theirs.get(key)]
    return [Finding(path, f"differs from the pantry's {there.name} in {', '.join(keys)}", error=False)] if keys else []


def _whole(ingredient: Ingredient) -> dict[str, JSON]:
    """Its parameters with defaults."""
    parameters: dict[str, JSON] = ingredient.to_json()["parameters"]
    model = INGREDIENTS.get(ingredient.kind).model
    return parameters if model is None else model.model_validate(parameters).model_dump(mode="json")


def diff(a: Recipe, b: Recipe) -> list[Difference]:
    """Where two recipes differ, by dotted path; names do not count, as for their ids, so equal ids have no difference.

    Where one has another kind of ingredient, or none, the slot is named and not what is in it.
    """
    one, other = _flat(a), _flat(b)
    found: list[Difference] = []
    slots = {path for recipe in (a, b) for path, _ in recipe.all_slots()}
    for key in dict.fromkeys([*one, *other]):
        replaced = any(each.path in slots and key.startswith(f"{each.path}.") for each in found)
        if one.get(key) != other.get(key) and not replaced:
            found.append(Difference(key, one.get(key), other.get(key)))
    return found


def _flat(recipe: Recipe) -> dict[str, JSON]:
    found: dict[str, JSON] = {"task": recipe.task, "seed": recipe.seed, "rungs": list(recipe.rungs)}
    for path, _ in recipe.all_slots():
        each = recipe.at(path)
        if each is not None:
            identity = each.identity()
            found |= {path: f"{each.kind} version {each.version}"} | _leaves(path, identity.get("parameters", {}))
            if each.sha256 is not None:
                found[f"{path}.sha256"] = each.sha256
    return found


def _leaves(path: str, value: Mapping[str, JSON]) -> dict[str, JSON]:
    """Its values by path; an empty mapping within it is one, too: ids are made of it."""
    found: dict[str, JSON] = {}
    for key, child in value.items():
        inside = isinstance(child, Mapping) and child
        found |= _leaves(f"{path}.{key}", child) if inside else {f"{path}.{key}": child}
    return found
