SHELL = /bin/bash
LINT_PATHS = sb3_savo benchmarks tests setup.py

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

.PHONY: pytest pytest-all type lint format check-codestyle commit-checks
