"""Recipes as data: what is refused and where, what makes the id, how empty slots are filled, what a pantry will not take."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

import archsearch
from archsearch.data import DataSection
from archsearch.jobs import InputError
from archsearch.recipes.classification import data as data_ingredient
from archsearch.recipes.ingredient import Slot, made
from archsearch.recipes.pantry import Pantry, from_recipe_id
from archsearch.recipes.preparing import fill_empty_recursively
from archsearch.recipes.recipe import Recipe, empty_recipe, load_recipe
from archsearch.recipes.task import Task
from archsearch.registry import INGREDIENTS, TASKS

CHOICES = {"data": "digits", "model": "tiny_cells", "training": "short", "training.optimizer": "sgd_cosine"}


@pytest.fixture
def recipe() -> Recipe:
    return fill_empty_recursively(empty_recipe(seed=3), Pantry.load(), choices={**CHOICES, "training.augmentation": "shift"})


@pytest.fixture
def pantry(tmp_path: Path) -> Pantry:
    return Pantry.build(tmp_path / "pantry")


def put(pantry: Pantry, file: str, text: str) -> Path:
    path = pantry.path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def refused(action: Callable[[], object], *words: str) -> None:
    with pytest.raises(InputError) as error:
        action()
    for word in words:
        assert word in str(error.value), f"{word!r} is not in: {error.value}"


# ---------------------------------------------------------------------------------------------------------------- recipes
def test_a_recipe_goes_to_json_and_yaml_and_back(recipe: Recipe, tmp_path: Path) -> None:
    recipe.save(tmp_path / "r.yaml")
    for again in (load_recipe(tmp_path / "r.yaml"), Recipe.from_json(json.loads(json.dumps(recipe.to_json())))):
        assert again == recipe and again.id == recipe.id
    assert [path for path, _ in recipe.all_slots()] == [
        "model",
        "data",
        "training",
        "training.optimizer",
        "training.augmentation",
        "weights",
        "export",
    ]


def test_the_id_is_that_of_the_content(recipe: Recipe) -> None:
    def turned(value: Any) -> Any:
        """The same with every key in the opposite order, and every name another one."""
        if isinstance(value, dict):
            names = {"name": "another"} if "kind" in value else {}
            return {key: names.get(key) or turned(value[key]) for key in reversed(value)}
        return [turned(each) for each in value] if isinstance(value, list) else value

    assert recipe.id == "f2c6a72898677fbcb50af30f5f5cab23", "an id that was given once stays"
    assert Recipe.from_json(turned(recipe.to_json())).id == recipe.id
    optimizer = recipe.at("training.optimizer")
    assert optimizer is not None
    others = [
        recipe.with_("training.optimizer", made("optimizer", "x", {**optimizer.parameters, "lr": 0.05})),
        recipe.with_("training.augmentation", None),
        Recipe(recipe.task, 4, recipe.slots),
        Recipe(recipe.task, 3, recipe.slots, rungs=(1,)),
    ]
    assert len({recipe.id, *(other.id for other in others)}) == 5
    assert made("optimizer", "x", {"lr": 1}).identity() == made("optimizer", "x", {"lr": 1.0}).identity()
    text = "0" * 64
    here, there = (data_ingredient(DataSection(name="npz", path=place), text) for place in ("/a/x.npz", "/b/y.npz"))
    assert recipe.with_("data", here).id == recipe.with_("data", there).id != recipe.id


def test_every_error_of_a_recipe_is_named_with_its_line(recipe: Recipe) -> None:
    lines = recipe.to_yaml().splitlines()
    at = {name: 1 + next(i for i, line in enumerate(lines) if name in line) for name in ("optimizer: sgd", "seed: 3", "shift:")}
    text = "\n".join(lines).replace("optimizer: sgd", "optimzer: sgd").replace("seed: 3", "seed: -1")
    text = text.replace("shift: 0.125", "shift: 2")
    with pytest.raises(InputError) as error:
        Recipe.from_yaml(text, "r.yaml")
    said = str(error.value)
    assert "3 errors" in said and "Did you mean optimizer?" in said
    assert f"r.yaml:{at['seed: 3']}: seed is -1" in said and f"r.yaml:{at['shift:']}: augmentation.shift is 2" in said
    assert f"r.yaml:{at['optimizer: sgd']}: unknown key optimizer.optimzer" in said


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(recipe=2), ["format 1", "Upgrade"]),
        (lambda d: d.update(task="dreaming"), ["dreaming", "classification"]),
        (lambda d: d.pop("seed"), ["seed is missing"]),
        (lambda d: d["slots"].update(modle=None), ["unknown key modle", "Did you mean model?"]),
        (lambda d: d["slots"]["model"].update(kind="cell_famly"), ["cell_famly", "Did you mean cell_family?"]),
        (lambda d: d["slots"]["model"].update(version=2), ["version is 2", "knows version 1", "upgrade archsearch"]),
        (lambda d: d["slots"]["model"]["parameters"].update(cells=10**9), ["1000 at most"]),
        (lambda d: d["slots"]["model"]["parameters"].update(post_op="sum"), ["proj_channels"]),
        (lambda d: d["slots"].update(data=d["slots"]["model"]), ["data: tiny_cells is of kind cell_family", "takes data"]),
        (lambda d: d["slots"]["data"].update(sha256="../../etc"), ["64 hexadecimal"]),
        (lambda d: d["slots"]["data"].update(name="../x"), ["expected letters"]),
        (lambda d: d["slots"]["data"]["parameters"].update(name="numbers"), ["numbers", "digits"]),
        (lambda d: d["slots"].update(weights=7), ["expected a mapping"]),
        # two recipes that train otherwise would have one id
        (lambda d: d["slots"]["training"].update(sha256="0" * 64), ["training.sha256", "what a training is stands in"]),
    ],
)
def test_what_is_no_recipe_is_refused(recipe: Recipe, change: Callable[[Any], object], words: list[str]) -> None:
    values = json.loads(json.dumps(recipe.to_json()))
    change(values)
    refused(lambda: Recipe.from_json(values), *words)


def test_a_strangers_file_runs_nothing_and_reads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORD", "secret")
    head = "recipe: 1\ntask: classification\nseed: 0\nslots:\n  model:\n    kind: architecture\n    version: 1\n"
    refused(lambda: Recipe.from_yaml(f"{head}    name: ${{WORD}}\n    parameters: {{}}\n"), "variables are not read here")
    code = f"!!python/object/apply:os.mkdir [{tmp_path / 'made'}]"
    refused(lambda: Recipe.from_yaml(f"{head}    name: {code}\n    parameters: {{}}\n"), "is not allowed here")
    assert not (tmp_path / "made").exists()
    deep: Any = {}
    for _ in range(5000):
        deep = {"slots": deep}
    refused(lambda: Recipe.from_json(deep), "nested too deeply")


# ----------------------------------------------------------------------------------------------------------------- pantry
def test_a_new_pantry_has_ours_whole(pantry: Pantry) -> None:
    assert {kind for kind, _ in pantry.ingredients} == set(INGREDIENTS) - {"architecture", "parent_weights"}
    assert Pantry.load().ingredients == pantry.ingredients
    refused(lambda: Pantry.build(pantry.path), "is there already")
    refused(lambda: Pantry.load(pantry.path / "data"), "is no pantry")
    root = Path(archsearch.__file__).parent
    patterns = tomllib.loads((root.parent / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["archsearch"]
    shipped = {file for pattern in patterns for file in root.glob(pattern)}
    assert set((root / "recipes" / "ours").rglob("*.yaml")) <= shipped


def test_what_is_wrong_in_a_pantry_is_named_by_file_and_line(pantry: Pantry, tmp_path: Path) -> None:
    good = (pantry.path / "optimizer" / "sgd_cosine.yaml").read_text()
    bad = {
        "optimizer/twin.yaml": (good, ["the optimizer sgd_cosine is there twice", "sgd_cosine.yaml"]),
        "optimizer/new.yaml": (good.replace("version: 1", "version: 3"), ["new.yaml:3", "version is 3", "upgrade"]),
        "optimizer/odd.yaml": (good.replace("kind: optimizer", "kind: optimiser"), ["odd.yaml:1", "Did you mean optimizer?"]),
        "optimizer/none.yaml": ("name: x\n", ["none.yaml:1", "kind is missing", "parameters is missing"]),
        "data/slow.yaml": (
            "kind: training\nname: slow\nversion: 1\nparameters:\n  epochs: 0\n",
            ["slow.yaml:5", "greater than 0"],
        ),
        "data/moved.yaml": ("kind: training\nname: m\nversion: 1\nparameters: {lr: 1}\n", ["unknown key training.lr"]),
    }
    for name, (text, words) in bad.items():
        path = put(pantry, name, text)
        refused(lambda: Pantry.load(pantry.path), *words)
        path.unlink()
    put(pantry, "optimizer/a.yaml", "kind: [")
    refused(lambda: Pantry.load(pantry.path), "a.yaml:", "not readable as YAML")
    (pantry.path / "optimizer" / "a.yaml").unlink()
    os.symlink("/etc/passwd", pantry.path / "optimizer" / "a.yaml")
    refused(lambda: Pantry.load(pantry.path), "a.yaml is a link")


def test_empty_slots_are_filled_down_the_tree(pantry: Pantry) -> None:
    filled = empty_recipe().fill_empty_recursively(pantry)
    chosen = {path: (filled.at(path).name if filled.at(path) else None) for path, _ in filled.all_slots()}  # type: ignore[union-attr]
    assert chosen == {
        "model": "small_cells",
        "data": "digits",
        "training": "medium",
        "training.optimizer": "adamw_one_cycle",
        "training.augmentation": "shift",
        "weights": None,  # optional
        "export": None,
    }
    named = empty_recipe().fill_empty_recursively(pantry, choices=CHOICES, preferences=["none"])
    assert [named.at(path).name for path in ("training.optimizer", "training.augmentation")] == ["sgd_cosine", "none"]  # type: ignore[union-attr]
    kept = named.fill_empty_recursively(pantry, seed=1)
    assert kept == named, "what stands in a slot stays"
    drawn = [empty_recipe().fill_empty_recursively(pantry, seed=seed) for seed in [*range(12), 0]]
    assert drawn[0] == drawn[-1] and len({each.id for each in drawn}) > 6
    fill = empty_recipe().fill_empty_recursively
    refused(lambda: fill(pantry, choices={"model": "digits"}), "no architecture or cell_family called 'digits'", "tiny_cells")
    refused(lambda: fill(pantry, choices={"training.optmizer": "x"}), "there is no slot training.optmizer")
    refused(lambda: named.fill_empty_recursively(pantry, choices={"model": "small_cells"}), "tiny_cells there")
    bare = Pantry(pantry.path, pantry.ingredients)  # one that prefers nothing
    refused(lambda: fill(bare), "model is empty, and several fit: large_cells, small_cells, tiny_cells")


def test_a_check_tells_what_cannot_run_and_what_differs(pantry: Pantry, recipe: Recipe) -> None:
    assert [str(each) for each in recipe.check(pantry)] == [
        "weights: empty: the network is trained from scratch",
        "export: empty: no files for other programs are written",
    ]
    empty = recipe.with_("training.optimizer", None).with_("model", None).check()
    assert {each.path for each in empty if each.error} == {"training.optimizer", "model"}
    pinned = TASKS.get(recipe.task).pinned(recipe, TASKS.get(recipe.task).load(recipe))
    assert not [each for each in pinned.check(pantry) if each.error]
    other = pinned.with_("data", made("data", "half", {"name": "digits", "max_train": 300}, pinned.slots["data"].sha256))  # type: ignore[union-attr]
    (wrong,) = (each for each in other.check() if each.error)
    assert wrong.path == "data" and "not what the recipe was made with" in wrong.text
    generated = made(
        "data", "glyphs", {"name": "glyphs", "glyphs": {"classes": 3, "train": 9, "val": 3, "test": 3, "size": 12}}
    )
    (wrong,) = (each for each in pinned.with_("data", generated).check() if each.error)
    assert wrong.path == "model" and "(1, 8, 8) (C, H, W) and 10 classes" in wrong.text
    mine = recipe.with_("training.optimizer", made("optimizer", "sgd_cosine", {"lr": 0.2}))
    (note,) = (each for each in mine.check(pantry, load=False) if each.path == "training.optimizer")
    assert not note.error and "in lr, warmup_epochs" in note.text


def test_a_diff_names_what_ids_are_made_of(recipe: Recipe) -> None:
    assert not recipe.diff(Recipe.from_json(recipe.to_json()))
    other = recipe.with_("training.optimizer", made("optimizer", "renamed", {"optimizer": "adamw", "lr": 0.1}))
    found = {each.path: (each.a, each.b) for each in other.with_("model", None).diff(recipe)}
    assert found["training.optimizer.optimizer"] == ("adamw", "sgd") and found["model"] == (None, "cell_family version 1")
    assert "training.optimizer.lr" not in found, "it is the same"
    assert not any(path.startswith("model.") for path in found), "the slot is named, not what is in it"
    assert not any("name" in path for path in found)
    bare = recipe.with_("data", made("data", "glyphs", {"name": "glyphs"}))
    told = recipe.with_("data", made("data", "glyphs", {"name": "glyphs", "glyphs": {}}))
    assert bare.id != told.id and [each.path for each in bare.diff(told)] == ["data.glyphs"], "what is empty is told, too"


def test_a_recipe_is_found_by_its_id(pantry: Pantry, recipe: Recipe) -> None:
    recipe.save(pantry.path / "recipes" / "mine.yaml")
    assert from_recipe_id(recipe.id, Pantry.load(pantry.path)) == recipe
    refused(lambda: from_recipe_id("0" * 32, pantry), "has no recipe")
    refused(lambda: from_recipe_id("0" * 32, lambda id: recipe.to_json()), "it was changed")


@pytest.mark.parametrize("seed", [-1, 1 << 63, True])
def test_no_recipe_is_made_that_could_not_be_read_again(seed: int) -> None:
    refused(lambda: empty_recipe(seed=seed), "expected a whole number from 0 to 2**63 - 1")


def test_another_task_needs_no_other_format(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    class Reconstruction(Task):
        slots: ClassVar = {"data": Slot(("data",)), "training": Slot(("training",)), "decoder": Slot(("cell_family",), True)}
        work: ClassVar = "reconstruct"

    Reconstruction.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]
    monkeypatch.setitem(TASKS._loaded, "reconstruction", Reconstruction())
    made_ = empty_recipe("reconstruction").fill_empty_recursively(Pantry.load())
    assert [path for path, _ in made_.all_slots()] == [
        "data",
        "training",
        "training.optimizer",
        "training.augmentation",
        "decoder",
    ]
    again = Recipe.from_yaml(made_.to_yaml())
    assert again == made_ and again.id == made_.id != recipe.id
