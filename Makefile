# `make` alone lists what there is.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.SILENT:
.PHONY: help demo test test-long lint docs clean python server-python server always
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-builtin-rules --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt
TRAINED := build/models/cnn/training.json
EXPORTED := triton_models/cnn/export.json
SLOWEST := --durations 25 --durations-min 10
# What starts no server: the unit tests, and those that train.
SERVERLESS := tests/unit $(addprefix tests/integration/,test_train.py test_train_tuning.py)
# Two at a time, of which one has all that starts a server here (tests/conftest.py); what measures goes alone.
SHARED := --numprocesses 2 --dist loadfile --no-loadscope-reorder
LEFT_OUT = Left out: all other integration tests, as the embedded server needs Python 3.11 or 3.12 \
	(make $@ SERVER_PYTHON=/path/to/python3.12 runs them too).

# The first of some Pythons that is there, can make an environment, and is one of the versions given.
first = $(shell for python in $(1); do \
	"$$python" -c 'import ensurepip, sys; sys.exit("%d.%d" % sys.version_info[:2] not in "$(2)")' \
	2>/dev/null && echo "$$python" && break; done)

# That of .venv, once there is one.
PYTHON ?= $(call first,$(BIN)/python python3.12 python3.11 python3 python3.13,3.11 3.12 3.13)
# The embedded server needs NumPy 1, which 3.13 has not; everything else runs there too.
SERVER_PYTHON ?= $(call first,$(PYTHON) python3.12 python3.11,3.11 3.12)

help: ## this list
	awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: server $(EXPORTED) ## train the network, serve it on a real Triton, sweep it, report
	$(BIN)/harness run scenarios/quickstart.yaml

test: SELECTED := not long
test: ## all tests but those that measure for minutes
test-long: SELECTED := long
test-long: ## the tests that measure for minutes

# Without a Python for the embedded server, what needs no server.
.SECONDEXPANSION:
test test-long: $$(and $$(SERVER_PYTHON),server) $(VENV)/.dev
	$(BIN)/pytest -m "$(SELECTED) and not alone" $(SLOWEST) $(SHARED) $(if $(SERVER_PYTHON),tests,$(SERVERLESS))
	$(if $(SERVER_PYTHON),$(BIN)/pytest -m "$(SELECTED) and alone" $(SLOWEST) tests,echo >&2 "$(LEFT_OUT)")

lint: $(VENV)/.dev ## formatting, lint rules, types
	$(BIN)/ruff format --check --quiet
	$(BIN)/ruff check --quiet
	$(BIN)/mypy

docs: $(VENV)/.dev ## write docs/cli.md and docs/scenario.md anew from what they describe
	$(BIN)/pytest --quiet --update-golden tests/unit/test_cli_reference.py tests/unit/test_scenario_reference.py

clean: ## remove what make made; runs under reports/ stay
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find triton_models/cnn -mindepth 1 ! -name config.pbtxt -delete

# The Python that is used, or what to do where there is none.
python:
	[[ -n "$(call first,$(PYTHON),3.11 3.12 3.13)" ]] || { echo >&2 \
	"$(or $(PYTHON),Python) will not do: the harness needs Python 3.11, 3.12 or 3.13 with venv" \
	"(Debian: apt-get install python3-venv; elsewhere: make PYTHON=/path/to/python3.12)."; exit 2; }
	$(if $(filter python,$(MAKECMDGOALS)),echo "$(PYTHON)")

server-python: python
	[[ -n "$(SERVER_PYTHON)" ]] || { echo >&2 "The embedded server needs Python 3.11 or 3.12:" \
	"install one of them beside $(PYTHON), or say make SERVER_PYTHON=/path/to/python3.12."; exit 2; }

server: server-python $(VENV)/.demo
	$(BIN)/harness server install --python "$(SERVER_PYTHON)" $(if $(GPU),--gpu)

# A Python that is asked for by name is obeyed: the environment of another one is made anew.
ifeq ($(origin PYTHON),command line)
base := -c 'import sys; print(sys.base_prefix)' 2>/dev/null
ifneq ($(shell $(PYTHON) $(base)),$(shell $(BIN)/python $(base)))
$(BIN)/python $(VENV)/.demo: always
endif
endif

$(BIN)/python: | python
	$(PYTHON) -m venv --clear $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	echo >&2 "Setting up $(VENV) with $$($(BIN)/python --version): a minute or two"
	$(PIP) pip hatchling editables
	$(PIP) --no-build-isolation --editable '.[train]'
	touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(PIP) --no-build-isolation --editable '.[train,dev]'
	touch $@

$(TRAINED): $(wildcard harness/models/*.py) | $(VENV)/.demo
	$(BIN)/harness train

$(EXPORTED): $(TRAINED) $(shell find harness/repository -name '*.py') | $(VENV)/.demo
	$(BIN)/harness export
