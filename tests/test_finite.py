"""NaN and Inf are stopped before they enter the replay buffer, or at the end of ``train``; implausible sizes warn."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_savo import CEM, SAVO, SAVOSAC, EmbeddedDiscrete, Ensemble
from sb3_savo.common.finite import NonFiniteError, check_finite
from sb3_savo.common.plausible import PlausibleRange
from tests.algorithms import ALGORITHMS
from tests.models import SMALL

N_STEPS = 60
ITEMS = EmbeddedDiscrete(np.random.default_rng(0).normal(size=(9, 3)))
BOX = spaces.Box(-2, 2, (2,), np.float32)
SPACES = {
    "vector": spaces.Box(-1, 1, (3,), np.float32),
    "doubles": spaces.Box(-1, 1, (3,), np.float64),
    "image": spaces.Box(0, 1, (3, 40, 40), np.float32),
    "dict": spaces.Dict(near=spaces.Box(-1, 1, (2,), np.float32), far=spaces.Box(-1, 1, (2, 2), np.float32)),
}


class Faulty(gym.Env):
    """
    Random observations, episodes of 5 steps that end as terminated and truncated in turn.

    :param fault: Where a wrong value appears, ``obs``, ``reward``, ``reset`` or ``last`` (at the end of an episode); or None
    :param value: The wrong value
    :param at: In which of the environment's steps, or resets
    :param observation_space: Its observation space
    :param action_space: Its action space
    """

    def __init__(self, fault=None, value=np.nan, at=32, observation_space=SPACES["vector"], action_space=BOX):
        self.fault, self.value, self.at = fault, value, at
        self.observation_space, self.action_space = observation_space, action_space
        self.n_steps = self.n_resets = 0

    def look(self, is_faulty):
        obs = self.observation_space.sample()
        if is_faulty:
            part = obs["far"] if isinstance(obs, dict) else obs
            part[(-1,) * part.ndim] = self.value
        return obs

    def reset(self, *, seed=None, options=None):
        self.observation_space.seed(seed)
        self.n_resets += 1
        return self.look(self.fault == "reset" and self.n_resets == self.at), {}

    def step(self, action):
        self.n_steps += 1
        is_last = self.n_steps % 5 == 0
        due = self.n_steps >= self.at
        reward = self.value if due and self.fault == "reward" else 1.0
        obs = self.look(due and (self.fault == "obs" or (self.fault == "last" and is_last)))
        is_terminal = self.n_steps % 10 == 0
        return obs, reward, is_last and is_terminal, is_last and not is_terminal, {}


def make(algorithm=SAVO, *args, n_envs=2, faulty_env=1, policy="MlpPolicy", normalize=False, options=None, **kwargs):
    """:return: A model whose environments are sound but one"""

    def make_env(i):
        sound = {name: kwargs[name] for name in ("observation_space", "action_space") if name in kwargs}
        return lambda: Faulty(*args, **kwargs) if i == faulty_env else Faulty(**sound)

    env = DummyVecEnv([make_env(i) for i in range(n_envs)])
    env = VecNormalize(env) if normalize else env
    return algorithm(policy, env, **{**SMALL, **(options or {})})


def assert_buffer_is_finite(model):
    buffer = model.replay_buffer
    for values in (buffer.observations, buffer.next_observations, buffer.rewards, buffer.actions):
        for part in values.values() if isinstance(values, dict) else [values]:
            assert np.isfinite(part[: buffer.size(), :, :3] if part is buffer.actions else part[: buffer.size()]).all()


FAULTS = [
    ("obs", np.nan, r"observation at position \(2,\) is nan in environment 1 at step 64"),
    ("obs", np.inf, r"observation at position \(2,\) is inf in environment 1 at step 64"),
    ("reward", np.nan, "reward is nan in environment 1 at step 64"),
    ("reward", -np.inf, "reward is -inf in environment 1 at step 64"),
    ("reward", 1e300, "reward is inf in environment 1 at step 64"),
    ("last", np.nan, r"terminal observation of environment 1 at step 70 at position \(2,\) is nan"),
    ("last", np.inf, r"terminal observation of environment 1 at step 70 at position \(2,\) is inf"),
]


@pytest.mark.parametrize("fault, value, message", FAULTS)
@pytest.mark.parametrize("normalize", [False, True])
def test_a_fault_of_an_environment_is_named(fault, value, message, normalize):
    model = make(SAVO, fault, value, normalize=normalize)
    with (
        warnings.catch_warnings(),
        pytest.raises(NonFiniteError, match=message),
    ):
        warnings.simplefilter("ignore", RuntimeWarning)  # VecNormalize and the cast to float32
        model.learn(200)
    assert model.replay_buffer.size() == (34 if fault == "last" else 31)
    assert_buffer_is_finite(model)
    assert all(parameter.isfinite().all() for parameter in model.policy.parameters())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("fault", ["obs", "reward"])
@pytest.mark.parametrize("action_space", [BOX, ITEMS], ids=["box", "items"])
def test_every_algorithm_stops(algorithm, fault, action_space):
    if algorithm is SAVOSAC and action_space is ITEMS:
        pytest.skip("SAVOSAC takes continuous actions only")
    model = make(algorithm, fault, action_space=action_space)
    with pytest.raises(NonFiniteError, match="in environment 1 at step 64"):
        model.learn(200)
    assert_buffer_is_finite(model)


@pytest.mark.parametrize("kind, policy", [("doubles", "MlpPolicy"), ("image", "CnnPolicy"), ("dict", "MultiInputPolicy")])
def test_every_kind_of_observation(kind, policy):
    options = {"policy_kwargs": {"net_arch": [8], "normalize_images": False}, "buffer_size": 100, "learning_starts": 1000}
    model = make(Ensemble, "obs", policy=policy, observation_space=SPACES[kind], options=options)
    where = {
        "doubles": r"observation at position \(2,\)",
        "image": r"\(2, 39, 39\)",
        "dict": r"observation\['far'\].*\(1, 1\)",
    }
    with pytest.raises(NonFiniteError, match=where[kind] + " is nan in environment 1 at step 64"):
        model.learn(200)


@pytest.mark.parametrize("at, n_stored", [(1, 0), (3, 9)])
def test_a_reset_observation(at, n_stored):
    model = make(SAVO, "reset", at=at)
    with pytest.raises(
        NonFiniteError, match=rf"observation at position \(2,\) is nan in environment 1 at step {n_stored and 20}"
    ):
        model.learn(100)
    assert model.replay_buffer.size() == n_stored


def test_normalization_does_not_hide_inf():
    model = make(SAVO, "obs", np.inf, normalize=True)
    with warnings.catch_warnings(), pytest.raises(NonFiniteError):
        warnings.simplefilter("ignore", RuntimeWarning)
        model.learn(200)
    assert model.replay_buffer.size() == 31


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("action_space", [BOX, ITEMS], ids=["box", "items"])
def test_a_loss_that_is_not_finite_stops_train(algorithm, action_space):
    if algorithm is SAVOSAC and action_space is ITEMS:
        pytest.skip("SAVOSAC takes continuous actions only")
    model = make(algorithm, action_space=action_space).learn(N_STEPS)
    model.replay_buffer.rewards[:] = np.nan
    # α of SAVOSAC too is NaN then
    with pytest.raises(
        NonFiniteError, match=rf"(critic|ent_coef)_loss is nan at step {N_STEPS}, gradient step {model._n_updates + 3}"
    ):
        model.train(3, 16)


@pytest.mark.parametrize("action_space, name", [(BOX, "action"), (ITEMS, "candidate actions")], ids=["box", "items"])
def test_an_action_that_is_not_finite_is_not_taken(action_space, name):
    model = make(action_space=action_space).learn(N_STEPS)
    n_taken = model.env.get_attr("n_steps")
    with th.no_grad():
        for parameter in model.actor.parameters():
            parameter.fill_(th.nan)
    with pytest.raises(NonFiniteError, match=rf"{name} at position .* is nan in environment 0 at step 60.*weights"):
        model.learn(10, reset_num_timesteps=False)
    assert model.env.get_attr("n_steps") == n_taken


def predictions(model):
    """:return: Functions that predict, without masks and with them"""
    obs = np.zeros((2, 3), np.float32)
    yield lambda: model.predict(obs)
    yield lambda: model.predict(obs[0], deterministic=True)
    if model.policy.items is not None:
        yield lambda: model.predict(obs, action_masks=np.arange(9) % 2 == 0)


CASES = [(algorithm, space) for algorithm in ALGORITHMS for space in (BOX, ITEMS) if (algorithm, space) != (SAVOSAC, ITEMS)]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("algorithm, action_space", CASES)
def test_predict_refuses_weights_that_are_not_finite(algorithm, action_space, value):
    """At the first prediction after the weights have changed by learning, in every network; here one weight, the last."""
    model = make(algorithm, action_space=action_space)
    for name, network in model.policy.learners.items():
        *_, (part, parameter) = network.named_parameters()
        before = parameter.detach().clone()
        parameter.data.view(-1)[-1] = value
        for predict in predictions(model):
            model.policy.set_training_mode(True)
            with pytest.raises(NonFiniteError, match=rf"policy.{name}.{part} at position .* is {value}"):
                predict()
        parameter.data.copy_(before)
    for predict in predictions(model):
        assert np.isfinite(predict()[0]).all()


@pytest.mark.parametrize("algorithm, action_space", CASES)
def test_predict_refuses_what_is_not_finite_at_any_time(algorithm, action_space):
    """What has become of the weights between two predictions shows in what they compute."""
    model = make(algorithm, action_space=action_space)
    for predict in predictions(model):
        predict()
    learners = model.policy.learners
    # The critic has no part in the action of a single actor, and Q̂ is what CEM and MultiStart search
    proposes = "actor" if "actor" in learners else "smooth_critic" if "smooth_critic" in learners else "critic"
    for name in {proposes, "critic"} if model.n_candidates > 1 else {proposes}:
        before = {part: value.clone() for part, value in learners[name].state_dict().items()}
        for value in (np.nan, np.inf):
            for parameter in learners[name].parameters():
                parameter.data.fill_(value)
            for predict in predictions(model):
                with (
                    np.errstate(invalid="ignore"),
                    pytest.raises(NonFiniteError, match=r"(Q-values|action|candidate actions) at position .* weights"),
                ):
                    predict()
        learners[name].load_state_dict(before)


class NaNNoise(ActionNoise):
    """Returns NaN from the n-th call on."""

    def __init__(self, n):
        super().__init__()
        self.n = n

    def __call__(self):
        self.n -= 1
        return np.full(2, np.nan if self.n < 0 else 0.1)


@pytest.mark.parametrize("n", [0, 10, 30])
def test_action_noise_that_is_not_finite(n):
    model = make(SAVO)
    model.action_noise = NaNNoise(n)
    with pytest.raises(NonFiniteError, match=r"action_noise=.*: its sample at position"):
        model.learn(100)
    assert model.replay_buffer.size() == n


@pytest.mark.parametrize(
    "value, message",
    [
        (np.array([1.0, np.nan]), r"^x at position \(1,\) is nan: it must be finite\.$"),
        (np.array([[1.0, np.inf], [np.nan, 0.0]]), r"^x at position \(0, 1\) is inf \(1 more are not finite\)"),
        ({"a": np.ones(2), "b": np.array(-np.inf)}, r"^x\['b'\] is -inf"),
        (np.array([1e39]), r"^x at position \(0,\) is 1e\+39, which is infinite in float32"),
        (float("nan"), "^x is nan"),
        (th.tensor([np.inf]), r"^x at position \(0,\) is inf"),
        (np.array([np.nan], dtype=np.float16), r"^x at position \(0,\) is nan"),
        (np.array([np.inf] + [0] * 9999, dtype=np.float16), r"^x at position \(0,\) is inf"),
    ],
)
def test_check_finite_names_the_place(value, message):
    with pytest.raises(NonFiniteError, match=message):
        check_finite("x", value)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.uint8, np.int64, bool])
@pytest.mark.parametrize("size", [0, 1, 10_000])
def test_check_finite_lets_finite_numbers_pass(dtype, size):
    largest = np.finfo(np.float32).max if dtype == np.float64 else np.finfo(dtype).max if np.dtype(dtype).kind == "f" else 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_finite("x", np.full(size, largest, dtype=dtype), "step 1")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_huge_rewards_warn_once_per_learn(algorithm):
    model = make(algorithm, "reward", 1e12, at=5)
    for _ in range(2):
        with pytest.warns(UserWarning) as caught:
            model.learn(30)
        (message,) = [str(w.message) for w in caught if "plausible" in str(w.message)]
        assert "A reward of 1e+12 in environment 1 at step" in message


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_rewards_whose_square_overflows_warn_and_stop(algorithm):
    model = make(algorithm, "reward", 1e30, at=5)
    with pytest.warns(UserWarning, match=r"A reward of 1e\+30 in environment 1 at step 10 is beyond any plausible range"):
        with pytest.raises(NonFiniteError, match="critic_loss is"):
            model.learn(200)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("name", ["learning_rate", "qf_learning_rate"])
def test_a_learning_rate_of_1_warns(algorithm, name):
    if algorithm is SAVOSAC and name == "qf_learning_rate":
        pytest.skip("SAVOSAC has one learning rate")
    model = make(algorithm, options={name: 1.0})
    with pytest.warns(UserWarning, match=rf"^{name}=1 at step 0 is beyond any plausible range"):
        model.learn(20)


def test_other_learning_rates_do_not_warn():
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "learning_rate")
        make(options={"learning_rate": lambda progress: 0.1 * progress}).learn(20)
        sgd = {"optimizer_class": th.optim.SGD, "net_arch": [16]}
        make(options={"learning_rate": 1.0, "policy_kwargs": sgd}).learn(20)


def test_a_mean_q_out_of_range_warns_once_per_learn():
    model = make(CEM).learn(N_STEPS)
    with th.no_grad():
        for parameter in model.critic.parameters():
            parameter.add_(30.0)
    with pytest.warns(UserWarning) as caught:
        model.learn(4, reset_num_timesteps=False)
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == 1 and "mean Q" in messages[0] and "rewards are up to 1" in messages[0]


def test_a_gradient_out_of_range_warns():
    model = make(CEM, options={"max_grad_norm": None}).learn(N_STEPS)
    model._n_updates = 98
    loss = model.critic_loss

    def critic_loss(batch):
        return 1e11 * (1 + loss(batch)[0]), {}

    model.critic_loss = critic_loss
    model._plausible_range.max_q = 1e6  # so that the size of the loss does not warn first
    with pytest.warns(UserWarning, match=r"A gradient of norm .* of critic"):
        model.train(3, 16)


def test_large_rewards_of_a_sound_task_do_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for reward in (1e-6, 1e5):
            model = make(CEM, "reward", reward, at=1).learn(N_STEPS)
            model.critic.q_networks.output.bias.data.fill_(100 * reward)
            model.train(2, 16)


def test_the_range_follows_the_rewards_and_the_discount():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PlausibleRange(0.99).check_q({"Q": 9e2}, None, 1)
        PlausibleRange(0.99).check_q({"Q": 9e4}, np.array([-100.0]), 1)
        PlausibleRange(0.99).check_gradient("critic", 9e6, 1)
        PlausibleRange(1.0).check_q({"Q": 9e4}, None, 1)
    for gamma, q, rewards in ((0.99, 2e3, None), (0.99, 2e5, np.array([-100.0])), (0.0, 2e3, None), (1.0, 2e5, None)):
        with pytest.warns(UserWarning, match="Q .* beyond any plausible range"):
            PlausibleRange(gamma).check_q({"Q": q}, rewards, 1)
    with pytest.warns(UserWarning, match=r"A gradient of norm 1e\+10 of critic"):
        PlausibleRange(0.99).check_gradient("critic", 1e10, 1)
