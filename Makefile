# `make demo` and `make test` need Python 3.11 or later, make and git. They start and stop a real
# Cassandra themselves, which needs a JDK 17 and Maven.

PYTHON ?= $(shell sh tools/find-python.sh 3.11)
BIN := .venv/bin
PIP := -m pip install --quiet --disable-pip-version-check
CHECKED := $(wildcard src tests examples bench fuzz docs tools)
# Versions of the other CPythons on this machine; `units` runs the unit tests on them.
OTHERS := $(shell sh tools/find-python.sh --others)
# Tests for the lowest versions of the packages: the tests that use the packages most, some on real
# sockets.
LOWEST := $(addprefix tests/,cqlproto/test_compression.py cqlproto/rows/targets \
	cqlproto/testing/test_init.py $(addprefix cqlproto_anyio/,_eventloop/test_asyncio.py \
	_eventloop/test_trio.py test_bare_loops.py test_connect.py test_tls.py))

# Tests of recipes on a real node: they need one healthy node, and nothing else.
RECIPES := $(wildcard tests/cassandra/test_pattern_*.py) tests/test_pattern_code tests/cookbooks

# pytest-xdist, for tests that need no server: one worker per core; a file's tests run in one worker.
PARALLEL := -p no:cacheprovider --numprocesses=auto --dist=loadfile
FEW := --hypothesis-profile=few
# Tests start many interpreters, and each would compile the packages and tests again: a fifth of the
# CPU time of such tests.
export PYTHONDONTWRITEBYTECODE :=

help: ## show this text
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: .venv/.demo ## run examples/demo.py on CQLPROTO_HOSTS, or on a Cassandra started for it
	@if [ -n "$$CQLPROTO_HOSTS" ]; then $(BIN)/python examples/demo.py; \
	else $(BIN)/python -m tests.cassandra run -- $(BIN)/python examples/demo.py; fi

# Two lanes run at once: the tests on real servers, which wait for the servers half of their time, and
# everything else, the longest first, on as many processes as there are cores; then the tests of
# recipes, on a node of their own. All environments are prerequisites, so that no timed test runs
# while pip installs packages.
test: lint .venv/.fuzz .venv-lowest/.unit $(OTHERS:%=.venv-%/.unit) ## lint, types, tests, units, lowest, docs, and a little fuzzing
	@[ "$${CQLPROTO_REQUIRE_CASSANDRA:-0}" = 0 ] || $(BIN)/python -m tests.cassandra check
	$(MAKE) --no-print-directory --jobs=2 --output-sync=line tests-on-servers without-server tests-of-recipes
	@$(BIN)/python -m tests.cassandra check || echo "Tests that start a Cassandra were skipped." >&2

without-server: tests-without-server coverage units types docs lowest fuzz-short

lint: .venv/.dev ## ruff (style and format) and import-linter (layers)
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)
	$(BIN)/lint-imports --no-logo

types: .venv/.dev ## mypy, strict
	$(BIN)/mypy $(CHECKED)

tests: tests-on-servers tests-of-recipes tests-without-server coverage ## all tests on Python 3.11 (or PYTHON=), including coverage and those on a Cassandra that it starts

# One process, because these tests share the servers; they spend most of their time waiting for them.
tests-on-servers: .venv/.dev
	$(BIN)/pytest -q -p no:cacheprovider -m cassandra $(addprefix --ignore=,$(RECIPES))

tests-of-recipes: .venv/.dev
	$(BIN)/pytest -q -p no:cacheprovider -m cassandra $(RECIPES)

tests-without-server: .venv/.dev
	$(BIN)/pytest -q $(PARALLEL) -m "not cassandra" --ignore=tests/cqlproto

coverage: .venv/.dev ## the tests of cqlproto, under coverage: each module's own tests must run all of its branches
	$(BIN)/python -m tests.coverage

units: $(OTHERS:%=unit-%) ## the unit tests on the other CPythons of this machine

# Only the newest CPython runs the core's property tests with all Hypothesis examples. The coverage
# run on $(PYTHON) and the other CPythons use a small profile.
unit-%: .venv-%/.unit
	.venv-$*/bin/pytest -q $(PARALLEL) $(if $(filter $*,$(lastword $(OTHERS))),,$(FEW)) tests/cqlproto
	.venv-$*/bin/pytest -q $(PARALLEL) $(FEW) -m "not cassandra" $(wildcard tests/cqlproto_anyio)

# Without another CPython, $(PYTHON) runs the core's tests with all examples.
ifeq ($(OTHERS),)
units: unit-only
endif
unit-only: .venv/.dev
	$(BIN)/pytest -q $(PARALLEL) tests/cqlproto

lowest: .venv-lowest/.unit ## some unit tests with the lowest versions of packages that pyproject.toml allows
	.venv-lowest/bin/pytest -q $(PARALLEL) $(FEW) -m "not cassandra" $(LOWEST)

docs: .venv/.dev ## the documentation as HTML in build/docs; a warning is an error
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -b html docs build/docs

fuzz: .venv/.fuzz ## fuzz every parser for SECONDS (600) in all
	$(BIN)/python -m fuzz --seconds $(or $(SECONDS),600)

fuzz-short: .venv/.fuzz
	$(BIN)/python -m fuzz --seconds 40 --if-possible

servers: .venv/.dev ## one suite on a real node of each Cassandra line, 2.1 to 6.0; RELEASES="4.1.10 5.0.9" for some
	$(BIN)/python -m tests.cassandra.matrix $(RELEASES)

soak: .venv/.dev ## inject faults into three nodes under load for SECONDS (600), and print a table; ARGS=--quick for less
	$(BIN)/python -m tests.cassandra.soak --seconds $(or $(SECONDS),600) $(ARGS)

bench: .venv/.bench .bench/scylla-driver .bench/cassandra-driver-pure ## measure this client and its peers, write docs/performance.md; ARGS=--quick for less
	$(BIN)/python -m bench $(ARGS)

# scylla-driver has the module name of cassandra-driver, so it needs a folder of its own.
.bench/scylla-driver: | .venv/.bench
	$(BIN)/python $(PIP) --target $@ scylla-driver

# cassandra-driver without its optional compiled modules.
.bench/cassandra-driver-pure: | .venv/.bench
	$(BIN)/python $(PIP) --target $@ cassandra-driver
	find $@/cassandra -name '*.so' -delete

format: .venv/.dev ## format the sources with ruff
	$(BIN)/ruff check --fix-only $(CHECKED)
	$(BIN)/ruff format $(CHECKED)

clean: ## remove virtual environments and caches
	rm -rf build dist .venv .venv-* .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# An environment is created once; its packages are installed again when pyproject.toml changes.
.venv/bin/python:
	sh tools/make-venv.sh .venv "$(PYTHON)"

.venv/.%: pyproject.toml | .venv/bin/python
	$(BIN)/python $(PIP) --editable '.[$*]'
	@touch $@

.venv-lowest/.unit: pyproject.toml tools/lowest.py
	sh tools/make-venv.sh .venv-lowest "$(PYTHON)"
	.venv-lowest/bin/python tools/lowest.py unit >.venv-lowest/lowest.txt
	.venv-lowest/bin/python $(PIP) --constraint .venv-lowest/lowest.txt --editable '.[unit]'
	@touch $@

.venv-%/.unit: pyproject.toml
	sh tools/make-venv.sh .venv-$* "$$(sh tools/find-python.sh $*)"
	.venv-$*/bin/python $(PIP) --editable '.[unit]'
	@touch $@

.PHONY: help demo test lint types tests tests-on-servers tests-of-recipes tests-without-server without-server coverage units unit-only lowest docs fuzz fuzz-short servers soak bench format clean
.PRECIOUS: .venv/.% .venv-%/.unit
