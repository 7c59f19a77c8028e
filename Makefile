PYTHON ?= python3
BIN := .venv/bin

.PHONY: quickstart rsicd-lite archive-demo localize-demo serve-demo sweep-demo install test test-slow bench soak mutants lint

quickstart: install
	$(BIN)/rsretrieval fit -c quickstart
	$(BIN)/rsretrieval test -c quickstart --ckpt_path best

# Trains on the parquet files in DATA, or goes on where an interrupted run stopped.
rsicd-lite: install
	test -d "$(DATA)" || { echo "give the folder of RSICD's parquet files: make rsicd-lite DATA=FOLDER"; exit 2; }
	$(BIN)/rsretrieval fit -c rsicd_lite --data.path "$(DATA)" --ckpt_path auto

# A mosaic of embedded scenes with known places, from the model of quickstart to answers on a map; no download.
DEMO := runs/archive_demo
archive-demo: install
	test -f runs/quickstart/checkpoints/best.ckpt || $(MAKE) quickstart
	$(BIN)/python benchmarks/archive_demo.py mosaic $(DEMO)
	$(BIN)/rsretrieval embed runs/quickstart/checkpoints/best.ckpt $(DEMO)/mosaic.tif --to $(DEMO)/archive
	$(BIN)/rsretrieval index $(DEMO)/archive
	$(BIN)/rsretrieval search $(DEMO)/archive "two blue planes beside a runway" --k 5
	$(BIN)/rsretrieval search $(DEMO)/archive "two blue planes beside a runway" --k 24 --format gpkg --to $(DEMO)/answers.gpkg
	$(BIN)/rsretrieval search $(DEMO)/archive "two blue planes beside a runway" --k 24 --format png --to $(DEMO)/answers.png
	$(BIN)/python benchmarks/archive_demo.py check $(DEMO)

# Where in that mosaic something is: heat maps, a map of all kinds of scenes, and whether peaks lie where they should.
MAPS := --model runs/quickstart/checkpoints/best.ckpt --scales "[96]" --smooth "gaussian 95"
localize-demo: install
	test -f runs/quickstart/checkpoints/best.ckpt || $(MAKE) quickstart
	test -f $(DEMO)/mosaic.tif || $(BIN)/python benchmarks/archive_demo.py mosaic $(DEMO)
	$(BIN)/rsretrieval localize $(DEMO)/mosaic.tif "ships in a harbour" $(MAPS) --to $(DEMO)/harbour
	$(BIN)/rsretrieval localize $(DEMO)/mosaic.tif --queries benchmarks/demo_scenes.txt $(MAPS) --to $(DEMO)/scenes
	$(BIN)/python benchmarks/localize.py hits $(DEMO) --queries benchmarks/demo_scenes.txt --model runs/quickstart/checkpoints/best.ckpt \
		--scales 96 --smooth "gaussian 95"

# The archive of that mosaic in a browser, until Ctrl-C; no download.
serve-demo: install
	test -f $(DEMO)/archive/index/kind.txt || $(MAKE) archive-demo
	$(BIN)/rsretrieval serve $(DEMO)/archive --title "Embedded scenes" --open true

# A sweep over the embedded scenes, without a server; called again it goes on.
sweep-demo: install
	$(BIN)/rsretrieval sweep demo --jobs 2

install: .venv/installed

.venv/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[lite,dev]'
	touch $@

test: install
	$(BIN)/python -m pytest -m "not slow and not soak"

test-slow: install
	$(BIN)/python -m pytest -m slow -n 2

# Ratios of times against what one would write instead, into docs/benchmarks.md; nothing else should be at work.
bench: install
	$(BIN)/python benchmarks/speed --to docs/benchmarks.md

# Run before an issue is closed, not part of CI: random inputs at length (fifty times the examples), a server
# under load, and mutants.
soak: install mutants
	RSRETRIEVAL_SOAK=50 $(BIN)/python -m pytest -m "soak or hypothesis"

# Called again it goes on. Survivors are listed at the end: each is killed by a test, or explained.
mutants: install
	test -d build/mutants || { mkdir -p build/mutants && cp -r src tests configs setup.cfg pyproject.toml build/mutants; }
	cd build/mutants && rm -f warm.socket && export PYTHONPATH=src PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1 && \
	  export PATH="$(CURDIR)/$(BIN):$$PATH" && { python tests/warm.py serve & } && trap "kill $$!" EXIT && \
	  { test -f session.sqlite || { cosmic-ray init tests/cosmic-ray.toml session.sqlite && \
	    cr-filter-operators session.sqlite tests/cosmic-ray.toml; }; } && \
	  cosmic-ray exec tests/cosmic-ray.toml session.sqlite && cr-report --surviving-only --show-diff session.sqlite

lint: install
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy
