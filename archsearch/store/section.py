"""The ``run`` section of a configuration: what the run is called and where its files lie."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from archsearch.config import Section


class RunSection(Section):
    """Name, place and seed of a run."""

    name: str | None = None
    """Folder name of the run below `dir`; none: made from the configuration's name and the time."""
    dir: str = Field("runs", min_length=1)
    """Folder that holds the runs; on a local disk, because SQLite needs its locks."""
    seed: int = Field(0, ge=0, lt=2**63)
    """All random choices of the run derive from it."""
    store: str | None = Field(None, min_length=1)
    """PostgreSQL database that holds the event log, postgresql://user:password@host/database, best written as
    ${ARCHSEARCH_STORE}: later commands look there; none: a SQLite file in the run's folder."""
    artifacts: str | None = Field(None, min_length=1)
    """Where weights and checkpoints go: a folder or an fsspec URL (s3://bucket/prefix); none: the run's folder. Credentials
    come from the environment of each process (AWS_ACCESS_KEY_ID..., AWS_ENDPOINT_URL) and are never stored."""
    keep: Literal["frontier", "pool", "all"] = "all"
    """Whose weights are kept: the points on frontier and in band, with what these were grown from; every point's; or all, also
    what search tasks learned. Nothing goes that a waiting or running job needs."""

    @field_validator("store")
    @classmethod
    def _store_is_postgresql(cls, store: str | None) -> str | None:
        if store is not None and not re.match(r"postgres(ql)?://[^/]*/[^/?]+", store):
            raise ValueError("must be the URL of a PostgreSQL database: postgresql://user:password@host:5432/database")
        return store

    @field_validator("artifacts")
    @classmethod
    def _artifacts_is_one_place(cls, artifacts: str | None) -> str | None:
        if artifacts is not None and ("::" in artifacts or re.match(r"[^/]*://[^/]*@", artifacts)):
            raise ValueError("must be a folder or one URL such as s3://bucket/prefix, with credentials in the environment")
        return artifacts

    @field_validator("name")
    @classmethod
    def _name_is_one_folder(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
            raise ValueError("must be one folder's name: letters, digits, '_', '-' and '.', not starting with '.' or '-'")
        return name
