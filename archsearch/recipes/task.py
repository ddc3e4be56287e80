"""Tasks: what recipes are for. A task names the slots of its recipes and makes the job of a filled one.

Another task (``archsearch.registry.TASKS``, entry points ``archsearch.task``) has slots and a work of its own; recipes stay
as they are written.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from archsearch.jobs import JSON, ArtifactRef, InputError
from archsearch.recipes.ingredient import Slot

if TYPE_CHECKING:
    from archsearch.recipes.prepared import Prepared
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
        """The data that it is trained on: what was kept of that content, where it was; else as the recipe says.

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

    def keep(self, data: Any, prepared: Prepared) -> None:
        """Keep data, so that ``load`` finds them without network.

        Raises:
            InputError: that cannot be done for this task.
        """
        raise InputError(f"the task of work {self.work!r} cannot keep data: it has no `keep`, so its recipes need a network.")

    def shortest(self, recipe: Recipe, data: Any) -> tuple[Recipe, Any]:
        """A pinned recipe and data for a trial of it: few steps and images, and all else as it is, the parent's weights too.

        Raises:
            InputError: that cannot be done for this task.
        """
        raise InputError(f"the task of work {self.work!r} cannot try recipes out: it has no `shortest`.")
