"""``archsearch simulate``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from archsearch.cli import main

CONF = {
    "data": {"name": "digits", "max_train": 200},
    "search": {"init_node_ch": [2, 3], "max_hull_points": 6, "band_standard_errors": 2},
}


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(CONF))
    return path


def archsearch(*words: object) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    return int(left.value.code or 0)


def test_it_says_how_long_and_how_busy(conf, capsys):
    assert archsearch("simulate", conf, "--slots", 3) == 0
    out, err = capsys.readouterr()
    assert "on the frontier" in out and "completed" in out
    assert "on 3 slots, busy" in out
    assert "files" not in out, "nothing was kept"
    assert "s] job 1 SEED_TRAINED started" in err and "[  -" not in err


def test_json_and_a_kept_run(conf, tmp_path, capsys):
    folder = tmp_path / "kept"
    words = ["simulate", conf, "--slots", 2, "--run-dir", folder, "--set", "search.max_hull_points=4", "--json"]
    assert archsearch(*words) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["run"] == str(folder) and said["state"] == "done" and said["points"] >= 4
    figures = said["simulated"]
    assert figures["slots"] == 2 and figures["from"] is None
    assert figures["seconds"] > 0 and 0 < figures["busy_share"] <= 1 and figures["driver_seconds"] > 0
    assert archsearch("status", folder) == 0
    capsys.readouterr()
    assert archsearch("resume", folder) == 2
    assert "was simulated" in capsys.readouterr().err


def test_from_a_run(conf, tmp_path, capsys):
    folder = tmp_path / "kept"
    assert archsearch("simulate", conf, "--slots", 2, "--run-dir", folder) == 0
    capsys.readouterr()
    assert archsearch("simulate", conf, "--slots", 4, "--from", folder, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["simulated"]["from"] == str(folder) and said["run"] is None


def test_failures_end_it_with_code_3(conf, capsys):
    words = ["simulate", conf, "--slots", 2, "--failures", 0.9, "--set", "cluster.max_attempts=1"]
    words += ["--set", "search.init_node_ch=[2,3,4,5,6,7,8,9,10,11,12]"]
    assert archsearch(*words) == 3
    assert "the first 3 jobs all failed with: the simulated worker was lost" in capsys.readouterr().err
    assert archsearch(*words, "--set", "cluster.first_failures=50") == 3
    assert "jobs failed (cluster.max_failure_share)" in capsys.readouterr().err


def test_bad_input(conf, tmp_path, capsys):
    assert archsearch("simulate", conf, "--slots", 0) == 2
    assert archsearch("simulate", conf, "--slots", 2, "--failures", 1.5) == 2
    assert archsearch("simulate", conf, "--slots", 2, "--from", tmp_path / "nothing") == 2
    assert archsearch("simulate", tmp_path / "absent.yaml", "--slots", 2) == 2
    capsys.readouterr()
