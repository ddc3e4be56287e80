"""A pantry: a folder of ingredients and perhaps of recipes, each a small YAML file.

``PANTRY/pantry.yaml`` names its format and what it prefers; ``PANTRY/recipes/`` holds recipes, every other YAML file below it
one ingredient. The folders' names are for people: what a file holds is what stands in it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from archsearch.config import yaml_text
from archsearch.config.explain import Problem, did_you_mean, report
from archsearch.jobs import JSON, InputError
from archsearch.recipes.ingredient import Ingredient, Slot, read_ingredient, record, text_of
from archsearch.recipes.recipe import Recipe, load_recipe, text_in
from archsearch.store.durable import write_durably

#: Of the folder's layout.
FORMAT = 1

#: More files than this is no pantry but some other folder.
MAX_FILES = 10_000

_HEAD = "pantry.yaml"
_RECIPES = "recipes"
_OURS = Path(__file__).with_name("ours")


class Recipes(Protocol):
    """Whatever knows recipes by their ids: a pantry, a database."""

    def recipe_text(self, id: str) -> JSON:
        """The recipe as ``Recipe.to_json`` gave it.

        Raises:
            InputError: no such recipe is known here.
        """


@dataclass(frozen=True)
class Pantry:
    """Ingredients by kind and name, and what is preferred where several would do, the first first."""

    path: Path
    ingredients: Mapping[tuple[str, str], Ingredient]
    preferences: tuple[str, ...] = ()

    @classmethod
    def build(cls, directory: str | os.PathLike[str]) -> Pantry:
        """A new pantry with archsearch's own ingredients, to be changed and added to.

        Raises:
            InputError: something is there already; nothing was written.
        """
        path = Path(directory)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError(f"{path} is there already: name a folder that is new or empty, or load that one.")
        for file in sorted(_OURS.rglob("*.yaml")):
            if file.name != _HEAD:
                write_durably(path / file.relative_to(_OURS), file.read_bytes())
        write_durably(path / _HEAD, (_OURS / _HEAD).read_bytes())  # last: a folder with it is a whole pantry
        return cls.load(path)

    @classmethod
    def load(cls, directory: str | os.PathLike[str] | None = None) -> Pantry:
        """The pantry in a folder, by default archsearch's own.

        Raises:
            InputError: everything that is wrong, by file and line: no pantry, an unknown kind, another version, a name that is
                there twice, a parameter that is not allowed.
        """
        path = _OURS if directory is None else Path(directory)
        problems: list[Problem] = []
        preferences = _head(path, problems)
        ingredients: dict[tuple[str, str], Ingredient] = {}
        places: dict[tuple[str, str], str] = {}
        for file in _files(path):
            node = yaml_text.parse(text_in(file), str(file), problems)
            found = read_ingredient(node, problems)
            if found is None:
                continue
            key = found.kind, found.name
            if key in ingredients:
                text = f"the {found.kind} {found.name} is there twice: {places[key]} has it too. Rename or remove one."
                problems.append((node.place, text))
            ingredients[key], places[key] = found, str(file)
        names = {name for _, name in ingredients}
        for name in preferences:
            if name not in names and not problems:
                hint = did_you_mean(name, names)
                raise InputError(f"{path / _HEAD}: preferences name {name!r}, which is no ingredient here.{hint}")
        if problems:
            raise report(str(path), problems)
        return cls(path, ingredients, preferences)

    def fitting(self, slot: Slot) -> list[Ingredient]:
        """The ingredients that a slot takes, by kind and name."""
        return [each for (kind, _), each in sorted(self.ingredients.items()) if kind in slot.kinds]

    def find(self, slot: Slot, name: str) -> Ingredient:
        """The ingredient of that name for a slot.

        Raises:
            InputError: there is none, or one of each of several kinds.
        """
        found = [each for each in self.fitting(slot) if each.name == name]
        if len(found) == 1:
            return found[0]
        kinds = " or ".join(slot.kinds)
        if found:
            raise InputError(f"{self.path} has {name!r} as {' and as '.join(each.kind for each in found)}. Rename one.")
        names = [each.name for each in self.fitting(slot)]
        there = f"It has: {', '.join(names)}." if names else "It has none."
        raise InputError(f"{self.path} has no {kinds} called {name!r}.{did_you_mean(name, names)} {there}")

    def recipe_text(self, id: str) -> JSON:
        """The recipe of that id among those in ``PANTRY/recipes``; see ``Recipes``."""
        files = _regular(self.path / _RECIPES)
        for file in files:
            recipe = load_recipe(file)
            if recipe.id == id:
                return recipe.to_json()
        raise InputError(f"{self.path / _RECIPES} has no recipe {id}, among {len(files)}.")


def from_recipe_id(id: str, source: Recipes | Callable[[str], JSON]) -> Recipe:
    """The recipe of that id, from a pantry, a database, or a function ``id -> JSON``.

    Raises:
        InputError: it is not known there; or what is stored there is no recipe, or another one.
    """
    data = source(id) if callable(source) else source.recipe_text(id)
    recipe = Recipe.from_json(data)
    if recipe.id != id:
        raise InputError(f"what is stored as recipe {id} is recipe {recipe.id}: it was changed. Take it from another place.")
    return recipe


def _head(path: Path, problems: list[Problem]) -> tuple[str, ...]:
    """What a pantry prefers, from its ``pantry.yaml``."""
    file = path / _HEAD
    if not file.is_file():
        raise InputError(
            f"{path} is no pantry: it has no {_HEAD}. `archsearch recipe pantry {path}` makes one in a new folder."
        )
    node = yaml_text.parse(text_in(file), str(file), problems)
    values = record(node, ("pantry", "preferences"), problems, _HEAD) or {}
    data = {name: text_of(each, problems) for name, each in values.items()}
    if data.get("pantry") != FORMAT:
        place = values["pantry"].place if "pantry" in values else node.place
        text = f"pantry is {data.get('pantry')!r}, but this archsearch reads format {FORMAT}. Upgrade it to read a newer one."
        problems.append((place, text))
    names = data.get("preferences", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        problems.append((values["preferences"].place, f"preferences is {names!r}: expected names of ingredients."))
        return ()
    return tuple(names)


def _files(path: Path) -> list[Path]:
    """The files of ingredients, sorted."""
    recipes = path / _RECIPES
    return [file for file in _regular(path) if file != path / _HEAD and recipes not in file.parents]


def _regular(path: Path) -> list[Path]:
    """The YAML files below a folder, sorted.

    Raises:
        InputError: there are far too many, or one is a link or no plain file: it could lead anywhere.
    """
    files = []
    for folder, _, names in os.walk(path):
        for name in names:
            if not name.endswith((".yaml", ".yml")):
                continue
            file = Path(folder, name)
            if file.is_symlink() or not file.is_file():
                raise InputError(f"{file} is a link or no plain file: a pantry holds files of its own only. Copy it there.")
            files.append(file)
        if len(files) > MAX_FILES:
            raise InputError(f"{path} has more than {MAX_FILES} YAML files: this is no pantry. Name the right folder.")
    return sorted(files)
