"""A recipe: a tree of ingredients with slots, some perhaps empty, that says in full how a network is trained.

>>> recipe = Recipe.from_json(json.loads(text))
>>> recipe.id
'0f5a…'
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch.config import yaml_text
from archsearch.config.explain import Problem, report
from archsearch.config.tree import Node, Place, node_of
from archsearch.jobs import JSON, InputError
from archsearch.recipes.ingredient import Ingredient, Slot, paths, read_slots, record, text_of
from archsearch.recipes.task import Task
from archsearch.registry import INGREDIENTS, TASKS
from archsearch.store.durable import write_durably

if TYPE_CHECKING:
    from archsearch.recipes.pantry import Pantry
    from archsearch.recipes.preparing import Difference, Finding

#: Of the layout below; another one is refused.
FORMAT = 1

_KEYS = ("recipe", "task", "seed", "slots", "rungs")
_SEEDS = "expected a whole number from 0 to 2**63 - 1."


@dataclass(frozen=True)
class Recipe:
    """What is trained, on what, how and from which seed.

    ``slots`` has every slot of its ``task``, None where it is empty. ``rungs``: epochs with an evaluation besides those of the
    training's ``eval_every``; they matter where the best epoch is kept.
    """

    task: str
    seed: int
    slots: Mapping[str, Ingredient | None]
    rungs: tuple[int, ...] = field(default=())

    @cached_property
    def id(self) -> str:
        """32 hexadecimal digits of the SHA-256 of what it says. Names, paths and the order of keys do not count, nor do empty
        slots; a data set counts by its content where its hash is known."""
        slots = {name: each.identity() for name, each in self.slots.items() if each is not None}
        data = {"recipe": FORMAT, "task": self.task, "seed": self.seed, "slots": slots, "rungs": list(self.rungs)}
        text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def to_json(self) -> dict[str, JSON]:
        """Plain dictionaries and lists; what ``from_json`` takes."""
        slots = {name: each and each.to_json() for name, each in self.slots.items()}
        data = {"recipe": FORMAT, "task": self.task, "seed": self.seed, "slots": slots}
        return data | ({"rungs": list(self.rungs)} if self.rungs else {})

    @classmethod
    def from_json(cls, data: JSON) -> Recipe:
        """The recipe of ``to_json``'s data, perhaps a stranger's: everything in it is checked, and nothing of it is run.

        Raises:
            InputError: everything that is wrong with it.
        """
        try:
            return _read(node_of(data, Place("recipe")), "recipe", [])
        except RecursionError:
            raise InputError("recipe: nested too deeply to be one.") from None

    def to_yaml(self) -> str:
        """For people, and for files; ``from_yaml`` reads it."""
        return f"# recipe {self.id}\n{yaml_text.dump(self.to_json(), inline=True)}"

    @classmethod
    def from_yaml(cls, text: str, file: str = "recipe.yaml") -> Recipe:
        """
        Raises:
            InputError: everything that is wrong, by file and line.
        """
        problems: list[Problem] = []
        return _read(yaml_text.parse(text, file, problems), file, problems)

    def at(self, path: str) -> Ingredient | None:
        """What is in the slot ``path``, such as ``training.optimizer``; None if it is empty.

        Raises:
            InputError: there is no such slot.
        """
        return self._step(path)[1]

    def _step(self, path: str) -> tuple[Slot, Ingredient | None]:
        known: Mapping[str, Slot] = self._task().slots
        slots, steps = self.slots, path.split(".")
        for number, step in enumerate(steps, 1):
            if step not in known:
                there = ", ".join(name for name, _ in self.all_slots())
                raise InputError(f"{path} is no slot of this recipe. Slots: {there}.")
            slot, found = known[step], slots.get(step)
            if number == len(steps):
                return slot, found
            known, slots = (INGREDIENTS.get(found.kind).slots, found.slots) if found is not None else ({}, {})
        raise AssertionError(path)

    def all_slots(self) -> list[tuple[str, Slot]]:
        """Every slot with its path, those inside a filled one after it."""
        return paths(self.slots, self._task().slots)

    def with_(self, path: str, ingredient: Ingredient | None) -> Recipe:
        """The recipe with another ingredient in a slot, or with an empty slot.

        Raises:
            InputError: there is no such slot, or it takes other kinds.
        """
        slot, _ = self._step(path)
        if ingredient is not None and ingredient.kind not in slot.kinds:
            wanted = " or ".join(slot.kinds)
            raise InputError(f"{path} takes {wanted}, but {ingredient.name} is of kind {ingredient.kind}.")
        return replace(self, slots=_put(self.slots, path.split("."), ingredient))

    def fill_empty_recursively(self, pantry: Pantry, **how: Any) -> Recipe:
        """With its empty slots filled from a pantry: ``archsearch.recipes.preparing.fill_empty_recursively``."""
        from archsearch.recipes.preparing import fill_empty_recursively

        return fill_empty_recursively(self, pantry, **how)

    def check(self, pantry: Pantry | None = None, *, load: bool = True) -> list[Finding]:
        """What keeps it from being run: ``archsearch.recipes.preparing.check``."""
        from archsearch.recipes.preparing import check

        return check(self, pantry, load=load)

    def diff(self, other: Recipe) -> list[Difference]:
        """Where another one differs: ``archsearch.recipes.preparing.diff``."""
        from archsearch.recipes.preparing import diff

        return diff(self, other)

    def save(self, path: str | Path) -> None:
        """Write its YAML file, whole and durably; ``load_recipe`` reads it.

        Raises:
            InputError: it cannot be written.
        """
        try:
            write_durably(Path(path).absolute(), self.to_yaml().encode())
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error}") from error

    def _task(self) -> Task:
        task: Task = TASKS.get(self.task)
        return task


def empty_recipe(task: str = "classification", seed: int = 0) -> Recipe:
    """A recipe with nothing in it.

    Raises:
        InputError: no such task, or a seed that no recipe has.
    """
    if not _is_seed(seed):
        raise InputError(f"seed is {seed!r}: {_SEEDS}")
    return Recipe(task, seed, dict.fromkeys(TASKS.get(task).slots))


def load_recipe(path: str | Path) -> Recipe:
    """A recipe from its YAML file.

    Raises:
        InputError: no such file, or what is wrong in it, by line.
    """
    return Recipe.from_yaml(text_in(Path(path)), str(path))


def text_in(path: Path) -> str:
    """The text of a small file.

    Raises:
        InputError: it cannot be read, is too large or not UTF-8.
    """
    try:
        with path.open("rb") as file:
            payload = file.read(yaml_text.MAX_BYTES + 1)
        yaml_text.check_size(str(path), len(payload))
        return payload.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}. Name a YAML file.") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not text in UTF-8 (byte {error.start}). Name a YAML file.") from None


def _read(node: Node, what: str, problems: list[Problem]) -> Recipe:
    values = record(node, _KEYS, problems, "recipe")
    if values is None:
        raise report(what, problems)
    data = {name: text_of(each, problems) for name, each in values.items() if name != "slots"}
    for name in ("recipe", "task", "seed", "slots"):
        if name not in values:
            problems.append((node.place, f"{name} is missing. A recipe has {', '.join(_KEYS[:4])}."))
    if data.get("recipe", FORMAT) != FORMAT:
        text = f"recipe is {data['recipe']!r}, but this archsearch reads format {FORMAT}. Upgrade it to read a newer one."
        problems.append((values["recipe"].place, text))
    task = data.get("task")
    if "task" in data and not (isinstance(task, str) and task in TASKS):
        problems.append((values["task"].place, f"no task is called {task!r}. Known: {', '.join(TASKS)}."))
    seed, rungs = data.get("seed", 0), data.get("rungs", [])
    if not _is_seed(seed):
        problems.append((values["seed"].place, f"seed is {seed!r}: {_SEEDS}"))
    if not isinstance(rungs, list) or not all(_whole(each, 1) for each in rungs):
        problems.append((values["rungs"].place, f"rungs is {rungs!r}: expected a list of epochs."))
    if isinstance(task, str) and task in TASKS:
        slots = read_slots(values.get("slots"), TASKS.get(task).slots, problems)
    if problems:
        raise report(what, problems)
    return Recipe(str(task), seed, slots, tuple(rungs))


def _is_seed(value: JSON) -> bool:
    return _whole(value, 0) and value < 1 << 63


def _whole(value: JSON, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _put(
    slots: Mapping[str, Ingredient | None], path: list[str], ingredient: Ingredient | None
) -> dict[str, Ingredient | None]:
    step, *rest = path
    inside = slots.get(step)
    if rest and inside is not None:
        return {**slots, step: replace(inside, slots=_put(inside.slots, rest, ingredient))}
    return {**slots, step: ingredient}
