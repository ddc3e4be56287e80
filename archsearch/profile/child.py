"""The process that measures: ``python -m archsearch.profile.child``, a request on stdin, answers as JSON lines on stdout.

It goes to its cores before any library is imported, so that their threads start there.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what models and libraries print is no answer
    request = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_watch, daemon=True).start()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, request["cores"])
    from archsearch.profile.tasks import do

    def say(event: str, **data: Any) -> None:
        print(json.dumps({"event": event, **data}), file=answers, flush=True)

    do(request, say)
    say("done")


def _watch() -> None:
    """Leave when nobody listens any more."""
    while os.read(0, 1 << 16):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
