# One place for what people, hooks and CI run. Every target sets up what it needs.

VENV   ?= .venv
PYTHON ?= python3
JOBS   ?= 2
SHORT  ?=
GOLDEN ?=

BIN    := $(abspath $(VENV))/bin
STAMP  := $(VENV)/.stamp
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

MAKEFLAGS += --no-print-directory

.DEFAULT_GOAL := help
.PHONY: help setup quickstart smoke format check test test-all test-faults bench

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  Variables: VENV=$(VENV) PYTHON=$(PYTHON) JOBS=$(JOBS) SHORT=1 (a shorter quickstart)"

setup: $(STAMP)  ## Make the virtual environment with every extra

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev,demo,sweep]'
	@touch $@

quickstart: setup  ## Train a small MGIE, evaluate it, edit a photograph, write a report
	@SHORT=$(SHORT) MGIE=$(BIN)/mgie PYTHON=$(BIN)/python bash benchmarks/quickstart.sh

smoke: setup  ## Train for a few steps
	$(BIN)/mgie train experiment=smoke

format: setup  ## Rewrite the code in the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: setup  ## Format, lint, types, layers, docstrings; changes nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pydoclint --quiet mgie_lit

test: setup  ## The default tests, in minutes
	$(PYTEST)

test-all: setup  ## Every test, the slow ones too; kills are in test-faults
	$(PYTEST) -m "not kills"

test-faults: setup  ## Trainings killed and resumed dozens of times; full disks, dead processes, broken files, mistakes
	$(PYTEST) -m "faults or kills"

bench: setup  ## Every *.py in benchmarks/ (GOLDEN=DIR: parity with a recording, too)
	@set -e; for script in $(filter-out benchmarks/parity.py,$(wildcard benchmarks/*.py)); do \
	  echo "== $$script"; $(BIN)/python $$script ; done
	$(if $(GOLDEN),$(BIN)/python benchmarks/parity.py --golden $(GOLDEN),@echo "== benchmarks/parity.py: skipped, give a recording with GOLDEN=DIR")
