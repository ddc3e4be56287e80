"""archsearch: neural architecture search on Ray, from a YAML file to a frontier of networks.

>>> import archsearch
>>> run = archsearch.search("confs/petridish_digits.yaml")
>>> run.frontier()
>>> model = run.load(run.frontier()[-1]["id"])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from archsearch.api import Evaluation as Evaluation
    from archsearch.api import Run as Run
    from archsearch.api import evaluate as evaluate
    from archsearch.api import export as export
    from archsearch.api import load_evaluation as load_evaluation
    from archsearch.api import load_run as load_run
    from archsearch.api import resume as resume
    from archsearch.api import search as search
    from archsearch.tracking import Callback as Callback

__all__ = ["Callback", "Evaluation", "Run", "evaluate", "export", "load_evaluation", "load_run", "resume", "search"]


def __getattr__(name: str) -> Any:
    # Loaded when first used: `import archsearch` and the command line's help stay fast.
    if name in __all__:
        from archsearch import api, tracking

        return getattr(tracking if name == "Callback" else api, name)
    raise AttributeError(f"module 'archsearch' has no attribute {name!r}")
