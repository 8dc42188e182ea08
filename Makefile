# `make demo` and `make test` work in a fresh clone: they make .venv first. Needs Python 3.10 or later.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test format bench clean

help:
	@echo "make demo    train, test and predict on drawn pictures; results in demo/"
	@echo "make test    formatting, lint, types and all tests: what CI runs"
	@echo "make format  format the sources"
	@echo "make bench   measure speed and memory"
	@echo "make clean   remove what these make, but for $(VENV)"

demo: $(READY)
	$(BIN)/anomalib-zsad demo --out demo

test: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)
	for benchmark in $(filter-out benchmarks/measuring.py,$(wildcard benchmarks/*.py)); do $(BIN)/python $$benchmark || exit 1; done

clean:
	rm -rf demo build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis

# Installed anew when what it depends on has changed.
$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $(READY)
