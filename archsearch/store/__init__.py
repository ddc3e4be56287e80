"""The event log, artifacts and the state that they amount to; the only room with SQL."""

from archsearch.store.artifacts import Artifacts
from archsearch.store.create import create_run
from archsearch.store.lease import Driver
from archsearch.store.log import DuplicateResult, SqlStore, StoredRun, open_store, read_run
from archsearch.store.paths import RunFolder, list_runs
from archsearch.store.reader import IncompleteRun
from archsearch.store.schema import canonical, plain
from archsearch.store.state import ENDED, JobRecord, Point, RunState

__all__ = [
    "ENDED",
    "Artifacts",
    "Driver",
    "DuplicateResult",
    "IncompleteRun",
    "JobRecord",
    "Point",
    "RunFolder",
    "RunState",
    "SqlStore",
    "StoredRun",
    "canonical",
    "create_run",
    "list_runs",
    "open_store",
    "plain",
    "read_run",
]
