"""What report.html says and that it is one safe file. (How it behaves in a browser: test_report_browser.py.)"""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from report_history import History, example, grown, seed

from archsearch.frontier import hypervolume
from archsearch.jobs import EventKind, Stage, StoreUnavailable
from archsearch.report import html_points as points_module
from archsearch.report import html_slots as slots_module
from archsearch.report import write_html
from archsearch.report.html import embedded
from archsearch.store import RunState

HOSTILE = "</script><script>window.broken=1</script><!--<script>&\u2028<img src=x onerror=window.broken=2>"


def written(folder: Path, state: RunState, **more: Any) -> str:
    path = write_html(folder, state, **{"name": "run", "config": "a: 1\n", "environment": {"seed": 0}, **more})
    assert path == folder / "report.html" and list(folder.iterdir()) == [path]
    return path.read_text(encoding="utf-8")


def data_of(text: str) -> dict[str, Any]:
    block = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert block is not None
    found: dict[str, Any] = json.loads(block[1])
    return found


def test_the_page_is_one_file_that_names_no_other(tmp_path: Path) -> None:
    text = written(tmp_path, example())
    code = text.replace("http://www.w3.org/2000/svg", "")  # a name, never asked for
    assert not re.search(r"https?:|//[a-z]+\.|@import|url\(|<link|<img|<iframe|\ssrc=|\shref=|innerHTML|\beval\(|fetch\(", code)
    assert "default-src 'none'" in text and len(text) < 100_000


def test_points_carry_costs_curves_lineage_and_their_place(tmp_path: Path) -> None:
    data = data_of(written(tmp_path, example()))
    points = {point["id"]: point for point in data["points"]}
    assert list(points) == [1, 2, 4, 6, 7]
    assert [points[i]["parent"] for i in (1, 2, 4, 6)] == [None, None, 1, 4]
    assert [i for i, point in points.items() if point["front"]] == [1, 4, 6]
    assert (data["best"], data["frontierSize"], data["pool"], data["costName"]) == (6, 3, 5, "madds")
    assert points[2]["test"] == 0.22 and points[1]["test"] is None
    assert points[6]["curve"][-1] == [4, 0.5, pytest.approx(0.0875)]
    assert ["validation error", "5.00 % ± 1.00"] in points[6]["rows"]
    assert ["epochs", "4 (best: 4)"] in points[6]["rows"]
    assert ["chosen as parent", "1 \N{MULTIPLICATION SIGN}"] in points[1]["rows"]
    assert points[6]["arch"]["cells"].keys() == {"normal", "reduction"} and points[6]["summary"].endswith("3n 2ch")
    assert data["reason"] == "budget used up" and data["environment"] == [["seed", "0"]]


def test_hypervolume_counts_the_compute_of_all_jobs_up_to_each_step(tmp_path: Path) -> None:
    data = data_of(written(tmp_path, example()))
    steps = data["hypervolume"]
    # 1 after 10 s, 2 after 12 s more, 4 after a search of 1 s and 7 s; 6 after another search, 7 (dominated) and its own 8 s
    assert [step[0] for step in steps] == pytest.approx([0, 10, 22, 30, 45, 46])
    values = [step[1] for step in steps]
    assert values == sorted(values) and values[-1] == values[-2] and 0 < values[1] < values[-1] < 1
    import numpy as np

    points = np.array([[np.log10(point["cost"]), point["error"]] for point in data["points"]])
    low, high = points[:, 0].min(), points[:, 0].max()
    bound = [high + 0.05 * (high - low), points[:, 1].max()]
    box = (bound[0] - low) * bound[1]
    assert values[-1] == pytest.approx(hypervolume(points, bound) / box), "the same as of all points at once"


def test_jobs_are_laid_into_lanes_by_node_and_long_pauses_are_cut(tmp_path: Path) -> None:
    data = data_of(written(tmp_path, example()))
    assert data["lanes"] == ["a", "b"] and data["slotsSeen"] == 2
    bars = {bar[0]: bar for bar in data["bars"]}
    assert {job: bar[2] for job, bar in bars.items()} == {1: 0, 2: 1, 3: 1, 4: 1, 5: 1, 6: 1, 7: 0, 8: 1}
    assert bars[1][3:5] == [0, 10] and bars[5][3:5] == [20, 21] and bars[8][5] == "abandoned"
    [[at, seconds]] = data["pauses"]
    assert seconds == pytest.approx(1e6 - 121) and 21 < at < bars[6][3] < 22 and data["span"] < 35
    for lane in (0, 1):
        times = sorted(tuple(bar[3:5]) for bar in data["bars"] if bar[2] == lane)
        assert all(before[1] <= after[0] + 0.05 for before, after in pairwise(times)), "two jobs in one slot"


def test_a_pruned_job_takes_the_lane_that_was_free_and_is_named(tmp_path: Path) -> None:
    """An attempt that was stopped early never said on which node it ran: that makes no further slot."""
    history = History()
    first = history.train(seed(2), 0.3, 0.0, 10.0)
    second = history.start(Stage.SEED_TRAINED, 10.0, spec={"arch": seed(4).to_json()})
    history.add(EventKind.PRUNED, 14.0, second, attempt=1, reason="dominated", epoch=2, seconds=4.0, compute_madds=1)
    data = data_of(written(tmp_path, history.state))
    assert data["lanes"] == ["a"] and data["busyShare"] == 1.0 and data["jobs"] == {"completed": 1, "pruned": 1}
    assert [bar[:6] for bar in data["bars"]] == [
        [first, "SEED_TRAINED", 0, 0, 10, "completed"],
        [second, "SEED_TRAINED", 0, 10, 14, "pruned"],
    ]
    assert data["deviceSeconds"] == pytest.approx(history.state.device_seconds) and len(data["points"]) == 1


def test_a_node_has_as_many_lanes_as_it_ran_jobs_at_once(tmp_path: Path) -> None:
    history = History()
    for start, end in ((0.0, 4.0), (0.0, 2.0), (1.0, 3.0), (2.0, 5.0), (3.02, 6.0), (6.0, 7.0)):
        history.train(seed(2), 0.3, start, end)
    data = data_of(written(tmp_path, history.state))
    assert data["lanes"] == ["a"] * 3 and [bar[2] for bar in data["bars"]] == [0, 1, 2, 1, 2, 0]
    assert data["busyShare"] == pytest.approx((4 + 2 + 2 + 3 + 2.98 + 1) / (7 * 3))


def test_a_running_job_reaches_to_the_last_event_and_a_waiting_one_holds_no_slot(tmp_path: Path) -> None:
    history = History()
    history.train(seed(2), 0.3, 10.0, 20.0)
    job = history.start(history.state.jobs[1].job.stage, 12.0, spec={"arch": seed(4).to_json()})
    bars = {bar[0]: bar for bar in data_of(written(tmp_path, history.state))["bars"]}
    assert bars[job][3:6] == [2, 10, "running"]
    history.add(EventKind.FAILED, 25.0, job, attempt=1, kind="lost", seconds=13.0)
    assert [bar[0] for bar in data_of(written(tmp_path, history.state))["bars"]] == [1]


def test_a_large_pool_keeps_the_frontier_and_its_forebears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points_module, "MOST_POINTS", 5)
    monkeypatch.setattr(slots_module, "MOST_BARS", 7)
    history = History()
    history.train(seed(3), 0.9, 0.0, 1.0)  # dominated, but the best point's parent
    history.train(seed(2), 0.2, 0.0, 1.0)
    for i in range(10):
        history.train(seed(4), 0.5 + i / 100, 1.0 + i, 2.0 + i)
    history.train(grown(seed(3)), 0.05, 11.0, 12.0, parent=1)
    data = data_of(written(tmp_path, history.state))
    assert (data["pool"], data["jobsLeftOut"], len(data["bars"])) == (13, 6, 7)
    assert [point["id"] for point in data["points"]] == [1, 2, 11, 12, 13]
    assert [point["id"] for point in data["points"] if point["front"]] == [2, 13]


@pytest.mark.parametrize("count", [0, 1])
def test_a_run_of_hardly_any_points_has_a_page(tmp_path: Path, count: int) -> None:
    history = History()
    for _ in range(count):
        history.train(seed(2), 0.0, 0.0, 0.0)
    data = data_of(written(tmp_path, history.state))
    assert len(data["points"]) == count and data["best"] == (1 if count else None)


def test_no_text_of_a_run_can_leave_its_block(tmp_path: Path) -> None:
    names = {"name": HOSTILE, "config": HOSTILE, "environment": {HOSTILE: {HOSTILE: HOSTILE}}}
    text = written(tmp_path, example(HOSTILE), **names)
    plain = written(tmp_path, example())
    for mark in ("<script", "</script", "<!--", "<img", "\u2028"):
        assert text.count(mark) == plain.count(mark), mark
    data = data_of(text)
    assert data["name"] == HOSTILE and data["reason"].endswith(HOSTILE), "and nothing is lost of it"
    assert data["environment"] == [[HOSTILE, f"{HOSTILE} {HOSTILE}"]]
    assert embedded({"a": [float("nan"), float("inf"), 1.5]}) == '{"a":[null,null,1.5]}'


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where the folder should be")
    with pytest.raises(StoreUnavailable, match=r"report\.html"):
        write_html(tmp_path / "run", example(), name="run", config="", environment={})
