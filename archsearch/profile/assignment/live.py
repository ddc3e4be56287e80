"""Assignments measured on this machine or a device, by the protocol that every runtime goes through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from overrides import overrides

from archsearch.jobs import InputError
from archsearch.profile.assignment.driver import Problem
from archsearch.profile.assignment.encoding import Encoding, Mode, encode
from archsearch.profile.assignment.evaluation import Evaluation
from archsearch.profile.bench import Bench, Here
from archsearch.profile.graph import Described
from archsearch.profile.measurement import Profile
from archsearch.profile.models import Model
from archsearch.profile.protocol import PROTOCOL, Watch
from archsearch.profile.settings import Failed, Settings, Subject


class ModelProblem(Problem):
    """One model on one machine.

    Args:
        bench: where it is measured; default: here.
        backends: in the order of the digits; None takes all that the runtime has here.
        memory: whether it is part of what an assignment is worth. Without it all have the same, and no process measures it.
        watch: told of every step of a measurement; what it raises ends the measurement and passes.

    Raises:
        InputError: the runtime cannot be used, the model does not load, or there is no such backend.
    """

    def __init__(
        self,
        model: Model,
        runtime: str,
        backends: Sequence[str] | None = None,
        mode: Mode = "name",
        settings: Settings | None = None,
        bench: Bench | None = None,
        *,
        memory: bool = True,
        watch: Watch | None = None,
    ) -> None:
        self.bench = bench or Here()
        self.model, self.runtime, self.settings = model, runtime, settings or Settings()
        self.memory, self.watch = memory, watch
        if not memory:
            self.settings = replace(self.settings, memory_runs=0)
        elif self.settings.memory_runs < 1:
            raise InputError("memory_runs is 0; expected at least 1: an assignment's memory is half of what it is worth")
        found = self.bench.describe(model, runtime, self.settings)
        self.described, self.fingerprint, self.environment = found.described, found.fingerprint, found.environment
        self.encoding = encoding_of(self.described, backends, runtime, mode)
        threads = f"{self.settings.threads} threads, batch {self.settings.batch}"
        self.source = f"{model.name} by {runtime} on {self.fingerprint}, {threads}, protocol {PROTOCOL}"

    @overrides
    def evaluate(self, id_: int) -> Evaluation:
        return self.evaluate_all([id_])[0]

    def evaluate_all(self, ids: Sequence[int]) -> list[Evaluation]:
        """Several side by side: what drifts hits all alike, and processes are started for all at once.

        Raises:
            DeviceGone: measuring processes do not even start.
        """
        found = {id_: evaluation for id_ in ids if (evaluation := self._unsupported(id_)) is not None}
        rest = [id_ for id_ in ids if id_ not in found]
        if rest:
            subjects = [Subject(self.model, self.runtime, self.encoding.backends_of(id_)) for id_ in rest]
            measured = self.bench.measure(subjects, self.settings, watch=self.watch)
            found |= {id_: self._evaluation(id_, each) for id_, each in zip(rest, measured, strict=True)}
        return [found[id_] for id_ in ids]

    def _unsupported(self, id_: int) -> Evaluation | None:
        """An evaluation of what is known not to run, without starting anything."""
        for node, backend in enumerate(self.encoding.backends_of(id_)):
            if backend not in self.described.supported[node]:
                name = self.described.graph.nodes[node].name
                return Evaluation(id_, error=f"unsupported: operation {node} ({name}) does not run on {backend}")
        return None

    def _evaluation(self, id_: int, found: Profile | Failed) -> Evaluation:
        if isinstance(found, Failed):
            return Evaluation(id_, error=f"{found.kind}: {found.message}"[:500])
        time, memory = found.latency, found.run_memory
        if not self.memory:
            return Evaluation(id_, time.median, 0.0, (time.low, time.high))
        if memory is None:
            return Evaluation(id_, error="error: its memory could not be measured")
        return Evaluation(id_, time.median, memory.median, (time.low, time.high), (memory.low, memory.high))


def encoding_of(described: Described, backends: Sequence[str] | None, runtime: str, mode: Mode) -> Encoding:
    """The encoding of a model on some of a runtime's backends.

    Raises:
        InputError: the runtime has no such backend here.
    """
    chosen = tuple(backends) if backends is not None else described.backends
    if unknown := [name for name in chosen if name not in described.backends]:
        there = ", ".join(described.backends)
        raise InputError(f"the runtime {runtime!r} has no backend {unknown[0]!r} here; it has {there}")
    return encode(described.graph, chosen, mode)
