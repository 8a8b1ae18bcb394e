# Index of what can be done here; every target is one command. `make help` prints this list.

PYTHON ?= python3
CONFIG ?= edge-16x16
OUT ?= build/verilog
BOARD ?= ulx3s
PYTEST_FLAGS ?=
MINUTES ?= 10
MUTANTS ?= 10000
STREAMS ?= 1000000
FLIPS ?= 1000000
CORE_FLIPS ?= 20000
POINTS ?= 200
SHARED ?= ../shared/models

VENV := .venv
BIN := $(VENV)/bin
# A file of tests stays in one process, so that what its fixtures build is built once.
PARALLEL := -n auto --maxprocesses 8 --dist loadfile
RUN_STAMP := $(VENV)/.installed-to-run
STAMP := $(VENV)/.installed

# cocotb-bus asks for scapy and does not import it in what is used here; hence without dependencies.
BUS_MODELS := cocotbext-axi==0.1.28 cocotb-bus==0.3.0

.DELETE_ON_ERROR:
.PHONY: help setup run test check fmt lint type imports docs sim pins coverage mutation verilog slow formal campaign hostile soft-errors soft-errors-core recovery fuzz density board boards bench ci clean

help:  ## print this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

setup: $(STAMP)  ## create .venv and install everything into it

# What a user needs to run a model; the tools of the tests and of the boards come on top.
$(RUN_STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[hw,sim,tflite]'
	touch $@

$(STAMP): $(RUN_STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[hw,sim,tflite,onnx,uart,package,boards,formal,dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(BUS_MODELS)
	touch $@

run: $(RUN_STAMP)  ## classify handwritten digits on the generated hardware, from model file to answer
	$(BIN)/python examples/digits/run.py

test: check  ## lint, types, then every test that takes seconds (import contracts among them)
	$(BIN)/pytest -m "not slow" $(PARALLEL) $(PYTEST_FLAGS)

# The import contracts are tests too: tests/test_architecture.py.
check: lint type

lint: setup  ## style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: setup  ## static types of everything but the gateware
	$(BIN)/mypy

imports: setup  ## who may import whom
	$(BIN)/lint-imports --no-logo

fmt: setup  ## format the sources and repair what can be repaired
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup  ## write the documents that are generated (hw/ISA.md, hw/CSR.md, sw/SUPPORTED_OPS.md)
	$(BIN)/python -m systolith.arch.docgen
	$(BIN)/python -m systolith.compiler.rules

sim: setup  ## cocotb benches on the AXI pins
	$(BIN)/pytest tests/cosim -q -m "cosim and not slow" $(PYTEST_FLAGS)

board: setup  ## build for a board: bitstream, or sources and script (BOARD=ulx3s)
	$(BIN)/systolith boards build $(BOARD) -o build/$(BOARD)

boards: setup  ## run the FPGA tools that are missing in docs/boards.json (hours), write docs/BOARDS.md
	$(BIN)/systolith boards report --measure --markdown docs/BOARDS.md

pins: setup  ## every bus-facing block on its pins: widths, latencies, stalls; resumable (MINUTES=10)
	$(BIN)/python -m systolith.bench.cocotb_campaign --minutes $(MINUTES) \
		--document docs/VERIFICATION.md

coverage: setup  ## lines, branches and ports of the gateware, lines of Python (an hour)
	mkdir -p build/coverage
	$(BIN)/python -m systolith.bench.coverage --holes build/coverage/holes.txt \
		--json docs/coverage.json --document docs/VERIFICATION.md
	$(BIN)/python -m systolith.bench.verification_plan
	$(BIN)/pytest -m "not slow" $(PARALLEL) $(PYTEST_FLAGS) --cov --cov-report=term \
		--cov-report=html:build/coverage/python

mutation: setup  ## mutants of the hardware, tried on what the fast tier runs; resumable (an hour of one core)
	$(BIN)/python -m systolith.bench.mutation --document docs/VERIFICATION.md
	$(BIN)/python -m systolith.bench.verification_plan

verilog: setup  ## write the package: Verilog, constraints, descriptions, driver (CONFIG=edge-16x16 OUT=build/verilog)
	$(BIN)/systolith verilog --config $(CONFIG) -o $(OUT)

slow: setup  ## tests that take minutes
	$(BIN)/pytest -m slow $(PARALLEL) $(PYTEST_FLAGS)

formal: setup  ## every formal proof and its broken designs; table in build/formal.md
	$(BIN)/python -m systolith.bench.formal --output build/formal.md

# Each goes on where it stopped, and adds to docs/campaigns.json and its table in docs/VERIFICATION.md.
campaign: setup  ## random programs, stalls, layers, configurations against golden (MINUTES=10 each)
	$(BIN)/python -m systolith.bench.campaign_random programs --config micro-4x3 --cases 100000 \
		--minutes $(MINUTES)
	$(BIN)/python -m systolith.bench.campaign_random stalls --config micro-4x3 --cases 10000 \
		--minutes $(MINUTES)
	$(BIN)/python -m systolith.bench.campaign_random layers --config tiny-4x4 --cases 190000 \
		--minutes $(MINUTES)
	$(BIN)/python -m systolith.bench.campaign_random configs --cases 100 --minutes $(MINUTES)

hostile: setup  ## streams that nobody should run, bus errors, silence, resets (STREAMS=1000000)
	$(BIN)/python -m systolith.bench.bus_faults --config micro-4x3
	$(BIN)/python -m systolith.bench.hostile --config micro-4x3 --streams $(STREAMS)
	$(BIN)/python -m systolith.bench.verification_plan

soft-errors: setup  ## flip bits of array and memories, count what is noticed; resumable (FLIPS=1000000 MINUTES=10)
	$(BIN)/python -m systolith.bench.flips blocks --flips $(FLIPS) --minutes $(MINUTES)

soft-errors-core: setup  ## flip bits anywhere in a running accelerator; resumable (CORE_FLIPS=20000 MINUTES=10)
	$(BIN)/python -m systolith.bench.flips core --flips $(CORE_FLIPS) --minutes $(MINUTES)
	$(BIN)/python -m systolith.bench.verification_plan

recovery: setup  ## clients killed at any point, clients at the same time, on one device (POINTS=200)
	$(BIN)/python -m systolith.bench.recovery uio --points $(POINTS)
	$(BIN)/python -m systolith.bench.recovery uart --points $(POINTS)

fuzz: setup  ## damaged model files: success or one typed error, in 2 s and 512 MiB (MUTANTS=10000)
	$(BIN)/python -m systolith.bench.mutants --count $(MUTANTS) examples/digits/digits.tflite \
		examples/onnx/*.onnx

density: setup  ## what arrays take on Xilinx devices, by their multipliers, for docs/DENSITY.md (half an hour)
	$(BIN)/python -m systolith.bench.density

bench: setup  ## measure the benchmark models and single layers on the RTL, write docs/RESULTS.md, docs/results.json (an hour)
	mkdir -p build/bench
	$(BIN)/systolith bench --all --models $(SHARED) --trace build/bench/trace \
		--json docs/results.json --markdown docs/RESULTS.md --readme README.md

ci: setup  ## what the continuous integration runs
	.ci/run

clean:  ## remove what the targets wrote, except .venv
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
