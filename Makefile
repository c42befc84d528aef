# Everything runs in .venv, which is built when it is missing or older than the pins.
# Needs python3 (3.11 or newer, with venv) and make; another interpreter: make PYTHON=python3.12 test

PYTHON ?= python3
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
ARGS ?=
FUZZ ?= 10000

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCHMARKS := $(filter-out benchmarks/_% benchmarks/regmix.py,$(wildcard benchmarks/*.py))
PIP_INSTALL := -m pip install -qq --disable-pip-version-check --no-compile

.DEFAULT_GOAL := help
.PHONY: help demo test lint ui bench chaos fuzz clean pins

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-6s  %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(STAMP)  ## raw text -> proxy runs -> weights -> full runs -> report, in minutes
	$(BIN)/mixture demo $(ARGS)

test: $(STAMP)  ## every test (one: make test ARGS="tests/core -k digest")
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1 \
	  $(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

lint: $(STAMP)  ## ruff, mypy strict, import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache

ui: $(STAMP)  ## the asset graph on 127.0.0.1
	$(BIN)/mixture ui $(ARGS)

bench: $(STAMP)  ## every script in benchmarks/, one after the other
	@set -e; for script in $(BENCHMARKS); do echo "== $$script"; $(BIN)/python $$script; done

chaos: $(STAMP)  ## 220 SIGKILLs and what they cost, about 20 minutes (fewer: make chaos ARGS="--kills 40")
	$(BIN)/python benchmarks/_chaos.py $(ARGS)

fuzz: $(STAMP)  ## 10,000 damaged shards, experiment files and tables; at most an hour (FUZZ=1000 for less)
	MIXTURE_FUZZ=$(FUZZ) HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false \
	  timeout 3600 $(BIN)/python -X faulthandler -m pytest -s tests/fuzz $(ARGS)

clean:  ## caches and build folders; keeps .venv and data/
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . \( -name .git -o -name .venv -o -path ./data \) -prune -o -name __pycache__ -type d -exec rm -rf {} +
	@echo "kept: .venv, data/ (rm -r data/store starts every run afresh)"

pins:  ## write constraints.txt anew from the newest versions that fit pyproject.toml
	rm -rf build/pins && $(PYTHON) -m venv build/pins
	build/pins/bin/python $(PIP_INSTALL) "$$(grep '^torch==' constraints.txt)" -e '.[dev]'
	{ sed -n '/^#/p' constraints.txt; build/pins/bin/python -m pip list --format=freeze --exclude-editable --exclude pip \
	  | sed 's/+[a-z0-9]*$$//' | grep -viE '^(nvidia-|cuda-|triton)'; } > build/constraints.txt
	mv build/constraints.txt constraints.txt

# The stamp goes first and comes back last: an interrupted install is begun again from nothing.
$(STAMP): pyproject.toml constraints.txt
	@echo "setting up $(VENV): 2 GB, a minute or two"
	@if [ -e $(STAMP) ]; then rm -f $(STAMP); else $(PYTHON) -m venv --clear $(VENV); fi
	@$(BIN)/python $(PIP_INSTALL) -c constraints.txt -e '.[dev]'
	@$(BIN)/python -m compileall -q -j 0 $(VENV)/lib >/dev/null || true  # on all cores; pip uses one
	@touch $(STAMP)
