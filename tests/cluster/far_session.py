"""A driver of its own for tests whose cluster it cannot reach from pytest's process: ``far_session.py RUN LOG ADDRESS JSON``.

JSON: ``{"steps": [...], "policy": {...}}``, a job of the work ``count`` for each number of steps. Prints what it ended with.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from archsearch.cluster import ray_environment


def main() -> None:
    path, log, address, about = Path(sys.argv[1]), sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
    ray_environment.prepare(address, str(path))
    from listed_run import Bench, Notes

    from archsearch.cluster.ray_executor import RayExecutor
    from archsearch.cluster.section import ClusterSection
    from archsearch.data import DataSection, load
    from archsearch.jobs import EventKind, Job, Resources, Stage

    digits = load(DataSection(name="digits", max_train=100))
    policy = ClusterSection(address=address, **about["policy"])
    executor = RayExecutor(digits, str(path), resources={Stage.COMPAT: Resources()}, policy=policy)
    spec = {"log": log, "pause": 0.1}
    jobs = [Job(0, Stage.COMPAT, "count", {**spec, "steps": steps}, 1, resources=Resources()) for steps in about["steps"]]
    bench, slots = Bench(path, digits), [executor.slots()["total"]]
    look = Notes(lambda loop: slots.append(loop.state.slots or 0) if loop.state.slots != slots[-1] else None)
    outcome, loop = bench.session(jobs, executor=executor, observer=look, backoff=0.1)
    executor.close()
    failures = [[job, data["kind"]] for job, data in bench.events(EventKind.FAILED)]
    waited = sorted({job for job, data in bench.events(EventKind.REPORTED) if job and data.get("waiting")})
    print(
        json.dumps({"state": outcome.state, "told": loop.searcher.told, "slots": slots, "failures": failures, "waited": waited})
    )


if __name__ == "__main__":
    main()
