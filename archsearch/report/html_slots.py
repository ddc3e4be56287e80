"""What ``report.html`` knows of a run's course: hypervolume over compute, and which slot did what when."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence

import numpy as np

from archsearch.frontier import hypervolume, pareto_front
from archsearch.jobs import JSON, JobState
from archsearch.report.view import FrontierView, quantity
from archsearch.store import JobRecord, RunState

#: Bars and lanes beyond these are left out, and the page says how many.
MOST_BARS, MOST_LANES = 4000, 64
#: A pause in which no job ran (between two sessions) is cut short if it is longer than this share of all busy time.
PAUSE_SHARE = 0.1


def compute_data(view: FrontierView, state: RunState) -> dict[str, JSON]:
    """``hypervolume``: [[device seconds, share], ...], a step at each point that raised it.

    The share is that of the box between the pool's cheapest cost and no error, and the reference: 5 % of the (logarithmic)
    range of costs beyond the dearest, and the largest error. Compute counts what all jobs held their slots for, failed
    attempts too, up to the moment when the point joined the pool.
    """
    if not view.points:
        return {"hypervolume": [], "hypervolumeReference": "", "deviceSeconds": state.device_seconds}
    index_of = {point.id: index for index, point in enumerate(view.points)}
    logarithmic = bool(view.costs.min() > 0)
    costs = np.log10(view.costs) if logarithmic else view.costs
    low, high = float(costs.min()), float(costs.max())
    bound = high + 0.05 * (high - low or 1.0)
    worst = float(view.scores.max()) or 1.0  # as the search saw them
    cells = np.column_stack([(costs - low) / (bound - low), view.scores / worst])
    spent, value = 0.0, 0.0
    steps: list[list[float]] = [[0.0, 0.0]]
    front = np.empty((0, 2))
    for record in sorted(state.jobs.values(), key=lambda record: (record.finished or math.inf, record.job.id)):
        spent += record.device_seconds
        index = index_of.get(record.job.id)
        if index is None or (front.size and bool((front <= cells[index]).all(axis=1).any())):
            continue
        front = np.vstack([front, cells[index]])
        front = front[pareto_front(front)]
        value = hypervolume(front, [1.0, 1.0])
        steps.append([spent, value])
    steps.append([spent, value])
    dearest = 10**bound if logarithmic else bound
    reference = f"{quantity(dearest)} {view.cost}, {100 * worst:.3g} % error"
    return {"hypervolume": steps, "hypervolumeReference": reference, "deviceSeconds": spent}


def slots_data(state: RunState) -> dict[str, JSON]:
    """``lanes`` (names of nodes) and ``bars``: [job, stage, lane, start, end, state, attempts, parent], times in seconds.

    The store keeps no slot numbers: jobs of a node are laid into as few lanes as their times allow, each into the lane that
    was free first; one that was given up before its node was known goes to the node with that lane. ``pauses`` says where time
    was cut: [at, seconds left out].
    """
    now = max((t for r in state.jobs.values() for t in (r.started, r.finished) if t is not None), default=0.0)
    spans = [(*span, record) for record in state.jobs.values() if (span := _span(record, now)) is not None]
    spans.sort(key=lambda item: (item[0], item[2].job.id))
    shown = spans[-MOST_BARS:]
    moved, pauses = _squeezed([(start, end) for start, end, _ in shown])
    free: dict[str, list[tuple[float, int]]] = {}
    lanes: list[str] = []
    bars: list[list[JSON]] = []
    for (start, end), (_, _, record) in zip(moved, shown, strict=True):
        node = record.node or _freest(free)
        job, idle = record.job, free.setdefault(node, [])
        if idle and idle[0][0] <= start + 0.05:  # a commit may note the next start a moment before the last end
            _, lane = heapq.heappop(idle)
        else:
            lane = len(lanes)
            lanes.append(node)
        heapq.heappush(idle, (end, lane))
        bars.append([job.id, str(job.stage), lane, start, end, str(record.state), record.attempts, job.parent])
    order = sorted(range(len(lanes)), key=lambda lane: (lanes[lane], lane))
    place = {lane: position for position, lane in enumerate(order)}
    kept = [[*bar[:2], place[bar[2]], *bar[3:]] for bar in bars if place[bar[2]] < MOST_LANES]
    busy, total = sum(end - start for start, end in moved), max((end for _, end in moved), default=0.0)
    return {
        "lanes": [lanes[lane] for lane in order[:MOST_LANES]],
        "bars": kept,
        "pauses": pauses,
        "span": total,
        "busyShare": busy / (total * len(lanes)) if total and lanes else 0.0,
        "slotsSeen": len(lanes),
        "jobsLeftOut": len(spans) - len(kept),
        "jobs": {str(state_): count for state_, count in state.counts.items() if count},
    }


def _freest(free: Mapping[str, Sequence[tuple[float, int]]]) -> str:
    """The node with the lane that was free first: for an attempt that was given up, and never said where it ran."""
    return min(((idle[0][0], node) for node, idle in free.items() if idle), default=(0.0, ""))[1]


def _span(record: JobRecord, now: float) -> tuple[float, float] | None:
    """When the job's last attempt held a slot; a job that waits for another attempt holds none."""
    if record.started is None or (record.finished is None and record.state is not JobState.RUNNING):
        return None
    end = now if record.finished is None else record.finished
    return record.started, max(end, record.started)


def _squeezed(spans: Sequence[tuple[float, float]]) -> tuple[list[tuple[float, float]], list[list[float]]]:
    """The spans (by start) counted from the first, with long pauses cut to a hundredth of the busy time."""
    covered: list[list[float]] = []
    for start, end in spans:
        if covered and start <= covered[-1][1]:
            covered[-1][1] = max(covered[-1][1], end)
        else:
            covered.append([start, end])
    busy = sum(end - start for start, end in covered)
    longest, short = PAUSE_SHARE * busy, 0.01 * busy
    starts, shifts = [], []
    shift = covered[0][0] if covered else 0.0
    pauses: list[list[float]] = []
    for i, (start, _) in enumerate(covered):
        pause = start - covered[i - 1][1] if i else 0.0
        if pause > max(longest, 1.0):
            pauses.append([covered[i - 1][1] - shift + short / 2, pause])
            shift += pause - short
        starts.append(start)
        shifts.append(shift)
    places = np.searchsorted(starts, [start for start, _ in spans], side="right") - 1
    return [(s - shifts[i], e - shifts[i]) for (s, e), i in zip(spans, places, strict=True)], pauses
