PYTHON ?= python3
BIN := .venv/bin

.PHONY: quickstart install test lint

quickstart: install
	$(BIN)/rsretrieval fit -c configs/quickstart.yaml
	$(BIN)/rsretrieval test -c configs/quickstart.yaml --ckpt_path best

install: .venv/installed

.venv/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[lite,dev]'
	touch $@

test: install
	$(BIN)/python -m pytest

lint: install
	$(BIN)/ruff check src tests
	$(BIN)/ruff format --check src tests
	$(BIN)/mypy
