"""Measure every assignment of the models in models.py, for the tables that run.py compares estimators on.

    python experiments/assignment/record.py                       # all, one after another; hours on a machine with nothing else
    python experiments/assignment/record.py --runtime onnxruntime # the same models on onnxruntime and OpenVINO: ort_NAME
    python experiments/assignment/record.py --only mobile fire
    python experiments/assignment/record.py --list                # how many assignments each has; measures nothing

Assignments are measured some at a time, side by side, in random order, so that what drifts hits all alike. Each is in
recording/NAME.jsonl as soon as it was measured: what was killed goes on. When all are there, those that may be on the front are
measured again by the protocol at full length, and tables/NAME.json is written. A machine that others use is said and recorded.
With onnxruntime a model is exported once, and an assignment's operations run in segments: 16 to 32 assignments, a few minutes.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path

from archsearch.profile.assignment.evaluation import Evaluation, contenders, front
from archsearch.profile.assignment.live import ModelProblem
from archsearch.profile.assignment.log import Log, header_of, open_log
from archsearch.profile.assignment.tables import Table, table_json
from archsearch.profile.environment import load_now
from archsearch.profile.models import Model
from archsearch.profile.settings import Settings

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

#: Shorter than the protocol's own, for thousands of assignments; the fronts are measured again at full length.
SETTINGS = Settings(launches=3, rounds=4, seconds=0.5, warmup=1.0, memory_runs=2, repeats=1, width=0.1, patience=5.0)
ALL = ("onednn", "channels_last", "native", "nnpack")
#: How many of these a model may choose among where it is not three: more with few kinds of operations, fewer with many. NNPACK
#: runs nothing but convolutions: half of the assignments on four cannot run.
CHOICES = {"plain": 4, "wide": 4, "normed": 2}
#: By runtime: what the names of its tables begin with, and its backends.
RUNTIMES = {"pytorch": ("", ALL), "onnxruntime": ("ort_", ("onnxruntime", "openvino"))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runtime", choices=RUNTIMES, default="pytorch")
    parser.add_argument("--only", nargs="+", help="names in models.py; default: all")
    parser.add_argument("--at-once", type=int, default=12, help="assignments that are measured side by side")
    parser.add_argument("--list", action="store_true", help="say how many assignments each model has")
    arguments = parser.parse_args()
    from models import MODELS

    prefix, backends = RUNTIMES[arguments.runtime]
    for function in arguments.only or MODELS:
        name = f"{prefix}{function}"
        model = Model("function", f"models:{function}", function, str(HERE))
        problem = ModelProblem(model, arguments.runtime, backends[: CHOICES.get(function, 3)], "name", SETTINGS)
        symbols = ", ".join(map(str, problem.encoding.symbols))
        print(f"{name}: {problem.encoding.size} assignments of {symbols}", file=sys.stderr, flush=True)
        if not arguments.list and not (HERE / "tables" / f"{name}.json").exists():
            record(name, problem, arguments.at_once)


def record(name: str, problem: ModelProblem, at_once: int) -> None:
    """Measure what is not recorded yet, and write the table."""
    path = HERE / "recording" / f"{name}.jsonl"
    path.parent.mkdir(exist_ok=True)
    before, start = others_share(), time.monotonic()
    with open_log(path, header_of(problem.encoding, "record", 0, problem.source)) as log:
        known = {each.id: each for each in log.first}
        left = [id_ for id_ in range(problem.encoding.size) if id_ not in known]
        random.Random(0).shuffle(left)
        for begin in range(0, len(left), at_once):
            for each in problem.evaluate_all(left[begin : begin + at_once]):
                log.append(each)
                known[each.id] = each
            say(name, len(known), problem.encoding.size, start)
        again = measured_again(problem, list(known.values()), log)
    first, second = front(known.values()), front(again)
    about = {
        "model": problem.model.name,
        "runtime": problem.runtime,
        "device": problem.environment,
        "fingerprint": problem.fingerprint,
        "settings": problem.settings.to_json(),
        "share_of_cores_others_used": [round(before, 4), round(others_share(), 4)],  # before and after
        "seconds": round(time.monotonic() - start, 1),
        "front": [each.id for each in first],
        "front_measured_again": [each.to_json() for each in second],
        "survived": len({each.id for each in first} & {each.id for each in second}),
    }
    target = HERE / "tables" / f"{name}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(table_json(Table(problem.encoding, known, about))) + "\n")
    print(f"{name}: {len(first)} on the front, {about['survived']} of them when measured again", file=sys.stderr, flush=True)


def others_share() -> float:
    """The share of the machine's time that is used while nothing of ours runs."""
    before = load_now()
    time.sleep(2.0)
    return before.others(load_now())


def measured_again(problem: ModelProblem, evaluations: list[Evaluation], log: Log) -> list[Evaluation]:
    """Those that may be on the front, side by side, at the protocol's full length."""
    done = {each.id: each for each in log.again}
    ids = [each.id for each in contenders(evaluations) if each.id not in done]
    short, problem.settings = problem.settings, Settings()
    for begin in range(0, len(ids), 12):
        for each in problem.evaluate_all(ids[begin : begin + 12]):
            log.append(each, again=True)
            done[each.id] = each
    problem.settings = short
    return list(done.values())


def say(name: str, done: int, total: int, start: float) -> None:
    print(f"{name}: {done} of {total}, {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
