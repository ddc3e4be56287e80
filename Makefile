# make demo   install into .venv and search the digits data set on a local Ray cluster
# make test   install with the test extras and run the tests
# make soak   the slow fault tests: kill -9 of the driver, twenty times on real Ray
# make install-check   docker/install.sh in a clean Debian (root and debootstrap)
# make chaos  five minutes of a search whose workers, nodes and driver are killed at random
# PIP_ARGS    options passed to pip, e.g. make demo PIP_ARGS="--index-url https://..."
# PYTHON      the interpreter that makes the environment, 3.11 or newer

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=
# pip's own tracking is not asked on every run: an environment is up to date when it is newer than what it was made from.
MADE_FROM := pyproject.toml docker/constraints.txt

.PHONY: demo test soak install-check chaos lint clean

demo: $(VENV)/.installed
	$(BIN)/archsearch search confs/petridish_digits.yaml

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 $(PYTEST_ARGS)

soak: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m soak $(PYTEST_ARGS)

install-check: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m soak tests/test_docker.py $(PYTEST_ARGS)

chaos: $(VENV)/.installed
	$(BIN)/python experiments/chaos/run.py --minutes 5 --output build/chaos.json

lint: $(VENV)/.installed-test
	$(BIN)/ruff check archsearch tests experiments
	$(BIN)/ruff format --check archsearch tests experiments
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/.installed: $(MADE_FROM)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check $(PIP_ARGS) -c docker/constraints.txt -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/pip install --disable-pip-version-check $(PIP_ARGS) -c docker/constraints.txt -e '.[test]'
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
