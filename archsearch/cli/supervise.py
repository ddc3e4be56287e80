"""``archsearch supervise``."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from archsearch.cli.options import Address, Set
from archsearch.jobs import InputError

EXAMPLES = """
archsearch supervise confs/petridish_digits.yaml
archsearch supervise confs/petridish_digits.yaml --address auto --run-dir /shared/runs/third
"""


def command(
    conf: Annotated[Path | None, typer.Argument(metavar="CONF", help="The configuration, a YAML file.")] = None,
    set_: Set = None,
    run_dir: Annotated[Path | None, typer.Option(help="The run's folder; default: its name below run.dir.")] = None,
    address: Address = None,
    submitted: Annotated[bool, typer.Option("--submitted", hidden=True, help="The search that this job was made for.")] = False,
) -> None:
    """Search as `archsearch search` does, in a process that is started again whenever it dies, until the search has ended.

    The same command goes on with what an earlier one began: budgets and resources may have changed meanwhile. `archsearch
    submit` starts this on a cluster's head; it is also what a batch script runs. SIGTERM and Ctrl-C end it in order.

    Exit codes: 0 done, 2 bad input, 3 stopped by failures, or the driver died at its start again and again (resumable),
    130 told to stop (resumable).
    """
    if submitted:
        _supervise_submitted()
    if conf is None:
        raise InputError("name a configuration: archsearch supervise CONF.")
    from archsearch.cli.driving import flag_overrides, load_named

    overrides = [*(set_ or []), *flag_overrides(address=address)]
    section = load_named(conf, overrides)["run"]
    _supervise(conf, run_dir or Path(section.dir) / section.name, overrides)


def _supervise_submitted() -> None:
    from importlib.metadata import version

    from archsearch.cluster.submission import from_environment

    what = from_environment(os.environ)
    if what.version != version("archsearch"):
        _say(f"note: submitted by archsearch {what.version}, this is {version('archsearch')}")
    with tempfile.TemporaryDirectory(prefix="archsearch-submitted-") as place:
        conf = Path(place) / f"{what.name}.yaml"
        conf.write_text(what.config)
        _supervise(conf, Path(what.folder), [])


def _supervise(conf: Path, run_dir: Path, overrides: list[str]) -> None:
    from archsearch.cluster.supervisor import supervise

    _let_a_lost_driver_expire(run_dir)
    words = ["search", str(conf), "--run-dir", str(run_dir), "--or-resume"]
    for override in overrides:
        words += ["--set", override]
    raise typer.Exit(supervise([sys.executable, "-m", "archsearch", *words], say=_say))


def _let_a_lost_driver_expire(run_dir: Path) -> None:
    """A driver that was lost with another host holds the run until its last sign of life is old enough."""
    from archsearch.continuing import description
    from archsearch.store import TTL, open_store, this_host

    if description(run_dir) is None:
        return
    end, said = time.monotonic() + 1.5 * TTL, False
    while time.monotonic() < end:
        with open_store(run_dir, write=False, whole=False) as store:
            driver = store.driver()
        if driver is None or driver.host == this_host():
            return
        if not said:
            said = True
            _say(f"{run_dir} is held by {driver}: waiting for it to end, or to be {TTL:.0f} s without a sign of life")
        time.sleep(1.0)


def _say(text: str) -> None:
    print(f"archsearch supervise: {text}", file=sys.stderr, flush=True)
