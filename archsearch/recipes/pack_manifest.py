"""What the manifest of a pack says, and its one text."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from archsearch.jobs import JSON, StoreDamaged
from archsearch.recipes.pack_forms import DAMAGED, Member

FORMAT = "archsearch pack 1"
MANIFEST = "manifest.json"
#: A manifest is read whole: it has some 200 bytes for each file.
MOST_BYTES = 64 << 20

_SHA256 = re.compile(r"[0-9a-f]{64}")
_KEYS = {"sha256", "size", "source", "version"}


@dataclass(frozen=True, slots=True)
class Entry:
    """What the manifest says of a file."""

    sha256: str
    size: int
    source: str
    version: str


@dataclass(frozen=True)
class Pack:
    """What a manifest says. ``id`` is the SHA-256 of its text without the mark: who knows it knows every byte that was packed.

    ``verified`` is the mark that a verification has left: what it found, where. It names no file and changes no id, and is no
    more than what somebody says: who wants to know verifies the pack again.
    """

    id: str
    about: Mapping[str, JSON]
    files: Mapping[str, Entry]
    verified: Mapping[str, JSON] | None = None


def manifest_of(pack: Pack) -> bytes:
    """The one text of a manifest. Its ``seal`` is the SHA-256 of the text without: a fault in the manifest is seen, too."""
    return _sealed(_unmarked(pack.about, pack.files) | ({} if pack.verified is None else {"verified": pack.verified}))


def id_of(about: Mapping[str, JSON], files: Mapping[str, Entry]) -> str:
    return hashlib.sha256(_sealed(_unmarked(about, files))).hexdigest()


def read_manifest(path: Path, member: Member) -> Pack:
    """
    Raises:
        StoreDamaged: it is not as `manifest_of` writes it.
    """
    found: Pack | None = None
    try:
        with member.open() as stream:
            text = stream.read(MOST_BYTES + 1)
        data = json.loads(text)
        files = {str(name): _entry(entry) for name, entry in data["files"].items()}
        verified = data.get("verified")
        if data["format"] == FORMAT and isinstance(data["about"], dict) and isinstance(verified, dict | None):
            found = Pack(id_of(data["about"], files), data["about"], files, verified)
    except (*DAMAGED, TypeError, KeyError, AttributeError):
        pass
    if found is None or manifest_of(found) != text:
        raise StoreDamaged(f"{path}: {MANIFEST} was changed: it is not as archsearch writes one. Get the pack again.")
    return found


def _unmarked(about: Mapping[str, JSON], files: Mapping[str, Entry]) -> dict[str, JSON]:
    return {"format": FORMAT, "about": about, "files": {name: asdict(entry) for name, entry in files.items()}}


def _sealed(data: dict[str, JSON]) -> bytes:
    return _text({**data, "seal": hashlib.sha256(_text(data)).hexdigest()})


def _text(data: Mapping[str, JSON]) -> bytes:
    return (json.dumps(data, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def _entry(data: Mapping[str, JSON]) -> Entry:
    if set(data) != _KEYS or not _SHA256.fullmatch(data["sha256"]) or type(data["size"]) is not int or data["size"] < 0:
        raise ValueError(data)
    return Entry(data["sha256"], data["size"], str(data["source"]), str(data["version"]))
