# One environment, two commands: make workbook, make test.
# An activated environment that has this checkout installed is used as it is; otherwise .venv is made, once.

HERE := import sys, importlib.util as u; from pathlib import Path as P; s = u.find_spec("xaikit"); \
	ok = s and u.find_spec("papermill") and u.find_spec("nbval"); \
	print(sys.executable if ok and P(s.origin).parents[1].samefile(".") else "")
ifneq ($(VIRTUAL_ENV)$(CONDA_PREFIX),)
ACTIVE := $(shell python -P -c '$(HERE)' 2>/dev/null)
endif

ifeq ($(ACTIVE),)
PYTHON := .venv/bin/python
INSTALLED := .venv/installed
else
PYTHON := $(ACTIVE)
INSTALLED :=
endif

.PHONY: help install workbook test unit numbers lab app book refresh screenshots replicate benchmark clean
.DELETE_ON_ERROR:

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' Makefile

install: $(INSTALLED) ## install xaikit and what it needs, once
	@echo "xaikit is installed for $(PYTHON)"

workbook: $(INSTALLED) ## run all notebooks into runs/default (options: ARGS="-p n 64 --out runs/more")
	$(PYTHON) -m xaikit run --out runs/default --workers 2 $(ARGS)

# A process a core, each taking a file at a time, in the order of conftest.py.
PYTEST := -m pytest --numprocesses logical --dist loadfile --no-loadscope-reorder
NBVAL := --nbval --nbval-current-env

# The models are small, and two processes with a thread a core each get in each other's way.
test unit numbers: export OMP_NUM_THREADS = 1
# And glibc keeps the memory of large arrays, as it does for the kernels of a run.
test unit numbers: export MALLOC_MMAP_THRESHOLD_ = 33554432
test unit numbers: export MALLOC_TRIM_THRESHOLD_ = 268435456

test: $(INSTALLED) ## unit tests and, beside them, the numbers stored in the notebooks
	$(PYTHON) $(PYTEST) $(NBVAL) $(ARGS) notebooks tests xaikit

unit: $(INSTALLED) ## the unit tests alone
	$(PYTHON) $(PYTEST) $(ARGS)

numbers: $(INSTALLED) ## the numbers stored in the notebooks alone
	$(PYTHON) $(PYTEST) $(NBVAL) $(ARGS) notebooks

# Looking and trying change a notebook, so copies are opened: a folder of them for each version of the notebooks.
lab: $(INSTALLED) ## open copies of the notebooks in JupyterLab, the explorer first (options: ARGS="--no-browser --port=8888")
	copies=runs/lab/$$(cat notebooks/*.ipynb | cksum | cut -d ' ' -f 1) && \
	{ test -d $$copies || { rm -rf $$copies.part && mkdir -p $$copies.part && cp notebooks/*.ipynb $$copies.part && \
		mv $$copies.part $$copies; }; } && \
	$(PYTHON) -m jupyterlab $(ARGS) $$(grep -l '"application"' $$copies/*.ipynb)

app: $(INSTALLED) ## serve the explorer alone, as a web page (options: ARGS="--run mine -- --no-browser --port=8866")
	$(PYTHON) -m xaikit app $(ARGS)

book: $(INSTALLED) ## build a static site of the notebooks and of the functions into runs/book
	$(PYTHON) -m sphinx -q -W notebooks runs/book $(ARGS)
	@echo "open runs/book/index.html"

refresh: $(INSTALLED) ## execute the notebooks in place, with their defaults, and clean them (options: ARGS="--only 02")
	$(PYTHON) -m xaikit refresh $(ARGS)

screenshots: $(INSTALLED) ## take the explorer's screenshots for its notebook anew, of runs/default, in Chromium
	XAIKIT_SCREENSHOTS=$(CURDIR)/notebooks/screenshots $(PYTHON) -m pytest -q tests/browser/test_lab.py -k screenshot

replicate: $(INSTALLED) ## run the ledger for every bundled CLIP, into runs/replications and data/replications (goes on where it was)
	$(PYTHON) -m xaikit replicate $(ARGS)
	$(PYTHON) -m xaikit check data/replications

benchmark: $(INSTALLED) ## print what explanations cost, as ratios
	$(PYTHON) benchmarks/cost.py
	$(PYTHON) benchmarks/tokens.py
	$(PYTHON) benchmarks/explorer.py

clean: ## remove .venv, caches and half-written files; runs/ stays
	rm -rf .venv .pytest_cache .ruff_cache build *.egg-info tests/browser/output
	find xaikit tests notebooks benchmarks -name __pycache__ -o -name .ipynb_checkpoints -o -name '*.part.*' | xargs rm -rf

.venv/installed: pyproject.toml constraints.txt
	@python3 -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "xaikit needs Python 3.11 to 3.13, python3 is " + sys.version)'
	if uv --version >/dev/null 2>&1; then \
		{ test -x .venv/bin/python || uv venv --python python3 .venv; } && \
		uv pip install --python .venv/bin/python -e '.[test]' -c constraints.txt; \
	else \
		{ test -x .venv/bin/pip || python3 -m venv .venv; } && \
		.venv/bin/python -m pip install --disable-pip-version-check -e '.[test]' -c constraints.txt; \
	fi
	touch $@
