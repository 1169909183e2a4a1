# Two commands, each does everything: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint check gpu bench weights clean help

help:
	@echo "make demo    people identified by their walk, on this machine (no PyTorch)"
	@echo "make test    the whole test suite, with PyTorch"
	@echo "make check   formatting, lint, types and the tests"
	@echo "make gpu     the tests and the measurements that need an NVIDIA GPU (on a machine that has one)"
	@echo "make bench   the figures of the README, measured side by side on this machine"
	@echo "make weights train weights as the shipped ones were, and measure them (an hour or two)"
	@echo "make clean   remove the environment and everything made"

demo: $(VENV)/.demo
	$(BIN)/gaitedge demo --out demo

test: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

gpu: $(VENV)/.gpu
	$(BIN)/gaitedge plugins build
	$(BIN)/pytest -m gpu
	$(BIN)/python benchmarks/kernels.py
	$(BIN)/python benchmarks/gpu.py

lint: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

check: lint test

bench: $(VENV)/.test
	$(BIN)/python benchmarks/engines.py --threads 2
	$(BIN)/python benchmarks/cold_start.py
	$(BIN)/python benchmarks/training.py --threads 2
	$(BIN)/python benchmarks/loader.py
	$(BIN)/python benchmarks/evaluation.py

weights: $(VENV)/.test
	grep -qs '"finished": true' runs/walkers/store.json || $(BIN)/gaitedge synth runs/walkers --store --seed 1 --subjects 250
	$(BIN)/gaitedge train runs/walkers runs/shipped --preset walkers --iterations 6000 \
	  --evaluate-every 1500 --evaluate-on 201-210
	$(BIN)/gaitedge eval runs/shipped/weights.safetensors runs/walkers --subjects walkers/test
	$(BIN)/gaitedge calibrate runs/shipped/weights.safetensors runs/walkers runs/shipped/int8.json --subjects walkers/train
	$(BIN)/gaitedge export runs/shipped/weights.safetensors runs/shipped/int8.gait --target cpu --precision int8 \
	  --calibration runs/shipped/int8.json
	$(BIN)/gaitedge eval runs/shipped/int8.gait runs/walkers --subjects walkers/test

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "GaitEdge needs Python 3.10 or newer; say which: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[cpu]'
	@touch $@

$(VENV)/.test: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[cpu,onnxruntime,train,plot,video,dev]'
	@touch $@

# TensorRT comes from pip only where there is none: a Jetson has JetPack's (docs/jetson.md).
$(VENV)/.gpu: $(VENV)/.test
	@$(BIN)/python -c 'import sys; from gaitedge.machine.tensorrt import driver, on_jetson; \
	  sys.exit(not driver().devices and "make gpu needs an NVIDIA GPU; run: $(BIN)/gaitedge doctor" \
	  or on_jetson() and "a Jetson has its TensorRT from JetPack: set it up as docs/jetson.md says")'
	@$(BIN)/python -c 'import tensorrt' 2>/dev/null || \
	  $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[tensorrt]'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[cuda]' cuda-python
	@touch $@

clean:
	rm -rf $(VENV) demo build dist *.egg-info
