"""What share of a GPU a job gets that asks for ``gpu: auto``."""

from __future__ import annotations

from archsearch.jobs import Job
from archsearch.train.memory import device_memory

#: Jobs on one GPU at most: more of them only take turns.
MOST = 8

#: Share of a GPU's memory that jobs are given; the rest is the driver's, and lost between blocks.
USABLE = 0.92


def share(job: Job, memory: int, data: int) -> float:
    """The share of a GPU with so many bytes of memory that a job needs: 1/n, where n such jobs fit beside one another.

    A work whose needs are not known has the GPU to itself, and so has every job where the GPU's memory is not known (0).

    Args:
        data: bytes of the data set.
    """
    needed = device_memory(job.work, job.spec, data)
    if needed is None:
        return 1.0
    number = min(MOST, max(1, int(USABLE * memory / needed)))
    return int(10_000 / number) / 10_000
