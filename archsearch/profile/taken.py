"""What was taken of one subject, and the profile that comes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from archsearch.jobs import JSON, ArchsearchError
from archsearch.profile.environment import fingerprint
from archsearch.profile.measurement import Measurement, Profile
from archsearch.profile.sampling import summarise, width
from archsearch.profile.settings import Settings


@dataclass
class Taken:
    """What was taken of one subject: for each process its blocks of runs, and what was seen beside them."""

    launches: list[list[list[float]]] = field(default_factory=list)
    energy: list[list[list[float]]] = field(default_factory=list)
    seconds: float = 0.0
    waited: float | None = 0.0  # seconds for which others held the cores, of all threads together
    ready: dict[str, JSON] = field(default_factory=dict)
    seen: list[dict[str, Any]] = field(default_factory=list)
    latency: Measurement | None = None
    spent: Measurement | None = None  # energy
    share: float | None = None  # of the cores' time that others held them
    because: tuple[str, ...] = ()  # why it is noisy

    def take(self, answers: Sequence[Mapping[str, Any]]) -> None:
        """Add what one process said of the subject."""
        blocks = [answer for answer in answers if answer["event"] == "block"]
        self.launches.append([answer["ms"] for answer in blocks])
        self.energy.append([[answer["energy_mj"]] for answer in blocks if answer["energy_mj"] is not None])
        for answer in blocks:
            self.seconds += answer["seconds"]
            self.waited = None if self.waited is None or answer["waited"] is None else self.waited + answer["waited"]
            self.seen.append({name: answer[name] for name in ("clock_mhz", "temperature")})
        for answer in answers:
            if answer["event"] == "ready":
                self.ready = {name: value for name, value in answer.items() if name not in ("event", "subject")}

    def judge(self, settings: Settings) -> None:
        """Work out the latency, the energy, and whether they can be relied on."""
        found = summarise(self.launches, "ms", settings.seed)
        because = []
        if width(found) > settings.width:
            because.append(f"the interval is {width(found):.1%} of the median wide, {settings.width:.1%} was asked for")
        self.share = None if self.waited is None else self.waited / (self.seconds * settings.threads)
        if self.share is not None and self._held(settings):
            because.append(f"others held its cores for {self.share:.1%} of the time")
        self.latency, self.because = replace(found, noisy=bool(because)), tuple(because)
        if all(self.energy):
            spent = summarise(self.energy, "mJ", settings.seed)
            if spent.median > 0:  # else the counter stands still
                self.spent = replace(spent, noisy=bool(because) or width(spent) > settings.width)

    def joined(self, more: Taken, settings: Settings) -> Taken:
        """What two measurements of a subject tell together: the runs of both, or those of the one in which others left the
        cores alone.

        Of two intervals the narrower one is the luckier one: chosen by its width it would hold another measurement's median
        less often than it says. With the runs of both it gets narrower, too, and stays honest.
        """
        if self._held(settings) != more._held(settings):
            return more if self._held(settings) else self
        waited = None if self.waited is None or more.waited is None else self.waited + more.waited
        launches, energy = [*self.launches, *more.launches], [*self.energy, *more.energy]
        both = Taken(launches, energy, self.seconds + more.seconds, waited, self.ready, [*self.seen, *more.seen])
        both.judge(settings)
        return both

    def _held(self, settings: Settings) -> bool:
        return self.share is not None and self.share > settings.busy

    @property
    def measured(self) -> Measurement:
        """The latency, once it has been judged."""
        if self.latency is None:
            raise ArchsearchError("a latency is asked for before it was judged")
        return self.latency

    def profile(self, runtime: str, version: int, memory: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> Profile:
        """All of it. ``memory`` is what each process that measured memory said; ``about`` what holds for the whole call."""
        clocks = [each["clock_mhz"] for each in self.seen if each["clock_mhz"] is not None]
        heat = [each["temperature"] for each in self.seen if each["temperature"] is not None]
        own: dict[str, JSON] = {
            **self.ready,
            "interval_width": width(self.measured),
            "noisy_because": list(self.because),
            "processes": len(self.launches),
            "waited_share": self.share,
            "clock_mhz": min(clocks, default=None),
            "temperature_c": max(heat, default=None),
            "baseline_memory_kib": min((each["baseline"] for each in memory), default=None),
        }
        return Profile(
            latency=self.measured,
            load_memory=_peak([each["load"] for each in memory], about["settings"]["width"]),
            run_memory=_peak([each["run"] for each in memory if each["apart"]], about["settings"]["width"]),
            energy=self.spent,
            runtime=runtime,
            fingerprint=fingerprint(about["environment"]),
            protocol=version,
            about={**own, **about},
        )


def _peak(values: Sequence[int], widest: float) -> Measurement | None:
    """One value of each process, in KiB. The least and the greatest of n values bound the median with 1 - 2 / 2**n."""
    if not values:
        return None
    found = summarise([[[float(value)]] for value in values], "KiB", 0)
    found = replace(found, low=float(min(values)), high=float(max(values)))
    return replace(found, noisy=width(found) > widest)
