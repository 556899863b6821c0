SHELL = /bin/bash
PYTHON ?= python3
VENV = .venv
TYPED_PATHS = sb3_savo benchmarks scripts tests setup.py
LINT_PATHS = $(TYPED_PATHS) examples docs/conf.py

# How pytest shares the tests out: "JOBS=0" runs them one after the other. "worksteal" keeps all processes busy until the end
# (the longest files come last); "loadscope" sets each module's fixtures up only once.
JOBS ?= 2
DIST ?= worksteal
PYTEST = -m pytest -n $(JOBS) --dist $(DIST)

SMOKE_ENV = InvertedPendulumRestricted-v4
SMOKE_OPTIONS = --n-timesteps 200 --eval-freq -1 --verbose 0 --hyperparams n_envs:1 learning_starts:50 train_freq:5 gradient_steps:5

# The README's two commands, and a quick one that shows whether the installation works; each sets up $(VENV) first

demo: $(VENV)/ready-to-draw
	$(VENV)/bin/python -m sb3_savo.demo

check: $(VENV)/ready-to-test
	$(VENV)/bin/python $(PYTEST) -m "not expensive"

smoke: $(VENV)/ready
	python=$$PWD/$(VENV)/bin/python; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; cd "$$folder" && \
	$$python -m rl_zoo3.train --algo savo --env $(SMOKE_ENV) -f . $(SMOKE_OPTIONS) && \
	$$python -c "from sb3_savo import SAVO; \
	model = SAVO.load('savo/$(SMOKE_ENV)_1/$(SMOKE_ENV).zip'); \
	print('The trained agent acts:', model.predict(model.observation_space.sample())[0])"

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/ready: setup.cfg constraints.txt | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install -c constraints.txt -e .
	touch $@

$(VENV)/ready-to-draw: setup.cfg constraints.txt | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install -c constraints.txt -e '.[plots]'
	touch $@ $(VENV)/ready

$(VENV)/ready-to-test: setup.cfg constraints.txt | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install -c constraints.txt -e '.[tests]'
	touch $@ $(VENV)/ready $(VENV)/ready-to-draw

# For development, in your own environment

pytest:
	python $(PYTEST) -m "not expensive"

pytest-all:
	python $(PYTEST)

hyperparams:
	python scripts/write_hyperparams.py

docs:
	python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "The documentation: docs/_build/html/index.html"

# Everything that is made of stored results: the reports, the picture of actions, and the tables of the documentation
results:
	python -m benchmarks.report
	python -m benchmarks.side_by_side --draw
	python -m benchmarks.publish

tables:
	python -m benchmarks.publish

pictures:
	python scripts/draw_environments.py

type:
	python -m mypy $(TYPED_PATHS)

lint:
	python -m ruff check $(LINT_PATHS)

format:
	python -m ruff check --select I --fix $(LINT_PATHS)
	python -m ruff format $(LINT_PATHS)

check-codestyle:
	python -m ruff check --select I $(LINT_PATHS)
	python -m ruff format --check $(LINT_PATHS)

commit-checks: format type lint

.PHONY: demo check smoke pytest pytest-all hyperparams docs results tables pictures type lint format check-codestyle commit-checks
