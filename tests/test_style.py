"""The checks that hold the house together, as ``make lint`` runs them: style, types, and who may import whom."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

CHECKS = {
    "ruff check": [sys.executable, "-m", "ruff", "check", "--output-format=concise", "."],
    "ruff format": [sys.executable, "-m", "ruff", "format", "--check", "."],
    "mypy": [sys.executable, "-m", "mypy"],
    "lint-imports": [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
}


@pytest.mark.parametrize("check", CHECKS)
def test_check_is_clean(check: str) -> None:
    done = subprocess.run(CHECKS[check], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_room_stands_under_an_import_contract() -> None:
    """A new room must be added to [tool.importlinter], or its imports go unchecked."""
    import tomllib

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    named = (name for contract in settings["contracts"] for name in contract.get("source_modules", ()))
    held = {name.removeprefix("archsearch.") for name in named}
    rooms = {path.parent.name for path in (ROOT / "archsearch").glob("*/__init__.py")}
    assert rooms <= held


def test_a_forbidden_import_is_found(tmp_path: Path) -> None:
    """The contracts are alive: with an import of another room added to a copy of the package, the check fails."""
    import shutil

    shutil.copytree(ROOT / "archsearch", tmp_path / "archsearch", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "archsearch" / "frontier" / "__init__.py").open("a") as file:
        file.write("\nimport archsearch.train\n")
    code = (
        "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "archsearch.frontier is not allowed to import archsearch.train" in done.stdout


def test_files_stay_whole_where_tests_run_side_by_side(pytestconfig: pytest.Config) -> None:
    """As tests/conftest.py arranges: fixtures are made once, and no two real clusters stand side by side."""
    files = ["test_registry.py", "config/test_config_yaml.py"]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-n",
        "2",
        "-vvv",
        "-p",
        "no:cacheprovider",
        *(f"tests/{name}" for name in files),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    ran = set(re.findall(r"\[(gw\d)\].* PASSED tests/(\S+?)::", done.stdout))
    assert done.returncode == 0 and sorted(file for _, file in ran) == sorted(files), done.stdout
    assert {worker for worker, _ in ran} == {"gw0", "gw1"}, done.stdout

    conftest = pytestconfig.pluginmanager.get_plugin(str(ROOT / "tests" / "conftest.py"))
    scopes: dict[str, list[Path]] = {}
    for path in sorted((ROOT / "tests" / "cluster").glob("test_*.py")):
        scopes.setdefault(conftest.scope_of(f"{path.relative_to(ROOT)}::test"), []).append(path)
    assert len(scopes["cluster"]) > 5 and len(scopes) == 1 + len(conftest.WITHOUT_RAY)
    for path in (path for scope, paths in scopes.items() if scope != "cluster" for path in paths):
        assert not re.search(r"import ray\b|running_head|test_ray_runs|\(cluster\b|ray\.", path.read_text()), path
