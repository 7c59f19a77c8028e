PYTHON ?= python3
BIN := .venv/bin

.PHONY: quickstart rsicd-lite install test test-slow soak lint

quickstart: install
	$(BIN)/rsretrieval fit -c quickstart
	$(BIN)/rsretrieval test -c quickstart --ckpt_path best

# Trains on the parquet files in DATA, or goes on where an interrupted run stopped.
rsicd-lite: install
	test -d "$(DATA)" || { echo "give the folder of RSICD's parquet files: make rsicd-lite DATA=FOLDER"; exit 2; }
	$(BIN)/rsretrieval fit -c rsicd_lite --data.path "$(DATA)" \
	  $$(ls runs/rsicd_lite/checkpoints/last*.ckpt >/dev/null 2>&1 && echo --ckpt_path last)

install: .venv/installed

.venv/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[lite,dev]'
	touch $@

test: install
	$(BIN)/python -m pytest -m "not slow and not soak"

test-slow: install
	$(BIN)/python -m pytest -m slow -n 1

# Random inputs at length (forty times the examples); run before an issue is closed, not part of CI.
soak: install
	RSRETRIEVAL_SOAK=40 $(BIN)/python -m pytest -m "soak or hypothesis"

lint: install
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy
