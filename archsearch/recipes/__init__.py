"""What searches learned, beyond any one of them: recipes, queries over them, packs that work without network.

``query_pareto_optimal_recipes`` and ``select_recipes`` are imported when they are first asked for; pandas comes with the
caller's frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from archsearch.recipes.queries import query_pareto_optimal_recipes
    from archsearch.recipes.selection import Selection, select_recipes

__all__ = ["Selection", "query_pareto_optimal_recipes", "select_recipes"]

_HOMES = {"query_pareto_optimal_recipes": "queries", "select_recipes": "selection", "Selection": "selection"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
