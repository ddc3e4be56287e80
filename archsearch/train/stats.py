"""TensorWatch's figures of a model, for the TSV files of a run."""

from __future__ import annotations

import warnings

from archsearch.arch import Architecture
from archsearch.arch.build import build
from archsearch.jobs import JSON

#: Key in the result -> attribute of ``tensorwatch.ModelStats``. Counts are for one image; TensorWatch counts multiply-adds and
#: flops in its own way. ``duration`` is in seconds, ``inference_memory`` in MiB, ``mread`` and ``mwrite`` in bytes.
FIELDS = {
    "MAdd": "MAdd",
    "flops": "Flops",
    "duration": "duration",
    "mread": "mread",
    "mwrite": "mwrite",
    "inference_memory": "inference_memory",
    "parameters": "parameters",
}


def tensorwatch_stats(arch: Architecture) -> dict[str, JSON]:
    """The figures under the keys of ``FIELDS``; or all None and ``reason`` if TensorWatch is not there or cannot cope.

    They are extra figures of a finished training, which must not fail over them.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import tensorwatch  # nearly 3 s: only where its figures are wanted

            stats = tensorwatch.ModelStats(build(arch, seed=0), [1, *arch.input], clone_model=False)
        return {key: float(getattr(stats, name)) for key, name in FIELDS.items()}
    except Exception as error:
        return {**dict.fromkeys(FIELDS), "reason": f"{type(error).__name__}: {error}"}
