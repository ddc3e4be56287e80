"""Rows that come from outside, checked before any of them gets into the golden database."""

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from archsearch.jobs import JSON, InputError
from archsearch.store import canonical
from archsearch.store.golden_schema import COLUMNS, COUNTED, FLAGS, KEY, MEASURED

if TYPE_CHECKING:
    import pandas as pd

    from archsearch.recipes.recipe import Recipe

#: Columns that a database works out or writes itself: those of a file are passed over.
OWN = ("relative_task_metric", "current", "added_by", "added_at")

#: So many faults are named.
SHOWN = 10

#: Characters of the longest text in a cell, a recipe's apart.
LONGEST = 200


@dataclass
class Checked:
    """``recipes``: texts by id; ``rows``: as the store takes them."""

    recipes: dict[str, str] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)


def checked_frame(frame: pd.DataFrame, what: str) -> Checked:
    """A frame's rows. Cells may be text (of a CSV file) or of the column's type; an empty one is unknown.

    Raises:
        InputError: a column is unknown or missing, or what is wrong in which row.
    """
    _check_columns([str(name) for name in frame.columns], what)
    faults: list[tuple[int, str]] = []
    found = Checked(rows=[{} for _ in range(len(frame))])
    for name, kind in COLUMNS.items():
        if name in frame.columns:
            for number, cell in enumerate(frame[name].tolist()):
                try:
                    if (value := _value(cell, kind, flag=name in FLAGS)) is not None:
                        found.rows[number][name] = value
                except ValueError as error:
                    faults.append((number, f"{name} is {_shown(cell)}: expected {error}"))
    if not faults:
        for number, row in enumerate(found.rows):
            faults += [(number, text) for text in _faults(row)]
    if "recipe" in frame.columns and not faults:
        _take_recipes(frame["recipe"].tolist(), found, faults)
    _refuse(faults, what)
    return found


def refuse_unknown(found: Checked, known: Collection[str], what: str) -> None:
    """
    Raises:
        InputError: rows of recipes whose texts are neither in ``found`` nor ``known``.
    """
    text = "recipe is empty, and the database has no recipe"
    rows = enumerate(row["recipe_id"] for row in found.rows)
    _refuse([(number, f"{text} {id_}") for number, id_ in rows if id_ not in found.recipes and id_ not in known], what)


def _refuse(faults: list[tuple[int, str]], what: str) -> None:
    """
    Raises:
        InputError: there are any.
    """
    if faults:
        faults.sort(key=lambda fault: fault[0])
        lines = [f"  row {number + 1}: {text}" for number, text in faults[:SHOWN]]
        more = [f"  … and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
        raise InputError("\n".join([f"{what}: nothing was imported, {len(faults)} of its values are wrong:", *lines, *more]))


def checked_recipe(id_: str, data: JSON) -> Recipe:
    """A recipe from its JSON.

    Raises:
        InputError: it is none, or the recipe of another id.
    """
    from archsearch.recipes.recipe import Recipe

    recipe = Recipe.from_json(data)
    if recipe.id != id_:
        raise InputError(f"its content has the id {recipe.id}")
    return recipe


def _check_columns(names: list[str], what: str) -> None:
    known = [*COLUMNS, *OWN, "recipe"]
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "leave it out"
            raise InputError(f"{what}: nothing was imported, the column {name!r} is not one of a golden database; {hint}")
    if missing := [name for name in KEY if name not in names]:
        raise InputError(f"{what}: nothing was imported, the column {missing[0]!r} is missing")
    if len(set(names)) < len(names):
        raise InputError(f"{what}: nothing was imported, a column is there twice")


def _value(cell: Any, kind: type, *, flag: bool) -> Any:
    """A cell's value in the column's type, None if it is empty.

    Raises:
        ValueError: what was expected.
    """
    if _missing(cell):
        return None
    if kind is str:
        if not isinstance(cell, str) or not cell.isprintable() or len(cell) > LONGEST:
            raise ValueError(f"a text of up to {LONGEST} characters")
        return cell
    if flag:
        if str(cell) not in ("True", "False", "true", "false", "1", "0", "1.0", "0.0"):
            raise ValueError("true or false")
        return int(str(cell).lower() in ("true", "1", "1.0"))
    if not isinstance(cell, str | numbers.Real) or isinstance(cell, bool):
        raise ValueError("a number")
    try:
        number = float(cell)
    except (ValueError, OverflowError):
        raise ValueError("a number") from None
    if not math.isfinite(number) or number < 0:
        raise ValueError("a finite number that is not negative")
    if kind is int:
        if not number.is_integer() or number > 2**53:
            raise ValueError("a whole number")
        return int(number)
    return number


def _missing(cell: Any) -> bool:
    """Whether it is empty, NaN, or pandas' own missing value (which has no truth)."""
    return (
        cell is None
        or (isinstance(cell, str) and not cell)
        or type(cell).__name__ in ("NAType", "NaTType")
        or (isinstance(cell, float) and math.isnan(cell))
    )


def _faults(row: Mapping[str, Any]) -> list[str]:
    """What is wrong between the values of one row."""
    found = [f"{name} is empty" for name in KEY if name not in row]
    for name in MEASURED:
        value, low, high = (row.get(name + end) for end in ("", "_low", "_high"))
        if value is None and any(name + end in row for end in ("_low", "_high", "_noisy")):
            found.append(f"{name} is empty, but has an interval or a flag")
        elif value is not None and not (value if low is None else low) <= value <= (value if high is None else high):
            found.append(f"{name} is {value:g}, outside of its interval from {low} to {high}")
    if "task_metric" in row:
        found += [
            f"{name} is empty, but there is a task_metric"
            for name in ("task", "task_metric_name", "dataset_hash")
            if name not in row
        ]
    if not any(name in row for name in (*MEASURED, *COUNTED)):
        found.append("it has no figure at all")
    return found


def _take_recipes(cells: list[Any], found: Checked, faults: list[tuple[int, str]]) -> None:
    """Check each recipe once, and take its text as archsearch writes it."""
    seen: dict[tuple[str, str], str | None] = {}
    for number, cell in enumerate(cells):
        if _missing(cell):
            continue
        id_, text = found.rows[number]["recipe_id"], cell if isinstance(cell, str) else _shown(cell)
        if (id_, text) not in seen:
            try:
                found.recipes.setdefault(id_, canonical(checked_recipe(id_, json.loads(text)).to_json()))
                seen[id_, text] = None
            except (ValueError, RecursionError) as error:  # InputError is a ValueError
                seen[id_, text] = f"recipe is not that of recipe_id {_shown(id_)}: {error}"
        if (fault := seen[id_, text]) is not None:
            faults.append((number, fault))


def _shown(cell: Any) -> str:
    text = repr(cell)
    return text if len(text) <= 60 else f"{text[:57]}…"
