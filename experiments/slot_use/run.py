"""How much of the slots' time goes into training and search steps, on a real local Ray with two slots, start-up included.

    python experiments/slot_use/run.py

Runs config.yaml (at least 100 jobs of about 3 s) from the command line, as a user would, and prints JSON.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from archsearch import load_run

HERE = Path(__file__).parent


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        start = time.perf_counter()
        command = [sys.executable, "-c", "from archsearch.cli import main; main()", "search", str(HERE / "config.yaml")]
        subprocess.run([*command, "--run-dir", str(folder), "--json"], stdout=subprocess.DEVNULL, check=True)
        seconds = time.perf_counter() - start
        run = load_run(folder)
        records = [record for record in run.state.jobs.values() if record.job.work != "test" and record.metrics]
        steps = sum(record.metrics["seconds_training"] for record in records)
        held = sum(record.seconds for record in records)
        slots = run.session["slots"]
        first = min(record.started for record in records if record.started)
        last = max(record.finished for record in records if record.finished)
    results = {
        "slots": slots,
        "jobs": len(records),
        "median_job_seconds": round(statistics.median(record.seconds for record in records), 2),
        "wall_seconds": round(seconds, 1),
        "share_in_steps": round(steps / (slots * seconds), 3),
        "share_in_jobs": round(held / (slots * seconds), 3),
        "share_in_steps_between_first_and_last_job": round(steps / (slots * (last - first)), 3),
        "seconds_before_the_first_and_after_the_last_job": round(seconds - (last - first), 1),
    }
    (HERE / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
