# Everything runs in .venv, which `make setup` makes from the lock; the other targets call it.
PYTHON ?= $(firstword $(foreach p,python3.11 python3,$(if $(shell command -v $(p) 2>/dev/null),$(p))))
BIN := .venv/bin

.PHONY: help setup compiled wheel demo test checks lint types imports pure bench hosts fuzz faults audit lock clean

help:  ## what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: .venv/ready  ## .venv with everything in it, at the locked versions

.venv/ready: requirements.lock pyproject.toml
	@echo "making .venv with $(PYTHON) (about 20 s the first time)"
	@$(PYTHON) -m venv .venv >/dev/null 2>&1 || { sh tests/support/debian.sh python3-venv && $(PYTHON) -m venv .venv; }
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

compiled: .venv/compiled  ## the modules that a job passes through, compiled in place, where there is a C compiler

.venv/compiled: .venv/ready hatch_build.py $(shell find mesh nodes discovery -name '*.py')
	@$(BIN)/python hatch_build.py missing | xargs -r sh tests/support/debian.sh
	@echo "compiling what a job passes through (about a minute)"
	@$(BIN)/python hatch_build.py in-place >.venv/compile.log 2>&1 || { cat .venv/compile.log; exit 1; }
	@if grep '^nothing is compiled' .venv/compile.log; then :; else touch -r mesh/turns.*.so $@; fi

wheel: setup  ## a wheel for this machine's kind and Python, its hot modules compiled, in dist/
	@$(BIN)/python hatch_build.py missing | xargs -r sh tests/support/debian.sh
	@HATCH_BUILD_HOOK_ENABLE_CUSTOM=1 $(BIN)/python -m hatchling build -t wheel

demo: setup  ## the main job: a thousand mails over three nodes while a site goes on answering
	@$(BIN)/python -m examples.demo

test: setup  ## every check and every test that runs on this machine
	@$(MAKE) --no-print-directory --output-sync=target -j2 .venv/compiled checks
	@$(MAKE) --no-print-directory pure
	@sh tests/support/debian.sh php-cli netcat-openbsd socat telnet curl iproute2 nftables avahi-daemon avahi-utils dbus faketime haproxy
	@$(BIN)/python -m tests

checks: lint types imports

lint: setup  ## style and format: ruff, and ansible-lint for the roll-out
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@cd ansible && PATH="$(CURDIR)/$(BIN):$$PATH" ansible-lint -q

types: setup  ## mypy --strict
	@$(BIN)/mypy

imports: setup  ## who imports whom
	@$(BIN)/lint-imports

pure: setup  ## the cores' tests with the modules as plain Python, as they run where nothing is compiled
	@PURE=1 $(BIN)/python -m pytest -q tests/unit tests/property tests/simulation tests/fuzz
	@PURE=1 $(BIN)/python -m pytest -q -m patched tests/integration tests/faults

bench: compiled  ## this machine against the targets, in under 10 minutes; ARGS=--quick: in under one
	@$(BIN)/python -m benchmarks $(ARGS)

hosts: compiled  ## several hosts, also whole systems that Ansible rolls out to, in about 13 minutes; needs root
	@sh tests/support/debian.sh iproute2 nftables avahi-daemon avahi-utils dbus systemd-container mmdebstrap openssh-client
	@REQUIRE_LAB=1 $(BIN)/python -m pytest -q -m lab tests/hosts

fuzz: compiled  ## hostile input from a seed, a million messages, a million lines, a hundred thousand connections; 4 to 8 minutes
	@FAULTS=full $(BIN)/python -m pytest -q tests/fuzz tests/faults/test_fuzz.py

faults: compiled  ## nodes killed, stopped, cut off and starved, at the full sizes, of which the soak alone takes 15 minutes
	@sh tests/support/debian.sh iproute2 nftables faketime
	@SEEDS=10000 $(BIN)/python -m pytest -q tests/simulation
	@FAULTS=full PURE=1 $(BIN)/python -m pytest -q -m patched tests/faults
	@FAULTS=full $(BIN)/python -m pytest -q tests/faults

audit:  ## known vulnerabilities of the locked versions; asks an advisory database on the network
	@$(PYTHON) -m venv .venv-audit && .venv-audit/bin/python -m pip install -q --disable-pip-version-check pip-audit
	@.venv-audit/bin/pip-audit --requirement requirements.lock --require-hashes --disable-pip

lock: setup  ## resolve requirements.lock anew (needs uv on the PATH)
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --no-annotate --upgrade -o requirements.lock

clean:  ## take away what the targets made
	rm -rf .venv .venv-audit dist build meshnode__mypyc.*.so $(shell find mesh nodes discovery -name '*.cpython-*.so') .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
