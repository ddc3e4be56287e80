"""Contract suites that every implementation of a face must pass, for this package's own and for those of plug-in authors.

>>> from archsearch.testing import RuntimeContract
>>> class TestMine(RuntimeContract):
...     name = "mine"

in a file of tests, and pytest runs the suite on the runtime that is registered as "mine".
"""

from archsearch.testing.estimators import EstimatorContract
from archsearch.testing.runtimes import RuntimeContract

__all__ = ["EstimatorContract", "RuntimeContract"]
