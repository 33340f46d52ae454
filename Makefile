# Everything happens in .venv; nothing else on the machine is touched.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test reproduce lint format docs bench clean

help:  ## what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/:/' | column -t -s ':'

setup: $(STAMP)  ## install into .venv, with the exact versions of constraints.txt

$(STAMP): pyproject.toml constraints.txt
	@test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)

# A finding is what an audit is for: 1 (policy does not hold) and 2 (undetermined) mean that it completed.
demo: setup  ## audit the embedded example: which encoder reads these digits?
	@$(BIN)/dosimeter audit --out demo-report || { code=$$?; [ $$code -le 2 ] || exit $$code; }

test: setup  ## all tests
	$(BIN)/python -m pytest

reproduce: setup  ## all quick claims of all systems
	$(BIN)/dosimeter reproduce --all --size quick

lint: setup  ## ruff, and mypy on core, stats and study
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup  ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup  ## the documentation as a site, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: setup  ## our speed against named peers
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

clean:  ## remove what was built (not .dosimeter)
	rm -rf .venv site build demo-report .pytest_cache .mypy_cache .ruff_cache
