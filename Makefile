# Everything runs from .venv, which is made from the hash-pinned requirements and remade when they change.
# Needs Python 3.11, make and git, and nothing else.

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= $(shell for p in python3.11 python3 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
BIN := .venv/bin
READY := .venv/.ready
WORKERS ?= 2

.PHONY: help run test browser bench chaos soak mutants rehearse replay pictures check lock

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

run: $(READY)  ## start everything on this machine (BOOK=none: an empty book; ONCE=1: end after the first cycle)
	@PYTHONPATH=plugins exec $(BIN)/python -m local.run

test: $(READY) browser  ## all tests, in parallel
	$(BIN)/python -m pytest -n $(WORKERS) --ignore tests/acceptance
	$(BIN)/python -m pytest tests/acceptance

browser:  ## install Chromium by apt-get where it is missing and root can
	@for name in chromium chromium-browser google-chrome; do command -v $$name >/dev/null && exit 0; done; \
	test "$$(id -u)" = 0 && command -v apt-get >/dev/null || exit 0; \
	echo "installing Chromium, to look at pages with"; \
	{ apt-get update -qq && $(APT_INSTALL) chromium; } >/dev/null \
	|| echo "Chromium could not be installed: the tests that need it are skipped" >&2

APT_INSTALL = DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends

bench: $(READY)  ## how fast, as ratios (FULL=1: also with 5,000,000 reminders in the ledger)
	@PYTHONPATH=plugins exec $(BIN)/python -m tests.bench $(if $(FULL),--full)

# Its folders by name: only of those that it is given does a pytest with workers read the conftest.py, which prints and
# records. Tests that share real processes are a group, for one worker.
chaos: $(READY)  ## guards taken away, every fault at every point of input and output, kills, 200 days of faults (an hour or more)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m "chaos or always" tests/chaos tests/faults tests/kills tests/soak

soak: $(READY)  ## ten years of random faults on a virtual clock, in about an hour (SEEDS=n; SEED=n and UNTIL=days replay one)
	@PYTHONPATH=plugins exec $(BIN)/python -m tests.soak $(if $(SEEDS),--seeds $(SEEDS)) \
		$(if $(SEED),--seed $(SEED)) $(if $(UNTIL),--until $(UNTIL))

mutants: $(READY)  ## leave out each clause of the SQL, change each line of the policy: which test notices (hours)
	@export PYTHONPATH=plugins; $(BIN)/python -m tests.mutation sql; sql=$$?; $(BIN)/python -m tests.mutation python && exit $$sql

rehearse: $(READY)  ## say what would go out if sending resumed now; sends and changes nothing
	@if [ -f .local/env ]; then . .local/env; fi; PYTHONPATH=plugins exec $(BIN)/python -m reminders.operate rehearse

replay: $(READY)  ## the night of the 13 hours, re-enacted beside the predecessor's (CLIENTS=600, SEED=13, OUT=docs/pictures)
	@PYTHONPATH=plugins exec $(BIN)/python -m tests.drill $(if $(CLIENTS),--clients $(CLIENTS)) \
		$(if $(SEED),--seed $(SEED)) $(if $(OUT),--out $(OUT))

pictures: $(READY) browser  ## take the README's pictures anew, from the make run that is running
	@if [ -f .local/env ]; then . .local/env; fi; PYTHONPATH=plugins exec $(BIN)/python -m local.pictures

check: $(READY)  ## lint, format, types, layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	MYPYPATH=plugins $(BIN)/mypy -p local
	PYTHONPATH=plugins $(BIN)/lint-imports

lock: $(READY)  ## compile the requirements anew, with hashes
	$(COMPILE) requirements.in -o requirements.txt
	$(COMPILE) requirements-dev.in -c requirements.txt -o requirements-dev.txt

COMPILE = $(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --python-version 3.11 \
	--custom-compile-command 'make lock'

SYNC = VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip sync --quiet --require-hashes requirements.txt requirements-dev.txt

# pip installs only uv, by its line and hashes of the requirements; uv then installs exactly what they name.
$(READY): requirements.txt requirements-dev.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 is needed: install it, or say make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "making .venv (a few minutes the first time)"
	@rm -f $@
	@test -x $(BIN)/python && $(BIN)/python -c '' 2>/dev/null || "$(PYTHON)" -m venv --clear .venv
	@sed -n '/^uv==/,/[^\\]$$/p' requirements-dev.txt > .venv/uv.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r .venv/uv.txt
	@$(SYNC) || { echo "trying again with the certificates that this system trusts" >&2; $(SYNC) --system-certs; }
	@touch $@
