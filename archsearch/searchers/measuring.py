"""What a search has measured on devices, and what is to be measured next: a fold over jobs of the stage PROFILE.

Each device has a queue of its own, and points wait in the order of their training; nothing else waits for a device. The same
architecture is measured once on a device, whatever becomes of it: trained on, it is the same still.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from archsearch.jobs import JSON, Job, Stage
from archsearch.measured import QUEUE, Answer, Answers, parse_objective

#: Points that are named of those without a measurement.
MOST_NAMED = 5


class Measurements:
    """``asked`` counts the jobs, ``gave_up`` says why no more are asked for, if so."""

    def __init__(self, objectives: Sequence[str]) -> None:
        """
        Args:
            objectives: what is measured of every point, such as ``latency_ms@pi4``.
        """
        self.objectives = tuple(dict.fromkeys(objectives))
        self.devices = tuple(dict.fromkeys(parse_objective(name).device for name in self.objectives))
        self.asked = 0
        self.gave_up: str | None = None
        self._answers = Answers()
        self._hashes: dict[int, str] = {}  # by point
        self._points: dict[str, list[int]] = {}  # by hash
        self._wanted: dict[str, dict[str, int]] = {device: {} for device in self.devices}  # hash -> point, in order
        self._open: set[tuple[str, str]] = set()  # hash and device of the jobs that were asked for

    # ------------------------------------------------------------------------------------------------------------- next
    @property
    def awaited(self) -> bool:
        """Whether any measurement is still to come."""
        return bool(self._open) or (self.gave_up is None and any(self._wanted.values()))

    def next(self, device: str) -> int | None:
        """The point to be measured next on a device, or None.

        What an earlier run may have measured waits until the device has told what it is, and is then perhaps known.
        """
        if self.gave_up is not None:
            return None
        busy = any(device == other for _, other in self._open)
        for hash_, point in self._wanted[device].items():
            if not (busy and self._answers.may_know(hash_, device)):
                return point
        return None

    def pending(self) -> set[int]:
        """Points of which a device may still tell something, now or when the run goes on."""
        hashes = {hash_ for hash_, _ in self._open}.union(*self._wanted.values())
        for hash_ in self._points.keys() - hashes:
            if any(answer.again for _, answer in self._answers.all_of(hash_, self.devices)):
                hashes.add(hash_)
        return {point for hash_ in hashes for point in self._points[hash_]}

    def lacking(self) -> Iterator[tuple[str, str, list[int]]]:
        """Objective, reason and points, for all that has no measurement and gets none any more."""
        for name in self.objectives:
            device = parse_objective(name).device
            found: dict[str, list[int]] = {}
            for hash_, points in self._points.items():
                answer = self._answers.of(hash_, device)
                if answer is not None and name in answer.lacking:
                    found.setdefault(answer.lacking[name], []).extend(points)
                elif answer is None and self.gave_up is not None and (hash_, device) not in self._open:
                    found.setdefault(self.gave_up, []).extend(points)
            yield from ((name, reason, sorted(points)) for reason, points in found.items())

    def words(self) -> Iterator[str]:
        """``lacking`` for people: of many points the first."""
        for name, why, points in self.lacking():
            shown = ", ".join(map(str, points[:MOST_NAMED]))
            more = f" and {len(points) - MOST_NAMED} more" if len(points) > MOST_NAMED else ""
            yield f"without {name}: point{'s' * (len(points) != 1)} {shown}{more} ({why})"

    # ------------------------------------------------------------------------------------------------------------- fold
    def trained(self, point: int, hash_: str, earlier: Sequence[Mapping[str, JSON]] = ()) -> list[Answer]:
        """Take a trained point, perhaps with what an earlier run had measured of it; what is known of it already."""
        if not self.devices:
            return []
        self._hashes[point] = hash_
        self._points.setdefault(hash_, []).append(point)
        if earlier:
            self._answers.imported(hash_, earlier)
        known = dict(self._answers.all_of(hash_, self.devices))
        for device in self.devices:
            if device not in known and (hash_, device) not in self._open:
                self._wanted[device].setdefault(hash_, point)
        return list(known.values())

    def take_asked(self, job: Job) -> None:
        """Take a job that was asked for."""
        hash_, device = self._key(job)
        self.asked += 1
        self._wanted[device].pop(hash_, None)
        self._open.add((hash_, device))

    def told(self, job: Job, metrics: Mapping[str, JSON]) -> list[tuple[int, Answer]]:
        """Take a device's answer: what is known now of which points."""
        hash_, device = self._key(job)
        self._open.discard((hash_, device))
        answer = self._answers.told(hash_, device, metrics)
        found = [(point, answer) for point in self._points[hash_]]
        for other in list(self._wanted[device]):  # the first answer tells what the device is
            if (known := self._answers.of(other, device)) is not None:
                del self._wanted[device][other]
                found += [(point, known) for point in self._points[other]]
        return found

    def ended(self, job: Job, data: Mapping[str, JSON]) -> list[tuple[int, Answer]]:
        """Take that a job came to nothing, as the event's data say."""
        hash_, device = self._key(job)
        self._open.discard((hash_, device))
        answer = self._answers.failed(hash_, device, data)
        return [(point, answer) for point in self._points[hash_]]

    def resumed(self) -> None:
        """A session begins: devices that did not answer may do now."""
        self.gave_up = None
        for device in self.devices:
            for hash_, points in self._points.items():
                answer = self._answers.of(hash_, device)
                if answer is not None and answer.again:
                    self._answers.forget(hash_, device)
                    self._wanted[device].setdefault(hash_, points[0])

    def _key(self, job: Job) -> tuple[str, str]:
        assert job.stage is Stage.PROFILE and job.parent is not None
        return self._hashes[job.parent], job.queue.removeprefix(QUEUE)
