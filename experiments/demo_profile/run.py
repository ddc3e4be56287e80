"""What a newcomer waits for: from the demo's command to the first frontier on the screen, and where the time goes.

    python experiments/demo_profile/run.py

Runs the demo's search until its first frontier (two points), then stops it as Ctrl-C would. Prints JSON.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
CONF = HERE.parent.parent / "confs" / "petridish_digits.yaml"


def main() -> None:
    marks: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-u", "-c", "from archsearch.cli import main; main()", "search", str(CONF)]
        start = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--run-dir", f"{place}/run"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        assert process.stderr is not None
        trained = 0
        for line in process.stderr:
            now = time.perf_counter() - start
            if "starting Ray" in line:
                marks["configuration, data and seeds checked"] = now
            elif "started" in line and "first job submitted" not in marks:
                marks["first job submitted"] = now
            elif re.search(r"SEED_TRAINED done", line):
                trained += 1
                marks.setdefault("first point", now)
                if trained == 2:
                    marks["first frontier"] = now
                    process.send_signal(signal.SIGINT)
        process.wait(timeout=120)
    steps, before = {}, 0.0
    for name, at in marks.items():
        steps[name] = round(at - before, 2)
        before = at
    results = {"seconds_to_the_first_frontier": round(marks["first frontier"], 2), "wanted_below": 25, "where_it_goes": steps}
    (HERE / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
