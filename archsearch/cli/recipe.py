"""``archsearch recipe``: what it takes to train one network again, as a file."""

from __future__ import annotations

import json as json_module
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archsearch.cli.options import Json
from archsearch.cli.recipe_text import progress, say, short, tell, tell_result
from archsearch.jobs import InputError

if TYPE_CHECKING:
    from archsearch.recipes.pantry import Pantry
    from archsearch.recipes.recipe import Recipe
    from archsearch.recipes.weights import Source

EXAMPLES = """
archsearch recipe new --from runs/petridish_digits -o best.yaml
archsearch recipe run best.yaml -o runs/best_again
archsearch recipe run 3f2a --db golden.db -o runs/again    # an id, as `archsearch pareto` prints them
archsearch recipe new model=tiny_cells training=short -o mine.yaml
archsearch recipe fill mine.yaml training.optimizer=sgd_cosine
archsearch recipe check mine.yaml
archsearch recipe diff best.yaml mine.yaml
archsearch recipe pantry my_pantry
"""

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)

File = Annotated[
    str,
    typer.Argument(metavar="RECIPE", help="A recipe's YAML file, or the id of one of the pantry or, with --db, of a database."),
]
Choices = Annotated[list[str] | None, typer.Argument(metavar="[SLOT=NAME]...", help="Which ingredient goes into which slot.")]
PantryOption = Annotated[
    Path | None, typer.Option("--pantry", metavar="DIR", help="Folder of ingredients; default: archsearch's own.")
]


Database = Annotated[
    str | None, typer.Option("--db", metavar="DB", help="Golden database that has the recipe; the start of its id will do.")
]


@app.command()
def new(
    choices: Choices = None,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE.yaml", help="The recipe; never replaced.")] = Path(
        "recipe.yaml"
    ),
    from_: Annotated[
        Path | None, typer.Option("--from", metavar="RUN", help="Make the recipe of a point of this run instead.")
    ] = None,
    point: Annotated[
        int | None, typer.Option(metavar="ID", help="With --from: which point; default: the best of the frontier.")
    ] = None,
    task: Annotated[str, typer.Option(help="What the recipe is for.")] = "classification",
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Of the training.  [default: 0; with --from the point's]")
    ] = None,
    pantry: PantryOption = None,
    json: Json = False,
) -> None:
    """Make a recipe: with empty slots, with some filled, or of what a run has trained.

    With --from, the recipe trains to the recorded figure again. Weights of the parent that a grown network starts from are
    copied beside it, into FILE.weights.
    """
    from archsearch.recipes.recipe import empty_recipe

    if output.exists():
        raise InputError(f"-o {output} is there already: give another name.")
    if from_ is not None and choices:
        raise InputError("--from and SLOT=NAME: give the one or the other; `archsearch recipe show` says what is in a recipe")
    if from_ is not None and seed is not None:
        raise InputError("--from and --seed: a point has the seed that it was trained with; in the file another one can be set")
    if from_ is None and point is not None:
        raise InputError("--point is of a run: give --from RUN with it")
    known: dict[str, Any] = {}
    if from_ is not None:
        recipe, known = _of_point(from_, point, output)
    else:
        recipe, stock = empty_recipe(task, seed or 0), _pantry(pantry)
        for path, name in _chosen(choices).items():
            recipe = _put(recipe, stock, path, name)
    recipe.save(output)
    tell(recipe, json, file=output, **known)


@app.command()
def show(recipe: File, pantry: PantryOption = None, db: Database = None, json: Json = False) -> None:
    """Show what is in a recipe: its slots, what fills them, its id."""
    tell(find_recipe(recipe, pantry, db), json)


@app.command()
def fill(
    recipe: File,
    choices: Choices = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE.yaml", help="Where to; default: the file itself.")
    ] = None,
    prefer: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Take this ingredient wherever it fits; may be repeated.")
    ] = None,
    draw: Annotated[int | None, typer.Option(metavar="SEED", help="Draw among those that fit.")] = None,
    pantry: PantryOption = None,
    json: Json = False,
) -> None:
    """Fill the empty slots of a recipe from a pantry, and the slots of what fills them.

    What stands in a slot stays. Each empty one takes what was named for it, else the first --prefer that fits, else with --draw
    any that fits, else what the pantry prefers.
    """
    found = find_recipe(recipe, pantry)
    place = output or Path(recipe)
    if output is None and not place.is_file():
        raise InputError(f"{recipe} is in the pantry: say with -o where the filled recipe goes.")
    filled = found.fill_empty_recursively(_pantry(pantry), choices=_chosen(choices), preferences=prefer or (), seed=draw)
    filled.save(place)
    tell(filled, json, file=place)


@app.command()
def check(recipe: File, pantry: PantryOption = None, db: Database = None, json: Json = False) -> None:
    """Tell whether a recipe can be run: every slot, every setting, the data and whether the network fits them.

    Exit code 0: it can. 2: it cannot, and each reason is named.
    """
    found = find_recipe(recipe, pantry, db)
    print("loading the data …", file=sys.stderr)
    findings = found.check(_pantry(pantry))
    good = not any(each.error for each in findings)
    if json:
        rows = [{"slot": each.path, "error": each.error, "text": each.text} for each in findings]
        print(json_module.dumps({"recipe": found.id, "valid": good, "findings": rows}, indent=2))
    else:
        for each in findings:
            print(f"{'error' if each.error else 'note'}: {each}")
        print(f"{recipe}: {'good.' if good else 'cannot be run.'}")
    raise typer.Exit(0 if good else InputError.exit_code)


@app.command()
def run(
    recipe: File,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="The folder for result and weights.")],
    weights: Annotated[
        list[Path] | None,
        typer.Option(metavar="RUN|DIR", help="Where weights lie that it starts from; default: beside the recipe."),
    ] = None,
    scratch: Annotated[
        bool, typer.Option("--scratch", help="Start from no weights, though the recipe does: another recipe.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Processor threads. One and two differ in the last digits.")] = 1,
    pantry: PantryOption = None,
    db: Database = None,
    json: Json = False,
) -> None:
    """Train what a recipe says, in this process.

    The same command again goes on after Ctrl-C or a kill, from a checkpoint that is at most a minute old; or shows the result
    of one that has ended. A recipe with an exporter (slot export) also writes the trained network into DIR/export, each file
    compared with PyTorch. Exit codes: 0 done, 2 bad input, 3 the training or the export failed, 130 interrupted.
    """
    from archsearch.recipe_export import export_recipe, settings_of
    from archsearch.recipe_run import run_recipe

    found = find_recipe(recipe, pantry, db)
    if scratch:
        found = found.with_("weights", None)
    sources = find_sources(Path(recipe), weights or [])
    for path, slot in found.all_slots():
        if slot.optional and found.at(path) is None:
            print(f"{path} is empty: {slot.empty}", file=sys.stderr)
    settings_of(found)  # what its exporter would lack is said before anything is trained
    with progress() as moved:
        done = run_recipe(found, output, sources=sources, device=device, threads=threads, say=say, progress=moved)
    exported = export_recipe(done, say) if done.result else None
    tell_result(done, exported, json)
    if done.state != "done":
        print(f"archsearch: {done.state}: {done.reason}; the same command again goes on", file=sys.stderr)
        raise typer.Exit(130 if done.state == "interrupted" else 3)


@app.command()
def diff(a: File, b: File, pantry: PantryOption = None, db: Database = None, json: Json = False) -> None:
    """Show where two recipes differ. Names do not count, as they do not for ids."""
    one, other = find_recipe(a, pantry, db), find_recipe(b, pantry, db)
    found = one.diff(other)
    if json:
        rows = [{"path": each.path, "a": each.a, "b": each.b} for each in found]
        print(json_module.dumps({"a": one.id, "b": other.id, "same": not found, "differences": rows}, indent=2))
        return
    for each in found:
        a_, b_ = ("-" if value is None else short(value) for value in (each.a, each.b))
        print(f"{each.path}: {a_} -> {b_}")
    if not found:
        print(f"the same: recipe {one.id}")


@app.command("pantry")
def pantry_(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is new or empty.")], json: Json = False
) -> None:
    """Make a pantry of your own: a folder with archsearch's ingredients, to be changed and added to."""
    from archsearch.recipes.pantry import Pantry

    found = Pantry.build(directory)
    rows = [{"kind": kind, "name": name} for kind, name in sorted(found.ingredients)]
    if json:
        print(json_module.dumps({"pantry": str(directory), "ingredients": rows}, indent=2))
    else:
        for row in rows:
            print(f"{row['kind']:<14}{row['name']}")
        print(f"{directory}: {len(rows)} ingredients")


# ------------------------------------------------------------------------------------------------------------ arguments
def find_recipe(text: str, pantry: Path | None, db: str | None = None) -> Recipe:
    """The recipe in a file, or that of an id."""
    from archsearch.recipes.pantry import from_recipe_id
    from archsearch.recipes.recipe import load_recipe

    hexadecimal = set(text) <= set("0123456789abcdef")
    if db is not None and hexadecimal and not Path(text).exists():
        from archsearch.recipes.database import read_recipe

        return read_recipe(db, text)
    return (
        from_recipe_id(text, _pantry(pantry))
        if hexadecimal and len(text) == 32 and not Path(text).exists()
        else load_recipe(text)
    )


def _pantry(path: Path | None) -> Pantry:
    from archsearch.recipes.pantry import Pantry

    return Pantry.load(path)


def _chosen(choices: list[str] | None) -> dict[str, str]:
    """``SLOT=NAME`` by slot."""
    found: dict[str, str] = {}
    for text in choices or ():
        path, equals, name = text.partition("=")
        if not (equals and path and name):
            raise InputError(f"{text!r}: expected SLOT=NAME, such as model=small_cells")
        if path in found:
            raise InputError(f"{path} is named twice: {found[path]} and {name}")
        found[path] = name
    return found


def _put(recipe: Recipe, stock: Pantry, path: str, name: str) -> Recipe:
    for known, slot in recipe.all_slots():
        if known == path:
            return recipe.with_(path, stock.find(slot, name))
    there = ", ".join(known for known, _ in recipe.all_slots())
    raise InputError(f"{path}={name}: there is no slot {path}. Slots: {there}; those of an ingredient come after it.")


def _of_point(run: Path, point: int | None, output: Path) -> tuple[Recipe, dict[str, Any]]:
    """The recipe of a point, whose parent's weights are laid beside it; and what was recorded of it."""
    from archsearch.recipe_weights import weights_of_run
    from archsearch.recipes.points import recipe_of, recorded
    from archsearch.recipes.weights import copy_weights
    from archsearch.run import load_run

    found = load_run(run)
    if point is None:
        front = found.frontier()
        if not front:
            raise InputError(f"{run} has no trained point yet: there is nothing to make a recipe of")
        point = min(front, key=lambda entry: (entry["error"], entry["cost"]))["id"]
    recipe = recipe_of(found, point)
    files = copy_weights(recipe, weights_of_run(found), _beside(output))
    return recipe, {"point": point, "recorded": recorded(found, point), "weights": [str(each) for each in files]}


def _beside(recipe: Path) -> Path:
    return recipe.with_name(f"{recipe.name}.weights")


def find_sources(recipe: Path, named: list[Path]) -> list[Source]:
    from archsearch.recipe_weights import weights_in

    for path in named:
        if not path.is_dir():
            raise InputError(f"--weights {path}: there is no such folder")
    return [weights_in(path) for path in [*named, _beside(recipe)]]
