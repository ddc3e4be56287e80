"""``archsearch offline``: all that training a network again takes, carried to where there is no network."""

from __future__ import annotations

import json as json_module
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archsearch.cli.options import Json, size_text
from archsearch.cli.recipe_text import progress, say
from archsearch.jobs import InputError

if TYPE_CHECKING:
    from archsearch.offline.verifying import Verdict
    from archsearch.recipes.pack_manifest import Pack

EXAMPLES = """
archsearch offline pack runs/petridish_digits -o best.tar     # the run's best network; --point 17: that one
archsearch offline verify best.tar                            # restored and trained without network, then marked
archsearch offline run best.tar -o runs/best_again            # on the machine that has no network
archsearch offline pack best.yaml --weights runs/petridish_digits -o best.zip
archsearch offline pack 3f2a --db golden.db --wheels manylinux_2_28_x86_64 --python 3.11 -o carried.tar
archsearch offline verify carried.tar --id 5b1e...            # exactly the pack that somebody has named to you
"""

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True)

PackArgument = Annotated[Path, typer.Argument(metavar="PACK", help="A pack: a folder, .tar or .zip file.")]
Id = Annotated[
    str | None, typer.Option("--id", metavar="ID", help="Take no other pack than that of this id, all 64 digits of it.")
]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]


@app.callback()
def about() -> None:
    """Pack a recipe with all that training it takes, verify the pack with the network off, and train it anywhere.

    A pack holds recipe, data, weights that it starts from, and the exact versions of Python's packages with their hashes (or,
    with --wheels, the packages); its manifest names hash, size, source and version of each file. Each byte is checked before
    anything is used: a file that was changed, is missing or was added is named, and nothing is run.

    Nothing in a pack can run code but its wheels. A pack with wheels runs what they hold, as you: take it only from people you
    trust, and pin it with --id. Nothing is installed into your own environment; a mark that says "verified" is what somebody
    else's machine has found, until you verify the pack on yours.
    """


@app.command(epilog="\b\nExample:\n  archsearch offline pack runs/petridish_digits -o best.tar")
def pack(
    what: Annotated[
        str,
        typer.Argument(metavar="RECIPE|RUN", help="A run's folder; or a recipe's YAML file, or an id, as for `recipe run`."),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="PACK", help="A new name: .tar and .zip make one file, others a folder.")
    ],
    point: Annotated[
        int | None, typer.Option(metavar="ID", help="Of a run: which point; default: the best of the frontier.")
    ] = None,
    weights: Annotated[
        list[Path] | None,
        typer.Option(metavar="RUN|DIR", help="Of a recipe: where weights lie that it starts from; default: beside it."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of a recipe: processor threads to train it with; default 1. A run has its own.")
    ] = None,
    wheels: Annotated[
        str | None,
        typer.Option(
            metavar="PLATFORM",
            help="Hold Python's packages too, for this platform: here, or such as manylinux_2_28_x86_64, macosx_14_0_arm64.",
        ),
    ] = None,
    python: Annotated[str | None, typer.Option(metavar="X.Y", help="With --wheels: for this Python.")] = None,
    no_index: Annotated[
        bool,
        typer.Option(
            "--no-index",
            help="Ask no package index (that takes minutes the first time): the lock has hashes of what is installed alone.",
        ),
    ] = False,
    pantry: Annotated[
        Path | None, typer.Option("--pantry", metavar="DIR", help="Folder of ingredients that has the recipe of an id.")
    ] = None,
    db: Annotated[
        str | None, typer.Option("--db", metavar="DB", help="Golden database that has the recipe; the start of its id will do.")
    ] = None,
    json: Json = False,
) -> None:
    """Write a pack. The recipe is tried out for two steps first, so that what it needs is fetched and seen to work.

    Of a run it holds configuration, figure and weights of the point, too. Data come as one .npz file with all their splits,
    whatever they were loaded, generated or downloaded from; the recipe keeps its id. Packages of plug-ins that it uses are
    locked, or held, with archsearch: those that are on no index need --no-index, or their wheel where PIP_FIND_LINKS says.
    """
    from archsearch.offline.packing import Python, pack_recipe, pack_run
    from archsearch.store import RunFolder

    holds = Python(wheels, python, not no_index)
    if python is not None and wheels is None:
        raise InputError("--python is for wheels: give --wheels PLATFORM with it")
    if Path(what).is_dir() and RunFolder.at(what).started:
        given = [("--weights", weights), ("--threads", threads), ("--db", db), ("--pantry", pantry)]
        if others := [name for name, value in given if value]:
            raise InputError(f"{others[0]} is for a recipe: {what} is a run, which has its own")
        made = pack_run(what, output, point=point, python=holds, say=say)
    else:
        from archsearch.cli.recipe import find_recipe, find_sources

        if point is not None:
            raise InputError(f"--point is of a run, and {what} is none")
        recipe, sources = find_recipe(what, pantry, db), find_sources(Path(what), weights or [])
        made = pack_recipe(recipe, output, sources=sources, threads=threads or 1, python=holds, say=say)
    _tell_pack(made, output, json)


@app.command(epilog="\b\nExample:\n  archsearch offline verify best.tar && echo good")
def verify(pack: PackArgument, id: Id = None, device: Device = "cpu", json: Json = False) -> None:
    """Restore a pack into an empty cache, train its whole recipe in a process without network, and compare what it comes to.

    On the same kind of processor, with as many threads and the same torch, figure and weights must be equal to the recorded
    ones, bit for bit; elsewhere the figure must lie in the recorded interval. Then, and only then, the pack is marked as
    verified; a mark changes no id. Of a recipe that was never trained, this training gives the figure. It takes as long as the
    training does, and TMPDIR must hold the pack, or five times a pack with wheels.

    Linux, as root or where users may have network namespaces. Exit codes: 0 verified; 2 not what was packed, or cannot be
    restored or verified here; 3 the training failed, or its figure is another one; 130 interrupted.
    """
    from archsearch.offline.verifying import verify_pack

    with progress() as moved:
        found = verify_pack(pack, id, device=device, say=say, progress=moved)
    _tell_verdict(found, pack, json)


@app.command(epilog="\b\nExample:\n  archsearch offline run best.tar -o runs/best_again")
def run(
    pack: PackArgument,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="The folder for result and weights.")],
    id: Id = None,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Train what a pack holds, from the pack alone, and compare what it comes to. It never needs a network.

    The same command again goes on after Ctrl-C or a kill, or shows the result of one that has ended; FOLDER is as that of
    `archsearch recipe run`. Exit codes as for verify.
    """
    from archsearch.offline.verifying import run_pack

    with progress() as moved:
        found = run_pack(pack, output, id, device=device, say=say, progress=moved)
    _tell_verdict(found, pack, json, output)


def _tell_pack(made: Pack, output: Path, json: bool) -> None:
    size = sum(entry.size for entry in made.files.values())
    if json:
        files = {name: asdict(entry) for name, entry in made.files.items()}
        print(json_module.dumps({"pack": str(output), "id": made.id, "bytes": size, **made.about, "files": files}, indent=2))
        return
    for name, entry in made.files.items():
        print(f"  {_short(name):<44}{size_text(entry.size):>10}  {entry.version}")
    if made.about["recorded"]:
        from archsearch.offline.contents import Figure

        print(f"recorded   {Figure.from_json(made.about['recorded'])}")
    print(f"recipe     {made.about['recipe']}\npack       {output}, {size_text(size)}\nid         {made.id}")
    print(f"next       archsearch offline verify {output}")


def _tell_verdict(found: Verdict, pack: Path, json: bool, folder: Path | None = None) -> None:
    """What came of a pack, for people or programs; leaves with its exit code."""
    figure, comparison, mark = found.figure, found.comparison, found.pack.verified
    text = "the first figure of this recipe, with nothing to compare it with" if comparison is None else comparison.text
    if json:
        recorded = found.contents.recorded
        about: dict[str, Any] = {"pack": str(pack), "id": found.pack.id, "recipe": found.contents.recipe.id}
        about |= {"state": found.state, "reason": found.reason, "figure": figure and figure.to_json()}
        about |= {"recorded": recorded and recorded.to_json(), "compared": figure and text}
        about |= {"agrees": comparison and comparison.good, "same": comparison and comparison.same}
        print(json_module.dumps(about | {"verified": mark} | ({} if folder is None else {"run": str(folder)}), indent=2))
    elif figure is not None:
        print(f"{figure}: {text}")
        print(f"recipe     {found.contents.recipe.id}\nid         {found.pack.id}")
        if folder is not None:
            print(f"files      {folder}")
        when = "" if mark is None else f"{_safe(mark.get('when'))}, without network, on {_safe(mark.get('processor'))}"
        print(f"verified   {when or 'never: archsearch offline verify'}")
    if figure is None:
        again = "" if folder is None else "; the same command again goes on"
        print(f"archsearch: {found.state}: {found.reason}{again}", file=sys.stderr)
        raise typer.Exit(130 if found.state == "interrupted" else 3)
    if not found.good:
        print(f"archsearch: {pack}: not verified: the figure is {text}", file=sys.stderr)
        raise typer.Exit(3)


def _safe(text: Any) -> str:
    """A stranger's text for a terminal."""
    return str(text)[:120] if str(text).isprintable() else "?"


def _short(name: str) -> str:
    """A file's name with the middle of a hash left out."""
    folder, slash, last = name.rpartition("/")
    stem, dot, extension = last.rpartition(".")
    hexadecimal = len(stem) == 64 and set(stem) <= set("0123456789abcdef")
    return f"{folder}{slash}{stem[:12]}…{dot}{extension}" if hexadecimal else name
