# Everything a reader or CI needs, from nothing but python3 (3.11 or later) and make.

PYTHON  ?= python3
PROFILE ?= smoke
WORKERS ?= 2

VENV  := .venv
PY    := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help book test rerun freeze clean

help:
	@echo 'make book                  run all chapters, build the pages: _build/html/index.html'
	@echo 'make test                  run the tests; the page tests read what make book last built'
	@echo 'make rerun PROFILE=smoke   train and run every chapter anew into _build/rerun-smoke/'
	@echo '                           (smoke: minutes; laptop: hours; paper: needs a GPU or a night)'
	@echo 'make freeze                store the outputs that the chapter checks compare with'
	@echo 'make clean                 remove _build and caches; the environment in $(VENV) stays'
	@echo 'The first of these also makes $(VENV) (about 6 GB, a few minutes). PYTHON=... picks another python.'

book: $(STAMP)
	@$(PY) tools/book.py build

test: $(STAMP)
	@OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder tests/test_notebooks.py tests  # the longest first

rerun: $(STAMP)
	@$(PY) tools/book.py rerun --profile $(PROFILE)

freeze: $(STAMP)
	@$(PY) tools/book.py freeze

clean:
	rm -rf _build .pytest_cache .hypothesis .ipynb_checkpoints chapters/.ipynb_checkpoints *.egg-info
	find dfa_lib tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp spares an up-to-date second run pip's 20 seconds: pip runs only when what it reads has changed.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or later is needed, $(PYTHON) is " + sys.version.split()[0] + ": make PYTHON=python3.11 ...")'
	@test -x $(PY) || $(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo 'no virtual environment could be made (Debian: apt-get install python3-venv)' >&2; exit 1; }
	@echo 'installing into $(VENV); the first time takes a few minutes'
	@$(PY) -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[book,test]'
	@touch $@
