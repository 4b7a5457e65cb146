# make quickstart: the whole mission, from preferences to a report.  make test: lint, types, tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help install quickstart test lint format clean

help:
	@echo "make quickstart   install into .venv and run configs/quickstart.yaml"
	@echo "make test         install into .venv, then lint, types and tests"
	@echo "make install      install into .venv only"
	@echo "make format       format the code"
	@echo "make clean        delete .venv and caches (never runs/)"

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "mmrlhf needs Python 3.11 to 3.13; name one with: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(INSTALLED)

quickstart: $(INSTALLED)
	$(BIN)/mmrlhf run configs/quickstart.yaml --resume

test: $(INSTALLED) lint
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
