# Muster: `make help` lists what there is.
SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
UV_PIP := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes
PYTEST := $(BIN)/python -m pytest
SOURCES := crm lifecycle sync tests manage.py

# The environment is made anew when a lock changed, never otherwise. The development lock holds all of
# the runtime lock, and nothing is ever removed: `make test` can't pull a package from under `make up`.
hash = $(shell cat $(1) 2>/dev/null | sha256sum | cut -c1-16)
RUNTIME := $(VENV)/.runtime-$(call hash,requirements.txt)
DEVELOPMENT := $(VENV)/.development-$(call hash,requirements-dev.txt)

.PHONY: help up demo ps test chaos bench check format lock

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | \
	  awk -F'\t' '{ printf "  make %-8s %s\n", $$1, $$2 }'
	@echo "Variables: PORT=8000 MUSTER_HOME=var PYTHON=python3.x PYTEST_ARGS='tests/unit -k name' BENCH=sync BENCH_ARGS='--part ready'"

up: $(RUNTIME)  ## bring up everything and keep it up until Ctrl-C
	@exec $(BIN)/python manage.py up

demo: $(RUNTIME)  ## the same with a real chat server, accounts and people who write
	@exec $(BIN)/python manage.py demo

ps: $(RUNTIME)  ## list every part and worker that runs
	@exec $(BIN)/python manage.py ps

test: $(DEVELOPMENT)  ## all tests, or those that PYTEST_ARGS names
ifdef PYTEST_ARGS
	$(PYTEST) $(PYTEST_ARGS)
else
	$(PYTEST) tests/unit
	$(PYTEST) tests/db tests/contract -n 2
	$(PYTEST) tests/e2e tests/chaos -n 2 --dist loadfile --no-loadscope-reorder
endif

chaos: $(DEVELOPMENT)  ## an hour each of kill -9 at workers and at sync (MUSTER_CHAOS_MINUTES, MUSTER_CHAOS_SEED)
	MUSTER_CHAOS_MINUTES=$${MUSTER_CHAOS_MINUTES:-60} $(PYTEST) -s --session-timeout 1000000 tests/chaos/test_supervision.py tests/chaos/test_sync.py

BENCH ?= supervision
BENCHES := supervision sync scheduling consoles hooks
bench: $(DEVELOPMENT)  ## a benchmark: BENCH=supervision (20 minutes), sync, scheduling, consoles or hooks
	$(if $(filter $(BENCHES),$(BENCH)),,$(error BENCH is one of: $(BENCHES)))
	$(BIN)/python -m tests.benchmarks.$(BENCH) $(BENCH_ARGS)

# Loading the settings makes keys: not in anybody's home.
check: export MUSTER_HOME := $(CURDIR)/.mypy_cache/home
check: $(DEVELOPMENT)  ## format, lint, types, import contracts, Django's own checks
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python -m mypy $(SOURCES)
	$(BIN)/lint-imports
	$(BIN)/python manage.py check --fail-level WARNING

format: $(DEVELOPMENT)  ## format and sort the code
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

COMPILE := $(BIN)/uv pip compile pyproject.toml --quiet --upgrade --universal --generate-hashes \
  --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"
lock: $(BIN)/uv  ## resolve pyproject.toml anew into the two lock files
	$(COMPILE) --output-file requirements.txt
	$(COMPILE) --group dev --constraints requirements.txt --output-file requirements-dev.txt

# --- environment ---

$(RUNTIME): | $(BIN)/uv
	@echo "installing requirements.txt into $(VENV)"
	@$(UV_PIP) --requirements requirements.txt
	@rm -f $(VENV)/.runtime-* && touch $@

$(DEVELOPMENT): | $(BIN)/uv
	@echo "installing requirements-dev.txt into $(VENV)"
	@$(UV_PIP) --requirements requirements-dev.txt
	@rm -f $(VENV)/.development-* && touch $@

# uv itself is pinned, with its hashes, in requirements-dev.txt.
$(BIN)/uv:
	@for python in "$(PYTHON)" python3 python3.13 python3.12 python3.11; do \
	  [ -n "$$python" ] && "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	    && break; python=; \
	  [ -z "$(PYTHON)" ] || break; \
	done; \
	[ -n "$$python" ] || { echo "Muster needs Python 3.11 or newer: install it, or name one that" \
	  "works: make up PYTHON=/path/to/python3" >&2; exit 1; }; \
	echo "making $(VENV) with $$("$$python" --version)"; \
	"$$python" -m venv $(VENV) || { echo "Python can't make a virtual environment; on Debian and" \
	  "Ubuntu: apt install python3-venv" >&2; rm -rf $(VENV); exit 1; }
	@awk '/^uv==/ { on = 1 } on { print } on && !/\\$$/ { exit }' requirements-dev.txt > $(VENV)/uv.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
	  --requirement $(VENV)/uv.txt
