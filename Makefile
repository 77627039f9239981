# GNU Make 3.81 and newer. Nothing but Python 3.11 (or newer) is needed; `make bootstrap` brings the rest into .venv.

BIN := .venv/bin
STAMP := .venv/.bootstrapped
MEMBERS := $(wildcard libs/*/pyproject.toml services/*/pyproject.toml tools/pyproject.toml)
NAME ?= demo
ARGS ?=
NEWER ?= python3.13
UNIT := libs/contracts libs/telemetry $(wildcard services/*/tests/unit)

.DEFAULT_GOAL := help
.PHONY: help bootstrap check fix test newer e2e schemas demo up down status simulate bench bench-compare chaos drill skew

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

bootstrap: $(STAMP) ## make .venv from uv.lock (PYTHON=… names an interpreter); the other targets do it by themselves
	@echo ".venv is ready: $$($(BIN)/python --version)"

$(STAMP): uv.lock pyproject.toml $(MEMBERS) deploy/local/bootstrap.sh
	@PYTHON="$(PYTHON)" sh deploy/local/bootstrap.sh
	@touch $@

check: $(STAMP) ## what must hold before a commit; changes nothing
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m contracts.schemas --check

fix: $(STAMP) ## formatting and the lint rules that can repair
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

test: check ## make check, then every test (ARGS="-k name" narrows them)
	$(BIN)/pytest $(ARGS)

newer: ## unit tests on a newer Python too (NEWER=python3.13), in an environment of its own
	@if $(NEWER) -c 'import sys' >/dev/null 2>&1; then \
		PYTHON="$(NEWER)" VENV=.venv-newer sh deploy/local/bootstrap.sh && .venv-newer/bin/pytest $(UNIT) $(ARGS); \
	else echo "newer: not tried, there is no $(NEWER) here"; fi

e2e: $(STAMP) ## only the tests of the whole stack
	$(BIN)/pytest tests/e2e $(ARGS)

schemas: $(STAMP) ## write the JSON Schemas anew after a change of an event model
	$(BIN)/python -m contracts.schemas --write

demo: $(STAMP) ## the whole OMS on this machine, some 300 orders through it (KEEP=1 leaves it running)
	@$(BIN)/python -m tools.demo

up: $(STAMP) ## the whole OMS on this machine, empty, until Ctrl-C (NAME=demo)
	@$(BIN)/python -m tools.stack up --name $(NAME)

down: $(STAMP) ## stop what was left running (NAME=demo)
	@$(BIN)/python -m tools.stack down --name $(NAME)

status: $(STAMP) ## which processes of a stack run, and where (NAME=demo)
	@$(BIN)/python -m tools.stack status --name $(NAME)

simulate: $(STAMP) ## random lives of the whole system, JOBS at once (SEED=1 SEEDS=20 STEPS=150); a failing one is shrunk
	@$(BIN)/python -m tests.world $(if $(SEED),--seed $(SEED)) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(STEPS),--steps $(STEPS)) \
		$(if $(JOBS),--jobs $(JOBS))

bench: $(STAMP) ## measure; figures in .local/bench/ (BENCH=name runs one)
	@$(BIN)/python -m tools.bench

bench-compare: $(STAMP) ## the last figures beside those before, with the noise
	@$(BIN)/python -m tools.bench --compare

chaos: $(STAMP) ## faults under load, each followed by a drain and all checks (DURATION=600, SEED=, ALL=1, FAULT=name)
	@$(BIN)/python -m tools.chaos $(ARGS)

drill: $(STAMP) ## lose each database under load and restore it as docs/restore.md says (SERVICE=router, AGO=300 seconds)
	@$(BIN)/python -m tools.drill $(if $(SERVICE),--service $(SERVICE)) $(if $(AGO),--ago $(AGO))

skew: $(STAMP) ## an older release and this one at once, upgrade and rollback under load (BASE=revision, SERVICE=router)
	@$(BIN)/python -m tools.skew $(if $(BASE),--base $(BASE)) $(if $(SERVICE),--service $(SERVICE))
