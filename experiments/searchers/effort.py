"""What a network's training takes on this machine, by its costs: the ground for ``Grower._effort``.

    python experiments/searchers/effort.py          # over all trainings of the runs that run.py made

Prints the power p of the least-squares fit log(processor seconds of an epoch) = p log(cost) + c, and the spread of the rest.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from archsearch import load_run

HERE = Path(__file__).parent
COSTS = ("madds", "activation_bytes", "params")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=HERE / "runs", help="where runs lie")
    runs = [load_run(path.parent) for path in sorted(parser.parse_args().runs.glob("*/run.db"))]
    records = [record for run in runs for record in run.state.jobs.values()]
    metrics = [record.metrics for record in records if record.metrics and record.job.work == "train"]
    seconds = np.log([each["cpu_seconds"] / each["epochs"] for each in metrics])
    results: dict[str, object] = {"trainings": len(metrics)}
    for name in COSTS:
        costs = np.log([each[name] for each in metrics])
        power, constant = np.polyfit(costs, seconds, 1)
        spread = float(np.std(seconds - power * costs - constant))
        results[name] = {"power": round(float(power), 3), "spread_of_log_seconds": round(spread, 3)}
    text = json.dumps(results, indent=2)
    print(text)
    (HERE / "effort.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
