# Every target installs or builds what it lacks first; `make` alone lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/sluice
export CARGO_TARGET_DIR ?= $(CACHE)/target
BIN := .venv/bin
OPA = $(CACHE)/opa-$(shell awk '$$1 == "github.com/open-policy-agent/opa" {print substr($$2, 2)}' tools/go.mod)/opa

help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

setup: ## Install and build everything that `test`, `check` and `corpus` need
	@tools/setup.sh test

try: ## See Sluice at work on one screen, with a database of its own (KEEP=1: stays up to play with)
	@tools/setup.sh core
	@$(BIN)/python tools/try/try.py $(if $(KEEP),--keep)

demo: ## Bring up a cluster with Sluice and an application, governed and not (CLUSTER=kind|current: not our own one-node cluster)
	@tools/setup.sh core
	@$(BIN)/python tools/demo/demo.py

demo-down: ## Remove what `make demo` and `make e2e` brought up
	@$(BIN)/python tools/demo/demo.py --down

images: ## Build the images as docker-archive tars and print their names and files
	@tools/setup.sh core
	@tools/cluster images --build-only

e2e: setup ## Run the end-to-end stories on a real cluster, brought up when there is none (ONLY=name of a story)
	@$(BIN)/python -m sluice_dev.stories $(ONLY)

test: setup ## Run every test suite, then the corpora against the ratchet
	@tools/test.sh

test-all: test ## As `test`, then corpora, fuzzer and allow-lists on every major version of PostgreSQL
	@tools/majors.sh
	@tools/test-majors.sh

check: setup ## Check formats, types, lints, import rules, stubs and generated files
	@tools/check.sh

corpus: setup ## Run the corpora against Sluice (CORPUS=DIR: cases and clients from there; SERVE=1: start it all and wait)
	@$(BIN)/python tests/corpus/run.py $(if $(CORPUS),--corpus "$(CORPUS)") $(if $(SERVE),--serve) $(if $(ONLY),--only "$(ONLY)") $(if $(PARTS),--parts "$(PARTS)")

corpus-ratchet: setup ## Run the corpora and lower the committed ratchet to the counts seen
	@$(BIN)/python tests/corpus/run.py --ratchet tests/corpus/ratchet.json --update-ratchet

fuzz: setup ## Ask two worlds that differ in hidden values the same random statements (STATEMENTS=20000 not denied; SEED=; MAJOR=; RECORD=file)
	@$(BIN)/python -m sluice_dev.worlds --statements $(or $(STATEMENTS),20000) $(if $(SEED),--seed $(SEED)) $(if $(MAJOR),--major $(MAJOR)) $(if $(CORPUS),--corpus "$(CORPUS)") $(if $(RECORD),--record "$(RECORD)") --log "$(CACHE)/fuzz.log"

bench: ## Measure, and write a dated record under bench/record/ (BENCH=path|sql|huge|operator)
	@tools/setup.sh bench
	@$(BIN)/python bench/run.py $(or $(BENCH),path)

native: setup ## Build the Rust extension anew when its sources changed, and put it in place

format: setup ## Format Python, Rust and Rego
	@$(BIN)/ruff check -q --fix . ; $(BIN)/ruff format -q . ; cargo fmt
	@$(OPA) fmt -w policy/rego

clean: ## Remove what was built inside the tree (what is cached outside it stays)
	@rm -rf .venv target dist tests/corpus/node_modules proxy/src/sluice_proxy/_native*.so
	@rm -rf .pytest_cache .ruff_cache .hypothesis .import_linter_cache .mypy_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help setup try demo demo-down images e2e test check corpus corpus-ratchet fuzz bench native format clean
