# Every target makes what it needs; `make install` alone makes .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install test test-slow lint bench demo clean

install: $(VENV)/installed

# torch comes first and alone: the constraints name a version whose CPU build is enough for everything here.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# Two processes with one thread each: more threads than cores slow each other down.
test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not slow' -n 2

test-slow: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow -n 2

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: install
	$(BIN)/python benchmarks/sft_step.py

# The main job on data that the project makes itself: an untrained model learns a little world, in about a minute.
demo: install
	$(BIN)/python -m burnish.builtin demo
	$(BIN)/burnish sft --model demo/model --data demo/train.jsonl --eval-data demo/test.jsonl \
		--output runs/demo learning_rate=3e-3 epochs=2 eval_every=100

clean:
	rm -rf $(VENV) demo runs
