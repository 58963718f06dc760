# medportal. `make run` starts the demonstration, `make test` runs the tests.
# Works with GNU make 3.81 and a POSIX shell.

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
HOSPITAL_PORT ?= 8443
LABORATORY_PORT ?= 8444
EXCHANGE_PORT ?= 4000
MAIL_PORT ?= 2525
# Rules of the seven hosts: nft, ufw or none; and the network that their patient goes to.
RULES ?= nft
TO ?= remote
# The long run of faults: which plans, how many records in each, and on which databases.
SEEDS ?= 1
RECORDS ?= 2000
FAULTS_ARGS ?=
# Three workers on two cores, since the tests wait a good part of the time. The tests of a file
# stay together, so that they share what they set up; the longest files come first.
PYTEST_ARGS ?= -n 3 --dist loadfile --no-loadscope-reorder

.PHONY: run test sure format format-check lint types contracts coverage lock system-packages bench clean check-python topology topology-move topology-test faults explore

run: $(VENV)/.installed
	@$(BIN)/python -m compileall -q medportal migrations
	@exec $(BIN)/medportal run --hospital-port $(HOSPITAL_PORT) \
		--laboratory-port $(LABORATORY_PORT) --exchange-port $(EXCHANGE_PORT) \
		--mail-port $(MAIL_PORT)

# Some hundred processes of a run import the program; where Python may not keep what it compiles
# (PYTHONDONTWRITEBYTECODE), each of them would compile it anew.
test: $(VENV)/.installed-dev
	@$(BIN)/python -m compileall -q medportal migrations
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

# Tests of properties with examples that no run drew before (`make test` draws the same each time).
explore: $(VENV)/.installed-dev
	@$(BIN)/python -m pytest -m hypothesis --hypothesis-profile=explore $(PYTEST_ARGS)

# Everything that CI runs.
sure: format-check lint types contracts coverage

format: $(VENV)/.installed-dev
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

format-check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

contracts: $(VENV)/.installed-dev
	$(BIN)/lint-imports

coverage: $(VENV)/.installed-dev
	@$(BIN)/python -m compileall -q medportal migrations
	$(BIN)/python -m pytest --cov-report=term-missing:skip-covered --cov=medportal $(PYTEST_ARGS)

bench: $(VENV)/.installed-dev
	$(BIN)/python -m bench

# The seven hosts in network namespaces, until Ctrl-C (root, Linux; docs/topology.md).
topology: $(VENV)/.installed-dev
	@exec $(BIN)/python -m deploy.topology up --rules $(RULES)

# The tests that build them anew: some minutes, not part of `make test`.
topology-test: $(VENV)/.installed-dev
	@MEDPORTAL_SEVEN_HOSTS=1 $(BIN)/python -m pytest -v tests/topology

topology-move: $(VENV)/.installed-dev
	@$(BIN)/python -m deploy.topology move $(TO)

# Kills, cut cables, full disks while records travel (root, Linux; docs/faults.md): some minutes a seed.
faults: $(VENV)/.installed-dev
	@$(BIN)/python -W ignore -m faults --seeds $(SEEDS) --records $(RECORDS) $(FAULTS_ARGS)

check-python:
	@test -n "$(PYTHON)" || { \
		echo "medportal needs Python 3.11, 3.12 or 3.13 that can make virtual environments."; \
		echo "On Debian 12, Ubuntu 24.04 or newer: sudo apt install python3 python3-venv"; \
		echo "On macOS: install it from python.org, or: brew install python@3.13"; \
		exit 1; }

# A marker, made last, so that what was interrupted is done again.
$(VENV)/.made:
	@$(MAKE) --no-print-directory check-python
	@echo "Making the virtual environment ..."
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.made requirements.lock pyproject.toml
	@echo "Installing medportal and what it needs (once, some minutes) ..."
	@$(BIN)/python -m pip install --progress-bar off --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --progress-bar off --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.lock
	@echo "Installing what the tests need (once) ..."
	@$(BIN)/python -m pip install --progress-bar off --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

# Refresh both lock files from pyproject.toml. They hold hashes and no index address.
lock: $(VENV)/.installed-dev
	$(BIN)/uv pip compile --universal --generate-hashes --no-header --no-emit-index-url --python-version 3.11 \
		--upgrade --quiet -o requirements.lock pyproject.toml
	$(BIN)/uv pip compile --universal --generate-hashes --no-header --no-emit-index-url --python-version 3.11 \
		--upgrade --quiet --extra dev -c requirements.lock -o requirements-dev.lock pyproject.toml

# What the full test run needs besides Python (Debian and Ubuntu, as root).
system-packages:
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
		chromium libnss3-tools postgresql fonts-dejavu-core openssl python3-venv wrk \
		default-jre-headless nftables iproute2 ufw iptables procps nginx-light dnsmasq-base \
		udhcpc nmap curl systemd

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
