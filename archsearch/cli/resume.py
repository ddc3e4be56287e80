"""``archsearch resume``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from archsearch.cli.options import Address, Executor, Json, Set

EXAMPLES = """
archsearch resume runs/petridish_digits
archsearch resume runs/petridish_digits --set search.max_hull_points=100 --set budget.wall_clock=1h
archsearch resume runs/petridish_digits --set search.confirm=3    # train the frontier again with three other seeds
"""


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder.")],
    set_: Set = None,
    address: Address = None,
    executor: Executor = None,
    json: Json = False,
) -> None:
    """Go on with a run that was stopped, interrupted or killed, as if it had not been.

    Budgets and resources may change (--set budget.*, resources.*, cluster.*, search.max_hull_points,
    search.confirm); what is searched may not. Exit codes as for `archsearch search`.
    """
    from archsearch import api
    from archsearch.cli.driving import drive, flag_overrides

    overrides = [*(set_ or []), *flag_overrides(address=address, executor=executor)]
    drive(lambda observer: api.resume(run, overrides=overrides, observer=observer, join=False), title=str(run), json=json)
