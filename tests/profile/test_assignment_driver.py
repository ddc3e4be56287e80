"""The loop of an estimation and ``archsearch assign``: killed with -9 it goes on, and one that cannot run ends nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from generated_tables import generated_encoding, generated_table
from reference_example import reference_table

from archsearch.cli import main
from archsearch.jobs import InputError
from archsearch.profile.assignment.driver import DeviceGone, Problem, TableProblem, assign
from archsearch.profile.assignment.evaluation import Evaluation
from archsearch.profile.assignment.tables import Table, table_json

COMMAND = [sys.executable, "-c", "from archsearch.cli import main; main()", "assign"]


class Measured(Problem):
    """A device that is scripted; counts what it was asked to measure."""

    def __init__(self, measure: Callable[[int, int], Evaluation]) -> None:
        self.encoding, self.source = generated_encoding(1, backends=2, names=3, nodes=6), "a scripted device"
        self.asked: list[int] = []
        self._measure = measure

    def evaluate(self, id_: int) -> Evaluation:
        self.asked.append(id_)
        return self._measure(id_, self.asked.count(id_))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.json"
    path.write_text(json.dumps(table_json(generated_table("live", 9, backends=3, names=5))))
    return path


def archsearch(*words: object) -> int:
    with pytest.raises(SystemExit) as left:
        main(["assign", *map(str, words)])
    return int(left.value.code or 0)


# --------------------------------------------------------------------------------------------------------------- the loop
def test_what_fails_is_recorded_and_the_next_one_follows(tmp_path: Path) -> None:
    """The reference ended everything at the first failure."""

    def measure(id_: int, time: int) -> Evaluation:
        if id_ in (0, 3):
            raise RuntimeError("no kernel for Conv2D")
        return Evaluation(99 if id_ == 5 else id_, 10.0 - id_, 1.0 + id_)

    problem = Measured(measure)
    done = assign(problem, "brute", 8, log=tmp_path / "log.jsonl", measure_again=False)
    errors = {each.id: each.error for each in done.evaluations if not each.feasible}
    assert errors == {
        0: "RuntimeError: no kernel for Conv2D",
        3: "RuntimeError: no kernel for Conv2D",
        5: "RuntimeError: asked for assignment 5, the answer is about 99",
    }
    assert problem.asked == list(range(8)) and len(done.front) == 5


def test_a_device_that_goes_ends_it_and_nothing_is_lost(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"

    def gone(id_: int, time: int) -> Evaluation:
        if id_ == 4:
            raise DeviceGone("the board does not answer")
        return Evaluation(id_, 10.0 - id_, 1.0 + id_)

    with pytest.raises(DeviceGone):
        assign(Measured(gone), "brute", 8, log=log)
    back = Measured(lambda id_, time: Evaluation(id_, 10.0 - id_, 1.0 + id_))
    done = assign(back, "brute", 8, log=log, measure_again=False)
    assert back.asked == [4, 5, 6, 7] and done.resumed == 4 and len(done.evaluations) == 8


def test_the_front_is_measured_again_and_noise_alone_does_not_stay_on_it(tmp_path: Path) -> None:
    """Equal but for noise in the first measurements: what was selected for luck is not reported with its luck."""

    def measure(id_: int, time: int) -> Evaluation:
        true = 10.0 + (id_ // 4)
        lucky = true * (0.9 if id_ == 2 and time == 1 else 1.0)
        return Evaluation(id_, lucky, 100.0, (lucky * 0.8, lucky * 1.2), (99.0, 101.0))

    problem = Measured(measure)
    done = assign(problem, "brute", 8, log=tmp_path / "log.jsonl")
    again = {each.id for each in done.again}
    assert 2 in again and 0 in again, "all that may be on the front, as far as the intervals tell"
    assert [each.id for each in done.front] == [0] and done.front[0].time == 10.0 and done.survived == 0
    resumed = Measured(measure)
    assert assign(resumed, "brute", 8, log=tmp_path / "log.jsonl").again == done.again
    assert resumed.asked == [], "second measurements are recorded too"


def test_a_log_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    log, problem = tmp_path / "log.jsonl", TableProblem(generated_table("sums", 1), "one table")
    assign(problem, "random", 5, log=log)
    before = log.read_bytes()
    for estimator, seed, source in (("hlps", 0, "one table"), ("random", 1, "one table"), ("random", 0, "another")):
        with pytest.raises(InputError, match="of another estimation"):
            assign(TableProblem(problem.table, source), estimator, 9, seed=seed, log=log)
    with pytest.raises(InputError, match="of another estimation: model"):
        assign(TableProblem(generated_table("sums", 2), "one table"), "random", 9, log=log)
    lines = before.splitlines(keepends=True)
    damaged = tmp_path / "damaged.jsonl"
    damaged.write_bytes(b"".join([*lines[:2], b"{}\n", *lines[3:]]))
    with pytest.raises(InputError, match="line 3, is damaged"):
        assign(problem, "random", 9, log=damaged)
    other = tmp_path / "notes.txt"
    for text in ("dear diary", "dear diary\n", '{"x": 1}\n'):
        other.write_text(text)
        with pytest.raises(InputError, match=r"notes\.txt"):
            assign(problem, "random", 9, log=other)
        assert other.read_text() == text
    assert log.read_bytes() == before
    with pytest.raises(InputError, match="budget is 0"):
        assign(problem, "random", 0)


@pytest.mark.parametrize("left", [1, 25, 60])
def test_a_line_cut_short_is_made_again(tmp_path: Path, left: int) -> None:
    """Whatever byte a kill left last: the same evaluations in the end, each line once."""
    problem = TableProblem(generated_table("sums", 1), "one table")
    whole = assign(problem, "structured", 12, log=tmp_path / "whole.jsonl")
    lines = (tmp_path / "whole.jsonl").read_bytes().splitlines(keepends=True)
    cut = tmp_path / "cut.jsonl"
    for kept in (0, 1, 7):
        cut.write_bytes(b"".join(lines[:kept]) + lines[kept][: min(left, len(lines[kept]) - 1)])
        again = assign(problem, "structured", 12, log=cut)
        assert again.evaluations == whole.evaluations and again.resumed == max(0, kept - 1)
        assert cut.read_bytes().splitlines(keepends=True) == lines


# --------------------------------------------------------------------------------------------------------- the command line
def test_killed_with_9_and_resumed_it_ends_the_same(table: Path, tmp_path: Path) -> None:
    """A real process, killed in the middle, a second one beside it refused, and the same command again."""
    log, there = tmp_path / "log.jsonl", tmp_path / "scratch"
    there.mkdir()
    words = [*COMMAND, "--table", str(table), "--budget", "100", "--seed", "3", "--resume", str(log), "--json"]
    environment = {**os.environ, "TMPDIR": str(there)}
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    while not log.exists() or log.read_bytes().count(b"\n") < 12:
        assert process.poll() is None, process.stderr
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGSTOP)
    second = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert second.returncode == 2 and "another process is writing" in second.stderr
    process.kill()
    process.communicate()
    recorded = log.read_bytes().count(b"\n")
    assert recorded < 101, "it was killed in the middle"
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert log.read_bytes().count(b"\n") == 101
    fresh = [*words[: words.index("--resume")], "--json"]
    never_killed = subprocess.run(fresh, capture_output=True, text=True, env=environment, check=True)
    assert json.loads(done.stdout) == json.loads(never_killed.stdout)
    assert list(there.iterdir()) == [], "no file of a fixed name in a temporary folder"


@pytest.mark.parametrize(("why", "code"), [(KeyboardInterrupt(), 130), (DeviceGone("the board is gone"), 3)])
def test_what_stops_it_says_how_to_go_on(
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    why: BaseException,
    code: int,
) -> None:
    log, evaluate = tmp_path / "log.jsonl", TableProblem.evaluate

    def interrupted(self: TableProblem, id_: int) -> Evaluation:
        if log.read_bytes().count(b"\n") == 5:
            raise why
        return evaluate(self, id_)

    monkeypatch.setattr(TableProblem, "evaluate", interrupted)
    assert archsearch("--table", table, "--budget", 20, "--resume", log) == code
    assert "log.jsonl; the same command goes on" in capsys.readouterr().err
    monkeypatch.setattr(TableProblem, "evaluate", evaluate)
    assert archsearch("--table", table, "--budget", 20, "--resume", log) == 0
    assert "evaluated  20 of 243 assignments, 4 of them recorded before" in capsys.readouterr().out


@pytest.mark.parametrize("estimator", ["brute", "random", "hlps", "nsga2", "structured"])
def test_json_in_the_documented_shape(table: Path, capsys: pytest.CaptureFixture[str], estimator: str) -> None:
    assert archsearch("--table", table, "--estimator", estimator, "--budget", 30, "--seed", 1, "--mode", "name", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert {"oplist", "backends", "mode", "evaluated", "configs", "solutions"} <= set(said)
    assert said["evaluated"] == 30 and said["mode"] == "name" and len(said["backends"]) == 3 and len(said["oplist"]) == 5
    assert set(said["configs"]) == {str(each["id"]) for each in said["solutions"]}
    assert all(set(each) == {"id", "exec_time", "max_rss"} for each in said["solutions"])
    times, memories = ([each[key] for each in said["solutions"]] for key in ("exec_time", "max_rss"))
    assert times == sorted(times) and memories == sorted(memories, reverse=True)
    assert len(said["regret_curve"]) == 30 and 0 <= said["regret"] < 1


def test_text_and_picture_and_the_reference_s_own_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, picture = tmp_path / "mobilenet.json", tmp_path / "front.png"
    path.write_text(json.dumps(reference_table()))
    assert archsearch("--table", path) == 2
    assert "14 of 32 ids are missing" in capsys.readouterr().err and not picture.exists()
    assert archsearch("--table", path, "--partial", "--estimator", "brute", "--picture", picture) == 0
    said = capsys.readouterr().out
    assert "evaluated  32 of 32 assignments; 14 could not run" in said
    assert "cpu, but acl_cl: Pool2D DepthwiseConv2D" in said
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 10_000


def test_intervals_are_drawn_and_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = generated_table("sums", 1)
    wide = {
        id_: Evaluation(id_, *each.values, (each.time * 0.9, each.time * 1.1), (each.memory, each.memory))
        for id_, each in made.evaluations.items()
    }
    path = tmp_path / "t.json"
    path.write_text(json.dumps(table_json(Table(made.encoding, wide))))
    assert archsearch("--table", path, "--picture", tmp_path / "wide.svg", "--json") == 0
    solution = json.loads(capsys.readouterr().out)["solutions"][0]
    assert solution["time_interval"] == [solution["exec_time"] * 0.9, solution["exec_time"] * 1.1]
    assert (tmp_path / "wide.svg").stat().st_size > 5_000


def test_bad_input_is_refused_before_anything_is_written(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, folder = tmp_path / "log.jsonl", tmp_path / "folder.png"
    folder.mkdir()
    for words, text in (
        (["--table", tmp_path / "none.json"], "cannot be read"),
        (["--table", table, "--estimator", "structure"], "Did you mean 'structured'"),
        (["--table", table, "--mode", "index"], "was recorded in mode name"),
        (["--table", table, "--mode", "both"], "expected one of name, index"),
        (["--table", table, "--picture", tmp_path / "x.doc"], "expected .png, .svg or .pdf"),
        (["--table", table, "--picture", tmp_path / "no" / "x.png"], "is not there"),
        (["--table", table, "--picture", folder], "cannot be written"),
        (["--table", table, "--backends", "cpu,ruy"], "nothing for --backends to do"),
        (["m:f", "--estimator", "structure"], "Did you mean 'structured'"),
        (["m:f", "--partial"], "may be missing from a --table"),
        (["--table", table, "net.yaml"], "one of them"),
        ([], "one of them"),
        (["--table", table, "--resume", tmp_path / "no" / "log"], "cannot be opened"),
        (["none.yaml"], "there is no model 'none.yaml'"),
    ):
        assert archsearch(*words, *([] if "--resume" in words else ["--resume", log])) == 2, words
        assert text in capsys.readouterr().err
    assert archsearch("--table", table, "--budget", 0) == 2
    assert not log.exists()


def test_where_nothing_can_run_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encoding = generated_encoding(0)
    known = {id_: Evaluation(id_, error="no driver") for id_ in range(encoding.size)}
    path = tmp_path / "t.json"
    path.write_text(json.dumps(table_json(Table(encoding, known))))
    assert archsearch("--table", path, "--json", "--picture", tmp_path / "none.png") == 3
    out, err = capsys.readouterr()
    assert json.loads(out)["solutions"] == [] and "not one of 8 assignments could run: no driver" in err
