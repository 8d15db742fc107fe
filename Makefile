# `make check`: format, lint, types, import contracts and the fast tests. Needs no root and no network, under a minute.
PY ?= .venv/bin/python
BIN = $(dir $(PY))

.PHONY: check format lint types imports fast test
check: lint types imports fast

format:
	$(BIN)ruff format src tests bench
	$(BIN)ruff check --fix src tests bench
lint:
	$(BIN)ruff check src tests bench
	$(BIN)ruff format --check src tests bench
types:
	$(BIN)mypy
imports:
	$(BIN)lint-imports
fast:
	$(PY) -m pytest -m "not root and not slow" -n auto tests
test:
	script/test
