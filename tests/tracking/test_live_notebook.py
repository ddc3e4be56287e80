"""The committed notebook, run beside a real search: it draws the frontier that the search has."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from nbclient import NotebookClient
from recording import config

import archsearch

NOTEBOOK = Path(__file__).parents[2] / "experiments" / "live" / "live.ipynb"


@pytest.mark.timeout(600)  # a kernel and a search, each importing for seconds on an idle machine and for minutes on a busy one
def test_the_notebook_draws_the_frontier_of_a_running_search(tmp_path, stream_number):
    tracking = {"callbacks": ["tensorwatch"], "tensorwatch": {"port": stream_number}}
    longer = {"seed_train": {"epochs": 30}, "post_train": {"epochs": 30}}  # so that each job shows signs of progress
    budget = {"wall_clock": "9m", "when_reached": "cancel"}
    values = config(search={"max_hull_points": None}, tracking=tracking, budget=budget, **longer)
    (tmp_path / "conf.yaml").write_text(yaml.safe_dump(values))
    line = [sys.executable, "-c", "from archsearch.cli import main; main()", "search", "conf.yaml", "--run-dir", "r"]
    with (tmp_path / "log").open("w") as log:
        search = subprocess.Popen(line, cwd=tmp_path, stdout=log, stderr=log)
        try:
            notebook = nbformat.read(NOTEBOOK, as_version=4)
            client = NotebookClient(notebook, timeout=400, resources={"metadata": {"path": str(tmp_path)}})
            live = {"LIVE_PORT": str(stream_number), "LIVE_SECONDS": "380", "LIVE_POINTS": "5"}
            client.execute(env={**os.environ, **live})
            assert search.poll() is None, (tmp_path / "log").read_text()
        finally:
            search.send_signal(signal.SIGTERM)
            search.wait(120)
    assert search.returncode == 130, (tmp_path / "log").read_text()[-2000:]

    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 1 and len(pictures[0]["data"]["image/png"]) > 10_000
    text = "".join(output["text"] for output in outputs if output.output_type == "stream" and output.name == "stdout")
    run = archsearch.load_run(tmp_path / "r")
    found = re.search(r"^r \(running\): (\d+) points, (\d+) on the frontier$", text, re.M)
    assert found and 5 <= int(found[1]) <= len(run.points()), text
    known = {point.id: point.metrics for point in run.points()[: int(found[1])]}
    shown = re.findall(r"^point (\d+): madds ([\d.e+]+), val_error ([\d.]+)%$", text, re.M)
    assert len(shown) == int(found[2]) >= 1
    for id_, cost, error in shown:
        metrics = known[int(id_)]
        assert float(cost) == float(f"{metrics['madds']:g}") and float(error) == float(f"{100 * metrics['val_error']:.2f}")
    assert re.search(r"listened: \d+ new points, [1-9]\d* signs of progress", text), text


def test_the_notebook_says_that_nobody_streams(tmp_path, stream_number):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    live = {"LIVE_PORT": str(stream_number), "LIVE_SECONDS": "1"}
    NotebookClient(notebook, timeout=280).execute(env={**os.environ, **live})
    text = "".join(output.get("text", "") for cell in notebook.cells[1:] for output in cell.get("outputs", []))
    assert "nothing came within 1 s: is a search running" in text


def test_the_committed_notebook_has_no_outputs_and_needs_no_widgets():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert "widget" not in "".join(cell.source for cell in code).lower()
