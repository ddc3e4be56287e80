"""A search's best model is packed, verified with the network off, and trained again from the pack there; what is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import archsearch
from archsearch.cli import main
from archsearch.data import DataSection, load
from archsearch.jobs import InputError, StoreDamaged
from archsearch.offline import no_network, packing, verifying
from archsearch.offline.contents import Figure, compared
from archsearch.offline.packing import Python, pack_recipe, pack_run
from archsearch.offline.verifying import run_pack, verify_pack
from archsearch.recipe_run import load_recipe_run
from archsearch.recipes.pack import PackFile, check_pack, write_pack
from archsearch.recipes.pantry import Pantry
from archsearch.recipes.points import recipe_of
from archsearch.recipes.recipe import empty_recipe
from archsearch.registry import Registry

CONFIG = {
    "search": {"init_node_ch": [4], "max_hull_points": 2, "band_standard_errors": 1, "test_frontier": False},
    "seed_train": {"epochs": 3, "batch_size": 32, "optimizer": "adamw", "lr": 0.02, "tensorwatch_stats": False},
    "post_train": {"epochs": 3, "batch_size": 32, "optimizer": "adamw", "lr": 0.01, "tensorwatch_stats": False},
    "weak_learner": {"steps": 4},
    "cluster": {"executor": "inline"},
}
LOCK = Python(index=False)
ISOLATED = [sys.executable, "-I", no_network.__file__]

namespaces = pytest.mark.skipif(
    subprocess.run([*ISOLATED, sys.executable, "-c", ""], capture_output=True).returncode != 0,
    reason="no process can be kept from the network here: it takes root, or namespaces for users",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A search on a file that is gone when it has ended, so that nothing but a pack can have its data."""
    place = tmp_path_factory.mktemp("offline")
    digits = load(DataSection(name="digits", max_train=300))
    arrays = {"x_train": digits.x_train, "y_train": digits.y_train, "x_test": digits.x_test, "y_test": digits.y_test}
    np.savez(place / "mine.npz", **arrays)
    found = archsearch.search(CONFIG | {"data": {"name": "npz", "path": str(place / "mine.npz")}}, run_dir=place / "run")
    grown = next(point for point in found.points() if point.parent is not None)
    pack_run(found, place / "grown", point=grown.id, python=LOCK)
    pack_run(found, place / "best.tar", python=LOCK)
    recipe = recipe_of(found, found.points()[0])
    training = recipe.at("training")
    endless = replace(training, parameters={**training.parameters, "epochs": 1_000_000})
    pack_recipe(recipe.with_("training", endless), place / "endless.zip", python=LOCK)
    (place / "mine.npz").unlink()
    return found


@pytest.fixture
def best(run: Any, tmp_path: Path) -> Path:
    return Path(shutil.copy(run.path.parent / "best.tar", tmp_path / "best.tar"))


@pytest.fixture
def grown(run: Any, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run.path.parent / "grown", tmp_path / "grown"))


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    def run(*words: object, code: int = 0) -> Any:
        with pytest.raises(SystemExit) as left:
            main(["offline", *(str(word) for word in words)])
        said = capsys.readouterr()
        assert int(left.value.code or 0) == code, said.err
        return said

    return run


def trained_again(folder: Path, point: Any) -> None:
    done = load_recipe_run(folder)
    assert done.result["weights"]["sha256"] == point.weights.sha256 and done.result["value"] == point.metrics["val_error"]
    done.load()


@namespaces
def test_the_best_model_is_verified_and_trained_without_network(
    run: Any, best: Path, tmp_path: Path, call: Callable[..., Any]
) -> None:
    point = run.state.point(run.summary()["best"]["id"])
    before = check_pack(best)
    assert before.verified is None and before.about["origin"]["point"] == point.id
    found = json.loads(call("verify", best, "--json").out)
    assert found["agrees"] and found["same"] and found["figure"]["weights"] == point.weights.sha256
    after = check_pack(best, before.id)
    assert after == replace(before, verified=found["verified"]) and after.verified is not None
    assert after.verified["figure"] == found["figure"] and "was tried" in after.verified["network"]
    command = ["-m", "archsearch", "offline", "run", best, "-o", "again", "--id", before.id]
    said = subprocess.run([*ISOLATED, sys.executable, *command], cwd=tmp_path, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert "the weights bit for bit" in said.stdout and f"verified   {after.verified['when']}" in said.stdout
    assert load_recipe_run(tmp_path / "again").recipe.id == recipe_of(run, point).id
    trained_again(tmp_path / "again", point)


@namespaces
def test_a_verification_that_finds_another_figure_marks_nothing(run: Any, grown: Path, tmp_path: Path) -> None:
    """A grown point, from its parent's weights; and the same pack with other claims, as one who wants to deceive writes it."""
    pack = check_pack(grown)
    kept = {name: (grown / name).read_bytes() for name in pack.files}
    figure = Figure.from_json(pack.about["recorded"])
    assert figure.processor is not None and len([name for name in kept if name.startswith("weights/")]) == 2
    claims = {
        "lucky": (replace(figure, value=0.0, interval=(0.0, 0.01), processor=None), "outside of the interval"),
        "near": (replace(figure, value=figure.value + 0.01), "not the recorded one"),
        "elsewhere": (replace(figure, value=figure.value + 0.01, processor="another"), "within the interval"),
    }
    for name, (claim, text) in claims.items():
        files = [PackFile(path, payload, "somebody") for path, payload in kept.items()]
        write_pack(tmp_path / name, files, about=pack.about | {"recorded": claim.to_json()})
        if name == "lucky":  # the others have the same training
            found = verify_pack(tmp_path / name)
            assert found.figure is not None and found.comparison is not None and not found.good
            assert found.figure.weights == figure.weights
            assert check_pack(tmp_path / name).verified is None
        assert text in compared(figure, claim).text and compared(figure, claim).good == (name == "elsewhere")


def test_a_fault_in_each_file_is_refused_before_anything_is_run(
    grown: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*_: Any, **__: Any) -> Any:
        raise AssertionError("something was started")

    monkeypatch.setattr(subprocess, "Popen", nothing)
    names = [str(file.relative_to(grown)) for file in sorted(grown.rglob("*")) if file.is_file()]
    kinds = {name.partition("/")[0] for name in names}
    assert kinds == {"config.yaml", "data", "manifest.json", "python", "recipe.yaml", "recorded", "weights", "wheels"}

    def refused(name: str, what: str) -> None:
        for use in (verify_pack, lambda pack: run_pack(pack, tmp_path / "out")):
            with pytest.raises((StoreDamaged, InputError), match=rf"{name}.* {what}|has no {name}"):
                use(grown)

    for name in names:
        file = grown / name
        whole = file.read_bytes()
        middle = len(whole) // 2
        file.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
        refused(name, "was changed")
        file.unlink()
        if bare := not any(file.parent.iterdir()):
            file.parent.rmdir()
        refused(name, "is missing")
        if bare:
            file.parent.mkdir()
        file.write_bytes(whole)
        (grown / f"{name}.more").write_bytes(whole)
        refused(f"{name}.more", "was added")
        (grown / f"{name}.more").unlink()
    with pytest.raises(StoreDamaged, match="is another pack"):
        verify_pack(grown, "0" * 64)
    monkeypatch.undo()
    check_pack(grown)
    assert not (tmp_path / "out").exists() and {path.name for path in tmp_path.iterdir()} == {"grown"}


def test_what_no_offline_pack_holds_is_refused(grown: Path, tmp_path: Path, call: Callable[..., Any]) -> None:
    """Packs that agree with themselves, by one who wants to have his code run, or another recipe trained."""
    pack = check_pack(grown)
    kept = [PackFile(name, grown / name, "somebody") for name in pack.files]
    for number, name in enumerate(("sitecustomize.py", "data/torch.py", "weights/x.safetensors", "python/lock.txt.pth")):
        write_pack(tmp_path / f"{number}.zip", [*kept, PackFile(name, b"raise SystemExit(99)", "somebody")], about=pack.about)
        said = call("verify", tmp_path / f"{number}.zip", code=2).err
        assert f"{name!r}, which no offline pack has" in said
    other = (grown / "recipe.yaml").read_text().replace("seed: ", "seed: 1", 1)
    less = [each for each in kept if each.path != "recipe.yaml"]
    write_pack(tmp_path / "other.tar", [*less, PackFile("recipe.yaml", other.encode(), "x")], about=pack.about)
    assert "but its manifest says" in call("run", tmp_path / "other.tar", "-o", tmp_path / "out", code=2).err
    for name, about in {"none": {}, "newer": pack.about | {"offline": 2}, "threads": pack.about | {"threads": -1}}.items():
        write_pack(tmp_path / name, kept, about=about)
        call("verify", tmp_path / name, code=2)
    assert not (tmp_path / "out").exists()


def test_without_namespaces_nothing_is_verified(grown: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifying, "_isolated", lambda: ["/bin/sh", "-c", "echo Operation not permitted >&2; exit 78"])
    with pytest.raises(InputError, match="not verified: Operation not permitted"):
        verify_pack(grown)
    assert check_pack(grown).verified is None


@namespaces
def test_a_killed_verification_leaves_the_pack_and_no_process(run: Any, tmp_path: Path) -> None:
    pack = Path(shutil.copy(run.path.parent / "endless.zip", tmp_path))
    before = pack.read_bytes()
    command = [sys.executable, "-m", "archsearch", "offline", "verify", pack]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": str(tmp_path)})
    assert process.stderr is not None
    for line in process.stderr:
        if "loading the data" in line:  # by the process that is to train
            break
    children = psutil.Process(process.pid).children(recursive=True)
    assert [child.cmdline()[2] for child in children] == ["archsearch.offline.inside"]
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert pack.read_bytes() == before and check_pack(pack).verified is None
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive, "what trained goes on for nobody"


def test_packing_refuses_in_time(run: Any, tmp_path: Path, call: Callable[..., Any]) -> None:
    (tmp_path / "there.tar").write_bytes(b"mine")
    assert "exists already" in call("pack", run.path, "-o", tmp_path / "there.tar", code=2).err
    assert "mine.npz does not exist" in call("pack", run.path, "-o", tmp_path / "x.tar", code=2).err
    assert "--threads is for a recipe" in call("pack", run.path, "-o", tmp_path / "x.tar", "--threads", 2, code=2).err
    assert "has no point 99" in call("pack", run.path, "-o", tmp_path / "x.tar", "--point", 99, code=2).err
    recipe = recipe_of(run, run.points()[0])
    recipe.save(tmp_path / "seed.yaml")
    assert "--point is of a run" in call("pack", tmp_path / "seed.yaml", "-o", tmp_path / "x", "--point", 1, code=2).err
    assert "archsearch offline verify best.tar" in call("--help").out
    assert {path.name for path in tmp_path.iterdir()} == {"there.tar", "seed.yaml"}


def test_plug_ins_that_were_used_are_locked_with_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_data.py").write_text("load = print\n")
    info = tmp_path / "my_data-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-data\nVersion: 1.5\n")
    (info / "RECORD").write_text("my_data.py,,\n")
    (info / "entry_points.txt").write_text("[archsearch.dataset]\nmine = my_data:load\n")
    found: Registry[Any] = Registry("dataset")
    monkeypatch.setattr(packing, "DATASETS", found)
    assert found.get("mine") is print
    lock = packing._python_files(empty_recipe(), LOCK, tmp_path, lambda text: None)[-1]
    assert isinstance(lock.content, bytes) and "\nmy-data==1.5" in lock.content.decode()


@pytest.mark.soak  # fetches some hundred megabytes of wheels, and installs them twice
@pytest.mark.timeout(3000)
@namespaces
def test_a_pack_with_wheels_is_verified_in_an_environment_of_its_own(tmp_path: Path) -> None:
    recipe = empty_recipe().fill_empty_recursively(Pantry.load(), choices={"model": "tiny_cells", "training": "short"})
    pack = pack_recipe(recipe, tmp_path / "carried.tar", python=Python("here"))
    assert pack.about["recorded"] is None
    found = verify_pack(tmp_path / "carried.tar", pack.id)
    assert found.good and found.comparison is None and found.pack.verified is not None
    again = run_pack(tmp_path / "carried.tar", tmp_path / "out", pack.id)
    assert again.comparison is not None and again.comparison.same
