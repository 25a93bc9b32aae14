# Everything starts from a fresh machine with Python 3.11+, pip and make. `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
WORKERS ?= auto

.DEFAULT_GOAL := help
.PHONY: help demo demo-postgres test check lint types imports format bench docs clean

help: ## List what can be made.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Milepost needs Python 3.11 or newer; $(PYTHON) is older. Name another: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV)

# One stamp per set of packages: `make demo` installs only what runs need.
$(VENV)/run.stamp: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing Milepost into $(VENV) ..."
	@$(PIP) install --constraint constraints.txt --editable .
	@touch $@

$(VENV)/test.stamp: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing Milepost and what its tests need into $(VENV) ..."
	@$(PIP) install --constraint constraints.txt --editable '.[test]'
	@touch $(VENV)/run.stamp $@

$(VENV)/docs.stamp: pyproject.toml constraints.txt | $(BIN)/python
	@$(PIP) install --constraint constraints.txt --editable '.[docs]'
	@touch $@

demo: $(VENV)/run.stamp ## Run the main job: index the standard library, step by step. Kill it, then: .venv/bin/milepost resume --all
	@$(BIN)/milepost demo

demo-postgres: $(VENV)/test.stamp ## Run the main job through a queue on PostgreSQL with four workers, and kill one.
	@$(BIN)/python examples/many_workers/demo.py

test: check ## Run every check and every test.
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -q

check: lint types imports ## Lint, format, types and import rule, without tests.

lint: $(VENV)/test.stamp
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/test.stamp
	@$(BIN)/mypy

imports: $(VENV)/test.stamp
	@$(BIN)/lint-imports --no-cache

format: $(VENV)/test.stamp ## Format the code and mend what the linter can.
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format --quiet .

bench: $(VENV)/test.stamp ## Measure the design's budget against floors taken in the same process.
	@$(BIN)/python -m benchmarks

docs: $(VENV)/docs.stamp ## Build the documentation into site/.
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "Open site/index.html"

clean: ## Remove what the other targets made.
	rm -rf $(VENV) site dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
