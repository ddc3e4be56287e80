"""Submitted searches at a real job server: they outlive their client and their driver, and tell nobody a secret."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml
from real_head import Head, clean, running_head
from small_run import history, small
from test_ray_runs import told, wait_for

from archsearch import api
from archsearch.data import DataSection, load
from archsearch.jobs import EventKind

#: In the head's environment, and in the name of the folder that holds the data: the configuration says ${DATA_TOKEN}.
SECRET = "hunter2andmore"


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    place = tmp_path_factory.mktemp("head")
    digits = load(DataSection(name="digits", max_train=200))
    (place / SECRET).mkdir()
    arrays = {name: getattr(digits, name) for name in ("x_train", "y_train", "x_test", "y_test")}
    np.savez(place / SECRET / "digits.npz", **arrays)
    with running_head(place, cpus=1, environment={"DATA_TOKEN": SECRET}) as running:
        yield running


def client(head: Head, *words: object, **environment: str) -> subprocess.Popen:
    """The command line on another machine, as it were: another folder, and another value of the secret variable."""
    command = [sys.executable, "-m", "archsearch", *map(str, words), "--address", head.address]
    return subprocess.Popen(
        command,
        env={**head.environment(DATA_TOKEN="not-the-secret", EPOCHS="2"), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answer(head: Head, *words: object, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    process = client(head, *words, **environment)
    out, err = process.communicate(timeout=280)
    assert process.returncode == code, (process.returncode, out[-3000:], err[-3000:])
    assert "Traceback" not in err
    return subprocess.CompletedProcess(process.args, code, out, err)


def drivers(head: Head) -> list[psutil.Process]:
    """Processes that drive a run on the head; not their supervisor, and not Ray's."""
    found = []
    for process in head.processes():
        try:
            if "--or-resume" in process.cmdline():
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture
def conf(tmp_path) -> Path:
    config = small(search={"max_hull_points": 500}, data={"name": "npz", "path": "${DATA_TOKEN}/digits.npz"})
    config["run"] = {"seed": 5}
    config["seed_train"]["epochs"] = "${EPOCHS}"
    (tmp_path / "base.yaml").write_text(yaml.safe_dump({**config, "cluster": {"backoff": 0.01}}))
    path = tmp_path / "long.yaml"
    path.write_text("include: base.yaml\n")
    return path


@pytest.mark.timeout(900)  # three drivers, one after another, each with workers of its own; a minute on an idle machine
def test_a_submitted_search_outlives_its_client_and_its_driver(head, conf):
    run = head.place / "runs" / "long"
    follower = client(head, "submit", conf)
    wait_for(lambda: told(run) >= 1, 240, "a job is told")
    follower.send_signal(signal.SIGKILL)
    follower.communicate()

    [driver] = drivers(head)
    committed = history(run)
    driver.send_signal(signal.SIGKILL)
    wait_for(lambda: told(run) >= 3, 240, "the search goes on")
    assert history(run)[: len(committed)] == committed
    assert driver not in drivers(head)

    # Nobody is told the secret, however they look; and nobody but the submitter's run is in its way.
    again = answer(head, "submit", conf, code=2)
    assert "is running" in again.stderr and "archsearch stop long" in again.stderr
    for process in head.processes():
        assert SECRET not in " ".join(process.cmdline())
    said = answer(head, "logs", "long", "--no-follow").stdout
    assert "was killed by SIGKILL" in said and "going on with" in said and SECRET not in said

    # Stopped in order, although Ray tells supervisor and driver both; then less is wanted of it, and it is soon done.
    stopped = json.loads(answer(head, "stop", "long", "--json").stdout)
    assert stopped["state"] == "stopped" and not drivers(head)
    assert api.load_run(run).summary()["state"] == "interrupted"
    enough = len(api.load_run(run).points()) + 2
    done = answer(head, "submit", conf, "--set", f"search.max_hull_points={enough}", "--json")
    assert json.loads(done.stdout) == {
        "job": json.loads(done.stdout)["job"],
        "run": "runs/long",
        "address": head.address,
        "state": "succeeded",
        "exit_code": 0,
    }
    summary = api.load_run(run).summary()
    assert summary["state"] == "done" and enough <= summary["points"] < 500
    ended = [job for _, kind, job, _ in history(run) if kind is EventKind.TOLD]
    assert len(ended) == len(set(ended)), "a result was counted twice"
    for file in run.rglob("*"):
        assert file.is_dir() or SECRET.encode() not in file.read_bytes(), file


@pytest.mark.parametrize(
    ("words", "token"), [(("logs", "long"), {}), (("stop", "long"), {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "guessed"})]
)
def test_whoever_has_no_token_or_a_wrong_one_is_refused(head, tmp_path, words, token):
    command = [sys.executable, "-m", "archsearch", *words, "--address", head.address]
    environment = {**clean(), "HOME": str(tmp_path), **token}
    refused = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2 and "asks for a token" in refused.stderr, refused.stderr
    assert "RAY_AUTH_TOKEN_PATH" in refused.stderr and "guessed" not in refused.stderr


def test_what_is_wrong_is_said_before_anything_is_sent(head, conf):
    def refused(*words: object) -> str:
        return answer(head, "submit", conf, *words, code=2).stderr

    assert "search.max_hull_pints" in refused("--set", "search.max_hull_pints=3")
    written = refused("--set", "run.store=postgresql://me:hush@store/runs")
    assert "run.store holds a secret" in written and "hush" not in written
    assert "knows no submitted run" in answer(head, "stop", "nowhere", code=2).stderr
