"""What travels with a submitted search, and how its supervisor on the cluster's head finds it again.

The configuration goes along as text in the job's metadata, complete and without secrets: variables with secret names stay
``${VAR}`` and are read where Ray was started.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from archsearch.config import Config, portable_text
from archsearch.jobs import InputError

#: What the head runs: in the environment in which Ray was started there, and in that folder.
ENTRY_POINT = "exec archsearch supervise --submitted"

#: Where Ray tells a job's process of its metadata.
_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"

#: The metadata's key, and the most characters there: they pass through one environment variable.
_KEY, MOST_TEXT = "archsearch", 64_000

#: Seconds, besides cluster.grace, that a search may take to end in order: the last commit and the report.
TO_END = 45


@dataclass(frozen=True, slots=True)
class Submission:
    """One search for a cluster. ``folder`` is the run's, as the head sees it; ``version`` is the client's archsearch."""

    name: str
    folder: str
    config: str
    grace: float
    version: str

    @property
    def run(self) -> str:
        """Names the run among the cluster's jobs: two submissions with this name are of the same run."""
        return f"{re.sub(r'[^A-Za-z0-9_.-]', '_', self.name)}-{hashlib.sha256(self.folder.encode()).hexdigest()[:8]}"

    def metadata(self) -> dict[str, str]:
        return {_KEY: json.dumps(asdict(self))}


def submission(config: Config, run_dir: str | None) -> Submission:
    """A checked configuration made ready to travel.

    Args:
        run_dir: the run's folder on the cluster; default: its name below ``run.dir``. What is relative begins in the folder
            in which Ray was started on the head.

    Raises:
        InputError: a secret stands in it, or it is too long.
    """
    section = config["run"]
    folder = posixpath.normpath(run_dir or posixpath.join(section.dir, section.name))
    text = portable_text(config)
    if len(text) > MOST_TEXT:
        raise InputError(f"the configuration has {len(text)} characters; at most {MOST_TEXT} travel with a job.")
    return Submission(posixpath.basename(folder), folder, text, config["cluster"].grace, version("archsearch"))


def from_metadata(metadata: Mapping[str, Any] | None) -> Submission | None:
    """The submission of a job with this metadata, or None if it is no search of ours."""
    try:
        return Submission(**json.loads((metadata or {})[_KEY]))
    except (KeyError, TypeError, ValueError):
        return None


def from_environment(environment: Mapping[str, str]) -> Submission:
    """The submission that this process was started for.

    Raises:
        InputError: it was not.
    """
    try:
        found = from_metadata(json.loads(environment[_VARIABLE])["metadata"])
    except (KeyError, TypeError, ValueError):
        found = None
    if found is None:
        raise InputError("--submitted is for jobs that `archsearch submit` made; name a configuration instead.")
    return found
