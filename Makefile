SHELL = /bin/bash
PYTHON ?= python3
VENV = .venv
LINT_PATHS = sb3_savo hyperparams benchmarks tests setup.py
DEMO_ENV = InvertedPendulumRestricted-v4
SMOKE = build/smoke
# Two processes; the tests take turns, so that no process ends long before the other
PYTEST_FLAGS = -n 2 --dist worksteal

# The README's two commands; each sets up $(VENV) first

demo: $(VENV)/ready
	$(VENV)/bin/python -m rl_zoo3.train --algo savo --env $(DEMO_ENV) --n-timesteps 60000 --progress --verbose 0
	$(VENV)/bin/python -m rl_zoo3.enjoy --algo savo --env $(DEMO_ENV) -f logs --no-render --n-timesteps 3000
	@echo "The trained agent: $$(ls -t $$PWD/logs/savo/$(DEMO_ENV)_*/$(DEMO_ENV).zip | head -n 1)"

check: $(VENV)/ready
	$(VENV)/bin/python -m pytest $(PYTEST_FLAGS) -m "not expensive"

$(VENV)/ready: setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -c constraints.txt -e .[tests]
	touch $@

# For development, in your own environment

pytest:
	python -m pytest $(PYTEST_FLAGS) -m "not expensive"

pytest-all:
	python -m pytest $(PYTEST_FLAGS)

# Under a minute: import, 200 steps of the RL Zoo, load the zip, predict
smoke:
	rm -rf $(SMOKE) && mkdir -p $(SMOKE)
	cd $(SMOKE) && python -m rl_zoo3.train --algo savo --env $(DEMO_ENV) --n-timesteps 200 --eval-freq -1 --verbose 0 \
		--hyperparams learning_starts:100 n_envs:1 train_freq:1 gradient_steps:1
	cd $(SMOKE) && python -c "import gymnasium, sb3_savo; \
		model = sb3_savo.SAVO.load('logs/savo/$(DEMO_ENV)_1/$(DEMO_ENV).zip'); \
		print('predicted', model.predict(gymnasium.make('$(DEMO_ENV)').reset(seed=0)[0])[0])"
	rm -rf $(SMOKE)

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

.PHONY: demo check smoke pytest pytest-all type lint format check-codestyle commit-checks
