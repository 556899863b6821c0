"""Bad input: an error before the first environment step, which names the argument, the value and what is right."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import SAC, TD3, HerReplayBuffer
from stable_baselines3.common.envs import IdentityEnv, IdentityEnvBox, IdentityEnvMultiDiscrete
from stable_baselines3.td3.policies import TD3Policy

from sb3_savo import SAVO
from tests.models import SMALL

ENV_ID = "Pendulum-v1"


@pytest.mark.parametrize(
    "kwargs, error, message",
    [
        ({"n_actors": 0}, ValueError, r"n_actors=0 is too small: it must be an integer of at least 1"),
        ({"n_actors": 2.5}, TypeError, r"n_actors=2.5 is a float: it must be an integer"),
        ({"n_actors": True}, TypeError, r"n_actors=True is a bool"),
        ({"n_actor": 3}, TypeError, r"^n_actor=3 is not an argument of SAVO: did you mean n_actors\?"),
        ({"use_sde": True}, TypeError, r"^use_sde=True is not an argument of SAVO"),
        (
            {"surrogate": "learned"},
            ValueError,
            r"='learned' is not known.*'memory', 'approximate', 'exact', 'hybrid', None",
        ),
        ({"summarizer": "gru"}, ValueError, r"summarizer='gru' is not known.*'deepset', 'lstm', 'transformer'"),
        ({"modulation": "add"}, ValueError, r"modulation='add' is not known.*'film', 'mlp'"),
        ({"init": "zeros"}, ValueError, r"init='zeros' is not known.*'orthogonal', 'xavier', 'random', 'add'"),
        ({"condition_on_previous": "no"}, ValueError, r"condition_on_previous='no' is not known"),
        ({"joint_action": 2}, ValueError, r"joint_action=2 is not known"),
        ({"buffer_size": 100, "batch_size": 256}, ValueError, r"buffer_size=100 is smaller than a batch.*batch_size=256"),
        ({"buffer_size": 0}, ValueError, r"buffer_size=0 is too small"),
        ({"batch_size": 0}, ValueError, r"batch_size=0 is too small"),
        ({"learning_starts": -1}, ValueError, r"learning_starts=-1 is too small"),
        ({"gradient_steps": -2}, ValueError, r"gradient_steps=-2 is too small"),
        ({"policy_delay": 0}, ValueError, r"policy_delay=0 is too small"),
        ({"n_steps": 0}, ValueError, r"n_steps=0 is too small"),
        ({"n_target_critics": 0}, ValueError, r"n_target_critics=0 is too small"),
        ({"n_target_critics": 3}, ValueError, r"n_target_critics=3 of 2 critics: it must be at most the policy's n_critics"),
        ({"learning_rate": -3e-4}, ValueError, r"learning_rate=-0.0003 is out of range: it must be a number above 0"),
        ({"learning_rate": "3e-4"}, TypeError, r"learning_rate='3e-4' is a str: it must be a number above 0"),
        ({"learning_rate": None}, TypeError, r"learning_rate=None is a NoneType"),
        ({"qf_learning_rate": 0.0}, ValueError, r"qf_learning_rate=0.0 is out of range"),
        ({"tau": 1.5}, ValueError, r"tau=1.5 is out of range: it must be a number above 0 and at most 1"),
        ({"gamma": 1.01}, ValueError, r"gamma=1.01 is out of range"),
        ({"gamma": float("nan")}, ValueError, r"gamma=nan is out of range"),
        ({"target_policy_noise": -0.1}, ValueError, r"target_policy_noise=-0.1 is out of range"),
        ({"target_noise_clip": -0.1}, ValueError, r"target_noise_clip=-0.1 is out of range"),
        ({"max_grad_norm": 0}, ValueError, r"max_grad_norm=0 is out of range: it must be a number above 0"),
        ({"exploration_noise": "pink"}, ValueError, r"exploration_noise='pink' is not known.*'ou', 'gaussian', None"),
        ({"exploration_noise_std": -1}, ValueError, r"exploration_noise_std=-1 is out of range"),
        ({"exploration_noise_scale": (1.0, 0.1)}, ValueError, r"exploration_noise_scale=\(1.0, 0.1\) must be"),
        ({"exploration_noise_scale": (1.0, 0.1, 0)}, ValueError, r"exploration_noise_scale\[2\]=0 is too small"),
        ({"selection_epsilon": 1.2}, ValueError, r"selection_epsilon=1.2 is out of range"),
        ({"selection_epsilon": [2.0, 0.1, 10]}, ValueError, r"selection_epsilon\[0\]=2.0 is out of range"),
        ({"train_freq": 0}, ValueError, r"train_freq=0 is too small"),
        ({"train_freq": (0, "episode")}, ValueError, r"train_freq\[0\]=0 is too small"),
        ({"train_freq": (1, "epoch")}, ValueError, r"train_freq\[1\]='epoch' is not known.*'step', 'episode'"),
        ({"n_steps": 3, "replay_buffer_class": HerReplayBuffer}, ValueError, r"n_steps=3 needs an NStepReplayBuffer"),
        ({"policy": TD3Policy}, TypeError, r"policy=TD3Policy is not a SAVO policy"),
        ({"policy_kwargs": {"pool": "sum"}}, ValueError, r"pool='sum' is not known.*'mean', 'max'"),
        ({"policy_kwargs": {"summary_dim": 0}}, ValueError, r"summary_dim=0 is too small"),
        ({"policy_kwargs": {"n_actors": 2}}, ValueError, r"policy_kwargs holds 'n_actors'.*SAVO\(n_actors=…\)"),
    ],
    ids=str,
)
def test_bad_argument(kwargs, error, message):
    arguments = {"policy": "MlpPolicy", "env": ENV_ID, **SMALL, **kwargs}
    with pytest.raises(error, match=message):
        SAVO(**arguments)


class OneActionSpace(gym.Env):
    """An environment with any action space."""

    observation_space = spaces.Box(-1, 1, (3,), np.float32)

    def __init__(self, action_space):
        self.action_space = action_space

    def reset(self, *, seed=None, options=None):
        return np.zeros(3, np.float32), {}

    def step(self, action):
        raise AssertionError("no step before the error")


@pytest.mark.parametrize(
    "space, error, message",
    [
        (spaces.Discrete(4), TypeError, r"action space Discrete\(4\) is not continuous: SAVO needs a Box of floats"),
        (spaces.MultiDiscrete([2, 3]), TypeError, "not continuous"),
        (spaces.MultiBinary(3), TypeError, "not continuous"),
        (spaces.Box(0, 5, (2,), np.int64), TypeError, "not continuous"),
        (spaces.Box(-np.inf, np.inf, (2,)), ValueError, "is unbounded: SAVO needs finite bounds"),
        (spaces.Box(np.array([-1.0, 0.0]), np.array([1.0, 0.0]), dtype=np.float64), ValueError, "dimension without width"),
    ],
    ids=str,
)
def test_bad_action_space(space, error, message):
    with pytest.raises(error, match=message):
        SAVO("MlpPolicy", OneActionSpace(space), **SMALL)


@pytest.mark.parametrize("env", [IdentityEnv(dim=2), IdentityEnvMultiDiscrete(dim=2)])
def test_bad_environment_of_sb3(env):
    with pytest.raises(TypeError, match="not continuous"):
        SAVO("MlpPolicy", env, **SMALL)


@pytest.mark.parametrize("other", [TD3, SAC])
def test_zip_of_another_algorithm(tmp_path, other):
    other("MlpPolicy", ENV_ID, buffer_size=10, policy_kwargs={"net_arch": [8]}).save(tmp_path / "other")
    with pytest.raises(TypeError, match=r"policy=\w+ is not a SAVO policy"):
        SAVO.load(tmp_path / "other")


@pytest.mark.parametrize(
    "budget, error, message",
    [
        (100.5, ValueError, r"total_timesteps=100.5 is not whole"),
        (-5, ValueError, r"total_timesteps=-5 is out of range"),
        (float("inf"), ValueError, r"total_timesteps=inf is out of range"),
        ("3e6", TypeError, r"total_timesteps='3e6' is a str"),
    ],
)
def test_bad_budget(budget, error, message):
    with pytest.raises(error, match=message):
        SAVO("MlpPolicy", ENV_ID, **SMALL).learn(budget)


def test_replay_buffer_with_another_number_of_candidates(tmp_path):
    SAVO("MlpPolicy", IdentityEnvBox(), n_actors=2, **SMALL).save_replay_buffer(tmp_path / "buffer")
    model = SAVO("MlpPolicy", IdentityEnvBox(), n_actors=3, **SMALL)
    with pytest.raises(ValueError, match="holds 2 candidates per transition, but the policy proposes 3"):
        model.load_replay_buffer(tmp_path / "buffer")
    assert model.replay_buffer.n_candidates == 3


def test_a_small_buffer_does_for_the_default_batch():
    """As in SB3's own tests: a batch is drawn with replacement."""
    model = SAVO("MlpPolicy", ENV_ID, buffer_size=100, learning_starts=10, policy_kwargs={"net_arch": [8]}, device="cpu")
    assert model.batch_size == 256
    assert model.learn(20)._n_updates == 10


def test_too_many_positional_arguments():
    """A value beyond the positional arguments is not taken for one that can be passed by name only."""
    with pytest.raises(TypeError, match=r"SAVO takes 3 arguments by position, policy, env, learning_rate, and 4 were given"):
        SAVO("MlpPolicy", "Pendulum-v1", 1e-3, 1e-3)
