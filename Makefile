# `make demo` and `make test` work in a fresh clone: they make .venv first. Needs Python 3.10 or later.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OLD_CLIP := $(VENV)/open_clip_2.24

.DEFAULT_GOAL := help
.PHONY: help demo test format docs bench clean

help:
	@echo "make demo    train, test and predict on drawn pictures; results in demo/"
	@echo "make test    formatting, lint, types and all tests: what CI runs"
	@echo "make format  format the sources"
	@echo "make docs    build the pages of docs/ as a site in site/"
	@echo "make bench   measure speed and memory"
	@echo "make clean   remove what these make, but for $(VENV)"

demo: $(READY)
	$(BIN)/anomalib-zsad demo --out demo

test: $(READY) $(OLD_CLIP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder
	PYTHONPATH=$(OLD_CLIP):$(PYTHONPATH) $(BIN)/pytest --numprocesses 2 tests/golden tests/clip tests/benchmark/test_winclip.py

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.ready_for_docs
	PATH="$(abspath $(BIN)):$$PATH" PYTHONWARNINGS=ignore $(BIN)/python -m sphinx -W --keep-going -q docs site
	@echo "site/index.html"

bench: $(READY)
	for benchmark in $(filter-out benchmarks/measuring.py $(wildcard benchmarks/gpu_*.py),$(wildcard benchmarks/*.py)); do $(BIN)/python $$benchmark || exit 1; done

clean:
	rm -rf demo site build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis

# Installed anew when what it depends on has changed.
$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $(READY)

# The extras of anomalib pin open_clip_torch below 2.26.1: what depends on it is tested with one of these, too.
$(OLD_CLIP): | $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $@ open_clip_torch==2.24.0

$(VENV)/.ready_for_docs: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[docs]"
	touch $@
