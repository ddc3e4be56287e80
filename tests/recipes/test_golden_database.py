"""The golden database from real searches: rows, what counts of several measurements, files out and in, the command line."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from archsearch import api
from archsearch.cli import main
from archsearch.jobs import InputError, JobState, Stage, StoreDamaged
from archsearch.recipes import snapshots
from archsearch.recipes.database import add_runs, export_file, import_file, import_frame, read_frame, read_recipe
from archsearch.recipes.points import recipe_of
from archsearch.simulation import simulate
from archsearch.store.golden import Added

QUICK = {"epochs": 8, "batch_size": 50, "optimizer": "adamw", "lr": 0.02, "tensorwatch_stats": False}
CONFIG = {
    "run": {"seed": 5},
    "data": {"name": "digits", "max_train": 200},
    "search": {"name": "random", "init_node_ch": [2], "max_hull_points": 2},
    "seed_train": QUICK,
    "post_train": QUICK,
    "cluster": {"executor": "inline"},
}
#: As short as a real measurement can be.
SHORT = {"launches": 1, "rounds": 1, "seconds": 0, "runs": 2, "memory_runs": 1, "repeats": 0, "patience": 0, "warmup": 0}
MEASURED = {
    "run": {"seed": 6},
    "search": {"name": "random", "init_node_ch": [2], "max_hull_points": 1, "cost": "latency_ms@here"},
    "devices": {"here": {}},
    "profile": {"protocol": {**SHORT, "batch": 2}},
}
KEY = ["recipe_id", "device", "quantisation"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[api.Run]]:
    """One of two points; one of a point that a process on this machine has measured."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARCHSEARCH_DEVICE_LOCKS", str(tmp_path_factory.mktemp("locks")))
        yield [api.search(CONFIG, run_dir=folder / "plain"), api.search({**CONFIG, **MEASURED}, run_dir=folder / "measured")]


@pytest.fixture
def golden(runs: list[api.Run], tmp_path: Path) -> Path:
    add_runs(tmp_path / "golden.db", runs)
    return tmp_path / "golden.db"


def without_adder(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.drop(columns=["added_by", "added_at"])


def test_every_point_and_what_a_device_has_measured_of_it(runs: list[api.Run], tmp_path: Path) -> None:
    place = tmp_path / "golden.db"
    added = [each for each, _ in add_runs(place, runs)]
    frame = read_frame(place)
    points = [(run, point) for run in runs for point in run.points()]
    assert len(runs[0].points()) >= 2 and sum(each.recipes for each in added) == len(points)
    ids = {recipe_of(run, point).id: (run, point) for run, point in points}
    framework, here = frame[frame["device"] == "framework"], frame[frame["device"] == "here"]
    assert len(frame) == len(framework) + len(here) == sum(each.rows for each in added)
    assert set(framework["recipe_id"]) == set(ids) and len(framework) == len(ids)
    best = max(1 - point.metrics["val_error"] for _, point in points)
    for row in frame.to_dict("records"):
        run, point = ids[row["recipe_id"]]
        error, deviation = point.metrics["val_error"], point.metrics["val_standard_error"]
        assert row["task_metric"] == 1 - error and row["task_metric_low"] == pytest.approx(
            1 - error - 1.96 * deviation, abs=1e-4
        )
        assert row["task_metric_high"] == pytest.approx(1 - error + 1.96 * deviation, abs=1e-4) and not row["task_metric_noisy"]
        assert row["relative_task_metric"] == (1 - error) / best
        assert (row["run"], row["run_id"], row["point"]) == (run.path.name, run.meta["id"], point.id)
        assert (row["task"], row["dataset"], row["task_metric_name"]) == ("classification", "digits", "val_accuracy")
        assert row["dataset_hash"] == run.meta["dataset"]["hash"] and row["quantisation"] == "float32"
        assert row["archsearch_version"] == run.meta["versions"]["archsearch"] and "@" in row["added_by"]
        assert row["if_inf_macs"] == point.metrics["madds"] and row["if_inf_size"] == point.weights.size / 1e6
        assert read_recipe(place, row["recipe_id"][:10]).to_json() == recipe_of(run, point).to_json()
    tested = [point.metrics["test_error"] for _, point in points if "test_error" in point.metrics]
    assert sorted(framework["test_metric"].dropna()) == sorted(1 - error for error in tested) and tested
    assert framework[["od_inf_rate_ms", "od_total_mem_MB", "fingerprint"]].isna().all(axis=None)

    jobs = runs[1].state.jobs.values()
    profiles = [each for each in jobs if each.job.stage is Stage.PROFILE and each.state is JobState.COMPLETED]
    assert len(here) == len(profiles) == len(runs[1].points())
    for profile in profiles:
        (row,) = here[here["point"] == profile.job.parent].to_dict("records")
        latency, memory = (
            profile.metrics["latency"],
            max(profile.metrics[name]["median"] for name in ("load_memory", "run_memory")),
        )
        for end, value in (("", "median"), ("_low", "low"), ("_high", "high"), ("_noisy", "noisy")):
            assert row[f"od_total_time{end}"] == latency[value]
            assert row[f"od_inf_rate_ms{end}"] == (latency[value] if end == "_noisy" else latency[value] / 2), "per image"
        assert (
            row["od_total_mem_MB"] == row["od_cpu_mem_MB"] == pytest.approx(memory * 1024 / 1e6) and row["od_total_mem_MB"] > 20
        )
        assert row["od_size_MB"] == profile.metrics["about"]["file_size"] / 1e6
        for name in ("od_gpu_mem_MB", "od_unified_mem_MB", *([] if profile.metrics["energy"] else ["od_inf_energy_mJ"])):
            assert math.isnan(row[name]), "nobody has measured it"
        assert (row["fingerprint"], row["runtime"]) == (profile.metrics["fingerprint"], "pytorch")
        assert row["protocol"] == profile.metrics["protocol"] and row["measured_at"] == profile.finished

    again = [each for each, _ in add_runs(place, runs)]
    assert [(each.recipes, each.rows, each.present) for each in again] == [(0, 0, each.rows) for each in added]
    assert_frame_equal(read_frame(place), frame)


def test_the_latest_quiet_measurement_counts_and_all_are_kept(golden: Path) -> None:
    frame = read_frame(golden, recipes=True)
    (number,) = frame.index[frame["device"] == "here"]
    first = frame.loc[[number]].assign(od_inf_rate_ms_low=0.0, od_inf_rate_ms_high=99.0)

    def measured(value: float, later: float, *, noisy: bool, device: str = "pi4") -> None:
        changes = {"device": device, "od_inf_rate_ms": value, "od_inf_rate_ms_noisy": noisy, "od_total_time_noisy": noisy}
        assert import_frame(golden, first.assign(measured_at=first["measured_at"] + later, **changes)).rows == 1

    def counts(device: str = "pi4") -> float:
        (row,) = (found := read_frame(golden))[found["device"] == device].to_dict("records")
        return float(row["od_inf_rate_ms"])

    measured(5.0, 10, noisy=True)
    measured(4.0, 5, noisy=True)
    assert counts() == 5.0, "all are noisy: the latest"
    measured(6.0, -10, noisy=False)
    assert counts() == 6.0, "a quiet one, though it is older"
    measured(7.0, 20, noisy=False)
    measured(8.0, 15, noisy=False)
    measured(9.0, 30, noisy=True)
    assert counts() == 7.0
    history = read_frame(golden, history=True)
    pi4 = history[history["device"] == "pi4"]
    assert list(pi4["od_inf_rate_ms"]) == [6.0, 4.0, 5.0, 8.0, 7.0, 9.0], "by time"
    assert list(pi4.loc[pi4["current"], "od_inf_rate_ms"]) == [7.0]
    assert len(history) == len(frame) + 6 and not read_frame(golden).duplicated(KEY).any()
    assert pi4["relative_task_metric"].notna().sum() == 1, "only for what counts"

    before = read_frame(golden).set_index(KEY)["relative_task_metric"]
    assert before.max() == 1.0
    elsewhere = frame.iloc[[0]].assign(quantisation="int8", task_metric=2 * frame["task_metric"].max(), task_metric_high=9.0)
    import_frame(golden, pd.concat([elsewhere, elsewhere.assign(dataset_hash="other", quantisation="int4", task_metric=7.0)]))
    after = read_frame(golden).set_index(KEY)["relative_task_metric"]
    pd.testing.assert_series_equal(after.reindex(before.index), before / 2)
    assert after[(frame["recipe_id"][0], "framework", "int8")] == after[(frame["recipe_id"][0], "framework", "int4")] == 1.0


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_out_into_a_file_and_in_again_is_the_same_to_the_last_bit(golden: Path, tmp_path: Path, kind: str) -> None:
    awkward = (
        read_frame(golden, recipes=True)
        .iloc[[0]]
        .assign(device="007", quantisation="NA", od_size_MB=0.1 + 0.2, runtime='a "b", é')
    )
    import_frame(golden, awkward)
    file, other = tmp_path / f"all.{kind}", tmp_path / "other.db"
    rows = export_file(golden, file, history=True)
    assert import_file(other, file).rows == rows
    assert_frame_equal(without_adder(read_frame(other, recipes=True)), without_adder(read_frame(golden, recipes=True)))
    assert import_file(golden, file) == Added(0, 0, rows)
    reader = {"csv": pd.read_csv, "json": pd.read_json, "parquet": pd.read_parquet}[kind]
    frame = reader(file)  # as others would
    assert len(frame) == rows and frame["od_size_MB"].max() == pytest.approx(0.1 + 0.2, abs=1e-9)
    again = tmp_path / f"some.{kind}"
    export_file(other, again)
    assert import_file(golden, again).rows == 0


def broken(frame: pd.DataFrame, row: int, **values: object) -> pd.DataFrame:
    frame = frame.astype({name: object for name in values})
    for name, value in values.items():
        frame.loc[row, name] = value
    return frame


FAULTS: list[tuple[str, Callable[[pd.DataFrame], pd.DataFrame], str]] = [
    ("no key", lambda f: broken(f, 2, device=None), "row 3: device is empty"),
    ("infinite", lambda f: broken(f, 1, od_inf_rate_ms=math.inf), "row 2: od_inf_rate_ms is inf: expected a finite number"),
    ("negative", lambda f: broken(f, 1, od_size_MB=-0.5), "row 2: od_size_MB is -0.5"),
    ("text", lambda f: broken(f, 0, od_size_MB="big"), "row 1: od_size_MB is 'big': expected a number"),
    ("truth", lambda f: broken(f, 0, od_size_MB=True), "row 1: od_size_MB is True: expected a number"),
    ("half a point", lambda f: broken(f, 0, point=1.5), "row 1: point is 1.5: expected a whole number"),
    ("no flag", lambda f: broken(f, 0, task_metric_noisy="perhaps"), "row 1: task_metric_noisy is 'perhaps'"),
    ("no text", lambda f: broken(f, 1, device=7), "row 2: device is 7: expected a text"),
    ("a terminal's code", lambda f: broken(f, 1, device="\x1b[2J"), "row 2: device is .*: expected a text"),
    ("interval", lambda f: broken(f, 3, task_metric=7.0), "row 4: task_metric is 7, outside of its interval"),
    ("interval alone", lambda f: broken(f, 0, od_gpu_mem_MB_low=1.0), "row 1: od_gpu_mem_MB is empty, but has an interval"),
    ("no data set", lambda f: broken(f, 0, dataset_hash=None), "row 1: dataset_hash is empty, but there is a task_metric"),
    (
        "another recipe",
        lambda f: broken(f, 0, recipe=f["recipe"][3]),
        "row 1: recipe is not that of recipe_id .* its content has",
    ),
    (
        "a changed recipe",
        lambda f: f.assign(recipe=f["recipe"].str.replace('"seed":', '"seed":1')),
        "row 1: recipe is not that",
    ),
    ("no recipe", lambda f: broken(f, 0, recipe="[" * 100_000), "row 1: recipe is not that"),
    ("without recipes", lambda f: f.drop(columns=["recipe"]), "row 1: recipe is empty, and the database has no recipe"),
    ("an unknown column", lambda f: f.assign(od_inf_rate=1.0), "'od_inf_rate' is not one .* did you mean 'od_inf_rate_ms'"),
    ("no column", lambda f: f.drop(columns=["device"]), "the column 'device' is missing"),
    ("many", lambda f: f.assign(od_size_MB=-1.0, od_total_time=-1.0, protocol=-1, point=-1), "and . more"),
]


@pytest.mark.parametrize(("change", "words"), [each[1:] for each in FAULTS], ids=[each[0] for each in FAULTS])
def test_one_wrong_row_and_nothing_of_the_file_is_taken(
    golden: Path, tmp_path: Path, change: Callable[[pd.DataFrame], pd.DataFrame], words: str
) -> None:
    frame = change(read_frame(golden, recipes=True).head(4))
    with pytest.raises(InputError, match=words):
        import_frame(tmp_path / "other.db", frame)
    assert not (tmp_path / "other.db").exists()
    if "recipe is empty" in words:
        assert import_frame(golden, frame).rows == 0, "a database that has the recipes takes it"


def test_files_that_are_none_and_a_recipe_that_was_changed_in_the_database(golden: Path, tmp_path: Path) -> None:
    import sqlite3

    from archsearch.store import canonical

    for name, payload, words in [
        ("a.csv", b"\xff\xfe\x00", "no .csv file"),
        ("a.parquet", b"PAR1 but no more PAR1", "no .parquet file"),
        ("a.json", b'{"recipe_id": 1}', "a list of objects"),
        ("b.json", b"[" * 100_000, "no .json file"),
        ("a.pickle", b"", "ends in .csv, .parquet, .json"),
    ]:
        (tmp_path / name).write_bytes(payload)
        with pytest.raises(InputError, match=words):
            import_file(golden, tmp_path / name)
    with pytest.raises(InputError, match="there is no file"):
        import_file(golden, tmp_path / "absent.csv")
    connection = sqlite3.connect(golden)
    id_, text = connection.execute("SELECT id, text FROM recipes").fetchone()
    connection.execute("UPDATE recipes SET text = ? WHERE id = ?", (canonical({**json.loads(text), "seed": 3}), id_))
    connection.commit()
    connection.close()
    for read in (
        lambda: read_recipe(golden, id_),
        lambda: read_frame(golden, recipes=True),
        lambda: export_file(golden, tmp_path / "x.csv"),
    ):
        with pytest.raises(StoreDamaged, match=f"recipe {id_} is not what was written"):
            read()
    assert not (tmp_path / "x.csv").exists() and len(read_frame(golden))
    for change in ("UPDATE recipes SET text = x'7b7d' WHERE id = ?", "DELETE FROM recipes WHERE id = ?"):
        connection = sqlite3.connect(golden)
        connection.execute(change, (id_,))
        connection.commit()
        connection.close()
        with pytest.raises(StoreDamaged, match=f"recipe {id_} is not what was written"):
            read_frame(golden, recipes=True)


def test_a_small_file_of_very_many_values_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "same.parquet"
    pd.DataFrame({"recipe_id": ["a"] * 200_000, "od_size_MB": 1.0}).to_parquet(file)
    monkeypatch.setattr(snapshots, "LARGEST", 1 << 20)
    assert file.stat().st_size < 1 << 16
    with pytest.raises(InputError, match="unpacks to more than"):
        snapshots.read_snapshot(file)


def test_parquet_without_its_library_says_what_to_install(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pip install 'archsearch\[parquet\]'"):
        export_file(golden, tmp_path / "all.parquet")


# ----------------------------------------------------------------------------------------------------------- command line
def test_the_verbs(runs: list[api.Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*words: object, code: int = 0) -> str:
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in words])
        out, err = capsys.readouterr()
        assert left.value.code == code, out + err
        return out if code == 0 else err

    db, paths = tmp_path / "golden.db", [run.path for run in runs]
    assert "nothing was measured on a device 'pi4' there; on: here" in said(
        "db", "add", db, *paths, "--device", "pi4=x", code=2
    )
    assert "the database comes first" in said("db", "add", paths[0], db, code=2)
    simulate(CONFIG, slots=1, run_dir=tmp_path / "simulated")
    assert "simulated" in said("db", "add", db, *paths, tmp_path / "simulated", code=2) and not db.exists()
    done = json.loads(said("db", "add", db, *paths, "--device", "here=laptop-7", "--json"))
    assert [Path(each["run"]) for each in done] == paths and done[1]["rows"] == 2 and done[0]["left_out"] == {}
    text = said("db", "list", db, "--device", "laptop-7")
    frame = read_frame(db)
    (row,) = frame[frame["device"] == "laptop-7"].to_dict("records")
    assert row["recipe_id"][:12] in text and f"{row['od_inf_rate_ms']:.4g}" in text and "measured 1" in text
    rows = json.loads(said("db", "list", db, "--json"))
    assert len(rows) == len(frame) and rows[0]["relative_task_metric"] == 1.0 and rows[0]["od_gpu_mem_MB"] is None
    assert f"1 of {len(frame)} rows" in said("db", "list", db, "--top", 1)
    assert json.loads(said("db", "list", db, "--top", 1, "--json")) == rows[:1]
    assert "it has: framework, laptop-7" in said("db", "list", db, "--device", "here", code=2)
    assert f"{len(frame)} rows" in said("db", "export", db, tmp_path / "all.csv")
    assert f"{len(frame)} rows added" in said("db", "import", tmp_path / "other.db", tmp_path / "all.csv")
    assert "archsearch db add golden.db" in said("db", "--help") and "--device here=laptop-7" in said("db", "add", "--help")


def test_a_recipe_is_shown_by_the_beginning_of_its_id(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    id_ = read_frame(golden)["recipe_id"].iloc[0]
    with pytest.raises(SystemExit) as left:
        main(["recipe", "show", id_[:9], "--db", str(golden), "--json"])
    assert not left.value.code and json.loads(capsys.readouterr().out)["id"] == id_
    with pytest.raises(SystemExit) as left:
        main(["recipe", "show", "0" * 32, "--db", str(golden)])
    assert left.value.code == 2 and "0" * 32 in capsys.readouterr().err
