# Two commands are enough: `make dev` runs Peal on this machine, `make test` proves it. Needs Python 3.11 or newer.
PYTHON ?= python3
STAGE ?= local
BIN := .venv/bin
OLD := Peal needs Python 3.11 or newer, this is %d.%d: try make PYTHON=python3.12

.PHONY: help setup sdk example dev check format documents validate test test-deploy test-browser deploy destroy package policies matrix any-project autobahn bench clean

help: ## list the targets
	@sed -n 's/^\([a-z -]*\):.*## /\1: /p' Makefile

setup: .venv/installed ## make the environment, .venv; the others do it themselves

.venv/installed: requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit("$(OLD)" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable packages/localgateway --editable packages/pealctl
# What Chalice packages, for this machine and for Lambda, so that tests need no network.
	for platform in "" "--only-binary=:all: --platform manylinux2014_x86_64"; do $(BIN)/python -m pip download --quiet \
	  --disable-pip-version-check --requirement requirements.txt --dest .venv/wheels $$platform || exit 1; done
	@touch $@

sdk: tests/sdk/node_modules examples/chat/node_modules ## fetch the official JavaScript SDK, which tests try if it is there; needs Node.js and npm

tests/sdk/node_modules examples/chat/node_modules: %/node_modules: %/package-lock.json
	npm ci --prefix $* --ignore-scripts --no-audit --no-fund
	@touch $@

example: examples/chat/node_modules ## serve the example to a browser, beside `make dev`; needs npm once
	@echo "The example is at http://127.0.0.1:8080"
	@$(PYTHON) -m http.server 8080 --bind 127.0.0.1 --directory examples/chat

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

documents: setup ## write docs/asyncapi.json, docs/openapi.json and docs/peal.d.ts anew
	$(BIN)/python -m tools.documents

validate: tests/js/node_modules ## check these with AsyncAPI's parser and TypeScript; needs Node.js and npm
	npm test --silent --prefix tests/js

tests/js/node_modules: tests/js/package-lock.json
	npm ci --prefix tests/js --ignore-scripts --no-audit --no-fund
	@touch $@

# One process more than two cores: some of what tests do is wait.
test: setup ## run the tests
	$(BIN)/pytest --numprocesses=3 --ignore=tests/e2e --ignore=tests/browser $(ARGS)

test-deploy: setup ## check what is packaged; deploy to an emulator of AWS, use what was deployed, and destroy it
	$(BIN)/pytest tests/e2e --no-cov --dist loadscope $(ARGS)

test-browser: .venv/browser ## drive the console and the example in Chromium, if one is installed
	$(BIN)/pytest tests/browser --no-cov --dist loadscope $(ARGS)

.venv/browser: .venv/installed requirements-browser.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-browser.txt
	@touch $@

deploy destroy package policies: setup ## a stage to AWS, STAGE=dev; away; for CloudFormation; all stages' IAM policies
	@$(BIN)/python -m pealctl.deploy $@ --stage $(STAGE) $(if $(CONFIRM),--confirm $(CONFIRM))

matrix: SCRIPT := tools/checks/client_matrix.py
any-project: SCRIPT := tools/checks/any_project.py
autobahn: SCRIPT := tools/checks/autobahn.py
bench: SCRIPT := tools/benchmarks/bench_gateway.py
matrix any-project autobahn bench: setup ## prove more, or measure; these fetch what they need
	$(BIN)/python $(SCRIPT) $(ARGS)

clean: ## remove .venv and all caches
	rm -rf .venv tests/js/node_modules tests/sdk/node_modules examples/chat/node_modules .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage
