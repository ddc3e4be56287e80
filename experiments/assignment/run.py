"""How soon each estimator has the front of a table, against brute force.

    python experiments/assignment/run.py              # the tables in tables/, 20 seeds each: results.json and regret.png
    python experiments/assignment/run.py --seeds 3 --tables other/*.json --output /tmp/x

Regret is the share of the true front's hypervolume that is missing, in the box of all assignments of a table (from the best
value of each objective to a tenth beyond the worst), and in the far stricter box that the true front spans. Budgets are shares
of the space; what cannot run counts. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

from archsearch.profile.assignment.driver import TableProblem, assign
from archsearch.profile.assignment.evaluation import front, regret_curve
from archsearch.profile.assignment.tables import Table, read_table, source_of

HERE = Path(__file__).parent
ESTIMATORS = ("structured", "hlps", "nsga2", "random", "brute")
SHARES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
GOAL = 0.25  # the share of the space at which estimators are compared
BOXES = {"regret": False, "regret_in_front_box": True}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", type=Path, default=sorted((HERE / "tables").glob("*.json")))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--output", type=Path, default=HERE, help="folder for results.json and regret.png")
    arguments = parser.parse_args()
    if not arguments.tables:
        sys.exit(f"there are no tables in {HERE / 'tables'}: python experiments/assignment/record.py makes them")
    tables = {path.stem: (read_table(path), source_of(path)) for path in arguments.tables}
    results: dict[str, Any] = {"seeds": arguments.seeds, "shares": SHARES, "goal": GOAL, "tables": {}}
    for name, (table, source) in tables.items():
        results["tables"][name] = of_table(table, source, arguments.seeds)
        print(f"{name}: {line(results['tables'][name])}", file=sys.stderr, flush=True)
    results["all"] = together(results["tables"])
    text = re.sub(r"\[[^][{}]*\]", lambda found: " ".join(found[0].split()), json.dumps(results, indent=2))
    print(text)
    (arguments.output / "results.json").write_text(text + "\n")
    draw(results, arguments.output / "regret.png")
    print(markdown(results), file=sys.stderr)


def of_table(table: Table, source: str, seeds: int) -> dict[str, Any]:
    """Mean regrets over seeds at each share of the space, by estimator and box; each seed's at the goal."""
    everything = list(table.evaluations.values())
    size = table.encoding.size
    budgets = [max(1, round(share * size)) for share in SHARES]
    found: dict[str, Any] = {
        "assignments": size,
        "infeasible": sum(not each.feasible for each in everything),
        "front": [each.id for each in front(everything)],
        "front_survived": table.about.get("survived"),
        "estimators": {},
    }
    for name in ESTIMATORS:
        curves: dict[str, list[list[float]]] = {box: [] for box in BOXES}
        for seed in range(seeds if name != "brute" else 1):
            done = assign(TableProblem(table, source), name, max(budgets), seed=seed)
            for box, of_front in BOXES.items():
                curves[box].append(regret_curve(done.evaluations, everything, of_front=of_front))
        goal = budgets[SHARES.index(GOAL)] - 1
        row: dict[str, Any] = {}
        for box, each in curves.items():
            row[box] = [round(statistics.mean(curve[budget - 1] for curve in each), 5) for budget in budgets]
            row[f"{box}_at_goal"] = [round(curve[goal], 5) for curve in each]
        found["estimators"][name] = row
    return found


def together(tables: dict[str, Any]) -> dict[str, Any]:
    """Means over tables, ratios against random, and on how many tables an estimator is ahead of random."""
    place, found = SHARES.index(GOAL), {}
    for name in ESTIMATORS:
        row: dict[str, Any] = {}
        for box in BOXES:
            own = {table: each["estimators"][name][box] for table, each in tables.items()}
            random = {table: each["estimators"]["random"][box] for table, each in tables.items()}
            row[box] = [round(statistics.mean(column), 5) for column in zip(*own.values(), strict=True)]
            of_random = [statistics.mean(column) for column in zip(*random.values(), strict=True)]
            row[f"{box}_against_random"] = [round(a / b, 3) if b else None for a, b in zip(row[box], of_random, strict=True)]
            row[f"{box}_tables_ahead_of_random"] = sum(own[table][place] < random[table][place] for table in tables)
            row[f"{box}_worst_table"] = max(each[place] for each in own.values())
        found[name] = row
    return found


def line(table: dict[str, Any]) -> str:
    place = SHARES.index(GOAL)
    regrets = (f"{name} {row['regret'][place]:.4f}" for name, row in table["estimators"].items())
    return f"{table['assignments']} assignments, front of {len(table['front'])}; regret at {GOAL:.0%}: {', '.join(regrets)}"


def markdown(results: dict[str, Any]) -> str:
    """The README's table."""
    place = SHARES.index(GOAL)
    rows = ["| table | assignments | cannot run | front | survived | " + " | ".join(ESTIMATORS) + " |"]
    rows.append("|" + "---|" * (5 + len(ESTIMATORS)))
    for name, table in results["tables"].items():
        regrets = " | ".join(f"{table['estimators'][each]['regret'][place]:.2%}" for each in ESTIMATORS)
        survived = "" if table["front_survived"] is None else table["front_survived"]
        counts = f"{table['assignments']} | {table['infeasible']} | {len(table['front'])} | {survived}"
        rows.append(f"| {name} | {counts} | {regrets} |")
    means = " | ".join(f"{results['all'][each]['regret'][place]:.2%}" for each in ESTIMATORS)
    rows.append(f"| mean | | | | | {means} |")
    return "\n".join(rows)


def draw(results: dict[str, Any], path: Path) -> None:
    """Mean regret over tables by the share of the space that was evaluated, in both boxes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    for place, (box, title) in enumerate(zip(BOXES, ("box of all assignments", "box of the true front"), strict=True), 1):
        axes = figure.add_subplot(1, 2, place)
        for name in ESTIMATORS:
            style: dict[str, Any] = {
                "linewidth": 2.5 if name == "structured" else 1.3,
                "linestyle": ":" if name == "brute" else "-",
            }
            axes.plot([100 * s for s in SHARES], [100 * r for r in results["all"][name][box]], label=name, **style)
        axes.set_xlabel("share of the assignments evaluated (%)")
        axes.set_ylabel("regret in hypervolume (%)")
        axes.set_title(f"{len(results['tables'])} tables, {results['seeds']} seeds: {title}", loc="left", fontsize=10)
        axes.axvline(100 * GOAL, color="gray", linewidth=0.8, linestyle=":")
        axes.set_ylim(bottom=0)
        axes.grid(color="#E4E4E4", linewidth=0.6)
        axes.legend(fontsize=8, frameon=False)
    figure.savefig(path)


if __name__ == "__main__":
    main()
