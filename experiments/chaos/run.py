"""A search on a four-node local cluster while workers, nodes and the driver are killed at random: nothing may be lost.

    python experiments/chaos/run.py --minutes 30 --seed 1

Prints JSON, and writes it to results.json beside this file (``--output`` for elsewhere). Leaves with 1 if a job was lost, a
result counted twice, or a committed event changed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

#: How often each kind is chosen, of ten.
KINDS = ["worker"] * 6 + ["node"] * 2 + ["driver"] * 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long things are killed")
    parser.add_argument("--seed", type=int, default=1, help="of the kills: their times, kinds and victims")
    parser.add_argument("--every", type=float, default=15.0, help="mean seconds between two kills")
    parser.add_argument("--output", type=Path, default=HERE / "results.json")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # in order, so that no process of the cluster is left
    with tempfile.TemporaryDirectory(prefix="chaos-") as place:
        prepare(Path(place))
        results = Chaos(Path(place), args.seed, args.every).run(60 * args.minutes)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"minutes": args.minutes, "seed": args.seed, **results}, indent=2)
    args.output.write_text(text + "\n")
    print(text)
    sound = not (results["jobs_lost"] or results["results_counted_twice"] or results["committed_events_changed"])
    sys.exit(0 if sound else 1)


def prepare(place: Path) -> None:
    """What Ray and the drivers find in their environment."""
    token = place / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    (place / "notes").mkdir()
    sys.path.insert(0, str(HERE / "plugins"))
    paths = [str(HERE / "plugins"), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        # A dead node is known after seconds, not after a minute; patient enough for a machine with too much to do.
        "RAY_health_check_initial_delay_ms": "0",
        "RAY_health_check_period_ms": "2000",
        "RAY_health_check_timeout_ms": "5000",
        "RAY_health_check_failure_threshold": "4",
        "RAY_raylet_start_wait_time_s": "150",
        "PYTHONPATH": os.pathsep.join(paths),
        "CHAOS_NOTES": str(place / "notes"),
        "OMP_NUM_THREADS": "1",
    }


class Chaos:
    def __init__(self, place: Path, seed: int, every: float) -> None:
        self.place, self.path = place, place / "run"
        self.rng = random.Random(seed)
        self.every = every
        self.kills: Counter[str] = Counter()
        self.committed: list[Any] = []
        self.changed = 0
        self.driver: subprocess.Popen[bytes] | None = None
        self.log = (place / "driver.log").open("ab")

    def run(self, seconds: float) -> dict[str, Any]:
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 1, "include_dashboard": False, "temp_dir": str(self.place / "ray")}
        self.cluster = Cluster(initialize_head=True, head_node_args=head, shutdown_at_exit=True)
        try:
            for _ in range(3):
                self.cluster.add_node(num_cpus=1)
            self.kill_for(seconds)
            self.end_driver()
            self.drive("--set", "search.max_hull_points=1")  # nothing new: what was asked is brought to its end
            if self.driver is None or self.driver.wait(timeout=600) != 0:
                raise RuntimeError((self.place / "driver.log").read_text()[-3000:])
            return self.results()
        finally:
            self.end_driver()
            self.cluster.shutdown()

    # ------------------------------------------------------------------------------------------------------------ kills
    def kill_for(self, seconds: float) -> None:
        end, started = time.monotonic() + seconds, time.monotonic()
        back: list[float] = []  # when nodes that were killed come back
        next_kill = time.monotonic() + self.rng.expovariate(1 / self.every)
        while time.monotonic() < end:
            if self.driver is None or self.driver.poll() is not None:
                self.drive()
            now = time.monotonic()
            for due in [due for due in back if due <= now]:
                back.remove(due)
                self.cluster.add_node(num_cpus=1)
            if now >= next_kill:
                kind = self.rng.choice(KINDS)
                if kind == "worker" and not self.kill_worker():
                    time.sleep(0.5)  # none runs a job just now
                    continue
                if kind == "node":
                    if not self.cluster.worker_nodes:
                        continue
                    self.kill_node()
                    back.append(now + self.rng.uniform(3, 15))
                if kind == "driver":
                    self.kill_driver()
                self.kills[kind] += 1
                done = f"{time.monotonic() - started:6.0f} s  {kind} killed ({sum(self.kills.values())} in all)"
                print(done, file=sys.stderr, flush=True)
                next_kill = time.monotonic() + self.rng.expovariate(1 / self.every)
            time.sleep(0.2)
        for _ in back:
            self.cluster.add_node(num_cpus=1)

    def drive(self, *options: str) -> None:
        """A driver, as a user would start it: ``search``, or ``resume`` once there is a run."""
        there = (self.path / "run.db").exists()
        verb = ["resume", str(self.path)] if there else ["search", str(HERE / "config.yaml"), "--run-dir", str(self.path)]
        command = [sys.executable, "-c", "from archsearch.cli import main; main()", *verb, *options]
        command += ["--address", self.cluster.address]
        self.driver = subprocess.Popen(command, stdout=self.log, stderr=self.log)

    def kill_driver(self) -> None:
        if self.driver is not None:
            self.driver.kill()
            self.driver.wait()
        self.driver = None
        history = self.history()
        self.changed += history[: len(self.committed)] != self.committed
        self.committed = history

    def kill_node(self) -> None:
        node = self.rng.choice(sorted(self.cluster.worker_nodes, key=lambda node: node.unique_id))
        self.cluster.remove_node(node, allow_graceful=False)

    def kill_worker(self) -> bool:
        """SIGKILL for a process of this cluster that runs a job."""
        import psutil

        found = []
        for process in psutil.Process().children(recursive=True):
            try:
                title = " ".join(process.cmdline())
            except psutil.Error:
                continue
            if title.startswith("ray::") and ("_TRAINED:" in title or "SEARCH:" in title):
                found.append(process)
        if not found:
            return False
        victim = self.rng.choice(sorted(found, key=lambda process: process.pid))
        try:
            victim.kill()
        except psutil.Error:
            return False
        return True

    def end_driver(self) -> None:
        """Ask the driver to leave in order."""
        if self.driver is not None and self.driver.poll() is None:
            self.driver.terminate()
            try:
                self.driver.wait(timeout=90)
            except subprocess.TimeoutExpired:
                self.driver.kill()
                self.driver.wait()

    # ---------------------------------------------------------------------------------------------------------- results
    def history(self) -> list[Any]:
        from archsearch.store import read_run

        if not (self.path / "run.db").exists():
            return []
        return [(event.number, str(event.kind), event.job, event.data) for event in read_run(self.path).events]

    def results(self) -> dict[str, Any]:
        from archsearch import load_run
        from archsearch.jobs import JobState
        from archsearch.store import Artifacts

        history = self.history()
        self.changed += history[: len(self.committed)] != self.committed
        told = Counter(job for _, kind, job, _ in history if kind == "told")
        run = load_run(self.path)
        records = run.state.jobs
        lost = [job for job, record in records.items() if record.state is not JobState.COMPLETED]
        artifacts = Artifacts(str(self.path))
        for record in records.values():
            for ref in record.artifacts.values():
                artifacts.load(ref)  # checked against its hash
        steps: dict[int, list[int]] = {}
        for file in (self.place / "notes").iterdir():
            steps.setdefault(int(file.name.split("-")[0]), []).extend(map(int, file.read_text().split()))
        made = sum(map(len, steps.values()))
        needed = sum(len(set(each)) for each in steps.values())
        failures = Counter(data["kind"] for _, kind, _, data in history if kind == "failed")
        return {
            "nodes": 4,
            "kills": dict(sorted(self.kills.items())),
            "jobs_asked": len(records),
            "jobs_done": len(told),
            "jobs_lost": len(lost),
            "results_counted_twice": sum(count - 1 for count in told.values()),
            "committed_events_changed": self.changed,
            "attempts": sum(record.attempts for record in records.values()),
            "failed_attempts": dict(sorted(failures.items())),
            "points": len(run.points()),
            "steps_made": made,
            "repeated_training_share": round((made - needed) / made, 4) if made else None,
        }


if __name__ == "__main__":
    main()
