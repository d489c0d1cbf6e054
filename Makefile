# Two commands for a fresh machine: `make quickstart` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt

.PHONY: quickstart test oldest torture gate controls lint docs bench gpu-bench clean

quickstart: $(VENV)/.installed
	$(BIN)/sgabench run suites/quickstart.toml

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 --dist worksteal

# A part of the tests with the oldest versions that pyproject.toml allows, in an environment of its own.
# OLDEST_OPTIONS='--but torch --but torchvision' takes these as new as they are.
OLDEST ?= build/oldest
OLDEST_TESTS ?= tests/suite tests/plugins tests/store/test_store.py tests/evidence/test_frames.py tests/models \
  tests/pruners tests/optimizers/test_optimizer_plugins.py tests/report/test_report.py tests/running/test_trial.py \
  tests/training/test_dynamo.py
oldest:
	$(PYTHON) -m venv $(OLDEST)
	$(PYTHON) .ci/oldest.py $(OLDEST_OPTIONS) > $(OLDEST)/oldest.txt
	$(OLDEST)/bin/python -m pip install --quiet --constraint $(OLDEST)/oldest.txt --editable '.[test,tune]'
	$(OLDEST)/bin/python -m pytest -n 2 $(OLDEST_TESTS)

torture: $(VENV)/.installed-test
	SGABENCH_TORTURE=1 $(BIN)/python -m pytest -n 2 --dist worksteal tests/torture tests/store/test_database.py

# Trains anew every time: keys do not know sgabench's own code. GATE_ONLY='*' needs CIFAR-10, too.
GATE_ONLY ?= digits/*
GATE_RESULTS ?= build/gate
gate: controls
	rm -rf $(GATE_RESULTS)
	$(BIN)/sgabench check suites/ci.toml --baseline results/baselines/ci.json --only '$(GATE_ONLY)' \
	  --results $(GATE_RESULTS) --run --jobs 2 $(GATE_OPTIONS)

# Known effects must be found, and nothing where there is nothing.
controls: $(VENV)/.installed
	rm -rf build/controls
	$(BIN)/python benchmarks/controls.py --results build/controls --jobs 2

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: $(VENV)/.installed-test
	$(PIP) --editable '.[bench]'
	$(BIN)/python -m pytest tests/benchmarks --benchmark-autosave --benchmark-columns=median,iqr,rounds

# With the interpreter as it is: nothing is installed. Exit code 3 without CUDA.
GPU_OUTPUT ?= build/gpu.json
gpu-bench:
	PYTHON=$(PYTHON) benchmarks/gpu.sh $(GPU_OUTPUT)

docs: $(VENV)/.installed-test
	$(BIN)/mkdocs build --strict

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) --editable '.[test,lint,docs,figures,tune]' # tests/test_style.py and test_docs.py start the tools
	touch $@

clean:
	rm -rf $(VENV) build site *.egg-info
