# make demo, make test: on a fresh machine with Python 3.11, 3.12 or 3.13 and make, nothing before them.
PYTHON ?= $(firstword $(foreach name,python3.11 python3.13 python3.12,$(shell $(name) -V >/dev/null 2>&1 && echo $(name))) python3.11)
VENV ?= .venv
BIN := $(VENV)/bin

# Hundreds of interpreters start in a run of the suite: the first compiles a module, the others read what it made.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-quick test-long measure-growth check format reference clean

demo: $(VENV)/installed
	$(BIN)/mammo demo $(DEMO)

# Two workers more than there are processors, four at most: some tests wait for a server or for another process, and each worker
# collects all tests once more.
WORKERS ?= $(shell $(PYTHON) -c "import os; print(min(4, len(os.sched_getaffinity(0)) + 2))")

test: $(VENV)/installed
	$(BIN)/pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder

# What another Python, and the packages it has in its own versions, could break: arithmetic, DICOM, store, pages, one flow on a
# real server. CI runs it on the newest Python that is installed: make test-quick VENV=build/second-python PYTHON=python3.13
QUICK := tests/schemas tests/gmic_model/metrics tests/gmic_model/pixels tests/gmic_model/reader_study \
	tests/gmic_model/test_sampling.py tests/gmic_model/test_roi.py tests/tasks/adapters/checks tests/tasks/adapters/dicom \
	tests/tasks/adapters/inbox/test_ledger.py tests/tasks/adapters/labels tests/tasks/adapters/models \
	tests/tasks/adapters/store tests/flows/test_scrub.py
test-quick: $(VENV)/installed
	$(BIN)/pytest -n auto --maxprocesses 4 --dist loadscope $(QUICK)

# A day of a workstation, a killed server on PostgreSQL, every drill at its full length: minutes, so not in `make test`.
test-long: $(VENV)/installed
	$(BIN)/pytest -m e2e tests/deployments
	$(BIN)/pytest -m long --ignore tests/deployments

# 100,000 images of 256 x 256 ingested in ten runs, an afternoon of one core; fewer: make measure-growth IMAGES=2000
IMAGES ?= 100000
measure-growth: $(VENV)/installed
	$(BIN)/python -m benchmarks.ingest.bench_ten_runs --images $(IMAGES)

check: $(VENV)/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The pages and tables that are written from the code.
reference: $(VENV)/installed
	PYTHONPATH=tests/support $(BIN)/python -P -m mammo_tests.reference write

# pip takes torch's CPU build where one is offered (a +cpu wheel sorts above the plain one) and PyPI's CUDA build elsewhere.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf .venv demo
