"""Python's garbage collector and a run's history, which only grows and holds no cycles.

Looking through all of it again and again took a third of the driver's time.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

#: Events after which a living run calls ``settle``.
OFTEN = 2000


def settle() -> None:
    """Take all that lives now out of the collector's sight, until ``release``."""
    gc.collect(1)
    gc.freeze()


def release() -> None:
    """Let the collector look at everything again."""
    gc.unfreeze()


@contextmanager
def paused() -> Iterator[None]:
    """While a history is read; what it became is out of sight afterwards, as after ``settle``."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.freeze()
            gc.enable()
