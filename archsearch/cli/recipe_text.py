"""How ``archsearch recipe`` shows a recipe and the progress of its training."""

from __future__ import annotations

import json as json_module
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from archsearch.recipe_run import RecipeRun
    from archsearch.recipes.ingredient import Ingredient
    from archsearch.recipes.recipe import Recipe

#: Seconds between two lines of progress where there is no terminal.
LINE_EVERY = 2.0


def tell(recipe: Recipe, json: bool, **more: Any) -> None:
    """The recipe and what else is known, for people or programs."""
    if json:
        about = {name: str(value) if isinstance(value, Path) else value for name, value in more.items()}
        print(json_module.dumps({"id": recipe.id, **about, **recipe.to_json()}, indent=2))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("slot", "ingredient", "kind", "parameters"):
        table.add_column(name, overflow="fold")
    for path, slot in recipe.all_slots():
        depth = "  " * path.count(".")
        each = recipe.at(path)
        name = f"{depth}{path.rpartition('.')[2]}"
        if each is None:
            table.add_row(name, "-", " or ".join(slot.kinds), slot.empty if slot.optional else "empty")
        else:
            table.add_row(name, each.name, each.kind, Text(_parameters(each)))  # as it is: no markup
    console = Console()
    console.print(f"recipe {recipe.id}: {recipe.task}, seed {recipe.seed}", highlight=False, soft_wrap=True)
    console.print(table)
    if "recorded" in more:
        found = more["recorded"]
        low, high = found["interval"]
        text = (
            f"recorded   point {more['point']}: {found['metric']} {found['value']:.4f}, 95 % interval {low:.4f} to {high:.4f}"
        )
        print(text)
    if "file" in more:
        print(f"file       {more['file']}")


def tell_result(done: RecipeRun, exported: Mapping[str, Any] | None, json: bool) -> None:
    """What came of running a recipe, and of its exporter."""
    if json:
        about = {"state": done.state, "reason": done.reason, "run": str(done.path), "export": exported}
        print(json_module.dumps({**about, **done.result}, indent=2))
    elif done.result:
        low, high = done.result["interval"]
        print(f"{done.result['metric']} {done.result['value']:.4f}, 95 % interval {low:.4f} to {high:.4f}")
        print(f"recipe     {done.recipe.id}\nfiles      {done.path}")
        call = f"from archsearch.recipe_run import load_recipe_run; print(load_recipe_run({str(done.path)!r}).load())"
        print(f'model      python -c "{call}"')
        for name, check in exported["checks"].items() if exported else ():
            print(f"export     {done.path / 'export' / name}, within {check['largest_difference']:.1e} of PyTorch")


def _parameters(ingredient: Ingredient) -> str:
    if ingredient.kind == "architecture":
        from archsearch.arch import Architecture, cost, summary

        arch = Architecture.from_json(ingredient.parameters)
        return f"{summary(arch)}, {cost(arch).madds} multiply-adds"
    known = ingredient.to_json()["parameters"]
    if ingredient.kind == "parent_weights":
        return f"{known['kind']}, {known['weights']['size']} bytes"
    text = ", ".join(f"{key} {short(value)}" for key, value in known.items())
    return text if ingredient.sha256 is None else f"{text}, content {ingredient.sha256[:12]}"


def short(value: Any) -> str:
    """A value for people; nothing of a stranger's text reaches a terminal's controls."""
    text = value if isinstance(value, str) and value.isprintable() else json_module.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def say(text: str) -> None:
    print(text, file=sys.stderr)


@contextmanager
def progress() -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Shows a training on stderr: a bar on a terminal, elsewhere a line now and then."""
    if not sys.stderr.isatty():
        said, seen = -LINE_EVERY, -1

        def line(data: Mapping[str, Any]) -> None:
            nonlocal said, seen
            if "paused" in data:
                say(data["paused"])
            elif time.monotonic() - said >= LINE_EVERY and data["epoch"] > seen:
                said, seen = time.monotonic(), data["epoch"]
                say(_standing(data))

        yield line
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        row = bar.add_task("training", total=None)

        def move(data: Mapping[str, Any]) -> None:
            if "paused" in data:
                bar.update(row, description=data["paused"])
            else:
                bar.update(row, description=_standing(data), completed=data["step"], total=data["steps"])

        yield move


def _standing(data: Mapping[str, Any]) -> str:
    error = data["val_error"]
    return f"epoch {data['epoch']} of {data['epochs']}" + ("" if error is None else f", validation error {error:.2%}")
