"""Does the measurement protocol give the same answer twice, the answer of PyTorch's own timer, and say when it cannot?

    python experiments/profile_repeatability/run.py

Twenty architectures are measured in two independent passes on an otherwise idle machine (which is checked and recorded), by
``torch.utils.benchmark`` before, between and after the two, and some of them again while other processes keep every core busy.
Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

from archsearch.arch import Architecture, seed_architecture, summary
from archsearch.profile.environment import choose_cores, load_now
from archsearch.profile.measurement import Profile
from archsearch.profile.models import architecture_model
from archsearch.profile.protocol import Step, device_environment, measure
from archsearch.profile.sampling import width
from archsearch.profile.settings import Settings, Subject

HERE = Path(__file__).parent
BUSY = 3  # architectures measured again on a busy machine

#: Run in a process of its own, pinned as the protocol pins its own: medians in ms of every architecture on stdin.
BENCHMARK = """
import json, os, sys
request = json.load(sys.stdin)
os.sched_setaffinity(0, request["cores"])
import torch
from torch.utils.benchmark import Timer
from archsearch.profile.models import Model, load_model
found = []
for data in request["models"]:
    model = load_model(Model.from_json(data), 1)
    with torch.inference_mode():
        names = {"model": model.module, "x": torch.from_numpy(model.inputs[0])}
        timer = Timer("model(x)", globals=names, num_threads=request["threads"])
        timer.timeit(20)
        found.append(1e3 * timer.blocked_autorange(min_run_time=request["seconds"]).median)
print(json.dumps(found))
"""


def architectures(count: int) -> list[Architecture]:
    """From about 0.1 to 20 million multiply-adds: small and large, shallow and deep."""
    rows = [
        (cells, cells // 3, nodes, channels)
        for cells, nodes in ((1, 1), (3, 1), (3, 2), (6, 1), (6, 3))
        for channels in (4, 8, 16, 24)
    ]
    made = [
        seed_architecture((3, 32, 32), 10, cells=cells, reductions=reductions, nodes=nodes, channels=channels)
        for cells, reductions, nodes, channels in rows
    ]
    return [made[i * len(made) // count] for i in range(count)]


def others_share(seconds: float) -> float:
    """The share of the machine's time that other processes use."""
    before = load_now()
    time.sleep(seconds)
    return before.others(load_now())


def one_pass(subjects: list[Subject], settings: Settings, name: str) -> tuple[list[Profile], float]:
    said: set[tuple[str, int]] = set()

    def watch(step: Step) -> None:
        if (step.phase, step.done // 50) not in said:
            said.add((step.phase, step.done // 50))
            print(f"{name}: {step.phase} {step.done}/{step.total}", file=sys.stderr, flush=True)

    start = time.monotonic()
    found = measure(subjects, settings, watch=watch)
    for each in found:
        if not isinstance(each, Profile):
            raise SystemExit(f"{name}: {each.message}")
    return [each for each in found if isinstance(each, Profile)], time.monotonic() - start


def benchmark(subjects: list[Subject], settings: Settings, random: Random) -> list[list[float]]:
    """PyTorch's own timer: for each of as many processes as the protocol uses, the median of every architecture, in ms.

    Each process takes them in an order of its own: a machine whose speed wanders is not to be slow for the same ones.
    """
    rows = []
    for launch in range(settings.launches):
        order = random.sample(range(len(subjects)), len(subjects))
        request = {
            "models": [subjects[number].model.to_json() for number in order],
            "cores": choose_cores(settings.threads),
            "threads": settings.threads,
            "seconds": settings.seconds / settings.launches,
        }
        print(f"torch.utils.benchmark: {launch + 1}/{settings.launches}", file=sys.stderr, flush=True)
        words = [sys.executable, "-c", BENCHMARK]
        done = subprocess.run(words, input=json.dumps(request), capture_output=True, text=True, check=True)
        found = dict(zip(order, json.loads(done.stdout), strict=True))
        rows.append([found[number] for number in range(len(subjects))])
    return rows


def compared(first: list[Profile], second: list[Profile], timer: list[float]) -> dict[str, Any]:
    """The figures that were asked for."""
    from scipy.stats import spearmanr

    one, two = [each.latency for each in first], [each.latency for each in second]
    away = [abs(a.median - b.median) / a.median for a, b in zip(one, two, strict=True)]
    pairs = [*zip(one, two, strict=True), *zip(two, one, strict=True)]
    narrow = [(a, b) for a, b in pairs if width(a) <= 0.05]
    ratios = [t / statistics.fmean((a.median, b.median)) for a, b, t in zip(one, two, timer, strict=True)]
    return {
        "spearman": float(spearmanr([a.median for a in one], [b.median for b in two]).statistic),
        "median_deviation": statistics.median(away),
        "largest_deviation": max(away),
        "intervals_no_wider_than_5_percent": f"{len(narrow)} of {len(pairs)}",
        "of_these_cover_the_other_median": sum(a.low <= b.median <= a.high for a, b in narrow) / max(1, len(narrow)),
        "median_width": statistics.median(width(a) for a, _ in pairs),
        "noisy": [sum(each.noisy for each in one), sum(each.noisy for each in two)],
        "benchmark_over_protocol": {"median": statistics.median(ratios), "least": min(ratios), "greatest": max(ratios)},
        "within_5_percent_of_benchmark": sum(abs(ratio - 1) <= 0.05 for ratio in ratios) / len(ratios),
    }


def busy(subjects: list[Subject], idle: list[Profile], settings: Settings) -> dict[str, Any]:
    """Some of the models while two processes for each core compute."""
    count = 2 * (os.cpu_count() or 1)
    rivals = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        shortened = Settings.from_json(settings.to_json() | {"repeats": 1, "patience": 2.0})
        found, seconds = one_pass(subjects, shortened, "busy")
    finally:
        for rival in rivals:
            rival.kill()
            rival.wait()
    return {
        "rivals": count,
        "seconds": round(seconds, 1),
        "marked_noisy": f"{sum(each.latency.noisy for each in found)} of {len(found)}",
        "because": [each.about["noisy_because"] for each in found],
        "median_over_idle": [a.latency.median / b.latency.median for a, b in zip(found, idle, strict=True)],
        "p90_over_idle": [a.latency.p90 / b.latency.p90 for a, b in zip(found, idle, strict=True)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architectures", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=2, help="as in Settings; with more, more intervals get narrow")
    parser.add_argument("--output", type=Path, default=HERE / "results.json")
    args = parser.parse_args()
    chosen = architectures(args.architectures)
    subjects = [Subject(architecture_model(arch.to_json())) for arch in chosen]
    settings = Settings(threads=args.threads, memory_runs=0, repeats=args.repeats)
    fingerprint, environment = device_environment("pytorch", settings)
    before = others_share(5.0)
    random = Random(0)
    rows = benchmark(subjects, settings, random)
    first, seconds = one_pass(subjects, settings, "first pass")
    rows += benchmark(subjects, settings, random)
    second, more = one_pass(subjects, Settings.from_json(settings.to_json() | {"seed": 1}), "second pass")
    rows += benchmark(subjects, settings, random)
    timer = [statistics.median(column) for column in zip(*rows, strict=True)]
    after = others_share(5.0)
    during = [max(each.about["others_share"] or 0.0 for each in found) for found in (first, second)]
    results = {
        "fingerprint": fingerprint,
        "environment": environment,
        "others_share": {
            "before": before,
            "after": after,
            "largest_in_a_block": during,
            "idle": max(before, after) < 0.05,
        },
        "repeats": args.repeats,
        "seconds": [round(seconds, 1), round(more, 1)],
        **compared(first, second, timer),
        "busy": busy(subjects[-BUSY:], second[-BUSY:], settings),
        "models": [
            {
                "model": summary(arch),
                "first": a.latency.to_json(),
                "second": b.latency.to_json(),
                "benchmark_ms": t,
                "benchmark_processes_ms": [row[number] for row in rows],
            }
            for number, (arch, a, b, t) in enumerate(zip(chosen, first, second, timer, strict=True))
        ],
    }
    text = json.dumps(results, indent=2)
    args.output.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
