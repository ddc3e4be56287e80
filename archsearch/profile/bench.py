"""Where models are measured: in processes of this machine, or (``archsearch.cluster.device_bench``) on a device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from overrides import overrides

from archsearch.jobs import JSON
from archsearch.profile.cache import measure_cached, own_cache
from archsearch.profile.graph import Described
from archsearch.profile.measurement import Profile
from archsearch.profile.models import Model
from archsearch.profile.protocol import Watch, describe, device_environment
from archsearch.profile.settings import Failed, Settings, Subject


@dataclass(frozen=True)
class Description:
    """A model as a runtime sees it there; and what "there" is: a `Profile`'s fingerprint, and what that was made from."""

    described: Described
    fingerprint: str
    environment: Mapping[str, JSON]


class Bench(ABC):
    """A place where models are measured. All methods raise ``InputError`` for what does not fit, before anything is measured,
    and ``DeviceGone`` when nothing can be measured there at all."""

    @abstractmethod
    def describe(self, model: Model, runtime: str, settings: Settings) -> Description:
        """A model's operations, and the backends that can run each."""

    @abstractmethod
    def measure(
        self, subjects: Sequence[Subject], settings: Settings, *, watch: Watch | None = None, fresh: bool = True
    ) -> list[Profile | Failed]:
        """Measure subjects side by side; a result for each, in their order.

        Args:
            fresh: measure all of them, whatever is known from before; else what is known of an architecture there is not
                measured again. What is measured of one is kept there.
        """


class Here(Bench):
    """This machine."""

    @overrides
    def describe(self, model: Model, runtime: str, settings: Settings) -> Description:
        return Description(describe(model, runtime, settings), *device_environment(runtime, settings))

    @overrides
    def measure(
        self, subjects: Sequence[Subject], settings: Settings, *, watch: Watch | None = None, fresh: bool = True
    ) -> list[Profile | Failed]:
        return measure_cached(subjects, settings, watch=watch, cache=own_cache(), fresh=fresh)
