"""Evaluations of a masked environment: by callbacks they keep to the masks, and a prediction without masks warns."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from sb3_contrib.common.maskable.callbacks import MaskableEvalCallback
from sb3_contrib.common.maskable.evaluation import evaluate_policy
from sb3_contrib.common.maskable.utils import get_action_masks
from stable_baselines3.common.callbacks import CallbackList, EvalCallback, EveryNTimesteps, StopTrainingOnNoModelImprovement
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_savo import SAVO, EmbeddedDiscrete, Wolpertinger
from tests.models import SMALL


class Board(gym.Env):
    """Every field may be taken once."""

    observation_space = spaces.Box(0, 1, (9,), np.float32)
    action_space = EmbeddedDiscrete(np.random.default_rng(0).normal(size=(9, 3)))

    def action_masks(self):
        return self.board == 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.board = np.zeros(9, np.float32)
        return self.board.copy(), {}

    def step(self, action):
        assert self.board[action] == 0, "not allowed"
        self.board[action] = 1
        return self.board.copy(), 1.0, bool(self.board.all()), False, {}


class OwnEvalCallback(EvalCallback):
    pass


def evaluation(kind=EvalCallback, n_envs=1, **kwargs):
    return kind(DummyVecEnv([Board] * n_envs), eval_freq=25, n_eval_episodes=3, verbose=0, warn=False, **kwargs)


@pytest.mark.parametrize("algorithm", [SAVO, Wolpertinger])
@pytest.mark.parametrize("kind", [EvalCallback, OwnEvalCallback, MaskableEvalCallback])
@pytest.mark.parametrize("n_envs", [1, 2])
def test_evaluation_keeps_to_the_masks(algorithm, kind, n_envs, tmp_path):
    callback = evaluation(kind, n_envs, best_model_save_path=str(tmp_path), log_path=str(tmp_path))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "action_masks=None")
        algorithm("MlpPolicy", Board(), **SMALL).learn(60, callback)
    assert callback.last_mean_reward == 9
    loaded = algorithm.load(tmp_path / "best_model", device="cpu")
    assert evaluate_policy(loaded, Board(), 2, warn=False)[0] == 9


def test_evaluations_within_other_callbacks():
    first, second = evaluation(), evaluation(callback_after_eval=StopTrainingOnNoModelImprovement(100))
    SAVO("MlpPolicy", Board(), **SMALL).learn(60, CallbackList([first, EveryNTimesteps(20, second)]))
    assert first.last_mean_reward == 9


def test_a_prediction_without_masks_warns_once():
    model = SAVO("MlpPolicy", Board(), **SMALL).learn(60)
    obs = np.zeros(9, np.float32)
    with pytest.warns(UserWarning, match="action_masks=None: this model has learned with action masks"):
        model.predict(obs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(obs)
        model.predict(obs, action_masks=np.ones(9, bool))


def test_a_loaded_model_still_knows(tmp_path):
    SAVO("MlpPolicy", Board(), **SMALL).learn(60).save(tmp_path / "model")
    loaded = SAVO.load(tmp_path / "model", device="cpu")
    with pytest.warns(UserWarning, match="action_masks=None"):
        loaded.predict(np.zeros(9, np.float32))
    env = DummyVecEnv([Board])
    env.reset()
    assert loaded.predict(np.zeros((1, 9), np.float32), action_masks=get_action_masks(env))[0].shape == (1,)
