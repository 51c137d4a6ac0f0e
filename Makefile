# Two commands are enough: `make dev` runs Peal on this machine, `make test` proves it. Needs Python 3.11 or newer.
PYTHON ?= python3
STAGE ?= local
BIN := .venv/bin
OLD := Peal needs Python 3.11 or newer, this is %d.%d: try make PYTHON=python3.12

.PHONY: help setup dev check format test matrix any-project autobahn bench clean

help: ## list the targets
	@sed -n 's/^\([a-z -]*\):.*## /\1: /p' Makefile

setup: .venv/installed ## make the environment, .venv; the others do it themselves

.venv/installed: requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit("$(OLD)" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-dev.txt
	@touch $@

dev: setup ## run the app, its WebSocket gateway and DynamoDB on this machine
	@exec $(BIN)/python -m localgateway --stage $(STAGE) $(ARGS)

check: setup ## run the linters and the type checker
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: setup ## run the tests
	$(BIN)/pytest $(ARGS)

matrix: SCRIPT := scripts/client_matrix.py
any-project: SCRIPT := scripts/any_project.py
autobahn: SCRIPT := scripts/autobahn.py
bench: SCRIPT := benchmarks/bench_gateway.py
matrix any-project autobahn bench: setup ## prove more, or measure; these fetch what they need
	$(BIN)/python $(SCRIPT) $(ARGS)

clean: ## remove .venv and all caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage
