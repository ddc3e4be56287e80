"""``archsearch profile``: figures with their intervals, JSON, and bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from profile_models import FLAWLESS, stand_in

from archsearch import load_run
from archsearch.arch import seed_architecture
from archsearch.cli import main
from archsearch.profile import process

ARCH = seed_architecture((3, 8, 8), 10, cells=1, reductions=0, nodes=1, channels=4)


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "net.yaml"
    path.write_text(ARCH.to_yaml())
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one for each test."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ARCHSEARCH_CACHE", str(folder))
    return folder


def archsearch(*words: object) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    return int(left.value.code or 0)


def test_what_is_measured_is_shown_with_its_interval(net, tmp_path, monkeypatch, capsys):
    body = "time_all(lambda number: [2.0, 2.0, 2.5], waited=lambda number: 0.3 * number)\nsay('done')"
    monkeypatch.setattr(process, "command", lambda: stand_in(tmp_path, FLAWLESS + body))
    words = ("profile", net, "m:f", "--repeats", 0, "--memory-runs", 1, "--patience", 0)
    assert archsearch(*words) == 0
    out, err = capsys.readouterr()
    assert "latency      2 ms  [2, 2" in out and "p90 2.5 ms, 60 runs" in out and "peak running 1.4" in out
    assert out.count("noisy") == 1 and "others held its cores for 30.0% of the time" in out
    assert "time of 1c 0r 1n 4ch" in err and "memory of m:f: 2 ms  [2, 2" in err
    assert archsearch(*words, "--json", "--fresh") == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first["model"].startswith("1c 0r 1n 4ch ") and first["profile"]["latency"]["median"] == 2.0
    assert first["profile"]["latency"]["noisy"] is False and second["profile"]["latency"]["noisy"] is True


def test_the_frontier_of_a_run(tmp_path, monkeypatch, capsys):
    conf = {"data": {"name": "digits", "max_train": 100}, "search": {"init_node_ch": [2, 3], "max_hull_points": 3}}
    (tmp_path / "conf.yaml").write_text(yaml.safe_dump(conf))
    assert archsearch("simulate", tmp_path / "conf.yaml", "--slots", 2, "--run-dir", tmp_path / "run") == 0
    front = load_run(tmp_path / "run").frontier()
    monkeypatch.setattr(process, "command", lambda: stand_in(tmp_path, FLAWLESS + "time_all(lambda n: [2.0])\nsay('done')"))
    capsys.readouterr()
    assert archsearch("profile", tmp_path / "run", "--memory-runs", 0, "--patience", 0, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["model"].split(":")[0] for row in rows] == [f"point {row['id']}" for row in front] and rows


def test_a_model_that_fails_is_named_and_the_others_are_shown(net, tmp_path, monkeypatch, capsys):
    body = (
        "if 1 in request['numbers']:\n    say('begin', subject=1)\n"
        "    say('failed', subject=1, kind='input', message='the model does not load: no module m')\n"
        "    request['numbers'].remove(1)\n"
        "time_all(lambda number: [2.0])\nsay('done')"
    )
    monkeypatch.setattr(process, "command", lambda: stand_in(tmp_path, FLAWLESS + body))
    assert archsearch("profile", net, "m:f", "--memory-runs", 0, "--patience", 0, "--json") == 2
    out, err = capsys.readouterr()
    good, bad = json.loads(out)
    assert good["profile"]["latency"]["median"] == 2.0 and bad["failed"]["kind"] == "input"
    assert "m:f: the model does not load: no module m" in err and "profile: 20/20 time of" in err


def test_bad_input(net, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(process, "command", lambda: pytest.fail("a process was started"))
    for words, said in (
        ((net, "--runtime", "pytroch"), "Did you mean 'pytorch'"),
        ((net, "--threads", 999), "threads = 999"),
        ((net, "--width", -1), "width = -1"),
        ((tmp_path / "absent.yaml",), "there is no model"),
        ((tmp_path,), "there is no run in"),
    ):
        assert archsearch("profile", *words) == 2
        assert said in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["net.yaml"], "nothing is written"
