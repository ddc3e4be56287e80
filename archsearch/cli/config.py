"""``archsearch config``: show, check, and the schema for editors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from archsearch import config
from archsearch.cli.options import Json, Set
from archsearch.jobs import InputError

EXAMPLES = """
archsearch config validate my.yaml
archsearch config show my.yaml --set search.max_madd=1e6
archsearch config schema > archsearch.schema.json
"""

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)

Conf = Annotated[Path, typer.Argument(metavar="CONF", help="A configuration file (YAML).")]


@app.command()
def show(conf: Conf, overrides: Set = None, as_json: Json = False) -> None:
    """Print a whole configuration, checked.

    Includes, variables and defaults are filled in, secrets masked.
    """
    loaded = config.load(conf, overrides=overrides or ())
    print(json.dumps(loaded.to_json(), indent=2) if as_json else loaded.to_yaml().rstrip())


@app.command()
def validate(conf: Conf, overrides: Set = None, as_json: Json = False) -> None:
    """Check a configuration and start nothing.

    Exit code 0: it is good. 2: it is not, and every error is named with its file and line.
    """
    try:
        config.load(conf, overrides=overrides or ())
    except InputError as error:
        if not as_json:
            raise
        print(json.dumps({"config": str(conf), "valid": False, "errors": str(error).splitlines()}, indent=2))
        raise typer.Exit(error.exit_code) from None
    print(json.dumps({"config": str(conf), "valid": True, "errors": []}) if as_json else f"{conf}: good.")


@app.command()
def schema() -> None:
    """Print the JSON Schema for editors.

    Write it to a file and name that in a configuration's first line, and editors with a YAML language server complete and
    check keys: # yaml-language-server: $schema=archsearch.schema.json
    """
    print(json.dumps(config.schema(), indent=2))
