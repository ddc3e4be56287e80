"""The cache of measurements: what is found again, what is not, and what becomes of it under kills and damage."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import profile_models
import pytest
from profile_models import FLAWLESS, named, stand_in

from archsearch.arch import seed_architecture
from archsearch.jobs import Job, Stage
from archsearch.profile import cache as cache_module
from archsearch.profile import process
from archsearch.profile.bench import Here
from archsearch.profile.cache import Cache, measure_cached, own_cache
from archsearch.profile.environment import EnergyCounter
from archsearch.profile.kept import note_use, thin_out
from archsearch.profile.models import architecture_model
from archsearch.profile.settings import Failed, Subject
from archsearch.profile.work import profile

SHORT = replace(profile_models.SHORT, launches=1)
ARCH, OTHER = (seed_architecture((3, 8, 8), 10, cells=1, reductions=0, nodes=1, channels=n).to_json() for n in (4, 8))
SUBJECT, TWIN = Subject(architecture_model(ARCH)), Subject(architecture_model(OTHER))


class Counted:
    """What the stand-ins for measuring processes were asked for: the numbers of the subjects of each process."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "log"

    def body(self, rest: str) -> list[str]:
        note = f"open({str(self.log)!r}, 'a').write(str(len(request['numbers'])) + '\\n')\n"
        return stand_in(self.folder, note + FLAWLESS + rest)

    def processes(self) -> int:
        """How many were started since the last call."""
        found = len(self.log.read_text().splitlines()) if self.log.exists() else 0
        self.log.unlink(missing_ok=True)
        return found


@pytest.fixture
def counted(tmp_path, monkeypatch):
    made = Counted(tmp_path)
    body = "time_all(lambda number: [2.0 + number])\nsay('done')"
    monkeypatch.setattr(process, "command", lambda: made.body(body))
    monkeypatch.setenv("ARCHSEARCH_CACHE", str(tmp_path / "cache"))
    return made


def files(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "cache").rglob("*") if path.is_file())


def test_only_the_very_same_is_found_again(counted, tmp_path, monkeypatch):
    cache = own_cache()
    (first,) = measure_cached([SUBJECT], SHORT, cache=cache)
    assert counted.processes() > 0 and len(files(tmp_path)) == 1
    (again,) = measure_cached([SUBJECT], replace(SHORT, seed=9, repeats=5, patience=1.0, limit=9), cache=cache)
    made = again.about["cached"]
    assert counted.processes() == 0 and again == replace(first, about={**first.about, "cached": made})
    assert abs(made["at"] - time.time()) < 60
    text = files(tmp_path)[0].read_text()
    assert '"latency"' in text and not any(f'"{key}"' in text for key in ARCH), "no network is in it"
    for subject, settings in (
        (TWIN, SHORT),
        (replace(SUBJECT, assignment=("onednn",)), SHORT),
        (replace(SUBJECT, runtime="pytorch-compile"), SHORT),
        (SUBJECT, replace(SHORT, batch=2)),
        (SUBJECT, replace(SHORT, runs=13)),
        (SUBJECT, replace(SHORT, memory_runs=2)),
    ):
        assert cache.find(cache_module._key(subject, settings, first.fingerprint)) == (None, "")
    assert cache.find(cache_module._key(SUBJECT, SHORT, first.fingerprint))[0] == again
    assert cache.find(cache_module._key(SUBJECT, SHORT, "0" * 16)) == (None, ""), "another device"
    for name, other in (("PROTOCOL", 99), ("EnergyCounter", SimpleNamespace(find=lambda: not EnergyCounter.find()))):
        with monkeypatch.context() as patched:
            patched.setattr(cache_module, name, other)
            assert "cached" not in measure_cached([SUBJECT], SHORT, cache=cache)[0].about


def test_what_is_measured_anew_takes_the_place_of_what_was_known(counted, monkeypatch):
    Here().measure([SUBJECT, TWIN], SHORT, fresh=False)
    monkeypatch.setattr(process, "command", lambda: counted.body("time_all(lambda number: [7.0])\nsay('done')"))
    assert [each.latency.median for each in Here().measure([SUBJECT, TWIN], SHORT, fresh=False)] == [2.0, 3.0]
    assert [each.latency.median for each in Here().measure([SUBJECT], SHORT, fresh=True)] == [7.0]
    assert [each.latency.median for each in Here().measure([SUBJECT, TWIN], SHORT, fresh=False)] == [7.0, 3.0]


def test_of_many_those_stay_that_were_used_last(tmp_path):
    """A file that a killed process was writing is one of them."""
    for number, name in enumerate(("first", "second", ".writing-0", "folder", "last")):
        path = tmp_path / name
        path.mkdir() if name == "folder" else path.write_text(name)
        os.utime(path, (1000 * number, 1000 * number))
    note_use(tmp_path / "second")
    thin_out(tmp_path, 2, idle=time.time() - 2500)
    assert sorted(os.listdir(tmp_path)) == ["folder", "last", "second"], "one of them was used lately"
    thin_out(tmp_path, 2)
    assert sorted(os.listdir(tmp_path)) == ["last", "second"]


def test_the_cache_does_not_grow_for_ever(counted, monkeypatch):
    monkeypatch.setattr(cache_module, "MOST", 2)
    cache = own_cache()
    (found,) = measure_cached([SUBJECT], SHORT, cache=cache)
    monkeypatch.setattr(Cache, "_path", lambda self, key: self.folder / "of all" / f"{key['arch']}.json")
    keys = [{"arch": number} for number in range(4)]
    for number, key in enumerate(keys):
        cache.keep(key, found)
        os.utime(cache._path(key), (number, number))
        cache.find(keys[0])
    assert [cache.find(key)[0] is not None for key in keys] == [True, False, False, True]


def test_the_others_are_measured_beside_it_and_all_come_in_their_order(counted):
    measure_cached([TWIN], SHORT, cache=own_cache())
    counted.processes()
    seen = []
    found = measure_cached([SUBJECT, TWIN, Subject(named("small"))], SHORT, cache=own_cache(), watch=seen.append)
    assert ["cached" in each.about for each in found] == [False, True, False]
    assert [each.latency.median for each in found] == [2.0, 2.0, 3.0], "of the second process the numbers are 0 and 1"
    assert {step.subject for step in seen} - {None} == {0, 2}
    assert "cached" not in measure_cached([Subject(named("small"))], SHORT, cache=own_cache())[0].about, "code may change"


def test_what_is_noisy_or_failed_is_measured_again(counted, tmp_path, monkeypatch):
    bodies = (
        "time_all(lambda number: [2.0], waited=lambda number: 0.9)\nsay('done')",
        "say('begin', subject=0)\nsay('failed', subject=0, kind='input', message='no')\nsay('done')",
    )
    for body in bodies:
        monkeypatch.setattr(process, "command", lambda body=body: counted.body(body))
        (found,) = measure_cached([SUBJECT], SHORT, cache=own_cache())
        assert isinstance(found, Failed) or found.latency.noisy
    assert files(tmp_path) == []


def test_damage_is_said_and_measured_again(counted, tmp_path):
    cache = own_cache()
    (first,) = measure_cached([SUBJECT], SHORT, cache=cache)
    key = cache_module._key(SUBJECT, SHORT, first.fingerprint)
    (path,) = files(tmp_path)
    content = path.read_bytes()
    cache.keep({**key, "arch": "another"}, first)
    another = next(each for each in files(tmp_path) if each != path).read_bytes()
    for damaged in (content[:-99], content.replace(b"2.0", b"3.0"), b"", b"[" * 100_000, another):
        path.write_bytes(damaged)
        found, warning = cache.find(key)
        assert found is None and str(path) in warning
    (found,) = measure_cached([SUBJECT], SHORT, cache=cache)
    assert found.latency == first.latency and str(path) in found.about["cache_warning"] and "cached" not in found.about
    assert cache.find(key)[0].latency == first.latency, "the new one is in its place"
    path.unlink()
    path.mkdir()
    assert cache.find(key)[0] is None and str(path) in cache.keep(key, first)


def test_no_room_for_it_is_no_error(counted, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    (found,) = measure_cached([SUBJECT], SHORT, cache=own_cache())
    assert found.latency.median == 2.0 and str(tmp_path / "cache") in found.about["cache_warning"]


class Asked:
    """The context of a job."""

    threads = 1
    job = Job(1, Stage.PROFILE, "profile", {}, seed=3)

    def report(self, **progress):
        pass


def test_the_work_of_a_search_takes_it_unless_it_is_told_not_to(counted):
    """What comes of it is the event's data: the history tells where an answer is from."""
    knobs = {name: value for name, value in SHORT.to_json().items() if name not in ("threads", "seed")}
    spec = {"arch": ARCH, "protocol": knobs}
    first, second, third = (profile(each, Asked()).metrics for each in (spec, spec, {**spec, "cache": False}))
    assert "cached" in second["about"] and not {"cached"} & {*first["about"], *third["about"]}
    assert counted.processes() == 2 * (SHORT.launches + SHORT.memory_runs)
    assert "cached" in Here().measure([SUBJECT], SHORT, fresh=False)[0].about
    assert "cached" not in Here().measure([SUBJECT], SHORT)[0].about


WRITER = """
import sys
from pathlib import Path
from archsearch.profile.cache import Cache
from archsearch.profile.measurement import Measurement, Profile
cache, median = Cache(Path(sys.argv[1])), float(sys.argv[2])
latency = Measurement(median, 1.0, 9.0, "ms", 1.0, 9.0, 1.0, 30)
found = Profile(latency, None, None, None, "r", "f", 1, {"padding": "x" * 100_000})
print("ready", flush=True)
while True:
    assert cache.keep({"arch": "a"}, found) == ""
"""


def test_two_writers_of_which_one_is_killed(tmp_path):
    """SIGKILL in the middle of a write: whoever reads finds one of the two measurements, whole, at any moment."""
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen([*command, str(median)], stdout=subprocess.PIPE) for median in (2, 3)]
    cache, seen, end = Cache(tmp_path), set(), time.monotonic() + 60
    try:
        for writer in writers:
            assert writer.stdout.readline() == b"ready\n"
        while time.monotonic() < end:
            found, warning = cache.find({"arch": "a"})
            assert warning == "" and (found is not None or not seen)
            if found is not None:
                seen.add(found.latency.median)
            if seen == {2.0, 3.0} and writers[0].poll() is None:
                writers[0].kill()
                end = time.monotonic() + 0.5
        assert seen == {2.0, 3.0}
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
            writer.stdout.close()
    assert len(list(tmp_path.rglob("*.json"))) == 1
