"""The section ``tracking``: names, settings, plug-ins from outside, secrets, and what a resumed run may change."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import yaml
from recording import config

import archsearch
from archsearch import config as configuration
from archsearch.jobs import InputError
from archsearch.tracking.section import TrackingSection


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"callbacks": ["tensorbord"]}, "no callback is called 'tensorbord'. Did you mean 'tensorboard'"),
        ({"callbacks": ["jsonl", "jsonl"]}, "names jsonl more than once"),
        (
            {"tensorboard": {"picture_every": "1m"}},
            r"settings of tensorboard alone start nothing; add callbacks: \[tensorboard\]",
        ),
        ({"callbacks": ["tensorwatch"], "tensorwatch": {"port": 501}}, "tracking.tensorwatch.port is 501.*at most 500"),
        ({"callbacks": ["tensorwatch"], "tensorwatch": {"host": "0.0.0.0"}}, "unknown key tracking.tensorwatch.host"),
        ({"callbacks": ["jsonl"], "jsonl": {"file": "x"}}, "unknown key tracking.jsonl.file"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(tmp_path, section, message):
    with pytest.raises(InputError, match=message):
        archsearch.search({**config(), "tracking": section}, run_dir=tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_nothing_follows_a_run_that_does_not_say_so():
    section = configuration.from_values(config())["tracking"]
    assert section.callbacks == [] and section.made() == []


def test_settings_may_stay_when_the_callback_is_switched_off():
    values = config(tracking={"callbacks": ["tensorboard"], "tensorboard": {"trainings": 3}})
    section = configuration.from_values(values, overrides=["tracking.callbacks=[]"])["tracking"]
    assert section.made() == [] and section.tensorboard.trainings == 3


def test_settings_reach_the_callback():
    values = config(tracking={"callbacks": ["tensorboard", "jsonl"], "tensorboard": {"picture_every": "2m"}})
    first, second = configuration.from_values(values)["tracking"].made()
    assert (first.name, first.config.picture_every, second.name) == ("tensorboard", 120.0, "jsonl")


def test_the_editors_schema_knows_the_section():
    section = configuration.schema()["properties"]["tracking"]
    assert "TrackingSection" in json.dumps(section) and set(TrackingSection.model_fields) >= {"callbacks", "tensorwatch"}


def test_what_is_no_callback_is_refused(monkeypatch):
    from archsearch.registry import CALLBACKS

    CALLBACKS.get("jsonl")
    monkeypatch.setitem(CALLBACKS._loaded, "jsonl", print)
    with pytest.raises(InputError, match=r"the callback 'jsonl' is .*expected a class made from archsearch\.Callback"):
        configuration.from_values(config(tracking={"callbacks": ["jsonl"]}))


# ------------------------------------------------------------------------------------------------------------------ plug-ins
PLUGIN = '''
import json
from pathlib import Path

import archsearch
from archsearch.config import Section


class Settings(Section):
    file: str
    api_key: str = ""


class Counts(archsearch.Callback):
    """Counts points into a file of the user's choice."""

    Config = Settings
    count = 0

    def on_start(self, start):
        self.count = len(start.points)
        self.seen = start.config["tracking"]

    def on_point(self, point):
        self.count += 1

    def on_end(self, end):
        Path(self.config.file).write_text(json.dumps([self.count, end.state, self.config.api_key, self.seen]))
'''


@pytest.fixture
def installed(tmp_path):
    """An environment with a callback from an installed package."""
    info = tmp_path / "site" / "counts-1.0.dist-info"
    info.mkdir(parents=True)
    (tmp_path / "site" / "counts.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: counts\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[archsearch.callback]\ncounts = counts:Counts\n")
    return {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "LOGGER_TOKEN": "hunter2"}


def archsearch_command(environment, tmp_path, *words):
    line = [sys.executable, "-c", "from archsearch.cli import main; main()", *words]
    return subprocess.run(line, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=280)


@pytest.mark.timeout(600)  # four interpreters, one after another
def test_a_plug_in_follows_a_run_and_its_secrets_are_shown_to_nobody(installed, tmp_path):
    section = {"callbacks": ["counts"], "counts": {"file": "count.json", "api_key": "${LOGGER_TOKEN}"}}
    (tmp_path / "conf.yaml").write_text(yaml.safe_dump({**config(search={"max_hull_points": 2}), "tracking": section}))
    wrong = archsearch_command(installed, tmp_path, "search", "conf.yaml", "--set", "tracking.counts.fil=x")
    assert wrong.returncode == 2 and "unknown key tracking.counts.fil" in wrong.stderr and not (tmp_path / "runs").exists()

    bare = archsearch_command(installed, tmp_path, "search", "conf.yaml", "--set", "tracking={callbacks: [counts]}")
    assert bare.returncode == 2 and "tracking.counts is missing" in bare.stderr and not (tmp_path / "runs").exists()

    done = archsearch_command(installed, tmp_path, "search", "conf.yaml", "--run-dir", "r", "--json")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "tracking: counts" in done.stderr
    count, state, key, shown = json.loads((tmp_path / "count.json").read_text())
    assert (count, state, key) == (json.loads(done.stdout)["points"], "done", "hunter2")
    assert shown["counts"] == {"file": "count.json", "api_key": "***"}
    for file in (tmp_path / "r").rglob("*"):
        assert file.is_dir() or b"hunter2" not in file.read_bytes(), file

    # Who followed it need not be installed where the run is looked at.
    run = archsearch.load_run(tmp_path / "r")
    assert len(run.points()) == count and run.config["tracking"].callbacks == []
    with pytest.raises(InputError, match=r"no callback is called 'counts'"):
        archsearch.resume(tmp_path / "r", overrides=["search.max_hull_points=3"])
    again = ["tracking={}", "search.max_hull_points=3"]
    assert len(archsearch.resume(tmp_path / "r", overrides=again).points()) >= 3


def test_a_resumed_run_may_change_who_follows_it(tmp_path):
    archsearch.search(config(search={"max_hull_points": 2}), run_dir=tmp_path / "r")
    assert not (tmp_path / "r" / "points.jsonl").exists()
    archsearch.resume(tmp_path / "r", overrides=["tracking.callbacks=[jsonl]", "search.max_hull_points=3"])
    run = archsearch.resume(tmp_path / "r", overrides=["search.max_hull_points=4"])  # it is kept
    lines = [json.loads(line) for line in (tmp_path / "r" / "points.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [point.id for point in run.points()] and len(lines) >= 4


def test_a_secret_that_resume_sets_is_not_kept():
    changes = archsearch.api._changes(["tracking.counts.api_key=hunter2", "tracking.counts.file=x", "budget.jobs=3"])
    assert changes == {"tracking.counts.file": "x", "budget.jobs": 3}
    assert archsearch.api._changes(["tracking={counts: {api_key: hunter2}}"]) == {}


def test_a_value_from_a_secret_variable_is_masked_under_any_key(tmp_path, monkeypatch):
    monkeypatch.setenv("LOGGER_TOKEN", "hunter2")
    (tmp_path / "c.yaml").write_text("run: {artifacts: 'x/${LOGGER_TOKEN}/y', name: '${NAME:n}'}\n")
    loaded = configuration.load(tmp_path / "c.yaml")
    assert loaded["run"].artifacts == "x/hunter2/y" and "hunter2" not in loaded.to_yaml()
    assert loaded.to_json()["run"]["name"] == "n" and "hunter2" in loaded.to_yaml(mask=False)
    again = configuration.from_snapshot(
        loaded.source_text, expanded=loaded.expanded, overrides=["run.artifacts=x/hunter2/y"], settable={"budget"}
    )
    assert again["run"].artifacts == "x/hunter2/y" and "hunter2" not in again.to_yaml()
    other = configuration.load(tmp_path / "c.yaml", overrides=["run.name=m"])
    assert other.to_json()["run"]["name"] == "m"
