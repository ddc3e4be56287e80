"""What recipes need is fetched once, kept by its content, and found again where nothing can be fetched any more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn

import archsearch
from archsearch.data import DataSection, load
from archsearch.jobs import InputError, StoreDamaged
from archsearch.recipe_run import run_recipe
from archsearch.recipe_weights import weights_of_run
from archsearch.recipes import offline
from archsearch.recipes.classification import CLASSIFICATION
from archsearch.recipes.database import add_runs
from archsearch.recipes.ingredient import made
from archsearch.recipes.pantry import Pantry
from archsearch.recipes.points import recipe_of
from archsearch.recipes.prepared import Prepared
from archsearch.recipes.recipe import empty_recipe
from archsearch.registry import DATASETS, WORKS

TRAIN = {"epochs": 1, "batch_size": 32, "optimizer": "adamw", "lr": 0.02, "tensorwatch_stats": False}
CONFIG = {
    "data": {"name": "digits", "max_train": 200},
    "search": {"init_node_ch": [4], "max_hull_points": 2, "band_standard_errors": 1, "test_frontier": False},
    "seed_train": TRAIN,
    "post_train": TRAIN,
    "weak_learner": {"steps": 2},
    "cluster": {"executor": "inline"},
}
CHOICES = {"model": "tiny_cells", "training": "short", "data": "digits"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return archsearch.search(CONFIG, run_dir=tmp_path_factory.mktemp("prepared") / "run")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ARCHSEARCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "offline"


def no_more_data(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(section: DataSection) -> Any:
        raise InputError("digits cannot be fetched: there is no network")

    monkeypatch.setitem(DATASETS._loaded, "digits", gone)


def test_a_recipe_of_the_database_is_prepared_and_trained_without_its_run(
    run: Any, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_runs(tmp_path / "golden.db", [run])
    grown = next(point for point in run.points() if point.parent is not None)
    wanted, pantry = recipe_of(run, grown), Pantry.load()
    with pytest.raises(InputError, match="--weights RUN_OR_FOLDER"):
        offline.GRDB_recipe(wanted.id[:12], pantry, db=tmp_path / "golden.db")
    sources = [weights_of_run(run)]
    recipe = offline.GRDB_recipe(wanted.id[:12], pantry, db=tmp_path / "golden.db", sources=sources)
    assert recipe.id == wanted.id and recipe.to_json() == wanted.to_json()
    swapped = offline.GRDB_recipe(wanted.id, pantry, db=tmp_path / "golden.db", data_generator="digits")
    assert swapped.at("data").sha256 != recipe.at("data").sha256 and swapped.diff(recipe)[0].path == "data.sha256"
    large = made("data", "large", {"name": "glyphs", "glyphs": {"classes": 2, "train": 4, "val": 2, "test": 2, "size": 12}})
    with pytest.raises(InputError, match="large has"):
        offline.GRDB_recipe(wanted.id, pantry, db=tmp_path / "golden.db", data_generator=large)
    kept = sorted(str(file.relative_to(cache)) for file in cache.rglob("*") if file.is_file())
    assert [name.partition("/")[0] for name in kept] == ["data", "data", "led_to", "weights", "weights"]
    no_more_data(monkeypatch)
    done = run_recipe(recipe, tmp_path / "again")
    assert done.result["weights"]["sha256"] == grown.weights.sha256
    file = cache / "data" / f"{recipe.at('data').sha256}.npz"
    whole = file.read_bytes()
    file.write_bytes(whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    with pytest.raises(StoreDamaged, match="is not the data set of its name"):
        run_recipe(recipe, tmp_path / "damaged")


def test_the_trial_is_short_interrupted_and_gone_on_with(run: Any, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, seen = WORKS.get("train"), []

    def watched(spec: Any, context: Any) -> Any:
        seen.append((spec["train"], spec["inherit"], len(context.data().y_train), context.load_checkpoint()))
        return train(spec, context)

    monkeypatch.setitem(WORKS._loaded, "train", watched)
    recipe = recipe_of(run, next(point for point in run.points() if point.parent is not None))
    before = recipe.to_json()
    offline.single_recipe(recipe, sources=[weights_of_run(run)])
    assert recipe.to_json() == before
    (first, inherit, images, none), (_, _, _, checkpoint) = seen
    assert (first["epochs"], first["batch_size"], first["warm_start"], images) == (1, 2, "parent", 4) and inherit is not None
    assert none is None and checkpoint is not None
    monkeypatch.setattr("archsearch.arch.build.build", lambda arch: nn.Linear(1, 1))  # nothing in it needs two images
    short, few = CLASSIFICATION.shortest(recipe, load(run.config["data"]))
    assert short.at("training").parameters["batch_size"] == 1 and len(few.y_train) == 2 and len(few.y_val) == 1


def test_a_prepared_pantry_fills_recipes_without_network(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pantry = Pantry.load()
    recipe = empty_recipe().fill_empty_recursively(pantry, choices=CHOICES)
    assert offline.setup(pantry) == pantry
    prepared = offline.single_recipe(recipe)
    assert prepared.at("data").sha256 is not None and recipe.at("data").sha256 is None
    no_more_data(monkeypatch)
    assert [str(each) for each in recipe.check() if each.error] == ["data: digits cannot be fetched: there is no network"]
    again = empty_recipe().fill_empty_recursively(offline.setup(pantry), choices=CHOICES)
    assert not [each for each in again.check() if each.error]
    assert CLASSIFICATION.pinned(again, CLASSIFICATION.load(again)).id == prepared.id
    with pytest.raises(InputError, match="prepared for 'train'"):
        offline.single_recipe(recipe, task="export")
    with pytest.raises(InputError, match="empty slots: model"):
        offline.single_recipe(recipe.with_("model", None))


def test_data_are_kept_with_their_splits_the_same_bytes_each_time(tmp_path: Path) -> None:
    digits = load(DataSection(name="digits", max_train=100))
    one, other = (Prepared(tmp_path / name).keep_dataset(digits) for name in ("one", "other"))
    assert one.read_bytes() == other.read_bytes() and one.name == f"{digits.hash}.npz"
    found = Prepared(tmp_path / "one").dataset(digits.hash)
    assert found is not None and found.hash == digits.hash and (found.x_val == digits.x_val).all()
    one.rename(tmp_path / "mine.npz")
    mine = load(DataSection(name="npz", path=str(tmp_path / "mine.npz"), val_share=0.5))  # it has a split of its own
    assert mine.hash == digits.hash
    with pytest.raises(StoreDamaged, match="is not the data set"):
        (tmp_path / "one" / "data" / f"{'0' * 64}.npz").write_bytes(other.read_bytes())
        Prepared(tmp_path / "one").dataset("0" * 64)
