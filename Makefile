# One virtual environment, .venv, with everything pinned in constraints.txt. Needs Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
EXTRAS := cpu,train,keras2,tune,parquet,gcs,dicom,node,review,sign,ray
DATA ?=
WORKERS ?= 2

MACHINES ?= ../wetread-machines

.PHONY: demo model test test-all test-machines lint format bench clean

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Expected Python 3.11 or newer. Received " + sys.version.split()[0] + \
	  ". Name one: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	@echo "Setting up .venv (a few minutes, once)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt pip
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]' --group dev
	@touch $@

demo: $(READY)
	@$(BIN)/wetread demo --output demo $(if $(DATA),--data '$(DATA)')

# The packaged network anew, from DATA/{NORMAL,PNEUMONIA}; killed, it goes on where it was.
model: $(READY)
	@test -d '$(DATA)' || { echo "Expected the training folder. Say where it is: make model DATA=folder"; exit 2; }
	$(BIN)/python benchmarks/make_model.py '$(DATA)' --work build/model

test: lint
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

test-all: lint
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m 'long or not long'

# A Windows (Wine), an ARM 64 and older processors (qemu), made in MACHINES out of packages. As root, on Debian.
test-machines: $(READY)
	$(BIN)/python -m tests.machines --folder '$(MACHINES)'

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)
	$(BIN)/python benchmarks/scoring.py

clean:
	rm -rf .venv build dist demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
