"""One search, two devices: do their frontiers differ, and beyond what the measurements leave open?

    python experiments/device_frontiers/run.py              # the search, about 15 minutes on two idle cores; once more goes on
    python experiments/device_frontiers/run.py --figures    # from the run that there is

The devices are one thread and two threads of this machine, and each network is measured on both. Prints JSON; writes
results.json, device_frontiers.png (which the run's own report has made) and the tables in README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

import archsearch
from archsearch.arch import Architecture, summary
from archsearch.cli.display import observer
from archsearch.frontier import pareto_front
from archsearch.profile.environment import load_now

HERE = Path(__file__).parent
DEVICES = ("one", "two")
#: README.md's part that is written from the results.
BEGIN, END = "<!-- results -->", "<!-- end of results -->"

Interval = tuple[float, float]


@dataclass(frozen=True)
class Network:
    """A point that was measured on both devices: medians in ms, and their 95 % intervals, by device."""

    id: int
    what: str
    channels: int
    grown: bool
    error: float  # of validation, the same on both devices: the training was one
    ms: dict[str, float]
    intervals: dict[str, Interval]
    noisy: dict[str, bool]

    @property
    def speedup(self) -> float:
        """How much less time it takes with two threads."""
        return self.ms["one"] / self.ms["two"]

    def surely_faster(self, other: Network, device: str) -> bool:
        return self.intervals[device][1] < other.intervals[device][0]

    def surely_slower(self, other: Network, device: str) -> bool:
        return other.surely_faster(self, device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=HERE / "run", help="where the run lies")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the configuration, to try it")
    parser.add_argument("--figures", action="store_true", help="search nothing")
    parser.add_argument("--output", type=Path, default=HERE, help="folder that gets results.json and the picture")
    arguments = parser.parse_args()
    if not arguments.figures:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        search(arguments.run, arguments.set)
    results = figures(arguments.run)
    text = re.sub(r"\[[^][{}]*\]", lambda found: " ".join(found[0].split()), json.dumps(results, indent=2))  # lists on one line
    print(text)
    (arguments.output / "results.json").write_text(text + "\n")
    shutil.copy(arguments.run / "device_frontiers.png", arguments.output / "device_frontiers.png")
    if arguments.output == HERE:
        readme = HERE / "README.md"
        head, _, rest = readme.read_text().partition(BEGIN)
        readme.write_text(head + BEGIN + "\n" + in_words(results) + END + rest.partition(END)[2])


def search(folder: Path, changes: Sequence[str]) -> None:
    """Begin the run, or go on with it. What others did on the machine just before is noted."""
    if (folder / "run.db").exists() and archsearch.load_run(folder).summary()["state"] == "done":
        return
    before = load_now()
    time.sleep(5)
    share = before.others(load_now())
    with observer("device_frontiers") as watching:
        run = archsearch.search(HERE / "conf.yaml", overrides=changes, run_dir=folder, observer=watching, or_resume=True)
    notes = folder / "others_share.json"
    noted = json.loads(notes.read_text()) if notes.exists() else []
    notes.write_text(json.dumps([*noted, round(share, 4)]))
    if run.summary()["state"] != "done":
        raise SystemExit(f"{folder} was interrupted; the same command goes on")


# --------------------------------------------------------------------------------------------------------------- figures
def figures(folder: Path) -> dict[str, Any]:
    """All figures of a run that has ended."""
    run = archsearch.load_run(folder)
    networks = read(run)
    fronts = {device: frontier(networks, device) for device in DEVICES}
    shown = run.summary()["measurements"]
    for device in DEVICES:
        if set(fronts[device]) != {each["id"] for each in shown[f"latency_ms@{device}"]["frontier"]}:
            raise SystemExit(f"the report has another frontier on {device}: some network was not measured on both devices")
    told_apart, flips = orderings(networks)
    notes = folder / "others_share.json"
    speedups = {width: [each.speedup for each in networks if each.channels == width] for width in widths(networks)}
    return {
        "others_share_before": json.loads(notes.read_text()) if notes.exists() else [],
        "networks": len(networks),
        "noisy": {device: sum(each.noisy[device] for each in networks) for device in DEVICES},
        "frontier": fronts,
        "only_on": {
            "one": [id_ for id_ in fronts["one"] if id_ not in fronts["two"]],
            "two": [id_ for id_ in fronts["two"] if id_ not in fronts["one"]],
        },
        "surely_only_on": {
            "one": surely_only(networks, "one", "two"),
            "two": surely_only(networks, "two", "one"),
        },
        "pairs_told_apart_on_both": told_apart,
        "pairs_whose_order_flips": len(flips),
        "flips": flips,
        "speedup_by_channels": {str(width): round(statistics.median(found), 3) for width, found in speedups.items()},
        "points": [rounded(each, fronts) for each in networks],
    }


def read(run: archsearch.Run) -> list[Network]:
    """The networks that were measured on both devices, fastest on one thread first."""
    found = []
    for point in run.points():
        told = point.metrics.get("measured") or {}
        names = {device: f"latency_ms@{device}" for device in DEVICES}
        if all(name in told for name in names.values()):
            arch = Architecture.from_json(point.arch)
            found.append(
                Network(
                    point.id,
                    summary(arch),
                    arch.channels,
                    point.parent is not None,
                    point.metrics["val_error"],
                    {device: told[name]["value"] for device, name in names.items()},
                    {device: (told[name]["low"], told[name]["high"]) for device, name in names.items()},
                    {device: told[name]["noisy"] for device, name in names.items()},
                )
            )
    return sorted(found, key=lambda each: each.ms["one"])


def frontier(networks: Sequence[Network], device: str) -> list[int]:
    """Ids on the Pareto front of latency and error, by the medians."""
    return [networks[i].id for i in pareto_front(np.array([[each.ms[device], each.error] for each in networks]))]


def surely_only(networks: Sequence[Network], here: str, there: str) -> list[int]:
    """Ids on the frontier of ``here`` and not on that of ``there``, wherever in their intervals all latencies are.

    Surely on: each network with at most its error is surely slower. Surely not: one with at most its error is surely faster.
    """
    found = []
    for each in networks:
        rivals = [other for other in networks if other is not each and other.error <= each.error]
        surely_on = all(other.surely_slower(each, here) for other in rivals)
        if surely_on and any(other.surely_faster(each, there) for other in rivals):
            found.append(each.id)
    return found


def orderings(networks: Sequence[Network]) -> tuple[int, list[list[int]]]:
    """Pairs whose intervals do not overlap on either device, and those of them of which the first is surely faster with one
    thread, and the second with two."""
    told_apart, flips = 0, []
    for first, second in combinations(networks, 2):
        signs = {device: first.surely_faster(second, device) - second.surely_faster(first, device) for device in DEVICES}
        told_apart += all(signs.values())
        if signs["one"] * signs["two"] < 0:
            quick, slow = (first, second) if signs["one"] > 0 else (second, first)
            flips.append([quick.id, slow.id])
    return told_apart, flips


def widths(networks: Sequence[Network]) -> list[int]:
    return sorted({each.channels for each in networks})


def rounded(network: Network, fronts: dict[str, list[int]]) -> dict[str, Any]:
    """A network as results.json has it."""
    row = asdict(network)
    row["error"] = round(network.error, 5)
    row["ms"] = {device: round(value, 5) for device, value in network.ms.items()}
    row["intervals"] = {device: [round(end, 5) for end in ends] for device, ends in network.intervals.items()}
    return row | {"speedup": round(network.speedup, 3), "on": [device for device in DEVICES if network.id in fronts[device]]}


# --------------------------------------------------------------------------------------------------------------- README.md
def in_words(results: dict[str, Any]) -> str:
    """The results as README.md has them."""
    only, surely = results["only_on"], results["surely_only_on"]
    fronts = results["frontier"]
    lines = [
        f"{results['networks']} networks. On the frontier of one thread: {len(fronts['one'])}, of two: {len(fronts['two'])}, "
        f"of both: {len(set(fronts['one']) & set(fronts['two']))}.",
        "",
        f"- By the medians, only on the frontier of one thread: {ids(only['one'])}; only on that of two: {ids(only['two'])}.",
        f"- Of these beyond the intervals: {ids(surely['one'])} and {ids(surely['two'])}.",
        f"- {results['pairs_whose_order_flips']} of the {results['pairs_told_apart_on_both']} pairs that the intervals tell "
        "apart on both devices change their order from one device to the other.",
        "- Time of one thread over that of two, median by channels: "
        + ", ".join(f"{width} channels {gain:.2f}" for width, gain in results["speedup_by_channels"].items())
        + ".",
        f"- Noisy measurements: {results['noisy']['one']} with one thread, {results['noisy']['two']} with two; others had used "
        f"{', '.join(f'{share:.1%}' for share in results['others_share_before']) or 'an unknown share'} of the machine just "
        "before.",
        "",
        "| point | network | error (%) | one thread (ms) | two threads (ms) | one / two | on the frontier of |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in results["points"]:
        times = [
            f"{row['ms'][device]:.3f} ({row['intervals'][device][0]:.3f} to {row['intervals'][device][1]:.3f}"
            f"{', noisy' if row['noisy'][device] else ''})"
            for device in DEVICES
        ]
        on = {"one": "one thread", "two": "two threads", "one two": "both", "": ""}[" ".join(row["on"])]
        what = f"{row['what']}{', grown' if row['grown'] else ''}"
        lines.append(
            f"| {row['id']} | {what} | {100 * row['error']:.1f} | {times[0]} | {times[1]} | {row['speedup']:.2f} | {on} |"
        )
    return "\n".join(lines) + "\n"


def ids(found: Sequence[int]) -> str:
    return ", ".join(map(str, found)) or "none"


if __name__ == "__main__":
    main()
