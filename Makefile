# Two commands on a fresh machine: `make demo` and `make test`. Both make their own .venv first.
PYTHON ?= python3
BIN := .venv/bin
# Of 15,000 files a few thousand are ever imported; each is compiled then.
INSTALL = $(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt

.PHONY: demo test test-all ladder ladder-rus-eng check format clean

demo: .venv/ready
	$(BIN)/kotya demo

test: check
	$(BIN)/pytest --numprocesses auto --dist loadfile -m "not slow"

test-all: check
	$(BIN)/pytest --numprocesses auto --dist loadfile

# Every rung on the same data, trained if it is not yet, in one table: docs/results/. Hours on a CPU; stop it when you like.
ladder: .venv/ready
	$(BIN)/python -m ladder multi30k

ladder-rus-eng: .venv/ready
	$(BIN)/python -m ladder rus-eng

check: .venv/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/ready-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# torch comes first and alone: 2.13.0 as pinned, so that nothing later pulls another build of it.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(INSTALL) --upgrade pip
	$(INSTALL) torch
	$(INSTALL) --editable .
	touch $@

.venv/ready-dev: .venv/ready
	$(INSTALL) --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv dist .mypy_cache .ruff_cache .pytest_cache
