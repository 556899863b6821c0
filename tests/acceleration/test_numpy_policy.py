"""Acting in NumPy is acting in torch."""

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.envs import FakeImageEnv, SimpleMultiObsEnv
from stable_baselines3.common.vec_env import DummyVecEnv
from threadpoolctl import threadpool_limits
from torch import nn

from sb3_savo import SAVO, SAVOSAC, Ensemble, Wolpertinger
from sb3_savo.acceleration import numpy_networks, numpy_policy
from sb3_savo.acceleration.blas_threads import on_one_thread, openblas
from sb3_savo.acceleration.numpy_networks import MIN_MATMUL_WEIGHTS, MIN_ROWS_FOR_MATMUL
from sb3_savo.common import collection
from sb3_savo.networks.critics import CandidateCritic
from tests.models import QUICK, without_addresses


class MatrixEnv(gym.Env):
    """Observations and actions of several dimensions, and bounds that differ."""

    observation_space = spaces.Box(-5, 5, (2, 3), np.float64)
    action_space = spaces.Box(np.float32([[-1, 0], [2, -3]]), np.float32([[1, 5], [4, -1]]))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        return self.observation_space.sample(), float(action.sum()), self.np_random.random() < 0.1, False, {}


def make(algorithm=SAVO, env="Pendulum-v1", policy="MlpPolicy", net_arch=(16, 16), policy_kwargs=None, **kwargs):
    policy_kwargs = {"net_arch": list(net_arch), **(policy_kwargs or {})}
    model = algorithm(policy, env, policy_kwargs=policy_kwargs, **QUICK, **kwargs)
    with th.no_grad():
        for parameter in model.policy.parameters():
            parameter += 0.3 * th.randn_like(parameter)
    model.observation_space.seed(0)
    return model


def by_torch(model, obs):
    """What ``predict`` is without NumPy, for several observations."""
    with th.no_grad():
        actions = model.policy._predict(model.policy.obs_to_tensor(obs)[0], deterministic=True)
    return model.policy.unscale_action(actions.numpy().reshape(-1, *model.action_space.shape))


def assert_same(model, n=7):
    obs = np.stack([model.observation_space.sample() for _ in range(n)])
    expected = by_torch(model, obs)
    found, state = model.predict(obs, deterministic=True)
    assert state is None and found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    for one, action in zip(obs, expected, strict=True):
        np.testing.assert_allclose(model.predict(one, deterministic=True)[0], action, rtol=1e-4, atol=1e-5)
    assert not model.policy.training


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"n_actors": 1},
        {"n_actors": 5},
        {"joint_action": True},
        {"modulation": "mlp"},
        {"condition_on_previous": False},
        {"surrogate": None, "init": "xavier"},
        {"policy_kwargs": {"pool": "max"}},
        {"policy_kwargs": {"layer_norm": False, "activation_fn": nn.Tanh}},
        {"net_arch": ()},
        {"net_arch": (), "modulation": "mlp"},
        {"net_arch": (8, 12, 4), "policy_kwargs": {"share_features_extractor": True, "summary_dim": 3}},
        {"algorithm": Ensemble},
        {"env": MatrixEnv()},
        {"env": MatrixEnv(), "algorithm": Ensemble, "n_actors": 2},
    ],
    ids=without_addresses,
)
def test_the_same_actions(kwargs):
    model = make(**kwargs)
    assert numpy_policy(model.policy) is not None
    assert_same(model)
    obs = np.stack([model.observation_space.sample() for _ in range(4)])
    with th.no_grad():
        expected = model.policy.propose(model.policy.obs_to_tensor(obs)[0])
        twin = numpy_policy(model.policy)
        found = twin.propose(twin.obs_to_tensor(obs)[0])
        th.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        by_torch, by_numpy = (each.maximize(each.obs_to_tensor(obs)[0], expected) for each in (model.policy, twin))
    # (Where tanh is flat, several proposals are the same: any of their indices is right.)
    chosen = [q_values.gather(1, indices) for _, indices, q_values in (by_numpy, by_torch)]
    for mine, theirs in ((by_numpy[0], by_torch[0]), (by_numpy[2], by_torch[2]), chosen):
        th.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_it_sees_what_changes(tmp_path):
    """Learning, other parameters, copies, and networks that are put in the place of others."""
    model = make()
    twin = numpy_policy(model.policy)
    model.learn(60)
    assert numpy_policy(model.policy) is twin
    assert_same(model)
    model.set_parameters(make(init="add").get_parameters())
    assert numpy_policy(model.policy) is twin
    assert_same(model)
    model.save(tmp_path / "model")
    assert_same(SAVO.load(tmp_path / "model"))
    for copied in (copy.deepcopy(model.policy), pickle.loads(pickle.dumps(model.policy))):
        with th.no_grad():
            for parameter in copied.parameters():
                parameter += 0.2
        assert numpy_policy(copied) is not twin and numpy_policy(model.policy) is twin
        original, model.policy = model.policy, copied
        assert_same(model)
        model.policy = original
    model.policy.double()
    assert numpy_policy(model.policy) is None
    model.policy.float()
    assert_same(model)
    model.critic.q_networks = nn.Sequential()
    assert numpy_policy(model.policy) is None


class OtherPolicy(SAVO.policy_aliases["MlpPolicy"]):
    def propose(self, obs, deterministic=False, noise=None, masks=None):
        return super().propose(obs, deterministic, noise, masks) * 0.5


class OtherChoice(SAVO.policy_aliases["MlpPolicy"]):
    def maximize(self, obs, actions):
        return actions[:, 0], th.zeros(len(actions), 1, dtype=th.long), self.critic.q1(obs, actions)


class OtherCritic(CandidateCritic):
    """Learns two halves of the value."""

    n_outputs = 2

    def to_values(self, outputs):
        return outputs.sum(dim=-1)


class PolicyOfOtherCritic(SAVO.policy_aliases["MlpPolicy"]):
    critic_class = OtherCritic


@pytest.mark.parametrize(
    "kwargs",
    [
        {"algorithm": Wolpertinger},
        {"algorithm": SAVOSAC},
        {"summarizer": "lstm"},
        {"policy_kwargs": {"activation_fn": nn.ELU}},
        {"policy": OtherPolicy},
        {"policy": OtherChoice},
        {"policy": PolicyOfOtherCritic},
        {"env": SimpleMultiObsEnv(discrete_actions=False), "policy": "MultiInputPolicy"},
        {"env": FakeImageEnv(36, 36, discrete=False), "policy": "CnnPolicy"},
    ],
    ids=without_addresses,
)
def test_by_torch_where_numpy_cannot(kwargs):
    model = make(**kwargs)
    assert numpy_policy(model.policy) is None
    if not isinstance(model.observation_space, spaces.Dict):
        assert_same(model, n=2)


@pytest.mark.parametrize("n_actors", [1, 3])
def test_the_same_items(n_actors):
    """The policy finds the items of the proposals, which the NumPy policy makes and evaluates."""
    model = make(env="LandscapeItems-v0", n_actors=n_actors)
    twin = numpy_policy(model.policy)
    assert twin is not None
    obs = np.stack([model.observation_space.sample() for _ in range(64)])
    noise = 0.3 * th.randn(64, n_actors, model.action_dim)
    with th.no_grad():
        expected = model.policy.propose(model.policy.obs_to_tensor(obs)[0], noise=noise)
    th.testing.assert_close(twin.propose(twin.obs_to_tensor(obs)[0], noise=noise), expected, rtol=1e-4, atol=1e-4)
    masks = th.rand(64, int(model.action_space.n)) < 0.5
    for mask in (None, masks):
        with th.no_grad():
            expected = model.policy._predict(model.policy.obs_to_tensor(obs)[0], True, mask).numpy()
        found, _ = model.predict(obs, deterministic=True, action_masks=None if mask is None else mask.numpy())
        assert found.dtype == expected.dtype and len(np.unique(expected)) > 1
        np.testing.assert_array_equal(found, expected)
    one, _ = model.predict(obs[0], deterministic=True)
    assert one.shape == () and one == model.predict(obs, deterministic=True)[0][0]
    assert model.predict(obs.tolist(), deterministic=True)[0].shape == (64,)


def test_the_numpy_policy_chooses_items(monkeypatch):
    model = make(env="LandscapeItems-v0")
    twin = numpy_policy(model.policy)
    monkeypatch.setattr(model.policy, "propose", None)
    monkeypatch.setattr(twin, "maximize", lambda obs, actions: (actions[:, 1], th.ones(len(obs), 1, dtype=th.long), actions))
    obs = np.stack([model.observation_space.sample() for _ in range(5)])
    second = model.policy.snap(twin.propose(twin.obs_to_tensor(obs)[0]))[1][:, 1]
    np.testing.assert_array_equal(model.predict(obs)[0], second)


@pytest.mark.parametrize("kwargs", [{}, {"n_actors": 1}, {"selection_epsilon": 0.5}, {"algorithm": Ensemble}], ids=str)
def test_the_same_transitions_are_collected(kwargs, monkeypatch):
    """With noise on every candidate, in several environments."""

    def collected():
        model = make(env=DummyVecEnv([MatrixEnv] * 3), **kwargs, gradient_steps=0)
        for env in model.env.unwrapped.envs:
            env.observation_space.seed(0)
        model.learn(200)
        return model.replay_buffer

    fast = collected()
    monkeypatch.setattr(collection, "numpy_policy", lambda policy: None)
    slow = collected()
    np.testing.assert_allclose(fast.actions, slow.actions, rtol=1e-4, atol=1e-4)
    assert np.ptp(fast.actions[: fast.pos, :, :4]) > 1
    np.testing.assert_array_equal(fast.dones, slow.dones)


def test_wrong_shapes_are_errors():
    model = make()
    for wrong in (np.zeros(4), np.zeros((2, 4)), np.zeros((2, 2, 3)), np.zeros(())):
        with pytest.raises(ValueError, match="Unexpected observation shape"):
            model.predict(wrong.astype(np.float32))
    with pytest.raises(ValueError, match="mixing Gym API"):
        model.predict((np.zeros(3, dtype=np.float32), {}))
    assert model.predict(np.zeros((0, 3), dtype=np.float32))[0].shape == (0, 1)


def test_few_rows_of_wide_networks():
    """Few proposals of one state, under a critic whose layers are large."""
    model = make(net_arch=(MIN_ROWS_FOR_MATMUL * 64, MIN_MATMUL_WEIGHTS // (MIN_ROWS_FOR_MATMUL * 64)))
    for n in (1, 2, 3):
        assert_same(model, n)


@pytest.mark.parametrize("n_rows", [11, 12, 13, 25, 97])
def test_products_in_parts(n_rows, monkeypatch):
    """The rows of a product that is split are those of the whole product."""
    monkeypatch.setattr(numpy_networks, "multiplies_small_matrices", lambda: True)
    rng = np.random.default_rng(n_rows)
    x, weight, bias = (rng.normal(size=size).astype(np.float32) for size in ((n_rows, 300), (300, 310), (1, 310)))
    assert n_rows * weight.size > numpy_networks.MAX_SMALL_PRODUCT
    np.testing.assert_allclose(numpy_networks.affine(x, weight, bias), x @ weight + bias, rtol=1e-4, atol=1e-4)


has_openblas = pytest.mark.skipif(not openblas(), reason="NumPy is without OpenBLAS")


@has_openblas
def test_products_on_one_thread():
    """As many threads as before, whatever happens; and one meanwhile."""

    def n_threads():
        return np.array([library.get_num_threads() for library in openblas()])

    with threadpool_limits(2, user_api="blas"):
        before = n_threads()
        np.testing.assert_array_equal(on_one_thread(n_threads), np.ones_like(before))
        np.testing.assert_array_equal(n_threads(), before)
        with pytest.raises(ZeroDivisionError):
            on_one_thread(lambda: 1 // 0)
        np.testing.assert_array_equal(n_threads(), before)


@has_openblas
@pytest.mark.parametrize("method", ["propose", "maximize", "predict"])
def test_a_numpy_policy_computes_on_one_thread(method, monkeypatch):
    model = make()
    twin = numpy_policy(model.policy)
    observation = np.stack([model.observation_space.sample()])
    obs, _ = twin.obs_to_tensor(observation)
    arguments = {"propose": [obs], "maximize": [obs, twin.propose(obs)], "predict": [observation]}[method]
    seen = []
    dot = numpy_networks.affine
    monkeypatch.setattr(numpy_networks, "affine", lambda *args: seen.append(openblas()[0].get_num_threads()) or dot(*args))
    with threadpool_limits(2, user_api="blas"):
        getattr(twin, method)(*arguments)
    assert seen and set(seen) == {1}
