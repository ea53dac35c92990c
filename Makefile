# The few commands of the project; `make help` lists them. All real work is in local/setup.sh and `paywave`.
.DEFAULT_GOAL := help
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --no-annotate --no-strip-extras
# uv is only needed for `make lock`: taken from PATH, else from a venv of its own.
UV = $(shell command -v uv || echo $(VENV)-lock/bin/uv)

# Each of the two has a stack and a Spark session of its own, and mostly waits for one core.
TWO_AT_A_TIME = --numprocesses 2 --dist worksteal

.PHONY: help setup setup-dev demo test check test-slow test-unit test-faults lock lock-python lock-jars bench-fold bench-rules bench-gateway bench-backfill bench-compaction bench-freshness bench-exports bench-sealing bench-bloom clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## make the virtual environment, install the locked dependencies, fetch the locked jars
	@sh local/setup.sh

demo: setup ## run the main job on real servers: Kafka to raw to curated, and read it back
	@$(BIN)/paywave demo

setup-dev:
	@sh local/setup.sh dev

check: setup-dev ## lint, formatting, types, the arrows between the rooms, the schemas
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/paywave schemas check

test: check ## everything that must pass before a change is merged
	@$(BIN)/pytest $(TWO_AT_A_TIME) -m "not slow"

test-slow: setup-dev ## the tests that go the same ways at more length
	@$(BIN)/pytest $(TWO_AT_A_TIME) -m slow

test-unit: setup-dev ## the fast tests alone: no servers, no Spark
	@$(BIN)/pytest tests/unit

test-faults: setup-dev ## kill the jobs again and again, and all else that takes long
	@PAYWAVE_LONG_FAULTS=1 $(BIN)/pytest $(TWO_AT_A_TIME) -m "faults or long"

lock: lock-python lock-jars ## resolve all dependencies anew: Python's and the jars

lock-python: setup
	@command -v uv >/dev/null || test -x $(VENV)-lock/bin/uv || \
		{ $(BIN)/python -m venv $(VENV)-lock && $(VENV)-lock/bin/pip install --quiet uv; }
	@$(COMPILE) pyproject.toml --group build -o requirements.lock
	@$(COMPILE) --group pyproject.toml:dev -c requirements.lock -o requirements-dev.lock
	@$(COMPILE) --group pyproject.toml:bench -c requirements.lock -o requirements-bench.lock

lock-jars: setup
	@$(BIN)/python -m local.jars lock

bench-fold: setup ## what the curated fold costs beside the textbook version; ARGS=--quick for a look
	@$(BIN)/python -m bench.fold $(ARGS)

bench-rules: setup ## what judging a record costs on top of decoding it
	@$(BIN)/python -m bench.rules $(ARGS)

bench-gateway: setup-dev ## what the gateway takes in, by our load generator and Locust, beside a bare server
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.lock
	@$(BIN)/python -m bench.gateway $(ARGS)

bench-backfill: setup ## how fresh payments stay while 100 hours are backfilled beside the live jobs; ARGS=--quick
	@$(BIN)/python -m bench.backfill $(ARGS)

bench-compaction: setup ## live batches with compaction beside them, and without: exactness, files, scans; ARGS=--quick
	@$(BIN)/python -m bench.compaction $(ARGS)

bench-freshness: setup-dev ## from an event's creation until Snowflake's reader sees it, stage by stage; ARGS=--quick
	@$(BIN)/python -m bench.readers $(ARGS)

bench-sealing: setup ## what sealing personal values costs at the intake
	@$(BIN)/python -m bench.sealing $(ARGS)

bench-bloom: setup ## what Bloom filters cost where they are written
	@$(BIN)/python -m bench.bloom $(ARGS)

bench-exports: setup ## an audit export of a day at two sizes of the tables: time, bytes, memory; ARGS=--quick
	@$(BIN)/python -m bench.exports $(ARGS)

clean: ## remove what can be made again; data in PAYWAVE_HOME and the jar cache stay
	@rm -rf $(VENV) $(VENV)-lock .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
