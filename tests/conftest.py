from functools import wraps

import pytest
import torch as th
from stable_baselines3.common import evaluation
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit

# The networks here are tiny: one thread is as fast as several, and does not wait for the others on a busy machine
th.set_num_threads(1)

# Tests learn in few steps, and continue without the replay buffer; the tests of these two warnings expect them
EXPECTED = ("ignore:total_timesteps=.* makes no gradient step", "ignore:reset_num_timesteps=False continues after")


def pytest_collection_modifyitems(items):
    for item in items:
        for warning in EXPECTED:
            item.add_marker(pytest.mark.filterwarnings(warning), append=False)


@pytest.fixture
def short_runs(monkeypatch, tmp_path):
    """Runs of documents and examples are cut to some steps with a gradient step each, their evaluations to one episode."""
    learn, evaluate_policy = OffPolicyAlgorithm.learn, evaluation.evaluate_policy

    @wraps(learn)
    def learn_shortly(self, total_timesteps, *args, **kwargs):
        self.learning_starts = min(self.learning_starts, 4)
        self.gradient_steps = min(self.gradient_steps, 1)
        self.batch_size = min(self.batch_size, 32)
        if self.train_freq.unit == TrainFrequencyUnit.STEP:
            self.train_freq = TrainFreq(1, TrainFrequencyUnit.STEP)
        return learn(self, min(total_timesteps, 8 * self.n_envs), *args, **kwargs)

    def evaluate_shortly(model, env, n_eval_episodes=10, **kwargs):
        return evaluate_policy(model, env, 1, **kwargs)

    monkeypatch.setattr(OffPolicyAlgorithm, "learn", learn_shortly)
    monkeypatch.setattr(evaluation, "evaluate_policy", evaluate_shortly)
    monkeypatch.chdir(tmp_path)
