# Everything a developer runs. Needs make and Python 3.11; Go too for grpcurl (a few tests) and buf (lint).
#
# PYTHON=python3.12 make test   picks the Python that .venv is made of
# make test ARGS="-x"           hands arguments to pytest
# make test WORKERS=0           runs the tests in one process
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
GO ?= go
ARGS ?=
WORKERS ?= 2
NODES ?= 5
SEEDS ?= 0..99999

GRPCURL_VERSION := v1.9.3
BUF_VERSION := v1.50.0

VENV := .venv
BIN := $(VENV)/bin
TOOLS := $(CURDIR)/.tools/bin
WITH_TOOLS := PATH="$(TOOLS):$$PATH"
# The theme's advertisement of its successor is no warning of ours.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs

.PHONY: help setup demo test clients soak lint format buf-lint freeze proto proto-check docs api docs-check site site-serve \
  bench build package theory transcript clean

help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(VENV)/dev.stamp ## Make .venv with everything for development

demo: $(VENV)/run.stamp ## Run a cluster of NODES (default 5) nodes on this machine
	$(BIN)/gossip-grpc demo --nodes $(NODES)

test: $(VENV)/dev.stamp .tools/grpcurl-$(GRPCURL_VERSION).stamp ## Run all tests, then the two coverage gates
	@mkdir -p build
	@$(BIN)/coverage erase
	@$(WITH_TOOLS) $(BIN)/pytest --numprocesses $(WORKERS) --dist loadfile --cov --cov-report= --junitxml=build/junit.xml $(ARGS)
	@echo "Coverage of gossip_grpc/core: every line and every branch"
	@$(BIN)/coverage report --include='gossip_grpc/core/**' --fail-under=100
	@echo "Coverage of the package: 90 % of lines and branches"
	@$(BIN)/coverage report --fail-under=90

clients: $(VENV)/run.stamp .tools/buf-$(BUF_VERSION).stamp ## Build the example clients, and run them against a cluster whose nodes fail
	@$(BIN)/python examples/clients/run.py $(ARGS)

soak: $(VENV)/dev.stamp ## Simulate SEEDS (default 100,000) random clusters under all checkers
	$(BIN)/gossip-grpc simulate check --seeds $(SEEDS)

lint: $(VENV)/dev.stamp buf-lint ## Check style, types and the schema
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/dev.stamp ## Put code into the project's form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

buf-lint: .tools/buf-$(BUF_VERSION).stamp ## Check the schema: style, and compatibility with its last version
	@$(WITH_TOOLS) .ci/buf-lint

freeze: .tools/buf-$(BUF_VERSION).stamp ## Promise the schema as it is now: later ones must be compatible with it
	@$(WITH_TOOLS) .ci/buf-lint
	@$(WITH_TOOLS) buf build --output .ci/schema.binpb.gz

proto: $(VENV)/python.stamp ## Generate the stubs from proto/
	$(BIN)/python proto/generate.py

proto-check: $(VENV)/python.stamp ## Check that the committed stubs are fresh
	$(BIN)/python proto/generate.py --check

docs: $(VENV)/dev.stamp ## Generate the API, command line and configuration pages of docs/
	$(BIN)/python -m docs.generate

api: $(VENV)/dev.stamp ## Generate docs/api.md from proto/
	$(BIN)/python -m docs.generate api

docs-check: $(VENV)/dev.stamp ## Check that the generated pages of docs/ are fresh
	$(BIN)/python -m docs.generate --check

site: $(VENV)/dev.stamp ## Build the documentation as a site into build/site
	@$(MKDOCS) build

site-serve: $(VENV)/dev.stamp ## Show the site on http://127.0.0.1:8000 while you write
	@$(MKDOCS) serve

bench: $(VENV)/dev.stamp ## Run the benchmarks
	$(BIN)/python -m bench $(ARGS)

theory: $(VENV)/dev.stamp ## Make the plots and tables of theory.md and failure-detection.md anew (ARGS=--check compares)
	$(BIN)/python docs/theory.py $(ARGS)

transcript: $(VENV)/dev.stamp .tools/grpcurl-$(GRPCURL_VERSION).stamp ## Run the commands of docs/grpcurl.md anew, and put into it what they print
	@$(WITH_TOOLS) $(BIN)/python -m tests.transcripts docs/grpcurl.md

build: .tools/build.stamp ## Build sdist and wheel into dist/: the same commit gives the same bytes
	rm -rf dist
	SOURCE_DATE_EPOCH=$(or $(SOURCE_DATE_EPOCH),$(shell git log -1 --format=%ct 2>/dev/null),1580601600) \
	  .tools/build/bin/python -m build --no-isolation --outdir dist

package: .tools/package.stamp ## Try the package as its users get it (PYTHONS=all: on every Python it supports)
	@.ci/package

clean: ## Remove everything that make has made
	rm -rf .venv .tools .cache build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.*
	cd examples/clients && rm -rf go/gen go/tour java/target python/.venv python/stubs rust/target \
	  typescript/dist typescript/node_modules typescript/src/gen
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# --- environments and tools, each remade only when what it is made of changes ---

$(VENV)/python.stamp:
	@command -v $(PYTHON) >/dev/null || { echo "gossip-grpc needs Python 3.11 or newer; there is no '$(PYTHON)'." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "gossip-grpc needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1)." >&2; \
	  echo "Name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/run.stamp: $(VENV)/python.stamp pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/python.stamp pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,docs,uvloop,sim]'
	@touch $(VENV)/run.stamp $@

# What builds the package, and what tries it: environments of their own, pinned.
.tools/build.stamp .tools/package.stamp: .tools/%.stamp: .ci/%-requirements.txt $(VENV)/python.stamp
	$(BIN)/python -m venv --clear .tools/$*
	.tools/$*/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

.tools/grpcurl-$(GRPCURL_VERSION).stamp:
	$(call go-install,github.com/fullstorydev/grpcurl/cmd/grpcurl@$(GRPCURL_VERSION),the tests that need grpcurl are skipped)

.tools/buf-$(BUF_VERSION).stamp:
	$(call go-install,github.com/bufbuild/buf/cmd/buf@$(BUF_VERSION),the schema is not linted)

# A tool written in Go: installed below .tools when Go is there; without Go it does without, and says so.
define go-install
@if command -v $(GO) >/dev/null; then \
  echo "GOBIN=.tools/bin $(GO) install $(1)"; \
  GOBIN="$(TOOLS)" $(GO) install $(1) && touch $@; \
else \
  echo "There is no Go to install $(1) with; unless it is on PATH, $(2)."; \
fi
endef
