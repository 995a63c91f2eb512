# `make` lists the targets. Options: VENV=path, GR_PYTHON=path, TORCH_INDEX=url (see docs/install.md).

SHELL := /bin/bash
VENV ?= .venv
GR_PYTHON ?= /usr/bin/python3
BIN = $(if $(filter /%,$(VENV)),,$(CURDIR)/)$(VENV)/bin
PYTHON = "$(BIN)/python"
FLOWGRAPH ?= $(wildcard flowgraphs/loopback_sim.grc)

export VENV GR_PYTHON TORCH_INDEX
# GNU Radio Companion looks here first, then where its own configuration says.
export GRC_BLOCKS_PATH := $(CURDIR)/gr_blocks$(if $(GRC_BLOCKS_PATH),:$(GRC_BLOCKS_PATH))

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-zmq grc evidence results test test-all coverage lint doctor clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-10s%s\n", $$1, $$2 }' Makefile

setup: ## Install GNU Radio and the Python environment, if they are not there yet
	@scripts/setup.sh

demo: setup ## Send images through the GNU Radio loopback (SNR=dB CHANNEL=tdl-a IMAGES=folder MODE=analog MCS=auto OUT=folder)
	@$(PYTHON) -m crlsc_phy.cli.demo $(if $(SNR),--snr $(SNR)) $(if $(IMAGES),--images "$(IMAGES)") \
		$(if $(CHANNEL),--channel $(CHANNEL)) $(if $(SPEED),--speed $(SPEED)) $(if $(MODE),--mode $(MODE)) $(if $(MCS),--mcs $(MCS)) $(if $(TAPS),--taps "$(TAPS)") \
		--out "$(or $(OUT),out/demo)" $(if $(SEED),--seed $(SEED))

demo-zmq: setup ## The same as three programs over ZMQ: sender, channel, receiver (SNR=dB CHANNEL=tdl-a IMAGES=folder)
	@$(PYTHON) -m crlsc_phy.cli.demo_zmq $(if $(SNR),--snr $(SNR)) $(if $(CHANNEL),--channel $(CHANNEL)) \
		$(if $(IMAGES),--images "$(IMAGES)") $(if $(MODE),--mode $(MODE)) --out "$(or $(OUT),out/demo_zmq)"

# PATH: Companion starts flowgraphs by name, and they need the environment's Python. The module rather than
# /usr/bin/gnuradio-companion, which runs on the system's Python and does not see this package.
grc: setup ## Open GNU Radio Companion with the blocks (FLOWGRAPH=file)
	@[[ -n "$$DISPLAY$$WAYLAND_DISPLAY" ]] || { echo "grc: needs a screen; set DISPLAY, or use make demo" >&2; exit 2; }
	@PATH="$(BIN):$$PATH" $(PYTHON) -c 'import sys; from gnuradio.grc.main import main; sys.exit(main())' \
		$(FLOWGRAPH)

evidence: setup ## What training with a shared knowledge base achieves, in docs/evidence (QUICK=1 DATA=folder JOBS=2)
	@"$(BIN)/crlsc-train" data default animals faces --data "$(or $(DATA),data)"
	@$(PYTHON) benchmarks/evidence/run.py --jobs "$(or $(JOBS),2)" --data "$(or $(DATA),data)" $(if $(QUICK),--quick)

results: setup ## Ours against separate coding and DeepJSCC over the air, in docs/results (DATA=folder JOBS=2)
	@"$(BIN)/crlsc-train" data default --data "$(or $(DATA),data)"
	@$(PYTHON) benchmarks/results_page.py --jobs "$(or $(JOBS),2)" --data "$(or $(DATA),data)"

test: ## Run the tests, apart from those that take minutes each (TESTS="path -k name")
	@scripts/setup.sh tests
	@$(PYTHON) -m pytest -n 2 --dist worksteal -m "not slow" $(TESTS)

test-all: ## Run all tests
	@scripts/setup.sh tests
	@$(PYTHON) -m pytest -n 2 --dist worksteal $(TESTS)

coverage: ## Run the tests and print the coverage of lines, a row a file
	@scripts/setup.sh tests
	@$(PYTHON) -m pytest -n 2 --dist worksteal -m "not slow" --cov=crlsc_phy --cov=gr_blocks --cov-report=term:skip-covered

lint: setup ## Check style and types
	@$(PYTHON) -m ruff check
	@$(PYTHON) -m ruff format --check
	@$(PYTHON) -m mypy
	@"$(BIN)/lint-imports" --no-logo

# Without set-up first, so that it can say what is wrong with an environment that set-up does not mend.
doctor: ## Show the versions found, and whether they work together
	@python=$(PYTHON); [[ -x $$python ]] || python=$(GR_PYTHON); "$$python" -m crlsc_phy.cli.doctor

clean: ## Remove what tests, tools and the demo left; the environment, data, runs and models stay
	rm -rf build out .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
