"""``archsearch search``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from archsearch.cli.options import Address, Executor, Json, Set
from archsearch.jobs import InputError

EXAMPLES = """
archsearch search confs/petridish_digits.yaml
archsearch search confs/petridish_digits.yaml --seed 3 --run-dir runs/third
archsearch search confs/petridish_digits.yaml --set search.max_madd=1e6 --set search.init_node_ch='[4, 8]'
archsearch search confs/petridish_digits.yaml --set data.name=npz --set data.path=mine.npz
archsearch search confs/petridish_cifar10.yaml --address auto --dry-run
archsearch search confs/petridish_digits.yaml --warm-from runs/petridish_digits --set search.max_hull_points=60
"""


def command(
    conf: Annotated[Path, typer.Argument(metavar="CONF", help="The configuration, a YAML file.")],
    set_: Set = None,
    run_dir: Annotated[Path | None, typer.Option(help="The run's folder; default: a new one below run.dir.")] = None,
    warm_from: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="Begin with the trained points of an earlier run on the same data, as far as they fit."
        ),
    ] = None,
    or_resume: Annotated[
        bool, typer.Option("--or-resume", help="With --run-dir: go on with the run that is there, if there is one.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="The run's seed (run.seed).")] = None,
    address: Address = None,
    executor: Executor = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, with estimated time and cost; do nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Search for networks as a configuration says, and end with a frontier.

    Shows progress while it runs, on stderr; ends with the frontier as a table and where the files lie. Ctrl-C stops in
    order: `archsearch resume` goes on from there, as it does after a kill.

    --warm-from copies points and weights: the earlier run may go on, or be removed. They count among
    search.max_hull_points, and against no budget.

    Exit codes: 0 done, 2 bad input, 3 stopped by failures (resumable), 130 interrupted (resumable).
    """
    from archsearch.cli.driving import drive, flag_overrides, load_named

    if or_resume and run_dir is None:
        raise InputError("--or-resume goes on with the run in --run-dir, which is missing.")
    checked = load_named(conf, [*(set_ or []), *flag_overrides(seed=seed, address=address, executor=executor)])
    if dry_run:
        from archsearch.cli.dry_run import show

        show(checked, json=json, warm_from=warm_from)
        return
    from archsearch import api

    drive(
        lambda observer: api.search(checked, run_dir=run_dir, warm_from=warm_from, observer=observer, or_resume=or_resume),
        title=str(conf),
        json=json,
    )
