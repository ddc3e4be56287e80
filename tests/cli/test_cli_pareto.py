"""``archsearch pareto`` on files that pandas and pyarrow wrote."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from archsearch.cli import main
from archsearch.recipes.snapshots import write_snapshot


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    rng = np.random.default_rng(1)
    latency = np.round(np.exp(rng.normal(size=60)), 3)
    df = pd.DataFrame(
        {
            "recipe_id": [f"{i:03d}" for i in range(60)],
            "device": ["pi4"] * 40 + ["jetson"] * 20,
            "quantisation": ["fp32", None] * 30,
            "od_inf_rate_ms": latency,
            "od_inf_energy_mJ": latency * rng.uniform(1, 3, 60),
            "relative_task_metric": np.round(1 - 0.1 / (latency + 0.2) * rng.uniform(1, 2, 60), 3),
        }
    )
    df.loc[3, "od_inf_rate_ms"] = np.nan
    folder = tmp_path_factory.mktemp("recipes")
    df.to_csv(folder / "all.csv", index=False)
    df.to_parquet(folder / "all.parquet")
    df.to_json(folder / "all.json", orient="records")
    (folder / "notes.csv").write_text("name,value\na,1\n")
    (folder / "broken.parquet").write_bytes(b"PAR1 this is none PAR1")
    (folder / "empty.csv").touch()
    return folder


def run(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main(["pareto", *map(str, words)])
    said = capsys.readouterr()
    return ended.value.code, said.out, said.err


@pytest.mark.parametrize("kind", ["csv", "parquet", "json"])
def test_json_says_which_recipes_and_how_they_stand(folder, capsys, kind):
    from archsearch.recipes import query_pareto_optimal_recipes

    code, out, err = run(capsys, folder / f"all.{kind}", "--device", "pi4", "--json")
    found = json.loads(out)
    assert code == 0 and "1 of 40 rows left out: 1 without od_inf_rate_ms" in err
    df = pd.read_csv(folder / "all.csv", dtype={"recipe_id": str}).query("device == 'pi4'").dropna(subset="od_inf_rate_ms")
    assert [each["recipe_id"] for each in found["recipes"]] == query_pareto_optimal_recipes(df)[0]  # 007 is still 007
    assert found["compared"] == 39 and found["front"] == len(found["recipes"]) and found["devices"] == ["pi4"]
    assert {each["quantisation"] for each in found["recipes"]} <= {"fp32", ""}
    assert sum(each["knee"] for each in found["recipes"]) == 1


def test_the_answer_is_the_same_to_the_last_digit_whatever_the_file(capsys, tmp_path):
    """Of figures with all their digits, on a device whose name pandas takes for a missing value."""
    latency = np.sort(np.random.default_rng(3).random(300))
    values = {"od_inf_rate_ms": latency, "relative_task_metric": latency}
    df = pd.DataFrame({"recipe_id": [f"{i:03d}" for i in range(300)], "device": "NA", "quantisation": "null", **values})
    found = []
    for kind in ("csv", "parquet", "json"):
        write_snapshot(df, tmp_path / f"all.{kind}")
        code, out, _ = run(capsys, tmp_path / f"all.{kind}", "--device", "NA", "--json")
        assert code == 0
        found.append(json.loads(out)["recipes"])
    assert found[0] == found[1] == found[2] and [each["od_inf_rate_ms"] for each in found[0]] == latency.tolist()
    assert {each["quantisation"] for each in found[0]} == {"null"}


def test_a_strangers_names_stay_text_on_terminal_and_picture(capsys, tmp_path):
    wild = "\x1b[2J$x^{$"
    df = pd.DataFrame({"recipe_id": ["a", wild], "device": wild, "od_inf_rate_ms": [1, 2], "relative_task_metric": [0.1, 0.2]})
    df.to_csv(tmp_path / "all.csv", index=False)
    code, out, _ = run(capsys, tmp_path / "all.csv", "--picture", tmp_path / "all.png")
    assert code == 0 and "\x1b" not in out and out.count("?[2J$x^{$") == 2 and (tmp_path / "all.png").stat().st_size > 10_000
    code, _, err = run(capsys, tmp_path / "all.csv", "--device", "pi4")
    assert code == 2 and "\x1b" not in err and "devices: ?[2J$x^{$" in err


def test_the_table_and_the_picture(folder, capsys, tmp_path):
    picture = tmp_path / "front.png"
    words = ("--device", "pi4", "--method", "fuzzy", "--top", 5, "--sort", "paretoness", "--picture", picture)
    code, out, _ = run(capsys, folder / "all.csv", *words)
    rows = out.splitlines()
    assert code == 0 and rows[1].split()[:3] == ["recipe", "quantisation", "od_inf_rate_ms"]
    assert [row.split()[0] for row in rows[2:7]] == list("12345")
    assert "compared   39 recipes on pi4" in out and f"picture    {picture}" in out
    pixels = imread(picture)
    green = pixels[..., 1] > pixels[..., 0] + 0.2  # the middle of the ranking; front, rings and knee have none of it
    assert pixels.shape[0] > 400 and green[:, :-200].sum() > 100  # beside the colour bar, too


def test_three_metrics_of_two_devices_and_a_limit(folder, capsys, tmp_path):
    metrics = ("--x", "od_inf_rate_ms", "--x", "energy_mj")
    words = ("--device", "pi4", "--where", "latency_ms<1", "--eps", "0.1", "--json", "--picture", tmp_path / "three.png")
    code, out, _ = run(capsys, folder / "all.csv", *metrics, *words)
    found = json.loads(out)
    assert code == 0 and found["metrics"] == ["od_inf_rate_ms", "energy_mj", "relative_task_metric"]
    assert all(each["od_inf_rate_ms"] < 1 and each["front"] for each in found["recipes"])
    assert (tmp_path / "three.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["all.csv"], "rows are of 2 devices: jetson, pi4; say on which"),
        (["all.csv", "--device", "tpu"], "no device 'tpu'; devices: jetson, pi4"),
        (
            ["all.csv", "--device", "pi4", "--x", "latency"],
            "no column 'latency' (did you mean latency_ms?); columns of numbers: od_inf_rate_ms",
        ),
        (
            ["all.csv", "--device", "pi4", "--where", "latency_ms<0.0001"],
            "no recipe is left to compare: 40 of 40 rows left out",
        ),
        (["all.csv", "--device", "pi4", "--method", "fuzzy"], "--top is None; expected a whole number of at least 1"),
        (["all.csv", "--method", "best"], "--method is 'best'; expected one of exact, fuzzy"),
        (
            ["all.csv", "--device", "pi4", "--picture", "no/where.png"],
            "expected a name that ends in .png, in a folder that is there",
        ),
        (["all.csv", "--device", "pi4", "--picture", "front.jpg"], "expected a name that ends in .png"),
        (["notes.csv"], "has no column 'recipe_id'; columns: name, value"),
        (["broken.parquet"], "broken.parquet is no .parquet file of rows"),
        (["empty.csv"], "empty.csv is no .csv file of rows"),
        (["missing.csv"], "there is no file missing.csv"),
    ],
)
def test_bad_input_exits_with_2_and_says_what_there_is(folder, capsys, monkeypatch, words, said):
    monkeypatch.chdir(folder)
    before = sorted(Path().iterdir())
    code, out, err = run(capsys, *words)
    assert code == 2 and said in err and not out, err
    assert sorted(Path().iterdir()) == before


def test_without_pyarrow_it_says_what_to_install(folder, capsys, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    code, _, err = run(capsys, folder / "all.parquet", "--device", "pi4")
    assert code == 2 and "Parquet needs pyarrow, pip install 'archsearch[parquet]'" in err
