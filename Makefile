# Everything happens in a virtual environment of its own, made on first use: VENV, by default .venv.
VENV ?= .venv
PYTHON ?= python3
RUN ?= runs/quickstart
BIN = $(VENV)/bin
ADDONS = $(abspath $(VENV))-plugins

GPU_PYTHON = $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))

.PHONY: quickstart test check lint docs plugins fault gpu clean

quickstart: $(VENV)/installed  ## train all three stages on the embedded data, then measure
	$(BIN)/python -m fovea.train quickstart run_dir=$(RUN) $(ARGS)
	$(BIN)/python -m fovea.eval $(RUN)

test: $(VENV)/installed-dev  ## run the tests, two at a time
	$(BIN)/python -m pytest -m "not fault" -n 2 --dist loadfile $(ARGS)

fault: $(VENV)/installed-dev  ## run the long tests that inject faults
	$(BIN)/python -m pytest -m fault $(ARGS)

gpu:  ## check and measure everything on a GPU in six minutes; installs nothing, needs no network
	$(GPU_PYTHON) -m fovea.bench gpu $(ARGS)

lint: $(VENV)/installed-dev  ## check format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(VENV)/installed-dev  ## build the pages in site/; a broken link is an error
	$(BIN)/mkdocs build --quiet --strict

plugins:  ## test the add-ons as installed, in an environment that has nothing else
	$(PYTHON) -m venv $(ADDONS)
	$(ADDONS)/bin/python -m pip install --quiet --disable-pip-version-check pytest . ./plugins/*
	$(ADDONS)/bin/fovea plugins
	set -e; for plugin in plugins/*; do (cd $$plugin && $(ADDONS)/bin/pytest); done

check: lint test  ## what every commit passes

clean:  ## remove the virtual environment and caches
	rm -rf $(VENV) $(ADDONS) site .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fovea needs Python 3.11 or newer; set PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@
