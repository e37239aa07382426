# `make demo` and `make test` need python3 (3.10 to 3.13, with pip and venv) and make; they create the rest in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip
# Python compiles what it imports, and keeps it: pip would compile 25,000 files. Where the environment forbids Python
# to keep it, as container images do, each of the tests' processes would compile everything again.
INSTALL := $(PIP) install --no-compile
unexport PYTHONDONTWRITEBYTECODE

# What tests and demo need beyond the core; the reasons stand in pyproject.toml.
TEST_EXTRAS := dev,vision,demo,corpus,ray,dask,cli-yaml,models,optuna,loggers
# These must not be skipped for want of a package: what cannot be imported fails.
TEST_REQUIRES := torchvision,timm,transformers,peft,matplotlib,tensorboard,pyarrow,ray,distributed,jsonargparse,optuna,networkx,scipy,wandb,mlflow,hydra,psycopg2,PIL,psutil,pytorch_lightning
# It needs Python 3.11; what the docs promise rests on the comparison with it.
MAPIE := $(shell $(PYTHON) -c 'import sys; print("mapie" if sys.version_info >= (3, 11) else "")')
# Programs that are no Python packages: without them a few tests are skipped, unless they are named here, as CI does
# (make test TEST_PROGRAMS=program:initdb,program:chromium).
TEST_PROGRAMS ?=

# Test files that run side by side; 0 for none, as a debugger wants it. Three keep two cores busy: tests wait for
# servers, clusters and killed processes a quarter of their time.
TEST_WORKERS ?= 3
# Quick tests wait for nothing, and each worker takes ten seconds to begin.
CHECK_WORKERS ?= 2

# Small networks train fastest on one thread; parallel work uses processes.
export OMP_NUM_THREADS ?= 1

comma := ,

.DEFAULT_GOAL := help
.PHONY: help demo docs check test pre-commit test-programs lint types contract pytest format test-scatter test-deepspeed test-oldest test-wheel constraints corpora-table \
	results-pages predictors clean

help:  ## What can be made.
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/demo.installed  ## Sweep LeNet on digits with the shipped predictor (under 5 minutes).
	$(BIN)/nndyn demo

docs: $(VENV)/docs.installed  ## Build the site into site/: strict, and without network once installed.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

# Tests wait for servers, clusters and processes a good part of their time: mypy's two minutes fit in between.
test: lint contract  ## All that CI checks: lint, types, import contract, tests.
	$(MAKE) -j2 types pytest

check: lint contract  ## The quick answer: lint, types, import contract, and the tests that are not slow.
	$(MAKE) -j2 types pytest TEST_WORKERS=$(CHECK_WORKERS) ARGS='-m "not slow"'

pre-commit: $(VENV)/test.installed  ## Check each commit: lint and contract; types at each push.
	$(BIN)/pre-commit install

lint: $(VENV)/test.installed  ## Style and docstrings.
	$(BIN)/ruff check .

types: $(VENV)/test.installed  ## Static types.
	$(BIN)/mypy

contract: $(VENV)/test.installed  ## Which module may import which.
	$(BIN)/lint-imports

pytest: $(VENV)/test.installed  ## The tests alone; ARGS="tests/graph/test_centrality.py -k degree" picks some.
	NNDYN_TEST_REQUIRES=$(TEST_REQUIRES),$(MAPIE),$(TEST_PROGRAMS) $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder --rerun-show-tracebacks $(ARGS)

test-programs:  ## Install the PostgreSQL server and the browser that tests start, where this is Debian and you are root.
	apt-get update
	DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends postgresql chromium

format: $(VENV)/test.installed  ## Rewrite the sources in the house style.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test-scatter: $(VENV)/scatter.installed  ## The tests with torch-scatter, compiled here first (some 7 minutes).
	NNDYN_TEST_REQUIRES=$(TEST_REQUIRES),torch_scatter $(BIN)/python -m pytest $(ARGS)

test-deepspeed: $(VENV)/deepspeed.installed  ## The tests with DeepSpeed, which compiles a part of itself for the CPU.
	NNDYN_TEST_REQUIRES=deepspeed $(BIN)/python -m pytest tests/callback/test_deepspeed.py $(ARGS)

test-oldest: $(VENV)-oldest/installed  ## The tests with the oldest versions we promise (PYTHON=python3.10).
	NNDYN_TEST_REQUIRES=$(TEST_REQUIRES) $(VENV)-oldest/bin/python -m pytest $(ARGS)

test-wheel: $(VENV)/test.installed  ## The demo from a wheel, in an empty environment elsewhere.
	set -e; new=$$(mktemp -d); trap 'rm -rf "$$new"' EXIT; \
	$(PIP) wheel --no-deps --no-build-isolation --wheel-dir "$$new" .; \
	$(PYTHON) -m venv "$$new/venv"; \
	"$$new"/venv/bin/python -m pip install -c constraints.txt "$$(ls "$$new"/*.whl)[demo]"; \
	cd "$$new"; venv/bin/nndyn demo

constraints:  ## Look for newer versions and pin them in constraints.txt; the oldest go into constraints-oldest.txt.
	$(PYTHON) -m venv $(VENV)-uv
	$(VENV)-uv/bin/python -m pip install --quiet uv
	$(call pin,constraints.txt,--universal --upgrade --extra docs)
	$(call pin,constraints-oldest.txt,--resolution lowest-direct --only-binary :all: \
		--no-binary antlr4-python3-runtime --python-platform linux --upgrade)

# $(call pin,FILE,OPTIONS): resolve anew for Python 3.10 and up, and keep the comment at the file's head.
define pin
	sed -n '/^#/p' $(1) > $(1).new
	$(VENV)-uv/bin/uv pip compile --quiet --python-version 3.10 --no-annotate --no-header $(2) \
		$(foreach extra,$(subst $(comma), ,$(TEST_EXTRAS)),--extra $(extra)) pyproject.toml >> $(1).new
	mv $(1).new $(1)
endef

corpora-table: $(VENV)/test.installed  ## Write the table in docs/reference/corpora.md anew, from the corpora here.
	set -e; table=$$(mktemp); trap 'rm -f "$$table"' EXIT; \
	$(BIN)/nndyn corpus status --markdown \
		$(sort $(wildcard pretrained_predictors/*.parquet)) $(sort $(wildcard corpora/*.parquet)) corpora/sweeps > "$$table"; \
	sed -i -e '/begin corpora/,/end corpora/{//!d}' -e "/begin corpora/r $$table" docs/reference/corpora.md

results-pages: $(VENV)/test.installed  ## Make the drawings of docs/concepts, and the tables and figures of docs/results, anew.
	$(BIN)/python benchmarks/concept_drawings.py
	$(BIN)/python benchmarks/result_pages.py

predictors: $(VENV)/test.installed  ## Fit the shipped predictors anew, one a corpus and one over all.
	set -e; for corpus in $(sort $(wildcard pretrained_predictors/*.parquet corpora/*.parquet)); do \
		$(BIN)/nndyn fit "$$corpus" "pretrained_predictors/$$(basename "$$corpus" .parquet)"; \
	done; \
	$(BIN)/nndyn fit --name universal $(sort $(wildcard pretrained_predictors/*.parquet corpora/*.parquet)) \
		pretrained_predictors/universal
	$(BIN)/nndyn fit --cohort $(sort $(wildcard pretrained_predictors/*.parquet corpora/*.parquet)) corpora/sweeps \
		pretrained_predictors/cohort
	$(BIN)/nndyn fit --curve $(sort $(wildcard pretrained_predictors/*.parquet corpora/*.parquet)) corpora/sweeps \
		pretrained_predictors/curve

clean:  ## Remove the environment and what tools leave behind.
	rm -rf site $(VENV) $(VENV)-oldest $(VENV)-uv build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# One environment serves all; a stamp says what is already in it. Editable: a change needs no new install.
$(VENV)/demo.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -c constraints.txt -e '.[demo]'
	touch $@

$(VENV)/test.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -c constraints.txt -e '.[$(TEST_EXTRAS)]'
	touch $@ $(VENV)/demo.installed

$(VENV)/docs.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -c constraints.txt -e '.[docs]'
	touch $@

# torch-scatter compiles against the torch that is installed, so its build must see it. For the CPU alone unless
# told otherwise: a CUDA build needs a toolkit of the same version as torch's (make test-scatter FORCE_ONLY_CPU=0).
FORCE_ONLY_CPU ?= 1
$(VENV)/scatter.installed: $(VENV)/test.installed
	$(INSTALL) setuptools wheel
	FORCE_ONLY_CPU=$(FORCE_ONLY_CPU) $(INSTALL) --no-build-isolation -c constraints.txt 'torch-scatter>=2.1'
	touch $@

# Its setup looks for torch, which a build environment of its own would not have.
$(VENV)/deepspeed.installed: $(VENV)/test.installed
	$(INSTALL) setuptools wheel ninja
	DS_BUILD_OPS=0 $(INSTALL) --no-build-isolation -c constraints.txt 'deepspeed>=0.15'
	touch $@

$(VENV)-oldest/installed: pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv $(VENV)-oldest
	$(VENV)-oldest/bin/python -m pip install -c constraints-oldest.txt -e '.[$(TEST_EXTRAS)]'
	touch $@
