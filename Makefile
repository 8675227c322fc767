# Every target makes what it needs; `make install` alone makes .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install quickstart test test-slow lint bench demo clean

install: $(VENV)/installed

# torch comes first and alone: the constraints name a version whose CPU build is enough for everything here.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# A base model becomes an assistant, without any download, and what became of it is shown.
quickstart: install
	$(BIN)/burnish quickstart

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

# The main job without any download: the built-in base model becomes an assistant of its little world, in a minute.
demo: install
	$(BIN)/burnish sft --model builtin:tiny --data builtin:chat --eval-data builtin:chat/test \
		--output runs/demo chat_template=chatml learning_rate=3e-3 sequences_per_step=16

clean:
	rm -rf $(VENV) runs
