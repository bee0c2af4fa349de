# `make` or `make help` lists the targets. Each installs what it misses and is safe to repeat.
# Variables: PYTHON=/path/to/python3, CONFIG=relay.toml (run), FUZZ_SECONDS=600 (fuzz).
SHELL := /bin/sh
PY := .venv/bin/python
NATIVE := setup.py $(wildcard native/*)
BUILT := build/native.stamp
MODULES := web/node_modules/.package-lock.json
PAGES := build/pages.stamp
FUZZ_SECONDS ?= 600
CONFIG ?=
export PYTHONDONTWRITEBYTECODE ?=

.DEFAULT_GOAL := help
.PHONY: help build demo run test check bench soak fuzz debug-test clean setup-build setup-demo \
	setup-run setup-test setup-debug

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14

build: setup-build $(BUILT) ## everything that .venv/bin/relay needs

demo: setup-demo $(BUILT) ## a call through the relay between two SIP endpoints, checked
	.venv/bin/relay demo

run: setup-run $(BUILT) $(PAGES) ## serve until Ctrl-C: a laptop region with two browser phones, or CONFIG=relay.toml
	.venv/bin/relay serve $(if $(CONFIG),--config $(CONFIG),--demo-clients)

test: setup-test $(BUILT) $(PAGES) ## all tests
	$(PY) -m tests

check: setup-test $(BUILT) $(PAGES) ## what CI runs: build, ruff, mypy, import-linter, pytest
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports
	$(PY) -m tests -ra

bench: setup-test $(BUILT) ## all figures, one JSON line each, also in build/bench.jsonl
	$(PY) -m bench

soak: setup-test $(BUILT) ## 20,000 calls with random events: nothing may stay behind
	$(PY) -m bench.soak

fuzz: setup-test $(BUILT) ## fuzz the parsers for FUZZ_SECONDS
	RELAY_FUZZ_SECONDS=$(FUZZ_SECONDS) $(PY) -m pytest tests/fuzz --timeout 0

debug-test: setup-debug ## the native tests under AddressSanitizer and UBSan
	.ci/debug-test

clean: ## remove what was built (recordings in var/ stay)
	rm -rf .venv build dist *.egg-info relay/*.so relay/control/page web/node_modules .mypy_cache .ruff_cache .pytest_cache \
		.hypothesis .import_linter_cache
	find relay tests bench -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

setup-build setup-demo setup-run setup-test setup-debug: setup-%:
	@.ci/setup $*

# The extension beside the package; setup.py says itself what is out of date.
$(BUILT): $(NATIVE) | $(filter setup-%,$(MAKECMDGOALS))
	$(PY) setup.py -q build_ext --inplace
	@mkdir -p build && touch $@

# The demo page and the pages of the browser tests, by what the lock file says and nothing else.
$(PAGES): $(MODULES) $(wildcard web/*.mjs web/src/* web/test/*)
	node web/build.mjs
	@mkdir -p build && touch $@

$(MODULES): web/package.json web/package-lock.json | $(filter setup-%,$(MAKECMDGOALS))
	cd web && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@
