"""Where archsearch keeps what is not a user's own work."""

from __future__ import annotations

import os
from pathlib import Path

from archsearch.jobs import InputError


def cache_folder() -> Path:
    """Where that is kept which may be deleted: ``ARCHSEARCH_CACHE``, or ``archsearch`` in ``XDG_CACHE_HOME`` or ``~/.cache``.

    Raises:
        InputError: nobody knows where this user's home is.
    """
    named, shared = os.environ.get("ARCHSEARCH_CACHE", ""), os.environ.get("XDG_CACHE_HOME", "")
    try:
        return Path(named or (Path(shared) if os.path.isabs(shared) else Path.home() / ".cache") / "archsearch").absolute()
    except RuntimeError as error:
        raise InputError(f"there is no place for a cache ({error}): set ARCHSEARCH_CACHE to a folder") from error
