"""What a person sees while a run goes, on a terminal and in a log."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

import archsearch
from archsearch.cli.display import Lines, Panels, clock

CONFIG = {
    "data": {"name": "digits", "max_train": 150},
    "search": {"init_node_ch": [2, 3], "max_hull_points": 4, "band_standard_errors": 2},
    "seed_train": {"epochs": 1, "tensorwatch_stats": False},
    "post_train": {"epochs": 1, "tensorwatch_stats": False},
    "weak_learner": {"steps": 2},
    "cluster": {"executor": "inline"},
}


def test_the_panel_shows_slots_jobs_pool_and_frontier(tmp_path):
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    frames = []

    class Kept(Panels):
        def on_tick(self, loop):
            self.drawn = 0.0
            screen = Console(file=io.StringIO(), width=100)
            screen.print(self._render(loop))
            frames.append(screen.file.getvalue())

    with Kept(console, "title") as watching:
        archsearch.search(CONFIG, run_dir=tmp_path / "run", observer=watching)
    last = frames[-1]
    assert "slots" in last and "0/1" in last and "ending: max_hull_points = 4 reached" in last
    assert "SEED_TRAINED 2/2" in last and "SEARCH_TRAINED" in last
    assert "4 points" in last or "5 points" in last
    assert "hull" in last and "%" in last
    assert any("━" in frame and "error " in frame for frame in frames), "progress of a running job"
    assert any("1/1" in frame and "SEARCH " in frame for frame in frames)


def test_a_log_has_one_line_an_event(tmp_path):
    console = Console(file=io.StringIO(), width=60)
    archsearch.search(CONFIG, run_dir=tmp_path / "run", observer=Lines(console))
    lines = console.file.getvalue().splitlines()
    assert sum("started" in line for line in lines) == sum(" done in " in line for line in lines) >= 6
    assert lines[-1].startswith("writing the report") or "done:" in lines[-1]


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (59.9, "59 s"), (61, "1:01"), (3599, "59:59"), (7511, "2:05:11")])
def test_durations_for_people(seconds, text):
    assert clock(seconds) == text
