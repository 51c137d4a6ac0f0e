# Two commands are enough: `make dev` runs Peal on this machine, `make test` proves it. Needs Python 3.11 or newer.
PYTHON ?= python3
STAGE ?= local
BIN := .venv/bin

.PHONY: help setup dev check format test clean

help:
	@echo "make dev      run the app, the WebSocket gateway and DynamoDB on this machine"
	@echo "make test     run the tests"
	@echo "make check    run the linters and the type checker"
	@echo "make format   format the code"
	@echo "make setup    create .venv (the others do it themselves)"
	@echo "make clean    remove .venv and all caches"

setup: .venv/installed

.venv/installed: requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit("Peal needs Python 3.11 or newer, this is %d.%d: try make PYTHON=python3.12" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-dev.txt
	@touch $@

dev: setup
	@exec $(BIN)/python -m localgateway --stage $(STAGE) $(ARGS)

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: setup
	$(BIN)/pytest $(ARGS)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage
