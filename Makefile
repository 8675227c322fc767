# Every target makes what it needs in .venv. `make install` is enough to use the package; `make install-dev` adds what tests,
# linters and benchmarks need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install install-dev quickstart test test-slow test-gpu test-gpu-dry lint bench demo clean

install: $(VENV)/installed

install-dev: $(VENV)/installed-dev

# torch comes first and alone: the constraints name a version whose CPU build is enough for everything here.
$(VENV)/installed: pyproject.toml constraints.txt
	@echo "installing into $(VENV): torch and its libraries take some minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# A base model becomes an assistant, without any download, and what became of it is shown.
quickstart: install
	$(BIN)/burnish quickstart

# Two processes with one thread each: more threads than cores slow each other down.
test: install-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not slow and not gpu' -n 2

test-slow: install-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'slow and not gpu' -n 2

# On a machine with a GPU, in at most eight minutes. The constraints may give the environment a torch without CUDA: then
# `make test-gpu GPU_PYTHON=python3` (or PYTHON=python3) names an interpreter that has one, and nothing is installed.
ifeq ($(origin PYTHON),command line)
GPU_PYTHON ?= $(PYTHON)
endif
GPU_PYTHON ?= $(BIN)/python

test-gpu: $(if $(filter $(BIN)/python,$(GPU_PYTHON)),install-dev)
	$(GPU_PYTHON) scripts/test_gpu.py

# The same tests and the same script on a CPU: what it can show of them, in some minutes.
test-gpu-dry: install-dev
	OMP_NUM_THREADS=1 $(BIN)/python scripts/test_gpu.py --device cpu

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: install-dev
	$(BIN)/python benchmarks/sft_step.py

# The main job without any download: the built-in base model becomes an assistant of its little world, in a minute.
demo: install
	$(BIN)/burnish sft --model builtin:tiny --data builtin:chat --eval-data builtin:chat/test \
		--output runs/demo chat_template=chatml learning_rate=3e-3 sequences_per_step=16

clean:
	rm -rf $(VENV) runs
