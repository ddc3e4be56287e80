"""What the manifest of an offline pack says besides its files: the recipe, and the figure that it came to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from archsearch.jobs import JSON, InputError, StoreDamaged
from archsearch.recipes.pack_manifest import Pack
from archsearch.recipes.recipe import Recipe, load_recipe

#: Of the layout below; another one is refused.
FORMAT = 1

RECIPE, CONFIG = "recipe.yaml", "config.yaml"

#: The files that such a pack may have. Those below ``data`` and ``weights`` lie as in ``recipes.prepared``.
_FILES = re.compile(
    r"recipe\.yaml|config\.yaml|data/[0-9a-f]{64}\.npz|(weights|recorded)/[0-9a-f]{64}\.safetensors|python/lock\.txt|"
    r"wheels/[A-Za-z0-9_.+!-]+\.whl"
)


@dataclass(frozen=True)
class Figure:
    """What a training came to, and on what. ``interval``: 95 %; ``processor``, ``torch``, ``weights``: None where not known."""

    metric: str
    value: float
    interval: tuple[float, float]
    threads: int
    device: str = "cpu"
    processor: str | None = None  # its kind, as ``session.processor`` says
    torch: str | None = None  # version
    weights: str | None = None  # SHA-256 of what was trained

    def to_json(self) -> dict[str, JSON]:
        return asdict(self) | {"interval": list(self.interval)}

    @classmethod
    def from_json(cls, data: Any) -> Figure:
        """
        Raises:
            ValueError, TypeError, KeyError: it is none.
        """
        low, high = (float(end) for end in data["interval"])
        texts = {name: data[name] for name in ("device", "processor", "torch", "weights")}
        if not all(text is None or isinstance(text, str) for text in texts.values()):
            raise ValueError(texts)
        return cls(str(data["metric"]), float(data["value"]), (low, high), int(data["threads"]), **texts)

    @classmethod
    def of_result(cls, result: Mapping[str, Any]) -> Figure:
        """The figure of ``RecipeRun.result``."""
        known = {name: result[name] for name in ("metric", "value", "interval", "threads", "device", "processor")}
        return cls.from_json(known | {"torch": result["versions"]["torch"], "weights": result["weights"]["sha256"]})

    def alike(self, other: Figure) -> bool:
        """Whether both come from the same kind of processor with as many threads: then the figures must be equal."""
        what = ("device", "processor", "threads", "torch")
        return self.device == "cpu" and self.processor is not None and all(getattr(self, n) == getattr(other, n) for n in what)

    def __str__(self) -> str:
        return f"{self.metric} {self.value:.4f} ({self.interval[0]:.4f} to {self.interval[1]:.4f})"


@dataclass(frozen=True)
class Comparison:
    """Whether a figure agrees with the recorded one; ``same``: it is equal, and so are the weights, where they are known."""

    good: bool
    same: bool
    text: str


def compared(found: Figure, recorded: Figure) -> Comparison:
    """On the same kind of processor with as many threads the same weights, bit for bit; elsewhere within the interval."""
    known = recorded.weights is not None
    if (found.metric, found.value) == (recorded.metric, recorded.value) and (not known or found.weights == recorded.weights):
        return Comparison(True, True, f"equal to the recorded one{', the weights bit for bit' if known else ''}")
    if found.metric == recorded.metric and recorded.alike(found):
        what = f"it is {recorded.value!r}" if found.value != recorded.value else "the weights are others"
        return Comparison(False, False, f"not the recorded one ({what}), though processor, threads and torch are the same")
    low, high = recorded.interval
    if found.metric == recorded.metric and low <= found.value <= high:
        return Comparison(True, False, f"within the interval of the recorded one, {recorded}")
    return Comparison(False, False, f"outside of the interval of the recorded one, {recorded}")


@dataclass(frozen=True)
class Contents:
    """What an offline pack is of. ``recorded``: the figure to compare with, of the run or, without one, of the verification."""

    recipe: Recipe
    threads: int
    recorded: Figure | None
    origin: Mapping[str, JSON]


def about(recipe: Recipe, threads: int, recorded: Figure | None, origin: Mapping[str, JSON]) -> dict[str, JSON]:
    """What the manifest says of a pack."""
    figure = None if recorded is None else recorded.to_json()
    return {"offline": FORMAT, "recipe": recipe.id, "threads": threads, "recorded": figure, "origin": dict(origin)}


def read_contents(pack: Pack, files: Path) -> Contents:
    """What an unpacked pack holds; whoever made it is not believed.

    Raises:
        InputError: it is no offline pack, or one of another format, or holds what none has, or its recipe is wrong.
        StoreDamaged: its recipe is another than the manifest says.
    """
    said = pack.about
    if said.get("offline") != FORMAT:
        raise InputError(f"the pack is none of `archsearch offline pack`, or of another format than {FORMAT}")
    if strange := [name for name in pack.files if not _FILES.fullmatch(name)]:
        raise InputError(f"the pack holds {strange[0]!r}, which no offline pack has; refused")
    if RECIPE not in pack.files:
        raise InputError(f"the pack has no {RECIPE}")
    recipe = load_recipe(files / RECIPE)
    if recipe.id != said.get("recipe"):
        raise StoreDamaged(f"{RECIPE} of the pack is recipe {recipe.id}, but its manifest says {said.get('recipe')}")
    figure = said.get("recorded") or (pack.verified or {}).get("figure")
    try:
        threads, origin = said["threads"], dict(said["origin"])
        recorded = None if figure is None else Figure.from_json(figure)
        if type(threads) is not int or not 1 <= threads <= 4096:
            raise ValueError(threads)
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"the manifest of the pack does not say what it must: {error!r}") from error
    return Contents(recipe, threads, recorded, origin)
