"""``archsearch runs``: compare, rm and export as a user calls them; what they refuse, and that nothing changes then."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load as load_tensors

import archsearch
from archsearch.arch import Architecture
from archsearch.cli import main
from archsearch.cli.runs_export import export_run
from archsearch.frontier import hypervolume
from archsearch.jobs import Event, EventKind, StoreBusy, StoreUnavailable
from archsearch.store import RunFolder, RunState, read_run
from archsearch.store.lease import FileLock

CONFIG = {
    "data": {"name": "digits", "max_train": 150},
    "search": {"init_node_ch": [2, 3], "max_hull_points": 3, "band_standard_errors": 2},
    "seed_train": {"epochs": 1, "tensorwatch_stats": False},
    "post_train": {"epochs": 1, "tensorwatch_stats": False},
    "weak_learner": {"steps": 2},
    "cluster": {"executor": "inline"},
}


@dataclass
class Said:
    code: int
    out: str
    err: str


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    def run(*words: object, answer: str = "") -> Said:
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in words])
        said = capsys.readouterr()
        return Said(int(left.value.code or 0), said.out, said.err)

    return run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the finished runs ``a`` and ``b``, alike but for their seeds. Tests leave them as they are."""
    place = tmp_path_factory.mktemp("made")
    for seed, name in enumerate("ab"):
        archsearch.search({**CONFIG, "run": {"seed": seed}}, run_dir=place / name)
    return place


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """A run to spoil and remove."""
    return Path(shutil.copytree(made / "a", tmp_path / "runs" / "a", symlinks=True))


def content(place: Path) -> dict[str, str]:
    """What lies there, by digest; but for the file whose lock was tried."""
    files = [path for path in place.rglob("*") if path.is_file() and path.name != "lock"]
    return {str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def untouched(made: Path) -> Iterator[None]:
    before = content(made)
    yield
    assert content(made) == before, "reading a run changed it"


# ---------------------------------------------------------------------------------------------------------------- the list
def test_the_list_stays_what_the_bare_verb_does(made: Path, call: Callable[..., Said], untouched: None) -> None:
    rows = json.loads(call("runs", "--dir", made, "--json").out)
    assert [(Path(row["run"]).name, row["state"]) for row in rows] == [("a", "done"), ("b", "done")]
    text = call("runs", "--dir", made)
    assert text.code == 0 and "best error" in text.out
    help_ = call("runs", "--help").out
    assert all(word in help_ for word in ("compare", "rm", "export", "--dir", "Examples:"))
    assert call("runs", "--json", "rm", made / "a", "--yes").code == 2 and (made / "a").exists()
    assert call("config").code in (0, 2) and "COMMAND" in call("config").out + call("config").err


# ----------------------------------------------------------------------------------------------------------------- compare
def test_compare(made: Path, tmp_path: Path, call: Callable[..., Said], untouched: None) -> None:
    said = call("runs", "compare", made / "a", made / "b", "--json", "-o", tmp_path / "new" / "both.png")
    found = json.loads(said.out)
    assert found["same_data"] and not said.err
    fronts = [np.array([[p["cost"], p["error"]] for p in archsearch.load_run(made / name).frontier()]) for name in "ab"]
    worst = np.concatenate(fronts).max(axis=0)
    assert found["reference"] == pytest.approx({"cost": 1.1 * worst[0], "error": min(1.1 * worst[1], 1)})
    reference = tuple(found["reference"].values())
    volumes = [hypervolume(front, reference) for front in fronts]
    assert [run["hypervolume"] for run in found["runs"]] == volumes and volumes[0] != volumes[1]
    assert Path(found["picture"]).read_bytes().startswith(b"\x89PNG")
    text = call("runs", "compare", made / "a", made / "b").out
    assert f"{found['runs'][0]['hypervolume_share']:.4f}" in text and "common reference" in text


def test_compare_says_when_the_data_differ(made: Path, tmp_path: Path, call: Callable[..., Said], untouched: None) -> None:
    other = {**CONFIG, "data": {"name": "digits", "max_train": 120}, "search": {"init_node_ch": [2], "max_hull_points": 1}}
    archsearch.search(other, run_dir=tmp_path / "a")
    said = call("runs", "compare", made / "a", tmp_path / "a", "--json")
    assert "different data" in said.err and json.loads(said.out)["same_data"] is False
    text = call("runs", "compare", made / "a", tmp_path / "a").out
    assert "a (A)" in text and "a (B)" in text, "runs of one name are told apart"


def test_compare_refuses(made: Path, tmp_path: Path, call: Callable[..., Said], untouched: None) -> None:
    assert "same run" in call("runs", "compare", made / "a", made / "b" / ".." / "a").err
    assert "ends in .png" in call("runs", "compare", made / "a", made / "b", "-o", tmp_path / "both.jpg").err
    said = call("runs", "compare", made / "a", tmp_path)
    assert said.code == 2 and "there is no run" in said.err and not list(tmp_path.iterdir())


# ---------------------------------------------------------------------------------------------------------------------- rm
def test_a_removed_run_is_gone_and_nothing_else(copy: Path, call: Callable[..., Said]) -> None:
    (copy.parent / "notes.txt").write_text("mine")
    said = call("runs", "rm", copy, "--yes")
    assert said.code == 0 and str(copy) in said.out
    assert [path.name for path in copy.parent.iterdir()] == ["notes.txt"]


def test_it_asks_first(copy: Path, call: Callable[..., Said]) -> None:
    before = content(copy)
    for answer in ("n\n", "\n", ""):
        said = call("runs", "rm", copy, answer=answer)
        assert said.code == 1 and "points" in said.err and "nothing was deleted" in said.err
    assert content(copy) == before
    assert call("runs", "rm", copy, answer="y\n").code == 0 and not copy.exists()


def outside(run: Path) -> Path:
    folder = run.parent / "outside"
    folder.mkdir()
    (folder / "precious").write_text("x")
    return folder


FOREIGN: dict[str, Callable[[Path], object]] = {
    "notes.txt": lambda run: (run / "notes.txt").write_text("x"),
    "full_pool.tsv.bak": lambda run: (run / "full_pool.tsv.bak").write_text("x"),
    "mine/": lambda run: (run / "mine").mkdir(),
    "artifacts/000001/notes": lambda run: (run / "artifacts" / "000001" / "notes").write_text("x"),
    "model_desc_gallery/model_desc_x.yaml": lambda run: (run / "model_desc_gallery" / "model_desc_x.yaml").write_text("x"),
    "HEAD/x": lambda run: ((run / "HEAD").unlink(), (run / "HEAD").mkdir(), (run / "HEAD" / "x").write_text("x")),
    "checkpoints@": lambda run: (run / "checkpoints").symlink_to(outside(run)),
    "artifacts/000009@": lambda run: (run / "artifacts" / "000009").symlink_to(outside(run)),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_not_the_runs_own_is_named_and_needs_force(name: str, copy: Path, call: Callable[..., Said]) -> None:
    checkpoints = copy / "checkpoints"
    if checkpoints.exists():
        shutil.rmtree(checkpoints)
    FOREIGN[name](copy)
    before = content(copy)
    said = call("runs", "rm", copy, "--yes")
    assert said.code == 2 and name in said.err and "--force" in said.err and content(copy) == before
    assert call("runs", "rm", copy, "--yes", "--force").code == 0 and not copy.exists()
    assert all(path.name == "outside" for path in copy.parent.iterdir()), "a link was followed, or something was left"
    assert (copy.parent / "outside" / "precious").exists() == name.endswith("@")


def test_own_leftovers_of_a_crash_need_no_force(copy: Path, call: Callable[..., Said]) -> None:
    (copy / "run.db").rename(copy / "run.db.new")
    for name in (f".writing-{'0' * 32}", f"artifacts/000001/1/.writing-{'a' * 32}", "run.db-wal", "checkpoints/000002/1.ckpt"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(b"x")
    assert call("runs", "rm", copy, "--yes").code == 0 and not copy.exists(), "a damaged run can be removed"


def test_a_folder_that_is_no_run_is_refused(copy: Path, tmp_path: Path, call: Callable[..., Said]) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.yaml").write_text("x")
    (tmp_path / "link").symlink_to(copy)
    for path, word in ((tmp_path / "other", "no run"), (tmp_path / "none", "no run"), (tmp_path / "link", "symbolic link")):
        said = call("runs", "rm", path, "--yes", "--force")
        assert said.code == 2 and word in said.err
    assert (tmp_path / "other" / "config.yaml").exists() and (copy / "run.db").exists()


def test_a_run_that_is_being_driven_is_refused(copy: Path, call: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    lock = FileLock(RunFolder.at(copy).lock)
    try:
        said = call("runs", "rm", copy, "--yes", "--force")
    finally:
        lock.release()
    assert said.code == 2 and "is held by" in said.err and (copy / "run.db").exists()

    class Elsewhere:
        pid = 1

        def __str__(self) -> str:
            return "process 1 on another, since now"

    with monkeypatch.context() as patch:
        patch.setattr("archsearch.store.reader.Reader.driver", lambda self, ttl: Elsewhere())
        said = call("runs", "rm", copy, "--yes")
        assert said.code == 2 and "held by process 1 on another" in said.err and (copy / "run.db").exists()
    assert call("runs", "rm", copy, "--yes").code == 0


def test_the_run_is_held_while_it_asks(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Person:
        def readline(self) -> str:
            with pytest.raises(StoreBusy):
                FileLock(RunFolder.at(copy).lock, patience=0)
            return "n\n"

    monkeypatch.setattr("archsearch.cli.runs.sys.stdin", Person())
    with pytest.raises(SystemExit) as left:
        main(["runs", "rm", str(copy)])
    assert left.value.code == 1 and (copy / "run.db").exists()


# ------------------------------------------------------------------------------------------------------------------ export
@pytest.fixture
def packed(made: Path, tmp_path: Path, call: Callable[..., Said], untouched: None) -> zipfile.ZipFile:
    said = call("runs", "export", made / "a", "-o", tmp_path / "out" / "a.zip", "--json")
    assert said.code == 0
    archive = zipfile.ZipFile(tmp_path / "out" / "a.zip")
    manifest = json.loads(archive.read("manifest.json"))
    assert {**json.loads(said.out)} == {"file": str(tmp_path / "out" / "a.zip"), **manifest}
    return archive


def test_the_manifest_vouches_for_every_file(packed: zipfile.ZipFile, made: Path) -> None:
    manifest = json.loads(packed.read("manifest.json"))
    assert set(manifest["files"]) == set(packed.namelist()) - {"manifest.json"} and packed.testzip() is None
    for name, said in manifest["files"].items():
        payload = packed.read(name)
        assert said == {"sha256": hashlib.sha256(payload).hexdigest(), "size": len(payload)}
    assert {"config.yaml", "run.json", "summary.json", "events.jsonl", "full_pool.tsv", "convex_hull.png"} <= set(
        manifest["files"]
    )
    assert packed.read("full_pool.tsv") == (made / "a" / "full_pool.tsv").read_bytes()


def test_the_events_amount_to_the_run(packed: zipfile.ZipFile, made: Path) -> None:
    rows = [json.loads(line) for line in packed.read("events.jsonl").decode().splitlines()]
    events = [Event(row["number"], row["time"], EventKind(row["kind"]), row["job"], row["data"]) for row in rows]
    assert events == read_run(made / "a").events
    assert len(RunState(events).points()) == json.loads(packed.read("manifest.json"))["points"] >= 3
    assert json.loads(packed.read("summary.json"))["frontier"] == archsearch.load_run(made / "a").frontier()


def test_weights_and_descriptions_of_the_frontier_rebuild_its_networks(packed: zipfile.ZipFile, made: Path) -> None:
    from archsearch.arch.build import build

    run = archsearch.load_run(made / "a")
    ids = {point["id"] for point in run.frontier()}
    assert {name for name in packed.namelist() if name.startswith("weights/")} == {f"weights/{i}.safetensors" for i in ids}
    for number in ids:
        arch = Architecture.from_yaml(packed.read(f"model_desc_gallery/model_desc_{number}.yaml").decode())
        tensors = load_tensors(packed.read(f"weights/{number}.safetensors"))
        build(arch).load_state_dict(tensors)
        assert all((tensors[name] == value).all() for name, value in run.load(number).state_dict().items())


def test_nothing_of_the_machine_goes_out(packed: zipfile.ZipFile, made: Path) -> None:
    assert not {"directory", "expanded", "config"} & set(json.loads(packed.read("run.json")))
    for name in ("run.json", "summary.json", "config.yaml", "events.jsonl", "manifest.json"):
        assert str(made) not in packed.read(name).decode()


def test_the_same_run_packs_to_the_same_tables_and_weights(
    packed: zipfile.ZipFile, made: Path, call: Callable[..., Said]
) -> None:
    again = Path(packed.filename or "").with_name("again.zip")
    call("runs", "export", made / "a", "-o", again)
    with zipfile.ZipFile(again) as other:
        assert {i.filename: i.CRC for i in other.infolist()} == {i.filename: i.CRC for i in packed.infolist()}
    assert again.read_bytes() == Path(packed.filename or "").read_bytes()


def test_an_export_that_fails_leaves_the_archive_before(
    copy: Path, tmp_path: Path, call: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a.zip"
    target.write_bytes(b"the one before")
    best = archsearch.load_run(copy).summary()["best"]["id"]
    weights = copy / next(point for point in archsearch.load_run(copy).points() if point.id == best).weights.key
    good = weights.read_bytes()
    weights.write_bytes(good[:-1])
    said = call("runs", "export", copy, "-o", target)
    assert said.code == 2 and weights.name in said.err
    weights.write_bytes(good)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        said = call("runs", "export", copy, "-o", target)
    assert said.code == StoreUnavailable.exit_code and "No space left" in said.err
    assert target.read_bytes() == b"the one before" and sorted(p.name for p in tmp_path.iterdir()) == ["a.zip", "runs"]
    assert call("runs", "export", copy, "-o", target).code == 0 and zipfile.is_zipfile(target)


def test_export_refuses(made: Path, tmp_path: Path, call: Callable[..., Said], untouched: None) -> None:
    assert "ends in .zip" in call("runs", "export", made / "a", "-o", tmp_path / "a.tar").err
    said = call("runs", "export", tmp_path, "-o", tmp_path / "a.zip")
    assert said.code == 2 and "there is no run" in said.err and not list(tmp_path.iterdir())


def test_a_simulated_run_has_no_weights(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = archsearch.load_run(copy)
    run.meta = {**run.meta, "simulated": True}
    shutil.rmtree(copy / "artifacts")
    monkeypatch.setattr("archsearch.api.load_run", lambda path: run)
    manifest = export_run(copy, tmp_path / "a.zip")
    assert manifest["weights"] == 0 and "full_pool.tsv" in manifest["files"]
