"""The demo, measured: runs ``archsearch search confs/petridish_digits.yaml`` and checks what it promises.

    python experiments/demo/run.py [--seeds 0 1 2]

Prints JSON; writes results.json and (from the first seed) frontier.png beside this file.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from archsearch import load_run

HERE = Path(__file__).parent
CONF = HERE.parent.parent / "confs" / "petridish_digits.yaml"


def demo(seed: int, folder: Path) -> dict[str, object]:
    """One search; what it found and how long it took, Ray's start included."""
    start = time.perf_counter()
    command = [sys.executable, "-c", "from archsearch.cli import main; main()", "search", str(CONF), "--seed", str(seed)]
    done = subprocess.run([*command, "--run-dir", str(folder), "--json"], stdout=subprocess.PIPE, check=True, text=True)
    seconds = time.perf_counter() - start
    summary = json.loads(done.stdout)
    points = {point.id: point for point in load_run(folder).points()}
    front = summary["frontier"]
    grown = sum(point["stage"] == "SEARCH_TRAINED" for point in front)
    best = points[summary["best"]["id"]]
    span = front[-1]["cost"] / front[0]["cost"]
    return {
        "seed": seed,
        "seconds": round(seconds, 1),
        "points": summary["points"],
        "frontier": len(front),
        "grown_on_frontier": grown,
        "span_madds": round(span, 1),
        "best": {
            "id": best.id,
            "madds": best.metrics["madds"],
            "val_error": round(best.metrics["val_error"], 5),
            "test_error": round(best.metrics["test_error"], 5),
        },
        "slot_busy_share": round(summary["device_seconds"] / (seconds * summary["slots"]["total"]), 3),
        "promised": {
            "within_180_s": seconds <= 180,
            "at_least_8_points": len(front) >= 8,
            "at_least_4_grown": grown >= 4,
            "spans_10x": span >= 10,
            "best_test_error_below_2_percent": best.metrics["test_error"] < 0.02,
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    seeds = parser.parse_args().seeds
    runs = []
    with tempfile.TemporaryDirectory() as place:
        for seed in seeds:
            folder = Path(place) / f"seed-{seed}"
            runs.append(demo(seed, folder))
            if seed == seeds[0]:
                shutil.copy(folder / "convex_hull.png", HERE / "frontier.png")
    machine = {"cores": psutil.cpu_count(), "python": platform.python_version(), "machine": platform.machine()}
    results = {"machine": machine, "runs": runs}
    text = json.dumps(results, indent=2)
    (HERE / "results.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
