# make demo, make test: on a fresh machine with Python 3.11, 3.12 or 3.13 and make, nothing before them.
PYTHON ?= $(firstword $(foreach name,python3.11 python3.13 python3.12,$(shell $(name) -V >/dev/null 2>&1 && echo $(name))) python3.11)
BIN := .venv/bin

.PHONY: demo test test-long check format reference clean

demo: .venv/installed
	$(BIN)/mammo demo $(DEMO)

test: .venv/installed
	$(BIN)/pytest -n auto --maxprocesses 4 --dist loadscope

# A day of a workstation and a killed server on PostgreSQL: minutes, so not in `make test`.
test-long: .venv/installed
	$(BIN)/pytest -m e2e tests/deployments

check: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The pages and tables that are written from the code.
reference: .venv/installed
	PYTHONPATH=tests/support $(BIN)/python -P -m mammo_tests.verb_files write
	PYTHONPATH=tests/support $(BIN)/python -P -m mammo_tests.reference write

# pip takes torch's CPU build where one is offered (a +cpu wheel sorts above the plain one) and PyPI's CUDA build elsewhere.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf .venv demo
