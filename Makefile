PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: quickstart test test-all lint assets clean

quickstart: $(VENV)/.quickstart  ## install, then run the main job: a search on a small CNN
	$(BIN)/compareto search quickstart

# Two processes of one thread each: most tests are small, and more threads only get in one another's way.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

test: $(VENV)/.test lint  ## install, then lint, type-check and test
	$(PYTEST) -m "not slow"

test-all: $(VENV)/.test lint  ## the same, with the tests that take minutes
	$(PYTEST)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

assets: $(VENV)/.quickstart  ## models and data of the larger experiments
	$(BIN)/python experiments/fetch_assets.py

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.quickstart: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing compareto into $(VENV) (a few minutes the first time)"
	$(PIP) --editable ".[litert,executorch]"
	@touch $@

$(VENV)/.test: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing compareto and its test tools into $(VENV) (a few minutes the first time)"
	$(PIP) --editable ".[dev,litert,executorch]"
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
