# `make demo` and `make test` need Python 3.11 or later, make and git; a real Cassandra needs a JDK 17
# and Maven besides, and is started and ended by itself.

PYTHON ?= $(shell sh tools/find-python.sh 3.11)
BIN := .venv/bin
PIP := -m pip install --quiet --disable-pip-version-check
CHECKED := $(wildcard src tests examples bench fuzz docs tools)
# Other CPythons of this machine, for the unit tests.
OTHERS := $(shell sh tools/find-python.sh --others)
# What the lowest versions of the packages are tested with: what uses them most, on real sockets too.
LOWEST := $(addprefix tests/,cqlproto/test_compression.py cqlproto/rows/targets \
	cqlproto/testing/test_init.py $(addprefix cqlproto_anyio/,_eventloop/test_asyncio.py \
	_eventloop/test_trio.py test_bare_loops.py test_connect.py test_tls.py))

# Tests that need no server: a file's tests run in one process, in their order.
PARALLEL := -p no:cacheprovider --numprocesses=auto --dist=loadfile
FEW := --hypothesis-profile=few

help: ## show this text
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: .venv/.demo ## run examples/demo.py, on CQLPROTO_HOSTS or on a Cassandra that is started for it
	@if [ -n "$$CQLPROTO_HOSTS" ]; then $(BIN)/python examples/demo.py; \
	else $(BIN)/python -m tests.cassandra run -- $(BIN)/python examples/demo.py; fi

# Two lanes: the tests on real servers wait for them half of their time; all others run beside them,
# the longest first, on as many processes as there are cores. Whatever is to be installed is there
# before, so that no timed test runs beside pip.
test: lint .venv/.fuzz .venv-lowest/.unit $(OTHERS:%=.venv-%/.unit) ## everything: lint, types, all tests, docs, a little fuzzing
	$(MAKE) --no-print-directory --jobs=2 --output-sync=line tests-on-servers without-server

without-server: tests-without-server coverage units types docs lowest fuzz-short

lint: .venv/.dev ## style, format and the layers of the sources
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)
	$(BIN)/lint-imports --no-logo

types: .venv/.dev ## mypy, strict
	$(BIN)/mypy $(CHECKED)

tests: tests-on-servers tests-without-server coverage ## all tests on this Python, some on a Cassandra that is started for them

# One process: its tests share the servers, and wait for them most of the time.
tests-on-servers: .venv/.dev
	$(BIN)/pytest -q -p no:cacheprovider -m cassandra

tests-without-server: .venv/.dev
	$(BIN)/pytest -q $(PARALLEL) -m "not cassandra" --ignore=tests/cqlproto

coverage: .venv/.dev ## the tests of cqlproto; every branch must be run, each module by its own tests
	$(BIN)/python -m tests.coverage

units: $(OTHERS:%=unit-%) ## the unit tests on the other CPythons of this machine

# The newest tries as many examples of the core's properties as there are to be; the measured run on
# $(PYTHON) and the other CPythons try a few.
unit-%: .venv-%/.unit
	.venv-$*/bin/pytest -q $(PARALLEL) $(if $(filter $*,$(lastword $(OTHERS))),,$(FEW)) tests/cqlproto
	.venv-$*/bin/pytest -q $(PARALLEL) $(FEW) -m "not cassandra" $(wildcard tests/cqlproto_anyio)

# Without another CPython this one has to try them.
ifeq ($(OTHERS),)
units: unit-only
endif
unit-only: .venv/.dev
	$(BIN)/pytest -q $(PARALLEL) tests/cqlproto

lowest: .venv-lowest/.unit ## some unit tests on the lowest versions of packages that pyproject.toml allows
	.venv-lowest/bin/pytest -q $(PARALLEL) $(FEW) -m "not cassandra" $(LOWEST)

docs: .venv/.dev ## the documentation as HTML in build/docs; a warning is an error
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -b html docs build/docs

fuzz: .venv/.fuzz ## fuzz every parser, so many SECONDS in all
	$(BIN)/python -m fuzz --seconds $(or $(SECONDS),600)

fuzz-short: .venv/.fuzz
	$(BIN)/python -m fuzz --seconds 40 --if-possible

servers: .venv/.dev ## one suite on a real node of every line of Cassandra, 2.1 to 6.0; RELEASES="4.1.10 5.0.9" for some
	$(BIN)/python -m tests.cassandra.matrix $(RELEASES)

soak: .venv/.dev ## faults on three nodes under load, so many SECONDS in all, and a table; ARGS=--quick for less
	$(BIN)/python -m tests.cassandra.soak --seconds $(or $(SECONDS),600) $(ARGS)

bench: .venv/.bench .bench/scylla-driver .bench/cassandra-driver-pure ## measure beside all peers, write docs/performance.md; ARGS=--quick for less
	$(BIN)/python -m bench $(ARGS)

# It has the module name of cassandra-driver, so they can't be in one environment.
.bench/scylla-driver: | .venv/.bench
	$(BIN)/python $(PIP) --target $@ scylla-driver

# The same driver without what is compiled, which it does not need.
.bench/cassandra-driver-pure: | .venv/.bench
	$(BIN)/python $(PIP) --target $@ cassandra-driver
	find $@/cassandra -name '*.so' -delete

format: .venv/.dev ## let ruff format the sources
	$(BIN)/ruff check --fix-only $(CHECKED)
	$(BIN)/ruff format $(CHECKED)

clean: ## remove virtual environments and caches
	rm -rf build dist .venv .venv-* .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# An environment is made once, and filled again when pyproject.toml changes.
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

.PHONY: help demo test lint types tests tests-on-servers tests-without-server without-server coverage units unit-only lowest docs fuzz fuzz-short servers soak bench format clean
.PRECIOUS: .venv/.% .venv-%/.unit
