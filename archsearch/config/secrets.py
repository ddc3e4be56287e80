"""Which values are secrets, by the name of their key and by their look; what is shown to people holds a mask instead."""

from __future__ import annotations

import re
from typing import Any

MASK = "***"

_NAME = re.compile(
    r"(?:^|[_\-.])(?:token|password|passwd|passphrase|secret|credentials?|auth|(?:api|access|private|secret)[_\-]?key)(?:$|[_\-.])",
    re.IGNORECASE,
)
_USER_INFO = re.compile(r"(?P<scheme>[A-Za-z][\w+.\-]*://[^/\s:@]*):[^/\s@]+@")
_QUERY = re.compile(
    r"(?P<key>[?&](?:token|password|secret|signature|sig|(?:api|access|secret)[_\-]?key)=)[^&#\s]+", re.IGNORECASE
)


def is_secret_name(name: str) -> bool:
    """Whether a key or an environment variable of that name holds a secret: ``token``, ``db_password``, ``AWS_ACCESS_KEY``."""
    return _NAME.search(name) is not None


def mask_text(text: str) -> str:
    """The text with the password of ``scheme://user:password@host`` and the values of secret query parameters masked."""
    return _QUERY.sub(rf"\g<key>{MASK}", _USER_INFO.sub(rf"\g<scheme>:{MASK}@", text))


def masked(value: Any, name: str = "") -> Any:
    """A copy of plain values with secrets replaced by a mask; empty ones are left, since there is nothing to hide."""
    if is_secret_name(name) and value not in (None, "", [], {}):
        return MASK
    if isinstance(value, dict):
        return {key: masked(child, str(key)) for key, child in value.items()}
    if isinstance(value, list):
        return [masked(child) for child in value]
    return mask_text(value) if isinstance(value, str) else value
