"""The command line: ``archsearch VERB``. Each verb is one file, ``archsearch/cli/VERB.py``, imported when it is used.

A verb's module holds either

- ``command``: a function whose parameters are ``Annotated[type, typer.Option(...)]``; its docstring is the verb's help; or
- ``app``: a ``typer.Typer`` with verbs of its own (``archsearch config show``);

and ``EXAMPLES``, lines of shell that ``--help`` shows below the options. The verb's name and its line in ``archsearch
--help`` stand in ``VERBS``, so that asking for help imports no verb. Options that several verbs share: ``cli/options.py``.

A verb returns normally (exit code 0), raises ``ArchsearchError`` (its text on stderr, its ``exit_code``), or raises
``typer.Exit(code)`` after it has said why. What is not an ArchsearchError is a bug and shows its traceback;
``ARCHSEARCH_TRACEBACK=1`` shows it for the others too. Results go to stdout, progress and messages to stderr.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, NoReturn

import typer

from archsearch.cli.options import printable
from archsearch.jobs import ArchsearchError

#: Verbs in the order in which ``--help`` lists them.
VERBS: dict[str, str] = {
    "search": "Search for networks as a configuration says, and end with a frontier.",
    "resume": "Go on with a run that was stopped, interrupted or killed.",
    "simulate": "Drive a search in virtual time: how long it would take on so many slots.",
    "submit": "Hand a search to a running Ray cluster, where it goes on without you.",
    "logs": "Show what a submitted search says.",
    "stop": "End a submitted search in order.",
    "supervise": "Search, and start again whenever the driver dies, until the search has ended.",
    "status": "Show where a run stands: jobs, pool, frontier.",
    "devices": "List the devices of a Ray cluster that there are to measure on: state, queue, fingerprint.",
    "evaluate": "Train models of a run's frontier long and from scratch, and measure their test error over seeds.",
    "profile": "Measure how long a model takes and how much memory it needs, here or on a device.",
    "assign": "Find which operations to run on which backend: the front of time and memory.",
    "export": "Write a trained network as ONNX and torch.export files with a model card, checked against PyTorch.",
    "pareto": "Find the recipes that are worth their cost, in a golden database or a file exported from one.",
    "runs": "List the runs in a folder; compare, remove or export runs.",
    "recipe": "Make, fill, check, run and compare recipes: what it takes to train one network again.",
    "offline": "Pack a recipe with all that it takes, verify the pack without network, and train from it.",
    "backup": "Copy a run with its weights into another folder, also while it is being searched.",
    "db": "Keep the recipes and measurements of many runs in one database; list, export, import them.",
    "report": "Write a run's tables and pictures.",
    "config": "Show or check a configuration, or write the schema for editors.",
    "doctor": "Tell what is installed, what Ray and CUDA see, and what is missing for which feature.",
}

EXAMPLES = """
archsearch search confs/petridish_digits.yaml
archsearch search confs/petridish_digits.yaml --set search.max_madd=1e6 --dry-run
archsearch status runs/NAME --watch
archsearch resume runs/NAME
archsearch VERB --help
"""

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one verb and leave the process. Exit codes: 0 done, 2 bad input, 3 stopped by failures, 130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        build_app(words)(args=words, prog_name="archsearch")
    except ArchsearchError as error:
        if os.environ.get("ARCHSEARCH_TRACEBACK", "0") not in ("", "0"):
            raise
        print("archsearch:", printable(str(error), "\n\t"), file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    sys.exit(0)


def build_app(words: Sequence[str]) -> typer.Typer:
    """The application for one command line: of all verbs only the one that ``words`` name is imported."""
    app = typer.Typer(
        epilog=_example_block(EXAMPLES),
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,  # plain help: importing rich would double the time that --help takes
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(help="Neural architecture search on a Ray cluster, from a YAML file to a frontier of networks.")(_common)
    chosen = next((word for word in words if not word.startswith("-")), None)
    for verb, line in VERBS.items():
        module = import_module(f"archsearch.cli.{verb}") if verb == chosen else None
        epilog = _example_block(getattr(module, "EXAMPLES", ""))
        if module is not None and hasattr(module, "app"):
            callback = module.app.registered_callback
            # Bare, it does something without a verb of its own.
            bare = callback is not None and callback.invoke_without_command is True
            about = line if callback is None else inspect.getdoc(callback.callback)
            app.add_typer(module.app, name=verb, help=about, short_help=line, epilog=epilog, no_args_is_help=not bare)
        else:
            app.command(verb, short_help=line, epilog=epilog)(getattr(module, "command", _not_imported))
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"archsearch {version('archsearch')}")
        raise typer.Exit


def _common(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and leave.")
    ] = False,
) -> None:
    """Options before the verb."""


def _not_imported() -> None:
    """Stands in the list of verbs for one that this command line does not use."""


def _example_block(lines: str) -> str | None:
    """Examples for the end of a help page; the mark keeps line breaks."""
    rows = lines.strip().splitlines()
    return "\n".join(["\b", "Examples:", *(f"  {row}" for row in rows)]) if rows else None
