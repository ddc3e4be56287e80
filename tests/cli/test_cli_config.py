"""The frame of the command line, through real processes: what it imports, exit codes, help; and ``archsearch config``."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from archsearch.cli import VERBS

CONFS = sorted((Path(__file__).parents[2] / "confs").glob("*.yaml"))
HEAVY = ("ray", "torch", "tensorwatch", "sklearn", "matplotlib", "pandas", "sqlalchemy", "pydantic", "rich")


def archsearch(*arguments: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", "from archsearch.cli import main; main()", *arguments]
    return subprocess.run(line, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, timeout=120, check=False)


def modules_after(*arguments: str, cwd: Path | None = None) -> set[str]:
    """Modules that one command line has imported when it ends."""
    code = (
        "import sys\n"
        "from archsearch.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n    print('MODULES', *sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.partition("MODULES ")[2].split())


# ----------------------------------------------------------------------------------------------------------------- frame
@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_and_version_import_nothing_heavy(arguments: list[str]) -> None:
    loaded = modules_after(*arguments)
    assert "archsearch.cli" in loaded
    assert loaded.isdisjoint(HEAVY)
    assert not {name for name in loaded if name.startswith("archsearch.") and name.split(".")[1] not in ("cli", "jobs")}


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = f"import sys, archsearch\nprint([name for name in {HEAVY} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_the_verb_config_imports_no_framework(tmp_path: Path) -> None:
    (tmp_path / "conf.yaml").write_text("search: {name: petridish}\n")
    loaded = modules_after("config", "validate", "conf.yaml", cwd=tmp_path)
    assert loaded.isdisjoint({"ray", "torch", "tensorwatch", "sklearn", "matplotlib", "pandas"})


def test_help_lists_every_verb_and_shows_examples() -> None:
    done = archsearch("--help")
    assert done.returncode == 0
    for verb in VERBS:
        assert f"\n  {verb} " in done.stdout
    assert "    archsearch search confs/petridish_digits.yaml\n" in done.stdout
    assert archsearch("-h").stdout == done.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_examples(verb: str) -> None:
    done = archsearch(verb, "--help")
    assert done.returncode == 0, done.stderr
    assert f"Usage: archsearch {verb} " in done.stdout
    assert f"    archsearch {verb} " in done.stdout.partition("Examples:")[2]


def test_the_version_is_the_installed_one() -> None:
    done = archsearch("--version")
    assert (done.returncode, done.stdout) == (0, f"archsearch {importlib.metadata.version('archsearch')}\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["serch"], "Did you mean"),
        (["config", "validate"], "CONF"),
        (["config", "validate", "x", "--nope"], "--nope"),
        (["--nope"], "--nope"),
        (["config", "shwo"], "shwo"),
    ],
)
def test_bad_usage_is_2(arguments: list[str], says: str) -> None:
    done = archsearch(*arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


RAISING = """
import sys
from archsearch import cli
from archsearch.cli import doctor
from archsearch.jobs import ArchsearchError

class Stopped(ArchsearchError):
    exit_code = 3

def command() -> None:
    \"\"\"Raises what the test wants.\"\"\"
    raise {what}

doctor.command = command
cli.main(["doctor"])
"""


@pytest.mark.parametrize(
    ("what", "code", "said"),
    [
        ("Stopped('too many failures')", 3, "archsearch: too many failures\n"),
        ("ArchsearchError('bad input')", 2, "archsearch: bad input\n"),
        ("KeyboardInterrupt", 130, ""),
        ("SystemExit(7)", 7, ""),
        ("__import__('typer').Exit(5)", 5, ""),
    ],
)
def test_errors_become_exit_codes_without_traceback(what: str, code: int, said: str) -> None:
    line = [sys.executable, "-c", RAISING.format(what=what)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stderr.strip() == said.strip()


def test_a_bug_shows_its_traceback_and_so_does_an_error_on_request() -> None:
    line = [sys.executable, "-c", RAISING.format(what="RuntimeError('bug')")]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "Traceback" in archsearch("config", "show", "gone.yaml", ARCHSEARCH_TRACEBACK="1").stderr
    assert "Traceback" not in archsearch("config", "show", "gone.yaml").stderr


# ---------------------------------------------------------------------------------------------------------------- config
def test_show_prints_everything_resolved_and_masked(tmp_path: Path) -> None:
    (tmp_path / "conf.yaml").write_text(
        "run:\n  name: ${NAME:unset}\n  store: postgresql://me:${PASSWORD_X}@host/runs\nseed_train: {epochs: 5}\n"
    )
    env = {"NAME": "mine", "PASSWORD_X": "hush"}
    done = archsearch("config", "show", "conf.yaml", "--set", "search.max_madd=1e6", "--set", "run.seed=3", cwd=tmp_path, **env)
    assert done.returncode == 0, done.stderr
    shown = yaml.safe_load(done.stdout)
    assert shown["run"] == {**shown["run"], "name": "mine", "store": "postgresql://me:***@host/runs", "seed": 3}
    assert (shown["seed_train"]["epochs"], shown["search"]["max_madd"]) == (5, 1e6)
    assert "hush" not in done.stdout
    as_json = archsearch(
        "config", "show", "conf.yaml", "--json", "--set", "search.max_madd=1e6", "--set", "run.seed=3", cwd=tmp_path, **env
    )
    assert json.loads(as_json.stdout) == shown


def test_validate_tells_good_from_bad(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text("seed_train: {epochs: 5}\n")
    (tmp_path / "bad.yaml").write_text("seed_train:\n  epoch: 5\n  lr: -1\n")
    good = archsearch("config", "validate", "good.yaml", cwd=tmp_path)
    assert (good.returncode, good.stdout, good.stderr) == (0, "good.yaml: good.\n", "")
    bad = archsearch("config", "validate", "bad.yaml", cwd=tmp_path)
    assert bad.returncode == 2
    assert bad.stdout == ""
    assert bad.stderr.startswith(
        "archsearch: bad.yaml has 2 errors:\n  bad.yaml:2: unknown key seed_train.epoch. Did you mean epochs?"
    )
    told = archsearch("config", "validate", "bad.yaml", "--json", cwd=tmp_path)
    assert told.returncode == 2
    assert json.loads(told.stdout)["valid"] is False
    assert len(json.loads(told.stdout)["errors"]) == 3
    assert json.loads(archsearch("config", "validate", "good.yaml", "--json", cwd=tmp_path).stdout)["valid"] is True


def test_the_schema_accepts_every_configuration_that_is_shipped() -> None:
    done = archsearch("config", "schema")
    assert done.returncode == 0, done.stderr
    validator = jsonschema.Draft202012Validator(json.loads(done.stdout))
    validator.check_schema(json.loads(done.stdout))
    assert CONFS
    for conf in CONFS:
        # PyYAML takes 1e-3 for text; the package's reader, and editors, take it for a number.
        assert not [error.message for error in validator.iter_errors(_numbers(yaml.safe_load(conf.read_text())))], conf


@pytest.mark.parametrize("conf", CONFS, ids=lambda path: path.stem)
def test_every_configuration_that_is_shipped_is_good(conf: Path) -> None:
    done = archsearch("config", "validate", str(conf))
    assert done.returncode == 0, done.stderr


def _numbers(value: object) -> object:
    if isinstance(value, dict):
        return {key: _numbers(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_numbers(child) for child in value]
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
