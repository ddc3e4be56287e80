"""The process that restores Python as a pack says, and trains what it holds: ``python -m archsearch.offline.inside SETTINGS``.

It begins with the interpreter of whoever unpacked the pack, and goes on with that of the pack's wheels, if it has them. It says
what it does in lines of JSON on stdout (``say``, ``progress``, and at its end ``end`` or ``error``), and stops in order when
its stdin is closed: then nobody waits for it any more.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from archsearch.jobs import ArchsearchError
from archsearch.offline.contents import RECIPE
from archsearch.offline.no_network import way_out


def main() -> None:
    settings = json.loads(sys.argv[1])
    lines = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever libraries print

    def say(**data: Any) -> None:
        with suppress(BrokenPipeError):  # nobody listens any more: `_outlive_nobody` stops it, in order
            print(json.dumps(data), file=lines, flush=True)

    threading.Thread(target=_outlive_nobody, daemon=True).start()
    try:
        if settings["python"] is not None:
            python = _restore(settings, say)
            if python != Path(sys.executable):
                os.dup2(lines.fileno(), sys.stdout.fileno())
                os.environ.pop("PYTHONPATH")  # its own archsearch
                command = [str(python), "-m", "archsearch.offline.inside", json.dumps(settings | {"python": None})]
                os.execv(python, command)
        say(**_train(settings, say))
    except ArchsearchError as error:
        say(error=str(error), code=error.exit_code)


def _restore(settings: dict[str, Any], say: Any) -> Path:
    """The interpreter that is to train."""
    from archsearch.recipes.wheels import environment

    return environment(Path(settings["files"]), Path(settings["python"]), progress=lambda text: say(say=text))


def _train(settings: dict[str, Any], say: Any) -> dict[str, Any]:
    from archsearch.recipe_export import export_recipe, settings_of
    from archsearch.recipe_run import run_recipe
    from archsearch.recipes.offline import single_recipe
    from archsearch.recipes.recipe import load_recipe

    network = way_out()
    if network is not None and settings["isolated"]:
        return {"error": f"this process was to have no network, but knows a way to {network}", "code": 2}
    recipe = load_recipe(Path(settings["files"]) / RECIPE)
    settings_of(recipe)  # better said before the training
    if settings["rehearse"]:  # what is missing shows within seconds, and checkpoints are written and read
        single_recipe(recipe, device=settings["device"], say=lambda text: say(say=text))
    done = run_recipe(
        recipe,
        settings["folder"],
        device=settings["device"],
        threads=settings["threads"],
        say=lambda text: say(say=text),
        progress=lambda data: say(progress=dict(data)),
    )
    if done.result and not settings["rehearse"]:
        export_recipe(done, say=lambda text: say(say=text))
    return {"end": done.state, "reason": done.reason, "network": network}


def _outlive_nobody() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
