# make demo   everything on a small generated data set, with one picture at the end
# make test   the tests            make lint   style, types, complexity            make format   put code in shape
#
# Each makes its environment in .venv first, once; constraints.txt holds the versions. Another Python: make PYTHON=...

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
SUITABLE := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14 python; do \
	"$$p" -c '$(SUITABLE)' 2>/dev/null && { echo "$$p"; break; }; done)
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
DECIDES := pyproject.toml setup.py constraints.txt $(wildcard csrc/*/*)

.PHONY: demo test lint format clean

demo: $(VENV)/.installed
	$(BIN)/anatomad_demo

# Some tests train: each worker wants a core and 3 GB, so there are no more than four, and threads would only wait for
# each other.
test: export OMP_NUM_THREADS ?= 1
test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

# mypy does not know that planner/ is installed as anatomad.planner: it reads a tree of links that says so.
lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build/types && mkdir -p build/types/anatomad
	ln -s $(CURDIR)/anatomad/* build/types/anatomad/ && ln -s $(CURDIR)/planner build/types/anatomad/planner
	cd build/types && $(CURDIR)/$(BIN)/mypy --config-file $(CURDIR)/pyproject.toml -p anatomad
	$(BIN)/xenon --max-absolute B anatomad planner

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info

$(VENV)/.installed: $(DECIDES) | $(VENV)/bin/python
	$(INSTALL) -e .
	touch $@

$(VENV)/.installed-dev: $(DECIDES) | $(VENV)/bin/python
	$(INSTALL) -e '.[dev]'
	touch $@ $(VENV)/.installed

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "no Python of at least 3.11 with venv found; name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
