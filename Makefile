# `make dev` runs Peal on this machine, `make test` tests it. Every target first installs what it needs, and nothing else.
PYTHON ?= python3
STAGE ?= local
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
OLD := Peal needs Python 3.11 or newer, this is %d.%d: try make PYTHON=python3.12
NOT_E2E := --ignore=tests/e2e --ignore=tests/browser

.PHONY: help setup dev check format test quick coverage pythons test-deploy test-browser sdk example documents validate \
  deploy destroy package policies matrix any-project autobahn bench clean

help: ## list the targets
	@sed -n 's/^\([a-z -]*\):.*## /\1: /p' Makefile

setup: .venv/dev.txt ## make the environment, .venv; the others do it themselves

# A list of tools/requirements is installed when it has changed since it was copied to .venv.
.venv/dev.txt: requirements.txt tools/requirements/dev.txt packages/VERSION $(wildcard packages/*/pyproject.toml)
	@$(PYTHON) -c 'import sys; sys.exit("$(OLD)" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(PIP) install --no-compile --requirement tools/requirements/dev.txt
	@cp tools/requirements/dev.txt $@

.venv/%.txt: tools/requirements/%.txt .venv/dev.txt
	$(PIP) install --no-compile --requirement $<
	@cp $< $@

dev: setup ## run the app, its WebSocket gateway and DynamoDB on this machine
	@exec $(BIN)/python -m localgateway --stage $(STAGE) $(ARGS)

check: .venv/check.txt ## run the linters and the type checker
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/check.txt ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: .venv/test.txt ## run the tests, or some of them: ARGS="-k registry"
	$(BIN)/pytest $(NOT_E2E) $(ARGS)

quick: .venv/test.txt ## run all but the slow tests
	$(BIN)/pytest $(NOT_E2E) -m "not slow" $(ARGS)

coverage: .venv/test.txt ## run the tests with more examples each, and measure their coverage
	HYPOTHESIS_PROFILE=thorough $(BIN)/pytest $(NOT_E2E) --cov $(ARGS)

pythons: setup ## run some of the tests on each Python from 3.11 to 3.14 that is installed
	$(BIN)/python tools/checks/pythons.py $(ARGS)

test-deploy: .venv/e2e.txt .venv/wheels ## check what is packaged; deploy to an emulator of AWS, use what was deployed, destroy it
	$(BIN)/pytest tests/e2e --dist=loadscope $(ARGS)

# What Chalice packages, for this machine and for Lambda, so that these tests need no network.
.venv/wheels: requirements.txt .venv/dev.txt
	$(PIP) download --requirement requirements.txt --dest $@
	$(PIP) download --requirement requirements.txt --dest $@ --only-binary=:all: --platform manylinux2014_x86_64
	@touch $@

test-browser: .venv/browser.txt ## drive the console and the example in Chromium, if one is installed
	$(BIN)/pytest tests/browser --dist=loadscope $(ARGS)

sdk: tests/sdk/node_modules examples/chat/node_modules ## fetch the official JavaScript SDK, which tests use if it is there; needs Node.js and npm

%/node_modules: %/package-lock.json
	npm ci --prefix $* --ignore-scripts --no-audit --no-fund
	@touch $@

example: examples/chat/node_modules ## serve the example to a browser, beside `make dev`; needs npm once
	@echo "The example is at http://127.0.0.1:8080"
	@$(PYTHON) -m http.server 8080 --bind 127.0.0.1 --directory examples/chat

documents: setup ## write docs/asyncapi.json, docs/openapi.json and docs/peal.d.ts again
	$(BIN)/python -m tools.documents

validate: tests/js/node_modules ## check these with AsyncAPI's parser and TypeScript; needs Node.js and npm
	npm test --silent --prefix tests/js

deploy destroy package policies: setup ## a stage to AWS, STAGE=dev; away; for CloudFormation; all stages' IAM policies
	@$(BIN)/pealctl $@ --stage $(STAGE) $(CONFIRMED)
destroy: CONFIRMED = $(if $(CONFIRM),--confirm $(CONFIRM))
package: .venv/package.txt

matrix: SCRIPT := tools/checks/client_matrix.py
any-project: SCRIPT := tools/checks/any_project.py
autobahn: SCRIPT := tools/checks/autobahn.py
bench: SCRIPT := tools/benchmarks/bench_gateway.py
matrix any-project autobahn bench: setup ## check more, or measure; these fetch what they need
	$(BIN)/python $(SCRIPT) $(ARGS)

clean: ## remove .venv and all caches
	rm -rf .venv .pythons tests/js/node_modules tests/sdk/node_modules examples/chat/node_modules .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage
