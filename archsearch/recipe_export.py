"""What a recipe's slot ``export`` asks for: the trained network as files for other programs, ``FOLDER/export`` of its run.

``export.json`` says what each file is, and how near it came to PyTorch. A training is never lost to an export: where a file
cannot be made, the result stays, and the same call again tries only the export.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping

from archsearch.exporting import EXAMPLE, FORMATS, plausible, publish, refuse_missing
from archsearch.jobs import JSON, StoreDamaged
from archsearch.recipe_run import RecipeRun
from archsearch.recipes.recipe import Recipe
from archsearch.registry import TASKS
from archsearch.session import versions
from archsearch.train.export_section import ExportSection

FOLDER, CARD = "export", "export.json"


def settings_of(recipe: Recipe) -> ExportSection | None:
    """What is to be exported; None where the slot is empty, or the task has none.

    Raises:
        InputError: a format needs what is not installed here: better said before hours of training than after.
    """
    exporter = recipe.slots.get("export")
    if exporter is None:
        return None
    settings = ExportSection.model_validate(exporter.to_json()["parameters"])
    refuse_missing(settings.formats)
    return settings


def export_recipe(done: RecipeRun, say: Callable[[str], None] = lambda text: None) -> Mapping[str, JSON] | None:
    """Write what a recipe that was run to its end asks for; what ``export.json`` says, or None where it asks for nothing. What
    an earlier call wrote stays as it is.

    Raises:
        InputError: as ``settings_of``; or the data are not there any more.
        ExportFailed: a file cannot be made, or does not compute what PyTorch does; nothing was written.
        StoreDamaged: the weights, or what an earlier call wrote, are not what was written.
        StoreUnavailable: the folder cannot be written.
    """
    settings, target = settings_of(done.recipe), done.path / FOLDER
    if settings is None:
        return None
    if target.exists():
        return _earlier(done)
    from archsearch.train.export import make, reference  # imports torch

    say("loading the data …")
    dataset = TASKS.get(done.recipe.task).load(done.recipe)
    judge = reference(done.load(), dataset, pixels=settings.input == "pixels")
    plausible(judge, done.result["value"])
    made = make(judge, settings, say)
    files = {**{FORMATS[name]: payload for name, payload in made.files.items()}, EXAMPLE: judge.example()}
    card: dict[str, JSON] = {
        "format": "archsearch recipe export 1",
        "recipe": done.recipe.id,
        "settings": settings.model_dump(mode="json"),
        "checks": {FORMATS[name]: check for name, check in made.checks.items()},
        "files": {name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for name, data in files.items()},
        "versions": versions(),
    }
    publish(target, {**files, CARD: (json.dumps(card, indent=2) + "\n").encode()})
    return card


def _earlier(done: RecipeRun) -> Mapping[str, JSON]:
    """
    Raises:
        StoreDamaged: a file is missing, or not what was written.
    """
    target = done.path / FOLDER
    try:
        card: dict[str, JSON] = json.loads((target / CARD).read_bytes())
        sums = {name: hashlib.sha256((target / name).read_bytes()).hexdigest() for name in card["files"]}
        same = card["recipe"] == done.recipe.id and sums == {name: each["sha256"] for name, each in card["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        same = False
    if not same:
        raise StoreDamaged(f"{target} is not what was written for this recipe: remove it, and the same command writes it anew")
    return card
