"""``archsearch export``."""

from __future__ import annotations

import json as json_module
import sys
from pathlib import Path
from typing import Annotated

import typer

from archsearch.cli.options import Json, size_text

EXAMPLES = """
archsearch export runs/petridish_digits -o digits_model
archsearch export runs/petridish_digits --point 17 -o digits_17 --format onnx
archsearch export runs/petridish_digits --evaluation final -o digits_final --force
"""


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FOLDER", help="The folder that the model gets; a new one.")
    ],
    point: Annotated[
        str, typer.Option(metavar="ID|best", help="A point of the pool; best is the one with the lowest error.")
    ] = "best",
    format_: Annotated[
        str, typer.Option("--format", metavar="NAME,...", help="Files to write: onnx, torch (a package of torch.export).")
    ] = "onnx,torch",
    evaluation: Annotated[
        str | None, typer.Option(metavar="NAME", help="The network that `archsearch evaluate` trained for the point.")
    ] = None,
    repeat: Annotated[int, typer.Option(metavar="N", help="Which of the evaluation's trainings, from 0.")] = 0,
    input_: Annotated[
        str,
        typer.Option(
            "--input",
            metavar="pixels|normalised",
            help="What files take: pixels as a decoder gives them, or float images that the caller has normalised.",
        ),
    ] = "pixels",
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export in FOLDER.")] = False,
    json: Json = False,
) -> None:
    """Write a trained network as ONNX and as a package of torch.export, with its weights and a model card.

    The files take images (N, H, W, C) of bytes: the normalisation is inside. Each is run before anything is written, on
    validation images in batches of several sizes and on made-up ones, and refused if its outputs differ from PyTorch's by more
    than 1e-4 of the largest. MODEL_CARD.md (model_card.json for programs) says what the network is: errors with intervals,
    costs, data, lineage, recipe, and how to load each file.

    onnx needs the extra archsearch[onnx]. Exit codes: 2 bad input, 3 a file could not be made or does not agree; nothing
    was written then.
    """
    from archsearch import api

    done = api.export(
        run,
        output,
        point=point,
        formats=[name.strip() for name in format_.split(",") if name.strip()],
        evaluation=evaluation,
        repeat=repeat,
        input=input_,
        force=force,
        say=lambda text: print(text, file=sys.stderr, flush=True),
    )
    if json:
        print(json_module.dumps({"folder": str(done.path), **done.card}, indent=2))
        return
    print(f"{done.path}: {done.card['name']}, recipe {done.card['recipe'] or 'not known'}")
    for name, about in done.card["files"].items():
        check = done.card["checks"].get(name)
        agreed = "" if check is None else f"   within {check['largest_difference']:.1e} of PyTorch on {check['images']} images"
        print(f"  {name:<20}{size_text(about['size']):>10}{agreed}")
    print(f"  {'MODEL_CARD.md':<20}{'':>10}   what it is, and how to load it")
