"""``--device`` of ``archsearch profile`` and ``archsearch assign`` on a board behind a real sshd."""

from __future__ import annotations

import contextlib
import json
import platform
import shlex
import sys
import threading
from pathlib import Path

import psutil
import pytest
import yaml
from listed_run import until
from ssh_board import Board, needs_ssh

from archsearch.arch import seed_architecture
from archsearch.cli import main
from archsearch.profile.cache import Cache, _key, own_cache
from archsearch.profile.measurement import Measurement, Profile
from archsearch.profile.models import architecture_model
from archsearch.profile.protocol import PROTOCOL, device_environment
from archsearch.profile.settings import Settings, Subject

pytestmark = needs_ssh

ARCH = seed_architecture((3, 8, 8), 10, cells=1, reductions=0, nodes=1, channels=4)
#: Hardly any runs, whoever else holds the core: what is measured here is not looked at.
QUICK = {"launches": 1, "rounds": 1, "runs": 3, "seconds": 0.0, "warmup": 0.05, "repeats": 0, "patience": 0.0, "busy": 1.0}

#: A measuring process that needs no PyTorch. It notes its id when it is to take times, and where the plan then has a ``c`` it
#: does not go on, until nobody listens any more.
MEASURING = """
import json, os, sys
from pathlib import Path
here, request = Path(sys.argv[1]), json.loads(sys.stdin.readline())
def say(event, **data):
    print(json.dumps({"event": event, **data}), flush=True)
if request["task"] == "describe":
    both = ["native", "onednn"]
    say("described", graph=[["Conv2D", 10, []], ["Linear", 10, [0]]], backends=both, supported=[both, both])
if request["task"] == "memory":
    say("memory", subject=request["numbers"][0], baseline=1000, load=2000, run=1500, apart=True)
if request["task"] == "time":
    (number,) = request["numbers"]
    say("begin", subject=number)
    with (here / "begun").open("a") as file:
        print(os.getpid(), file=file)
    if (here / "plan").read_text()[len((here / "begun").read_text().split()) - 1] == "c":
        sys.stdin.read()
        sys.exit()
    say("ready", subject=number, build_seconds=0.1, file_size=7, deviation=0.0, warmup_runs=10, warmup_settled=True)
    say("block", subject=number, ms=[2.0] * 3, energy_mj=None, seconds=1.0, waited=0.0, clock_mhz=None, temperature=None)
    say("load", others=0.01)
say("done")
"""


class Places:
    """A network and a configuration with the board, which says that it runs another kernel, and so is another device."""

    def __init__(self, board: Board, folder: Path) -> None:
        self.board, self.folder = board, folder
        self.there = Cache(folder / "there" / "profiles")  # what the board keeps of its measurements
        (folder / "net.yaml").write_text(ARCH.to_yaml())
        self.python('"$@"')

    def python(self, words: str) -> None:
        """The board's interpreter is one, with these words after it."""
        cache = f"export ARCHSEARCH_CACHE={shlex.quote(str(self.folder / 'there'))}"
        self.script(f"{cache}\nexec setarch {platform.machine()} --uname-2.6 {sys.executable} {words}")

    def script(self, text: str) -> None:
        """The board's interpreter is none."""
        devices = {"board": self.board.settings(python=self.board.script(text))}
        (self.folder / "conf.yaml").write_text(yaml.safe_dump({"data": {"name": "digits"}, "devices": devices}))

    def archsearch(self, verb: str, *words: object) -> int:
        where = ("--device", "board", "--config", str(self.folder / "conf.yaml"), "--json")
        with pytest.raises(SystemExit) as left:
            main([verb, str(self.folder / "net.yaml"), *where, *map(str, words)])
        return int(left.value.code or 0)


@pytest.fixture
def places(board, tmp_path, monkeypatch):
    (tmp_path / "locks").mkdir()
    monkeypatch.setenv("ARCHSEARCH_DEVICE_LOCKS", str(tmp_path / "locks"))
    monkeypatch.setenv("ARCHSEARCH_CACHE", str(tmp_path / "here"))
    defaults = tuple(Settings(memory_runs=1, **QUICK).to_json().values())
    monkeypatch.setattr(Settings.__init__, "__defaults__", defaults)  # assign has no options for these
    monkeypatch.setattr("archsearch.cluster.device_bench.ATTEMPTS", 2)
    board.start()
    return Places(board, tmp_path)


def test_figures_are_the_boards_own_and_no_cache_of_this_machine_is_asked(places, capsys):
    asked, subject = Settings(memory_runs=0, **QUICK), Subject(architecture_model(ARCH.to_json()))
    words = ("profile", "--seconds", 0, "--repeats", 0, "--memory-runs", 0, "--patience", 0)
    mine, _ = device_environment("pytorch", asked)

    def known(cache: Cache, fingerprint: str, ms: float) -> None:
        latency = Measurement(ms, ms, ms, "ms", ms, ms, 0.0, 3)
        found = Profile(latency, None, None, None, "pytorch", fingerprint, PROTOCOL, {"noisy_because": []})
        assert cache.keep(_key(subject, asked, fingerprint), found) == ""

    known(own_cache(), mine, 1e5)
    assert places.archsearch(*words) == 0
    (row,) = json.loads(capsys.readouterr().out)
    found = row["profile"]
    theirs = found["fingerprint"]
    assert theirs != mine and found["about"]["environment"]["system"].startswith("Linux 2.6.")
    assert 0 < found["latency"]["median"] < 1e5 and "cached" not in found["about"]

    known(own_cache(), theirs, 2e5)
    known(places.there, theirs, 3e5)
    assert places.archsearch(*words) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["profile"]["latency"]["median"] == 3e5 and "cached" in row["profile"]["about"]

    found["latency"]["median"] = float("nan")
    answer = {"result": {"metrics": {"results": [{"profile": found}]}, "artifacts": {}}}
    (places.folder / "answer").write_text(json.dumps(answer) + "\n")
    places.script(f"echo '{{\"ready\": {{}}}}'; read job; cat {places.folder}/answer")
    assert places.archsearch(*words) == 3
    out, err = capsys.readouterr()
    assert out == "" and "archsearch: device board: its answer is none of archsearch's: " in err and "Traceback" not in err


def test_neither_cut_connections_nor_nonsense_lose_an_assignment(places, capsys, monkeypatch):
    """The first is kept, its second measurement is cut off twice; then the board is none; then it is, and that goes on."""
    plan, begun, log = "gccgcg", places.folder / "begun", places.folder / "log.jsonl"
    (places.folder / "plan").write_text(plan)
    (places.folder / "measuring.py").write_text(MEASURING)
    command = [sys.executable, str(places.folder / "measuring.py"), str(places.folder)]
    code = f"from archsearch.profile import process; process.command = lambda: {command}; "
    board = f"-c {shlex.quote(code + 'from archsearch.cluster.device_child import main; main()')}"
    places.python(board)
    ended = []

    def cut() -> None:
        for place, step in enumerate(plan):
            pids = until(lambda place=place: begun.exists() and begun.read_text().split()[place:], what=plan[: place + 1])
            if step == "c":
                for session in places.board.connections():
                    with contextlib.suppress(psutil.NoSuchProcess):
                        session.kill()
                until(lambda pid=int(pids[0]): not psutil.pid_exists(pid), what="what measured on the board has ended itself")
                ended.append(pids[0])

    cutter = threading.Thread(target=cut, daemon=True)
    cutter.start()
    monkeypatch.setattr("archsearch.cli.assign.PATIENCE", 0.0)
    words = ("assign", "--backends", "native,onednn", "--budget", 1, "--resume", log)
    assert places.archsearch(*words) == 3
    out, err = capsys.readouterr()
    lost = "device board: the connection to root@127.0.0.1 was lost"
    assert f"assign: attempt 1 of 2 was lost, trying again: {lost}" in err and f"archsearch: {lost}" in err
    assert out == "" and "Traceback" not in err
    assert "assign: step 0 of 2 of a measurement (starting)\n" in err, "it says what it does, also before the first is done"
    assert "assign: 1 of 1 assignments; step 0 of 2 of a measurement (starting)\n" in err
    kept = log.read_text()
    header, evaluation = map(json.loads, kept.splitlines())
    assert evaluation["time"] == 2.0 and device_environment("pytorch")[0] not in header["source"]

    places.script("echo Welcome to the board")
    assert places.archsearch(*words) == 3
    assert "device board: the answer is none of archsearch's: 'Welcome to the board'" in capsys.readouterr().err
    assert log.read_text() == kept

    places.python(board)
    assert places.archsearch(*words) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["evaluated"], done["measured_again"], done["survived"]) == (1, 1, 1)
    assert log.read_text().startswith(kept) and len(log.read_text().splitlines()) == 3

    assert places.archsearch("profile", "--memory-runs", 0, "--patience", 0) == 0, "cut once, and whole at the second attempt"
    out, err = capsys.readouterr()
    (row,) = json.loads(out)
    assert row["profile"]["latency"]["median"] == 2.0 and f"profile: attempt 1 of 2 was lost, trying again: {lost}" in err
    cutter.join(30)
    assert len(ended) == plan.count("c")
