"""Plug-ins: names are unique, entry points of installed packages are found, wrong names are met with the nearest one."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from archsearch.jobs import InputError
from archsearch.registry import DATASETS, OPERATIONS, RUNTIMES, SEARCHERS, SECTIONS, WORKS, Registry


def install(folder: Path, name: str, entry_points: str, code: str) -> None:
    """A real installed package: a module and the dist-info that pip would write."""
    (folder / f"{name}.py").write_text(code)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)
    importlib.invalidate_caches()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_a_registered_name_is_found() -> None:
    gadgets: Registry[object] = Registry("gadget")

    @gadgets.register("mine")
    class Mine: ...

    assert gadgets.get("mine") is Mine
    assert list(gadgets) == ["mine"]
    assert "mine" in gadgets
    assert "yours" not in gadgets


def test_a_second_of_the_same_name_is_an_error_and_the_first_stays() -> None:
    gadgets: Registry[object] = Registry("gadget")
    gadgets.register("mine")(int)
    with pytest.raises(ValueError, match="'mine' is already taken"):
        gadgets.register("mine")(float)
    assert gadgets.get("mine") is int


def test_a_built_in_name_cannot_be_taken_but_may_register_itself() -> None:
    gadgets: Registry[object] = Registry("gadget", {"path": "pathlib:Path", "json": "json:loads"})
    with pytest.raises(ValueError, match="already taken"):
        gadgets.register("path")(int)
    assert gadgets.get("path") is Path
    with pytest.raises(ValueError, match="already taken"):
        gadgets.register("path")(int)


def test_a_built_in_is_imported_when_asked_for(site: Path) -> None:
    (site / "lazy_gadget.py").write_text("class Gadget: ...\n")
    gadgets: Registry[type] = Registry("gadget", {"lazy": "lazy_gadget:Gadget"})
    assert list(gadgets) == ["lazy"]
    assert "lazy_gadget" not in sys.modules
    assert gadgets.get("lazy").__module__ == "lazy_gadget"


def test_a_wrong_name_is_met_with_the_nearest() -> None:
    gadgets: Registry[object] = Registry("gadget", {"petridish": "json:loads", "growth": "json:loads"})
    with pytest.raises(
        InputError, match=r"no gadget is called 'petridsh'. Did you mean 'petridish'\? Known: growth, petridish."
    ):
        gadgets.get("petridsh")
    with pytest.raises(InputError, match=r"no gadget is called 'zzz'. Known"):
        gadgets.get("zzz")


def test_an_installed_package_adds_a_name(site: Path) -> None:
    install(site, "outside_gadget", "[archsearch.gadget]\nouter = outside_gadget:Outer\n", "class Outer: ...\n")
    gadgets: Registry[type] = Registry("gadget", {"inner": "json:loads"})
    assert list(gadgets) == ["inner", "outer"]
    assert gadgets.loaded_from() == set(), "it was not asked for"
    assert gadgets.get("outer").__name__ == "Outer"
    assert gadgets.loaded_from() == {"outside_gadget"}


def test_an_entry_point_may_decorate_its_own_object(site: Path) -> None:
    gadgets: Registry[type] = Registry("gadget")
    install(site, "own_gadget", "[archsearch.gadget]\nown = own_gadget:Own\n", "class Own: ...\n")
    own = importlib.import_module("own_gadget").Own
    gadgets.register("own")(own)
    assert gadgets.get("own") is own
    with pytest.raises(ValueError, match="already taken"):
        gadgets.register("own")(int)


def test_an_entry_point_cannot_take_a_name(site: Path) -> None:
    install(site, "rival_gadget", "[archsearch.gadget]\ninner = rival_gadget:Rival\n", "class Rival: ...\n")
    gadgets: Registry[object] = Registry("gadget", {"inner": "json:loads"})
    with pytest.raises(ValueError, match="'inner' of entry point 'rival_gadget:Rival' is already taken by 'json:loads'"):
        gadgets.get("inner")


def test_two_packages_cannot_share_a_name(site: Path) -> None:
    for name in ("first_gadget", "second_gadget"):
        install(site, name, f"[archsearch.gadget]\nshared = {name}:Thing\n", "class Thing: ...\n")
    gadgets: Registry[object] = Registry("gadget")
    with pytest.raises(ValueError, match="'shared' of entry point"):
        list(gadgets)


def test_a_section_from_outside_is_part_of_every_configuration(tmp_path: Path) -> None:
    code = "from archsearch.config import Section\nclass Mine(Section):\n    knob: int = 7\n"
    install(tmp_path, "outside_section", "[archsearch.section]\nmine = outside_section:Mine\n", code)
    (tmp_path / "conf.yaml").write_text("mine: {knob: 8}\n")
    script = "from archsearch import config\nprint(config.load('conf.yaml')['mine'].knob, *config.schema()['properties'])"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[0] == "8"
    assert "mine" in done.stdout.split()


@pytest.mark.parametrize(
    "registry", [SECTIONS, SEARCHERS, WORKS, DATASETS, OPERATIONS, RUNTIMES], ids=lambda registry: registry.kind
)
def test_every_built_in_name_leads_to_something(registry: Registry[object]) -> None:
    for name in registry:
        assert registry.get(name) is not None
