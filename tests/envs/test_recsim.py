"""RecSim, compared with the check values of its specification and a slow reference; ``RecSimVecEnv``, with ``DummyVecEnv``."""

import math
import pickle
import sys
from copy import deepcopy
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from gymnasium.wrappers import TimeLimit
from stable_baselines3 import DQN
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecMonitor

from benchmarks import oracles
from sb3_savo.envs.pictures import NEGATIVE_COLOR, POSITIVE_COLOR
from sb3_savo.envs.recsim import RecSim, RecSimVecEnv
from sb3_savo.envs.recsim.users import USER_MODELS, make_catalogue

USER_MODEL_NAMES = ("budget", "softmax")


@pytest.mark.parametrize("env_id, n_items", [("RecSim-v0", 10_000), ("RecSim100k-v0", 100_000)])
@pytest.mark.parametrize("user_model", USER_MODEL_NAMES)
def test_checkers_and_spaces(env_id, n_items, user_model):
    env = gym.make(env_id, user_model=user_model)
    assert env.spec.max_episode_steps == 20
    assert env.observation_space == gym.spaces.Box(-1.0, 1.0, (30,), np.float32)
    assert env.action_space.n == n_items
    assert env.action_space.embeddings.shape == (n_items, 45)
    gymnasium_check_env(env.unwrapped)
    sb3_check_env(env)


def test_500k_is_registered():
    spec = gym.spec("RecSim500k-v0")
    assert spec.kwargs == {"n_items": 500_000} and spec.max_episode_steps == 20


# Items and users


@pytest.mark.parametrize("items_seed", [0, 1])
def test_items(items_seed):
    items = make_catalogue(10_000, items_seed, 15)
    np.testing.assert_array_equal(items.true_embeddings.min(axis=0), -1)
    np.testing.assert_array_equal(items.true_embeddings.max(axis=0), 1)
    noise = items.embeddings[:, 30:]
    assert -1 <= noise.min() < -0.999 and 0.999 < noise.max() <= 1
    assert abs(noise.mean()) < 0.01 and noise.std() == pytest.approx(1 / math.sqrt(3), abs=0.01)
    assert np.abs(np.corrcoef(items.embeddings.T) - np.eye(45))[30:].max() < 0.05

    means = [*(-3 + 0.15 * c for c in range(21)), *(0.375 * c for c in range(9))]
    for category in range(30):
        inside = items.categories == category
        assert inside.sum() == pytest.approx(10_000 / 30, abs=80)
        # Scaling does not change the distance between centers in standard deviations, 1 / 0.35
        column = items.true_embeddings[:, category]
        distance = (column[inside].mean() - column[~inside].mean()) / column[~inside].std()
        assert distance == pytest.approx((1 if category < 15 else -1) / 0.35, abs=0.25)
        assert items.quality[inside].mean() == pytest.approx(means[category], abs=0.03)
        assert items.quality[inside].std() == pytest.approx(0.1, abs=0.02)


def test_users_are_drawn_from_the_clipped_mixture():
    env = RecSim(n_items=2)
    users = np.stack([env.reset(seed=seed)[0] for seed in range(6_000)])
    assert np.abs(users).max() == 1
    for half, sign in ((users[:, :15], 1), (users[:, 15:], -1)):
        # Clipping moves the half of a category's own points that is beyond its center, and 2 of 1000 other points on each side
        assert (half == sign).mean() == pytest.approx(0.5 / 30 + 0.0021, abs=0.002)
        assert (half == -sign).mean() == pytest.approx(0.0021, abs=0.001)
        assert half.mean() == pytest.approx(sign * (1 - 0.35 / math.sqrt(2 * math.pi)) / 30, abs=0.004)


def test_noise_does_not_change_the_items():
    few, many = make_catalogue(50, 3, 0), make_catalogue(50, 3, 7)
    assert few.embeddings.shape == (50, 30) and many.embeddings.shape == (50, 37)
    np.testing.assert_array_equal(few.embeddings, many.true_embeddings)
    np.testing.assert_array_equal(few.quality, many.quality)


def test_items_seed():
    assert (make_catalogue(50, 0, 15).embeddings != make_catalogue(50, 1, 15).embeddings).any()


def test_environments_of_a_process_share_read_only_items():
    envs = [gym.make("RecSim-v0", items_seed=4), RecSim(items_seed=4, user_model="softmax"), RecSimVecEnv(2, items_seed=4)]
    first, *others = [env.action_space.embeddings for env in envs]
    assert all(other is first for other in others)
    assert first is make_catalogue(10_000, 4, 15).embeddings
    items = make_catalogue(10_000, 4, 15)
    for array in (items.embeddings, items.true_embeddings, items.categories, items.quality):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


# Dynamics


@pytest.mark.parametrize(
    "user_model, affinity, probability",
    [
        ("budget", 0.0, math.log(2) / (math.log(2) + 2)),
        ("budget", 1.0, 1.3132617 / 3.3132617),
        ("budget", -1.0, 0.0788890 / 2.0788890),  # softplus(-2.5)
        ("budget", 30.0, 30 / 32),
        ("budget", -30.0, 0.0),
        ("softmax", 3.0, 0.5),
        ("softmax", 0.0, 1 / (1 + math.exp(3))),
        ("softmax", 5.0, math.exp(5) / (math.exp(5) + math.exp(3))),
        ("softmax", -30.0, 0.0),
    ],
)
def test_click_probability(user_model, affinity, probability):
    users = RecSim(n_items=2, user_model=user_model).users
    for dtype in (np.float32, np.float64):
        many = np.full((2, 3), affinity, dtype=dtype)
        np.testing.assert_allclose(users.click_probability(many), probability, rtol=1e-5, atol=1e-12)
        assert users.click_probability(many).dtype == dtype


def reference_step(user_model, u, e, q, budget, refund, random_numbers):
    """One step by the specification's formulas, in scalar arithmetic; returns click, interest and budget."""
    affinity = sum(x * y for x, y in zip(u, e, strict=True))
    if user_model == "budget":
        d = affinity if affinity >= 0 else affinity - 1.5
        s = math.log(1 + math.exp(d))
        p_click = s / (s + 2)
        p_plus = 1 / (1 + math.exp(-affinity))
        low, high = min(abs(x) for x in u), max(abs(x) for x in u)
        alpha = [(abs(x) - low) / (high - low) for x in u]
    else:
        p_click = math.exp(affinity) / (math.exp(affinity) + math.exp(3))
        p_plus = min(max((affinity + 1) / 2, 0), 1)
        alpha = [0.3 * (1 - abs(x)) for x in u]
    if random_numbers[0] >= p_click:
        return False, u, budget - 0.5
    sign = 1 if random_numbers[1] < p_plus else -1
    moved = [min(max(x + sign * a * (y - x), -1), 1) for x, y, a in zip(u, e, alpha, strict=True)]
    return True, moved, budget - min(budget, 4) + refund * 4 * q


@pytest.mark.parametrize("user_model", USER_MODEL_NAMES)
def test_steps_against_the_reference(user_model):
    env = RecSim(n_items=300, user_model=user_model)
    items = env.catalogue
    rng = np.random.default_rng(1)
    clicks, away = 0, 0
    obs, _ = env.reset(seed=2)
    for _ in range(2_500):
        # Random items, items that are often clicked, and items that are rarely clicked
        affinity = items.true_embeddings @ obs
        action = int(rng.choice([rng.integers(300), affinity.argmax(), affinity.argmin()], p=[0.5, 0.4, 0.1]))
        before = (float(env.users.budget[0]), float(env.users.refund[0]))
        random_numbers = deepcopy(env.np_random).random(2)
        e, q = items.true_embeddings[action].tolist(), float(items.quality[action])
        clicked, moved, budget = reference_step(user_model, obs.tolist(), e, q, *before, random_numbers)

        last = obs
        obs, reward, terminated, truncated, info = env.step(action)
        assert (reward, info) == (float(clicked), {"click": clicked})
        np.testing.assert_allclose(obs, moved, atol=1e-5)
        assert env.observation_space.contains(obs)
        assert truncated is False
        if user_model == "budget":
            assert env.users.budget[0] == pytest.approx(budget, abs=1e-5)
            assert terminated == (budget <= 0)
        else:
            assert terminated is False
        clicks += clicked
        away += clicked and np.linalg.norm(obs - e) > np.linalg.norm(last - e)
        # Softmax users never leave, so replace the user from time to time
        if terminated or rng.random() < 0.05:
            obs, _ = env.reset()
    assert clicks > 150 and away > 10


def test_budget():
    items = make_catalogue(10_000, 0, 15)
    users = USER_MODELS["budget"](items, n_users=5)
    for index in range(5):
        users.renew(index, np.random.default_rng(index))
    assert users.budget.tolist() == [20.0] * 5
    assert np.all((users.refund > 0) & (users.refund < 1)) and len(set(users.refund)) == 5

    good, bad = int(items.quality.argmax()), int(items.quality.argmin())
    q_good, q_bad = items.quality[good], items.quality[bad]
    users.refund[:] = 0.5
    users.budget[:] = (20.0, 20.0, 3.0, 3.0, 0.5)
    users.random_numbers[:, 0] = (0.0, 0.0, 0.0, 0.0, 0.999)
    clicked, left = users.respond(np.array([good, bad, good, bad, good]))
    assert clicked.tolist() == [True, True, True, True, False]
    expected = [20 - 4 + 2 * q_good, 20 - 4 + 2 * q_bad, 2 * q_good, 2 * q_bad, 0.0]
    np.testing.assert_allclose(users.budget, expected, rtol=1e-6)
    assert left.tolist() == [False, False, False, True, True]


def test_no_click_for_forty_steps_uses_up_the_budget():
    env = RecSim(n_items=2)
    env.reset(seed=0)
    env.users.click_probability = np.zeros_like
    ends = [env.step(0)[2] for _ in range(40)]
    assert ends == [False] * 39 + [True]


def test_softmax_users_never_leave():
    env = gym.make("RecSim-v0", user_model="softmax", n_items=30)
    env.reset(seed=0)
    steps = [env.step(0)[2:4] for _ in range(20)]
    assert steps == [(False, False)] * 19 + [(False, True)]


def test_refund_is_uniform():
    env = RecSim(n_items=2)
    env.reset(seed=0)
    refunds = []
    for _ in range(2_000):
        env.reset()
        refunds.append(env.users.refund[0])
    np.testing.assert_allclose(np.quantile(refunds, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.04)


def test_seeding():
    env, other = RecSim(n_items=100), RecSim(n_items=100)
    trajectories = []
    for simulated, seed in ((env, 5), (other, 5), (env, 5), (env, 6)):
        first, _ = simulated.reset(seed=seed)
        steps = [simulated.step(action) for action in range(10)]
        trajectories.append(np.concatenate([first, *(np.append(obs, reward) for obs, reward, *_ in steps)]))
    np.testing.assert_array_equal(trajectories[0], trajectories[1])
    np.testing.assert_array_equal(trajectories[0], trajectories[2])
    assert (trajectories[0] != trajectories[3]).any()
    # Every episode has a new user
    assert (env.reset()[0] != env.reset()[0]).any()


def test_the_caller_may_change_observations():
    env = RecSim(n_items=10)
    obs, _ = env.reset(seed=0)
    obs[:] = 5
    assert env.observation_space.contains(env.step(0)[0])


# 2,000 episodes are expensive, because two of the policies rate all 10,000 items at every step. With 500 episodes, standard
# errors and tolerance are about twice as large.
@pytest.mark.parametrize(
    "items_seed, n_episodes, tolerance",
    [(0, 500, 0.4), *(pytest.param(seed, 2_000, 0.25, marks=pytest.mark.expensive) for seed in range(3))],
)
def test_check_values(items_seed, n_episodes, tolerance):
    rows = {row["policy"]: row for row in oracles.recsim(n_episodes=n_episodes, items_seed=items_seed)}
    for policy, clicks, length in (("random", 2.75, 15), ("myopic", 5.3, 10), ("quality-aware", 9.7, 19)):
        assert rows[policy]["mean_return"] == pytest.approx(clicks, abs=tolerance)
        assert rows[policy]["mean_length"] == pytest.approx(length, abs=2 * tolerance)


def test_the_oracles_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["oracles", "--episodes", "3", "--items-seed", "1"])
    oracles.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["env", "policy", "mean_return", "standard_error", "mean_length", "solved"]
    assert [line.split()[:2] for line in lines[1:4]] == [["RecSim-v0", name] for name in ("random", "myopic", "quality-aware")]


# Batched environments


def make_both(n_envs, **kwargs):
    return DummyVecEnv([partial(gym.make, "RecSim-v0", **kwargs)] * n_envs), RecSimVecEnv(n_envs, **kwargs)


def assert_same(dummy, batched):
    """Assert exact equality, including types, the order of dictionaries, and the dtypes of arrays."""
    assert type(dummy) is type(batched)
    if isinstance(dummy, dict):
        assert list(dummy) == list(batched)
        dummy, batched = list(dummy.values()), list(batched.values())
    if isinstance(dummy, (list, tuple)):
        assert len(dummy) == len(batched)
        for one, other in zip(dummy, batched, strict=True):
            assert_same(one, other)
    elif isinstance(dummy, np.ndarray):
        assert dummy.dtype == batched.dtype
        np.testing.assert_array_equal(dummy, batched)
    else:
        assert dummy == batched


def step_both(dummy, batched, n_steps, seed=0):
    """Step both, half of the users with their likeliest items and the others with random items; returns all infos."""
    rng = np.random.default_rng(seed)
    items = batched.users.catalogue
    obs = batched.users.interest.copy()
    infos = []
    for _ in range(n_steps):
        actions = rng.integers(len(items.embeddings), size=dummy.num_envs)
        actions[::2] = (obs @ items.true_embeddings.T).argmax(axis=1)[::2]
        original = actions.copy()
        expected, actual = dummy.step(actions), batched.step(actions)
        np.testing.assert_array_equal(actions, original)
        assert_same(expected, actual)
        assert_same(dummy.reset_infos, batched.reset_infos)
        obs = actual[0]
        infos.extend(actual[3])
    return infos


@pytest.mark.parametrize("user_model", USER_MODEL_NAMES)
@pytest.mark.parametrize("n_envs", [1, 5, 16])
def test_batched_equals_dummy(user_model, n_envs):
    dummy, batched = make_both(n_envs, user_model=user_model, n_items=500, items_seed=2, n_noise_dims=3)
    assert dummy.action_space == batched.action_space and dummy.observation_space == batched.observation_space
    assert dummy.metadata == batched.metadata and dummy.render_mode == batched.render_mode
    for seed in (3, 4):
        assert dummy.seed(seed) == batched.seed(seed) == list(range(seed, seed + n_envs))
        assert_same(dummy.reset(), batched.reset())
        infos = step_both(dummy, batched, 1_600 // n_envs, seed)
        ends = [info for info in infos if "terminal_observation" in info]
        assert len(ends) > 60
        assert {info["TimeLimit.truncated"] for info in ends} == ({True, False} if user_model == "budget" else {True})
        assert {info["click"] for info in infos} == {True, False}
        # Reset in the middle of the episodes, without new seeds
        dummy.set_options({"unused": 1})
        batched.set_options({"unused": 1})
        assert_same(dummy.reset(), batched.reset())
        step_both(dummy, batched, 30)


def test_attributes_and_methods_of_single_environments():
    dummy, batched = make_both(3, n_items=20)
    for vec_env in (dummy, batched):
        vec_env.seed(0)
        vec_env.reset()
        vec_env.step(np.zeros(3, dtype=int))
        assert [spec.id for spec in vec_env.get_attr("spec")] == ["RecSim-v0"] * 3
        assert vec_env.get_attr("catalogue", indices=[0, 2]) == [make_catalogue(20, 0, 15)] * 2
        assert vec_env.env_is_wrapped(TimeLimit) == [True] * 3
        assert vec_env.env_is_wrapped(Monitor, indices=1) == [False]
        assert vec_env.has_attr("users") and not vec_env.has_attr("documents")
        vec_env.set_attr("label", "b", indices=1)
        assert vec_env.get_attr("label", indices=1) == ["b"]
        assert not vec_env.has_attr("label")
    # Only one of the environments starts a new episode
    reset = {"method_name": "reset", "seed": 9, "indices": 1}
    assert_same(dummy.env_method(**reset), batched.env_method(**reset))
    step_both(dummy, batched, 50)
    batched.close()


def test_unseeded_environments_differ():
    batched = RecSimVecEnv(2, n_items=10)
    first, second = batched.reset()
    assert (first != second).any()


def test_episode_statistics():
    statistics = []
    for vec_env in make_both(4, n_items=200):
        monitored = VecMonitor(vec_env)
        monitored.seed(1)
        monitored.reset()
        infos = [info for _ in range(60) for info in monitored.step(np.arange(4))[3]]
        statistics.append([(info["episode"]["r"], info["episode"]["l"]) for info in infos if "episode" in info])
    assert statistics[0] == statistics[1]
    assert len(statistics[0]) > 10 and max(length for _, length in statistics[0]) == 20


def test_dqn_trains_on_the_batched_environments():
    env = VecMonitor(RecSimVecEnv(4, n_items=50))
    model = DQN("MlpPolicy", env, learning_starts=50, train_freq=1, seed=0).learn(200)
    assert model.num_timesteps == 200 and len(model.ep_info_buffer) > 5


def test_subprocesses():
    make = [partial(gym.make, "RecSim-v0", n_items=200)] * 2
    dummy, workers = DummyVecEnv(make), SubprocVecEnv(make, start_method="fork")
    try:
        for vec_env in (dummy, workers):
            vec_env.seed(3)
        np.testing.assert_array_equal(dummy.reset(), workers.reset())
        assert workers.action_space == dummy.action_space
        for action in range(40):
            for expected, actual in zip(dummy.step([action] * 2)[:3], workers.step([action] * 2)[:3], strict=True):
                np.testing.assert_array_equal(expected, actual)
    finally:
        workers.close()


# Copies, errors


@pytest.mark.parametrize("duplicate", [deepcopy, lambda env: pickle.loads(pickle.dumps(env))], ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("make", [partial(gym.make, "RecSim-v0"), partial(RecSimVecEnv, 3)], ids=["single", "batched"])
def test_copies_continue_like_the_original(duplicate, make):
    env = make(n_items=100)
    is_batched = isinstance(env, RecSimVecEnv)
    best = int(make_catalogue(100, 0, 15).quality.argmax())  # no user leaves because of it
    action = np.full(3, best) if is_batched else best
    if is_batched:
        env.seed(1)
    env.reset(**{} if is_batched else {"seed": 1})
    for _ in range(3):
        env.step(action)
    twin = duplicate(env)
    assert twin.unwrapped.users.catalogue is make_catalogue(100, 0, 15)
    ahead = [env.step(action) for _ in range(4)]
    assert_same(ahead, [twin.step(action) for _ in range(4)])
    if is_batched:
        step_both(env, twin, 60)


def test_rendering():
    """Both render modes; ``make_vec_env`` sets ``rgb_array``."""
    env = make_vec_env("RecSim-v0", n_envs=1, seed=0).envs[0].unwrapped
    env.reset(seed=0)
    env.step(0)
    picture = env.render()
    assert picture.shape == (96, 240, 3) and picture.dtype == np.uint8
    interest = env.users.interest[0]
    for dimension in range(30):
        column = picture[:, 8 * dimension]
        is_positive, is_negative = ((column == color).all(axis=1) for color in (POSITIVE_COLOR, NEGATIVE_COLOR))
        assert (is_positive | is_negative).sum() == pytest.approx(48 * abs(interest[dimension]), abs=1)
        # Half a pixel is 0.0106
        assert is_positive.any() == (interest[dimension] > 0.0106)
        assert is_negative.any() == (interest[dimension] < -0.0106)

    env.render_mode = "ansi"
    text = env.render()
    assert text.startswith(f"1 items shown, budget {env.users.budget[0]:.1f}, interest ")
    strongest = np.abs(interest).argmax()
    assert f"interest {strongest}: {interest[strongest]:+.2f}, " in text
    assert RecSim(n_items=10).render() is None


@pytest.mark.parametrize(
    "kwargs, error, message",
    [
        ({"render_mode": "pdf"}, ValueError, "render_mode='pdf' is not known: it must be one of None, 'ansi', 'rgb_array'"),
        ({"user_model": "bandit"}, ValueError, "user_model='bandit' is not known: it must be one of 'budget', 'softmax'"),
        ({"n_items": 1}, ValueError, "n_items=1 is too small: it must be an integer of at least 2"),
        ({"n_items": 10.0}, TypeError, "n_items=10.0 is a float"),
        ({"items_seed": -1}, ValueError, "items_seed=-1 is too small"),
        ({"items_seed": None}, TypeError, "items_seed=None is a NoneType"),
        ({"n_noise_dims": -1}, ValueError, "n_noise_dims=-1 is too small"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*render_mode='pdf' that is not in the possible render_modes")
def test_bad_arguments(kwargs, error, message):
    for make in (RecSim, partial(RecSimVecEnv, 2)):
        with pytest.raises(error, match=message):
            make(**kwargs)


def test_bad_number_of_environments():
    with pytest.raises(ValueError, match="n_envs=0 is too small"):
        RecSimVecEnv(0)


@pytest.mark.parametrize("action", [10, -1, 1.0, np.array([1]), None])
def test_bad_action(action):
    env = RecSim(n_items=10)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="is not an item: it must be an integer from 0 to 9"):
        env.step(action)


@pytest.mark.parametrize(
    "actions, message",
    [
        ([0, 10], "integers from 0 to 9"),
        ([0, -1], "integers from 0 to 9"),
        ([0.0, 1.0], "integers from 0 to 9"),
        ([0], r"actions has the shape \(1,\): it must be \(2,\)"),
        ([[0, 1]], r"actions has the shape \(1, 2\)"),
    ],
)
def test_bad_actions(actions, message):
    env = RecSimVecEnv(2, n_items=10)
    env.seed(0)
    before = env.reset()
    with pytest.raises(ValueError, match=message):
        env.step(np.array(actions))
    np.testing.assert_array_equal(env.users.interest, before)


def test_no_step_before_a_reset_or_after_the_user_has_left():
    env, batched = RecSim(n_items=10), RecSimVecEnv(2, n_items=10)
    for simulated, action in ((env, 0), (batched, np.zeros(2, dtype=int))):
        with pytest.raises(ResetNeeded, match="call reset"):
            simulated.step(action)
    env.reset(seed=0)
    env.users.budget[:] = 0.1
    env.users.click_probability = np.zeros_like
    assert env.step(0)[2]
    with pytest.raises(ResetNeeded, match="call reset"):
        env.step(0)
