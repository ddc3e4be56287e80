"""``search --warm-from`` as a user types it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from command_line import SMALL, archsearch, called


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a configuration and one finished run of it."""
    place = tmp_path_factory.mktemp("place")
    (place / "tiny.yaml").write_text(yaml.safe_dump(SMALL))
    called("search", "tiny.yaml", cwd=place)
    return place


def test_a_warm_search_says_what_it_took_and_outlives_its_source(place: Path) -> None:
    shutil.copytree(place / "runs" / "tiny", place / "runs" / "source")
    words = ("--warm-from", "runs/source", "--set", "search.max_hull_points=6", "--run-dir", "runs/warm")
    done = archsearch("search", "tiny.yaml", *words, "--json", cwd=place)
    ended = json.loads(done.stdout)
    taken = ended["warm_from"]["points"]
    assert taken >= 4 and ended["points"] == 6 and ended["warm_from"]["run"] == "tiny"
    assert f"starting from {taken} of the {taken} points of {place / 'runs' / 'source'}" in done.stderr
    assert [line for line in done.stderr.splitlines() if "SEED_TRAINED" in line] == []
    shutil.rmtree(place / "runs" / "source")
    called("resume", "runs/warm", "--set", "search.max_hull_points=7", cwd=place)
    status = json.loads(called("status", "runs/warm", "--json", cwd=place).stdout)
    assert (status["points"], status["state"]) == (7, "done")
    assert [p["origin"]["run"] for p in status["band"] if "origin" in p] or status["band"][0]["id"] > taken
    called("report", "runs/warm", cwd=place)
    assert "tiny " in called("status", "runs/warm", cwd=place).stdout or all("origin" not in p for p in status["frontier"])
    called("runs", "export", "runs/warm", "-o", "warm.zip", cwd=place)
    called("runs", "rm", "runs/warm", "--yes", cwd=place)
    assert not (place / "runs" / "warm").exists(), "every file in it is the run's own"


def test_a_dry_run_counts_what_is_there(place: Path) -> None:
    words = ("search", "tiny.yaml", "--warm-from", "runs/tiny", "--dry-run")
    found = json.loads(called(*words, "--set", "search.max_hull_points=10", "--json", cwd=place).stdout)
    taken = found["warm_from"]["points"]
    assert found["jobs"] == {"SEED_TRAINED": 0, "SEARCH": 10 - taken, "SEARCH_TRAINED": 10 - taken}
    assert [seed["seconds"] for seed in found["seeds"]] == [0.0, 0.0]
    more = called(*words, "--set", "search.init_node_ch=[2, 3, 4]", "--set", "search.max_hull_points=10", cwd=place).stdout
    assert more.count("is there") == 2 and f"starting from {taken} of the {taken} points" in more


@pytest.mark.parametrize(
    "words, message",
    [
        (["--warm-from", "runs/none"], "there is no run in"),
        (["--warm-from", "runs/none", "--dry-run"], "there is no run in"),
        (["--warm-from", "runs/tiny"], "would be over at once (max_hull_points = 4 reached)"),
        (["--warm-from", "runs/tiny", "--set", "data.max_train=140"], "it searched other data (digits, hash"),
        (["--warm-from", "runs/tiny", "--set", "search.init_node_ch=7"], "none of its"),
    ],
)
def test_bad_input_is_exit_2_and_writes_nothing(place: Path, words: list[str], message: str) -> None:
    before = sorted(path for path in place.rglob("*"))
    done = called("search", "tiny.yaml", "--run-dir", "runs/new", *words, cwd=place, code=2)
    assert message in " ".join(done.stderr.split()) and sorted(path for path in place.rglob("*")) == before
