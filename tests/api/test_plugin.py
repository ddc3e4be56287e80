"""The README's plug-in, word for word: an operation from an installed package is searched with, in a process of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

README = Path(__file__).parents[2] / "README.md"

CONF = {
    "data": {"name": "digits", "max_train": 150},
    "search": {
        "init_node_ch": [4],
        "max_hull_points": 3,
        "band_standard_errors": 3,
        "primitives": ["conv_3x3"],
        "edges_per_node": 1,
    },
    "seed_train": {"epochs": 1, "tensorwatch_stats": False},
    "post_train": {"epochs": 1, "tensorwatch_stats": False},
    "weak_learner": {"steps": 2},
    "cluster": {"executor": "inline"},
}

#: Run where the plug-in is installed: the cost of a grown network against PyTorch's own counter.
CHECK = """
import sys, torch, archsearch
from torch.utils.flop_counter import FlopCounterMode
run = archsearch.load_run(sys.argv[1])
for point in run.points():
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run.load(point.id)(torch.zeros(1, 1, 8, 8))
    assert counter.get_total_flops() == 2 * point.metrics["madds"], point.id
    edges = [op for cell in point.arch["cells"].values() for node in cell["nodes"] for _, op in node]
    print(point.id, "conv_3x3" in edges)
"""


@pytest.fixture
def installed(tmp_path):
    """An environment in which the README's module is installed with its entry point."""
    text = README.read_text()
    code = next(block for block in re.findall(r"```python\n(.*?)```", text, re.S) if block.startswith("# my_ops.py"))
    entry = re.search(r'\[project\.entry-points\."(.+?)"\]\s+(.+)', code.splitlines()[0])
    site = tmp_path / "site"
    info = site / "my_ops-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "my_ops.py").write_text(code)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-ops\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{entry[1]}]\n" + entry[2].replace('"', "") + "\n")
    return {**os.environ, "PYTHONPATH": str(site)}


def run(environment, tmp_path, *words):
    return subprocess.run([sys.executable, *words], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)


def test_a_users_operation_is_searched_with(installed, tmp_path):
    (tmp_path / "conf.yaml").write_text(yaml.safe_dump(CONF))
    main = ("-c", "from archsearch.cli import main; main()")
    done = run(installed, tmp_path, *main, "search", "conf.yaml", "--run-dir", "run", "--json")
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["points"] >= 3
    checked = run(installed, tmp_path, "-c", CHECK, "run")
    assert checked.returncode == 0, checked.stderr[-2000:]
    lines = dict(line.split() for line in checked.stdout.splitlines())
    assert lines["1"] == "False" and "True" in lines.values()

    without = {**installed, "PYTHONPATH": ""}
    refused = run(without, tmp_path, *main, "search", "conf.yaml", "--run-dir", "other")
    assert refused.returncode == 2 and "conv_3x3" in refused.stderr and not (tmp_path / "other").exists()
