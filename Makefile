SHELL = /bin/bash
PYTHON ?= python3
VENV = .venv
LINT_PATHS = sb3_savo benchmarks tests setup.py
DEMO_ENV = InvertedPendulumRestricted-v4

# The README's two commands: each sets up $(VENV) by itself

demo: $(VENV)/ready
	$(VENV)/bin/python -m rl_zoo3.train --algo savo --env $(DEMO_ENV) --n-timesteps 60000 --progress --verbose 0
	$(VENV)/bin/python -m rl_zoo3.enjoy --algo savo --env $(DEMO_ENV) -f logs --no-render --n-timesteps 3000
	@echo "The trained agent: $$(ls -t $$PWD/logs/savo/$(DEMO_ENV)_*/$(DEMO_ENV).zip | head -n 1)"

check: $(VENV)/ready
	$(VENV)/bin/python -m pytest -m "not expensive"

$(VENV)/ready: setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -c constraints.txt -e .[tests]
	touch $@

# For development, in an environment of one's own

pytest:
	python -m pytest -m "not expensive"

pytest-all:
	python -m pytest

type:
	mypy sb3_savo

lint:
	ruff check ${LINT_PATHS}

format:
	ruff check --select I --fix ${LINT_PATHS}
	ruff format ${LINT_PATHS}

check-codestyle:
	ruff check --select I ${LINT_PATHS}
	ruff format --check ${LINT_PATHS}

commit-checks: format type lint

.PHONY: demo check pytest pytest-all type lint format check-codestyle commit-checks
