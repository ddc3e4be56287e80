"""The event log, artifacts and the state that they amount to; the only room with SQL."""

from archsearch.store.artifacts import Artifacts
from archsearch.store.chain import as_stored
from archsearch.store.create import create_run, refuse_present, refuse_unreachable
from archsearch.store.database import database_url
from archsearch.store.lease import TTL, Driver, this_host
from archsearch.store.log import DuplicateResult, SqlStore, StoredRun, open_store, read_run
from archsearch.store.paths import RunFolder, list_runs
from archsearch.store.reader import IncompleteRun
from archsearch.store.retention import Retention
from archsearch.store.state import ENDED, JobRecord, Point, RunState
from archsearch.store.text import canonical, plain

__all__ = [
    "ENDED",
    "TTL",
    "Artifacts",
    "Driver",
    "DuplicateResult",
    "IncompleteRun",
    "JobRecord",
    "Point",
    "Retention",
    "RunFolder",
    "RunState",
    "SqlStore",
    "StoredRun",
    "as_stored",
    "canonical",
    "create_run",
    "database_url",
    "list_runs",
    "open_store",
    "plain",
    "read_run",
    "refuse_present",
    "refuse_unreachable",
    "this_host",
]
