# One command each. On a fresh machine: Python 3.11 or later with venv, and `make demo`.

PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3)
BIN := .venv/bin
RUN_DEPS := .venv/.installed
DEV_DEPS := .venv/.installed-dev
WORLDS ?= 2000
COMPILED := STEALMESH_PURE=0
MINUTES ?= 10
INTERPRETERS ?= $(PYTHON) $(wildcard $(HOME)/.pyenv/versions/3.1[2-9]*/bin/python)

.PHONY: demo picture test slow suites check bench fast test-fast same-traces seeds fuzz chaos chaos-nightly clean help

help: ## what there is to say
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 15

demo: $(RUN_DEPS) ## a local mesh runs a real job, loses a node halfway, and still gets it right
	$(BIN)/stealmesh demo

picture: $(RUN_DEPS) ## the same, drawn into docs/demo.svg
	$(BIN)/stealmesh demo --picture docs/demo.svg

test: $(DEV_DEPS) ## all tests but the slow ones
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'not slow and not real'
	$(BIN)/python -m pytest -n 3 --dist worksteal -m 'not slow and real'

slow: $(DEV_DEPS) ## the slow tests
	$(BIN)/python -m pytest -m slow

check: $(DEV_DEPS) ## style, types and house rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_house.py

fast: $(RUN_DEPS) ## compile the core beside the pure one (needs a C compiler); STEALMESH_PURE=1 switches it off
	@command -v $${CC:-cc} >/dev/null || { echo "no C compiler: install one (Debian: apt install gcc)" >&2; exit 2; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps ./fast
	$(COMPILED) $(BIN)/stealmesh --version

test-fast: $(DEV_DEPS) fast ## the engine's tests, real meshes, the wire's vectors and 300 random worlds on the compiled core
	$(COMPILED) $(BIN)/python -m pytest -n 2 --dist worksteal -m 'not slow and not real and not pure' tests/engine tests/protocol tests/fast
	$(COMPILED) $(BIN)/python -m pytest -n 3 --dist worksteal -m 'not slow and real and not pure' tests/real tests/everyday
	$(MAKE) same-traces WORLDS=300

same-traces: ## the same worlds on both cores have the same traces: make same-traces WORLDS=1000
	@$(COMPILED) $(BIN)/stealmesh --version | grep -q 'core: compiled$$' || { echo "no compiled core that fits: make fast" >&2; exit 2; }
	STEALMESH_PURE=1 $(BIN)/python -m stealmesh_bench.traces --worlds $(WORLDS) --no-scenarios > .traces.log
	$(COMPILED) $(BIN)/python -m stealmesh_bench.traces --same .traces.log

suites: $(DEV_DEPS) ## other people's tests on a mesh: CPython's (each interpreter), joblib's, dask's, scikit-learn, parsl's
	tests/suites/all.sh .suites $(INTERPRETERS)

bench: $(RUN_DEPS) ## measure, beside the standard library's pool
	$(BIN)/python -m stealmesh_bench

seeds: $(RUN_DEPS) ## random worlds in virtual time: make seeds WORLDS=200
	$(BIN)/python -m stealmesh_bench.seeds --worlds $(WORLDS)

fuzz: $(RUN_DEPS) ## octets at every door (guided, with pip install '.[fuzz]'), then liars in virtual worlds: make fuzz MINUTES=60
	$(BIN)/python -m stealmesh_bench.fuzzed --minutes $(MINUTES)
	$(BIN)/python -m stealmesh_bench.insider --minutes $(MINUTES)
	$(BIN)/python -m stealmesh_bench.insider --minutes $(MINUTES) --guests

chaos: $(RUN_DEPS) ## break a mesh of real processes on purpose, once
	$(BIN)/stealmesh chaos

chaos-nightly: $(RUN_DEPS) ## a night of it: 20,000 random worlds and every scenario, simulated and real
	nice -n 10 $(BIN)/python -m stealmesh_bench.chaos.nightly

clean: ## remove what the other targets made
	rm -rf .venv .suites dist build fast/build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find protocol engine nodes bench tests -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "$(PYTHON) is older than 3.11: run make with PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -m venv .venv || \
	    { rm -rf .venv; echo "$(PYTHON) -m venv failed: install venv (Debian: apt install python3-venv)" >&2; exit 2; }

$(RUN_DEPS): .venv/pyvenv.cfg pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(DEV_DEPS): .venv/pyvenv.cfg pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ $(RUN_DEPS)
