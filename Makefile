PYTHON ?= python3
BIN := .venv/bin

.PHONY: quickstart rsicd-lite install test lint

quickstart: install
	$(BIN)/rsretrieval fit -c configs/quickstart.yaml
	$(BIN)/rsretrieval test -c configs/quickstart.yaml --ckpt_path best

# Trains on the parquet files in DATA, or goes on where an interrupted run stopped.
rsicd-lite: install
	test -d "$(DATA)" || { echo "give the folder of RSICD's parquet files: make rsicd-lite DATA=FOLDER"; exit 2; }
	$(BIN)/rsretrieval fit -c configs/rsicd_lite.yaml --data.path "$(DATA)" \
	  $$(ls runs/rsicd_lite/checkpoints/last*.ckpt >/dev/null 2>&1 && echo --ckpt_path last)

install: .venv/installed

.venv/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[lite,dev]'
	touch $@

test: install
	$(BIN)/python -m pytest

lint: install
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy
