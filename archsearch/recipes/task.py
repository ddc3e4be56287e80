"""Tasks: what recipes are for. A task names the slots of its recipes and makes the job of a filled one.

Another task (``archsearch.registry.TASKS``, entry points ``archsearch.task``) has slots and a work of its own; recipes stay
as they are written.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from archsearch.jobs import JSON, ArtifactRef
from archsearch.recipes.ingredient import Slot

if TYPE_CHECKING:
    from archsearch.recipes.recipe import Recipe

#: The artifact with that SHA-256 and size, where the work will read it.
Refer = Callable[[str, int], ArtifactRef]


class Task(ABC):
    """One kind of problem that networks are trained for. Methods take recipes whose slots are filled, as ``check`` tells."""

    slots: ClassVar[Mapping[str, Slot]]
    work: ClassVar[str]  # what trains
    metric: ClassVar[str]  # of the work's result: smaller is better, with ``standard_error`` beside it
    standard_error: ClassVar[str]

    @abstractmethod
    def load(self, recipe: Recipe) -> Any:
        """The data that it is trained on.

        Raises:
            InputError: it cannot be used, or is not what the recipe was made with.
        """

    @abstractmethod
    def pinned(self, recipe: Recipe, data: Any) -> Recipe:
        """The recipe with nothing left to a default or to the data: its content, the network in full, all settings.

        Raises:
            InputError: the network does not fit the data.
        """

    @abstractmethod
    def spec(self, recipe: Recipe, refer: Refer) -> JSON:
        """The spec of the ``work`` that runs a pinned recipe; the job's seed is the recipe's."""
