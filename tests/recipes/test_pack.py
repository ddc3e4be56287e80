"""Packs: what was packed comes out, the same files give the same bytes, and a fault in any file of a pack is named."""

from __future__ import annotations

import io
import itertools
import json
import os
import shutil
import signal
import stat
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from archsearch.jobs import InputError, StoreDamaged, StoreUnavailable
from archsearch.recipes import pack_forms
from archsearch.recipes.pack import PackFile, check_pack, mark_pack, unpack, write_pack
from archsearch.recipes.pack_manifest import MANIFEST, Pack

FORMS = ["pack", "pack.tar", "pack.zip"]
CONTENT = {
    "a.yaml": b"recipe: 1\n",
    "data/train.npz": bytes(range(256)) * 20,
    "data/wheels/x-1.whl": b"PK\3\4 wheel",
    "empty": b"",
}


def files(place: Path) -> list[PackFile]:
    """One from memory, the others from files; in no order."""
    found = [PackFile("a.yaml", CONTENT["a.yaml"], "the run", "3")]
    for name in reversed(CONTENT):
        if name != "a.yaml":
            (place / name.replace("/", "_")).write_bytes(CONTENT[name])
            found.append(PackFile(name, place / name.replace("/", "_"), "https://host/x", "1.0"))
    return found


def read(path: Path) -> dict[str, bytes]:
    """What lies in a pack of any form, by the standard tools."""
    if path.is_dir():
        return {str(each.relative_to(path)): each.read_bytes() for each in path.rglob("*") if each.is_file()}
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    with tarfile.open(path) as tar:
        return {info.name: tar.extractfile(info).read() for info in tar.getmembers()}


def rewrite(path: Path, content: dict[str, bytes]) -> None:
    """The same pack with other content, as one who wants to deceive would write it."""
    if path.is_dir():
        shutil.rmtree(path)
        for name, payload in content.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(payload)
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, payload in content.items():
                archive.writestr(name, payload)
    else:
        with tarfile.open(path, "w") as tar:
            for name, payload in content.items():
                info = tarfile.TarInfo(name)
                info.size = len(payload)
                tar.addfile(info, io.BytesIO(payload))


@pytest.fixture(params=FORMS)
def packed(request, tmp_path) -> tuple[Path, Pack]:
    (tmp_path / "from").mkdir()
    path = tmp_path / request.param
    return path, write_pack(path, files(tmp_path / "from"), about={"recipe": "ab12", "share": 0.1})


def test_what_was_packed_comes_out(packed, tmp_path):
    path, pack = packed
    assert check_pack(path) == check_pack(path, pack.id) == unpack(path, tmp_path / "out", pack.id) == pack
    assert read(tmp_path / "out") == CONTENT and {**read(path)}.keys() == {*CONTENT, MANIFEST}
    manifest = json.loads(read(path)[MANIFEST])
    assert manifest["files"]["data/train.npz"] == {
        **{"sha256": pack.files["data/train.npz"].sha256, "size": 5120},
        **{"source": "https://host/x", "version": "1.0"},
    }
    assert manifest["about"] == {"recipe": "ab12", "share": 0.1}
    if path.suffix == ".zip":  # two that are written at once have the same date in any case
        assert {info.date_time for info in zipfile.ZipFile(path).infolist()} == {(1980, 1, 1, 0, 0, 0)}
    again = tmp_path / f"again{path.suffix}"
    os.utime(tmp_path / "from" / "empty", (1, 1))
    os.chmod(tmp_path / "from" / "empty", 0o600)
    assert write_pack(again, reversed(files(tmp_path / "from")), about={"share": 0.1, "recipe": "ab12"}) == pack
    assert read(again) == read(path) and (path.is_dir() or again.read_bytes() == path.read_bytes())


def test_a_fault_in_each_file_is_named(packed, tmp_path):
    path, pack = packed
    whole = read(path)
    for name, payload in whole.items():
        spoiled = bytearray(payload or b"x")
        spoiled[len(payload) // 2] ^= 1
        rewrite(path, {**whole, name: bytes(spoiled)})
        with pytest.raises(StoreDamaged, match=f"{name} was changed"):
            check_pack(path)
        rewrite(path, {**whole, name: payload[:-1] if payload else b"more"})
        with pytest.raises(StoreDamaged, match=f"{name} was changed"):
            unpack(path, tmp_path / "out")
        rewrite(path, {each: content for each, content in whole.items() if each != name})
        wanted = "has no manifest.json" if name == MANIFEST else f"{name} is missing"
        with pytest.raises((StoreDamaged, InputError), match=wanted):
            check_pack(path)
        rewrite(path, {**whole, f"{name}.more": b""})
        with pytest.raises(StoreDamaged, match=f"{name}.more was added"):
            check_pack(path)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".writing-*"))
    for word in (b"the run", b"ab12", b"1.0"):  # what no other part of the pack says again
        rewrite(path, {**whole, MANIFEST: whole[MANIFEST].replace(word, b"x" * len(word))})
        with pytest.raises(StoreDamaged, match=r"manifest.json was changed"):
            check_pack(path)
    rewrite(path, {**whole, "a.yaml": b"recipe: 2\n", "data/more": b"", MANIFEST: whole[MANIFEST]})
    with pytest.raises(StoreDamaged, match=r"data/more was added; a.yaml was changed"):
        check_pack(path)
    rewrite(path, whole)
    assert check_pack(path) == pack


def test_a_flipped_bit_anywhere_in_an_archives_files_is_caught(packed):
    """The bytes as they lie in the archive: its own checksums and ours."""
    path, _ = packed
    if path.is_dir():
        pytest.skip("a folder has no bytes of its own")
    whole = path.read_bytes()
    for name, payload in {**CONTENT, MANIFEST: read(path)[MANIFEST]}.items():
        if payload:
            at = whole.index(payload) + len(payload) // 2
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            with pytest.raises(StoreDamaged, match=f"{name} was changed"):
                check_pack(path)
    for cut in (whole[:at], whole[:100], b"", whole + b"more", whole + whole):  # at: in the manifest, the last file
        path.write_bytes(cut)
        with pytest.raises((StoreDamaged, InputError)):
            check_pack(path)


def test_a_mark_changes_no_id_and_nothing_else(packed, tmp_path):
    path, pack = packed
    before = read(path)
    marked = mark_pack(path, pack.id, {"figure": 0.1})
    assert marked == replace(pack, verified={"figure": 0.1}) == check_pack(path, pack.id)
    assert {**read(path), MANIFEST: b""} == {**before, MANIFEST: b""}
    assert mark_pack(path, pack.id, {"figure": 0.2}).id == pack.id and check_pack(path).verified == {"figure": 0.2}
    whole = read(path)
    rewrite(path, {**whole, MANIFEST: whole[MANIFEST].replace(b"0.2", b"0.3")})  # a mark by hand
    with pytest.raises(StoreDamaged, match=r"manifest.json was changed"):
        check_pack(path)
    rewrite(path, {**whole, "a.yaml": b"recipe: 2\n"})
    with pytest.raises(StoreDamaged, match=r"a.yaml was changed"):
        mark_pack(path, pack.id, {})
    rewrite(path, before)
    with pytest.raises(StoreDamaged, match="is another pack"):
        mark_pack(path, "0" * 64, {})
    assert read(path) == before and {each.name for each in tmp_path.iterdir()} == {"from", path.name}


def test_a_kill_while_marking_leaves_the_old_or_the_new_pack(packed):
    path, pack = packed
    found = []
    for moment in range(100):
        if (child := os.fork()) == 0:
            calls = itertools.count()
            for name in ("fsync", "replace", "rename"):
                setattr(os, name, dying(getattr(os, name), calls, moment))
            try:
                mark_pack(path, pack.id, {"moment": moment})
                os._exit(0)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        after = check_pack(path, pack.id).verified
        found.append(after)
        assert after in (None, {"moment": moment})
        if os.WIFEXITED(status):
            break
    assert os.WEXITSTATUS(status) == 0 and after == {"moment": moment} and found[0] is None and moment >= 3


def dying(function, count, moment):
    """Kills its process before the call of that number."""

    def call(*words, **named):
        if next(count) == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*words, **named)

    return call


def test_another_pack_that_agrees_with_itself_is_known_by_its_id(packed, tmp_path):
    path, pack = packed
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    other = write_pack(path, [PackFile("a.yaml", b"other", "somebody")])
    assert check_pack(path) == other
    with pytest.raises(StoreDamaged, match=f"its id is {other.id}, not {pack.id}"):
        check_pack(path, pack.id)


BAD = [
    "../out",
    "a/../../out",
    "/etc/out",
    "a//b",
    "./a",
    "a\\b",
    "c:a",
    "a\nb",
    "A.YAML",
    "a.yaml/b",
    "e\u0301",
    " a",
    "x" * 241,
]


@pytest.mark.parametrize("bad", BAD)
def test_a_path_that_leaves_the_pack_is_refused(bad, tmp_path):
    entries = [PackFile("a.yaml", b"1", "x"), PackFile(bad, b"2", "x")]
    for form in FORMS:
        with pytest.raises(InputError, match="refused"):
            write_pack(tmp_path / form, entries)
    assert not list(tmp_path.iterdir())
    for form in FORMS[1:]:  # as a stranger's tools would write it
        write_pack(tmp_path / form, entries[:1])
        rewrite(tmp_path / form, {**read(tmp_path / form), bad: b"2"})
        with pytest.raises(InputError, match="refused"):
            unpack(tmp_path / form, tmp_path / "deep" / "out")
    assert {path.name for path in tmp_path.rglob("*")} == {*FORMS[1:], "deep"}


def test_links_and_devices_are_refused(tmp_path):
    for form in FORMS:
        write_pack(tmp_path / form, [PackFile("a", b"1", "x"), PackFile("b", b"1", "x")])
    (tmp_path / "pack" / "b").unlink()
    (tmp_path / "pack" / "b").symlink_to("a")
    with tarfile.open(tmp_path / "pack.tar", "a") as tar:
        info = tarfile.TarInfo("b")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    with zipfile.ZipFile(tmp_path / "pack.zip", "a") as archive:
        entry = zipfile.ZipInfo("c")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    for form in FORMS:
        with pytest.raises(InputError, match="is a link"):
            unpack(tmp_path / form, tmp_path / "out")
    (tmp_path / "pack" / "b").unlink()
    os.mkfifo(tmp_path / "pack" / "b")  # nobody ever writes to it
    with pytest.raises(InputError, match="'b' is no plain file"):
        check_pack(tmp_path / "pack")
    (tmp_path / "pack" / "b").unlink()
    (tmp_path / "pack" / "b").write_bytes(b"1")
    (tmp_path / "pack" / "void").mkdir()
    with pytest.raises(InputError, match="'void/' is an empty folder"):
        check_pack(tmp_path / "pack")
    with zipfile.ZipFile(tmp_path / "pack.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", b"0" * 1_000_000)
    with pytest.raises(InputError, match="'a' is compressed"):
        check_pack(tmp_path / "pack.zip")


def test_archives_that_their_readers_choke_on_are_refused(tmp_path):
    for name in ("sparse.tar", "name.zip", "patched.zip"):
        write_pack(tmp_path / name, [PackFile("a", b"1", "x")])
    with tarfile.open(tmp_path / "sparse.tar", "a") as tar:
        info = tarfile.TarInfo("b")
        info.pax_headers = {"GNU.sparse.map": "x,y"}
        tar.addfile(info)
    whole = (tmp_path / "name.zip").read_bytes()
    named = whole[:6] + b"\0\x08" + whole[8:30] + b"\xff" + whole[31:]  # a name that says it is UTF-8, and is not
    (tmp_path / "name.zip").write_bytes(named)
    at = whole.index(b"PK\1\2") + 8
    (tmp_path / "patched.zip").write_bytes(whole[:at] + b"\x20" + whole[at + 1 :])  # patches, which zipfile cannot read
    deep = tmp_path / "deep"
    write_pack(deep, [PackFile("a", b"1", "x")])
    here = os.open(deep, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=here)
        here, above = os.open("d", os.O_RDONLY, dir_fd=here), here
        os.close(above)
    os.close(here)
    try:
        for name in ("sparse.tar", "name.zip", "patched.zip", "deep"):
            with pytest.raises((StoreDamaged, InputError), match=name):
                check_pack(tmp_path / name)
    finally:
        os.system(f"rm -rf {deep}")  # Python's own way to remove it would not come back, either


def test_a_pack_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    entries = [PackFile("a", b"1", "x"), PackFile("z", tmp_path / "none", "x")]
    for form in FORMS:
        with pytest.raises(InputError, match="z: there is no file"):
            write_pack(tmp_path / form, entries)
        with monkeypatch.context() as patch:
            patch.setattr(pack_forms.os, "fsync", full)
            with pytest.raises(StoreUnavailable, match="No space left"):
                write_pack(tmp_path / form, entries[:1])
        (tmp_path / form).write_bytes(b"mine")
        with pytest.raises(InputError, match="exists already"):
            write_pack(tmp_path / form, entries[:1])
        assert (tmp_path / form).read_bytes() == b"mine"
        (tmp_path / form).unlink()
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="no such pack"):
        check_pack(tmp_path / "none")


def full(descriptor: int) -> None:
    raise OSError(28, "No space left on device")
