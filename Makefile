# One place for what people, hooks and CI run. Every target sets up what it needs.

VENV   ?= .venv
PYTHON ?= python3
JOBS   ?= 2
SHORT  ?=
GOLDEN ?=
RESOLUTION ?= lowest highest

BIN    := $(abspath $(VENV))/bin
STAMP  := $(VENV)/.stamp
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

MAKEFLAGS += --no-print-directory

.DEFAULT_GOAL := help
.PHONY: help setup quickstart smoke format check test test-all test-faults test-compat docs licences bench bench-all

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  Variables: VENV=$(VENV) PYTHON=$(PYTHON) JOBS=$(JOBS) SHORT=1 (a shorter quickstart, quicker docs)"

setup: $(STAMP)  ## Make the virtual environment with every extra

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev,demo,docs,sweep]'
	@touch $@

quickstart: setup  ## Train a small MGIE, evaluate it, edit a photograph, write a report
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} SHORT=$(SHORT) MGIE=$(BIN)/mgie PYTHON=$(BIN)/python bash benchmarks/quickstart.sh

smoke: setup  ## Train for a few steps
	$(BIN)/mgie train experiment=smoke

format: setup  ## Rewrite the code in the project's format, strip the notebooks
	$(BIN)/python notebooks/strip.py
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: setup  ## Format, lint, types, layers, docstrings, stripped notebooks; changes nothing
	$(BIN)/python notebooks/strip.py --check
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

docs: setup  ## The documentation site, into site/; runs the notebooks for it, but not with SHORT=1
	@echo "building the site$(if $(SHORT),, and running the notebooks: some minutes; SHORT=1 leaves them out)"
	@EXECUTE_NOTEBOOKS=$(if $(SHORT),,1) OMP_NUM_THREADS=1 NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "site/index.html; with search: $(BIN)/python -m http.server -d site"

test-compat: setup  ## The lowest and the newest versions of dependencies; RESOLUTION=lowest or highest for one of them
	@set -e; for one in $(RESOLUTION); do UV=$(BIN)/uv PYTHON=$(BIN)/python JOBS=$(JOBS) bash tests/compat/run.sh $$one; done

licences: setup  ## The licences of all dependencies, as a page of the site has them
	@$(BIN)/python docs/hooks/licences.py

# Benchmarks that compare with a recording need one (GOLDEN=DIR); what `bench` gives the others makes them short.
# Those that need a GPU are started by hand.
WITH_RECORDING := parity reference_step
NEEDS_GPU := gpu
SHORT_cache := --rounds 3
SHORT_convert_memory := --layers 3
SHORT_edit := --size tiny --rounds 1 --examples 16
SHORT_cost_growth := --size tiny --rounds 1
SHORT_evaluation := --short
SHORT_faults := --examples 16
SHORT_index := --prompts 20000 --workers 2
SHORT_loader := --rounds 2 --examples 20 --passes 2
SHORT_train_step := --rounds 1

bench: setup  ## The benchmarks in a short form; GOLDEN=DIR: with those that compare with a recording
	$(foreach name,$(BENCHMARKS),$(call run_benchmark,$(name),$(SHORT_$(name))))

bench-all: setup  ## The benchmarks as docs/benchmarks has them
	$(foreach name,$(BENCHMARKS),$(call run_benchmark,$(name)))

ALONE      := $(filter-out $(WITH_RECORDING) $(NEEDS_GPU),$(basename $(notdir $(wildcard benchmarks/*.py))))
BENCHMARKS  = $(ALONE) $(if $(GOLDEN),$(WITH_RECORDING))

define run_benchmark
	@echo "== benchmarks/$(1).py $(2)"
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/$(1).py $(2) $(if $(filter $(1),$(WITH_RECORDING)),--golden $(GOLDEN))

endef
