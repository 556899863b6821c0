"""Landscapes, compared with slow references and dense searches."""

import math
from copy import deepcopy
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn

from benchmarks.schema import load_tasks
from sb3_savo.actions.spaces import EmbeddedDiscrete
from sb3_savo.envs.landscapes import CONTEXT_DIM, ItemPeaks, Peaks, RestrictedHill, make_item_landscape, make_landscape
from sb3_savo.envs.landscapes.functions import TEST_FUNCTIONS, Ravines, Switching, Terraces

CONTINUOUS = ("Ackley", "Peaks1D", "Peaks2D", "Peaks4D", "Peaks8D", "Rastrigin", "Shubert", "Restricted2D", "Restricted4D")
TASKS = (*CONTINUOUS, "Items")
FIGURES = ["chosen", "within_1", "within_10", "gap"]
# Registered landscapes, and others with other numbers of dimensions
MAKERS = {
    **{task: partial(gym.make, f"Landscape{task}-v0") for task in CONTINUOUS},
    **{f"{name}_{dim}d": partial(make_landscape, name, dim) for name in TEST_FUNCTIONS for dim in (1, 4)},
    "waves_2d": partial(make_landscape, "waves", 2, landscape_seed=1),
    **{f"{name}_{dim}d": partial(make_landscape, name, dim) for name in ("switching", "terraces") for dim in (1, 2, 4)},
    "peaks_16d": partial(make_landscape, "peaks", 16),
    "rastrigin_16d": partial(make_landscape, "rastrigin", 16),
    "one_peak": partial(make_landscape, "peaks", 3, n_peaks=1),
    "one_ball": partial(make_landscape, "restricted", 1, n_peaks=1),
}


def made(task, **kwargs):
    return gym.make(f"Landscape{task}-v0", **kwargs).unwrapped


def random_contexts(n, seed=0):
    return 2 * th.rand(n, CONTEXT_DIM, generator=th.Generator().manual_seed(seed)) - 1


def random_actions(*shape, seed=1):
    return 2 * th.rand(*shape, generator=th.Generator().manual_seed(seed)) - 1


def embeddings_of(env):
    return th.tensor(env.action_space.embeddings)


# Environments


def test_registered_ids():
    registered = {name for name in gym.registry if name.startswith("Landscape")}
    assert registered == {f"Landscape{task}-v0" for task in TASKS}
    assert {f"{task}-{kind}" for task in TASKS for kind in ("frozen", "learned")} <= load_tasks().keys()


@pytest.fixture
def torch_warns_always():
    """Show every warning of torch. By default some appear once per process, so only the first test would see them."""
    th.set_warn_always(True)
    yield
    th.set_warn_always(False)


@pytest.mark.usefixtures("torch_warns_always")
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("task", TASKS)
def test_checkers(task):
    env = gym.make(f"Landscape{task}-v0")
    assert env.observation_space == gym.spaces.Box(-1, 1, (4,), np.float32)
    gymnasium_check_env(env.unwrapped)
    sb3_check_env(env)


@pytest.mark.parametrize("task, dim", [*zip(CONTINUOUS, (2, 1, 2, 4, 8, 2, 2, 2, 4), strict=True)])
def test_boxes(task, dim):
    assert made(task).action_space == gym.spaces.Box(-1, 1, (dim,), np.float32)


def test_items():
    space = made("Items").action_space
    assert isinstance(space, EmbeddedDiscrete)
    assert space.embeddings.shape == (1000, 8)
    assert np.abs(space.embeddings).max() <= 1
    assert make_item_landscape(n_items=30, n_clusters=3, action_dim=2).action_space.embeddings.shape == (30, 2)


@pytest.mark.parametrize("task", TASKS)
def test_an_episode_is_one_step(task):
    env = made(task)
    env.action_space.seed(0)
    obs, info = env.reset(seed=0)
    assert info == {}
    for _ in range(50):
        action = env.action_space.sample()
        last, reward, terminated, truncated, info = env.step(action)
        np.testing.assert_array_equal(last, obs)
        assert (terminated, truncated, info) == (True, False, {})
        point = env.action_space.embeddings[action] if task == "Items" else action
        value = env.landscape(th.tensor(obs)[None], th.tensor(point)[None, None]).item()
        assert type(reward) is float and reward == pytest.approx(value, abs=1e-6)
        assert -1e-6 <= reward <= 1 + 1e-6
        obs, _ = env.reset()


@pytest.mark.parametrize("task", TASKS)
def test_seeding(task):
    def episodes(seed):
        env = made(task)
        env.action_space.seed(3)
        first, _ = env.reset(seed=seed)
        rows = [np.append(first, 0)]
        for _ in range(5):
            reward = env.step(env.action_space.sample())[1]
            rows.append(np.append(env.reset()[0], reward))
        return np.array(rows)

    np.testing.assert_array_equal(episodes(5), episodes(5))
    assert not np.array_equal(episodes(5), episodes(6))
    assert len(np.unique(episodes(5)[:, :CONTEXT_DIM])) == 6 * CONTEXT_DIM


def test_contexts_are_uniform():
    env = made("Peaks1D")
    env.reset(seed=0)
    contexts = np.array([env.reset()[0] for _ in range(2_000)])
    assert contexts.dtype == np.float32
    for column in contexts.T:
        np.testing.assert_allclose(np.quantile(column, [0.0, 0.25, 0.5, 0.75, 1.0]), [-1, -0.5, 0, 0.5, 1], atol=0.08)
    assert np.abs(np.corrcoef(contexts.T) - np.eye(CONTEXT_DIM)).max() < 0.1


@pytest.mark.parametrize("task", CONTINUOUS)
def test_random_actions_do_not_give_the_optimum_away(task):
    """
    An action space that has the landscape's seed draws other numbers. Its first sample, the first random action of an agent,
    would otherwise lie at the optimum.
    """
    optima, samples = [], []
    for seed in range(300):
        env = made(task, landscape_seed=seed)
        env.action_space.seed(seed)
        samples.append(env.action_space.sample())
        optima.append(env.landscape.best(th.zeros(1, CONTEXT_DIM))[0].numpy())
    correlation = np.corrcoef(np.ravel(optima), np.ravel(samples))[0, 1]
    assert abs(correlation) < 0.3


@pytest.mark.parametrize("task", TASKS)
def test_landscape_seed(task):
    """The landscape depends on nothing but ``landscape_seed``."""
    env, other = made(task, landscape_seed=1), made(task, landscape_seed=2)
    th.manual_seed(7)
    np.random.seed(7)
    twin = made(task, landscape_seed=1)
    twin.reset(seed=9)
    contexts = random_contexts(3)
    actions = random_actions(3, 5, env.landscape.action_dim)
    values = env.landscape(contexts, actions)
    assert th.equal(twin.landscape(contexts, actions), values)
    assert not th.allclose(other.landscape(contexts, actions), values)
    assert twin.action_space == env.action_space
    assert (other.action_space == env.action_space) == (task != "Items")
    assert th.equal(made(task).landscape(contexts, actions), made(task, landscape_seed=0).landscape(contexts, actions))


@pytest.mark.parametrize("task", TASKS)
def test_value_depends_on_context_and_action(task):
    landscape = made(task).landscape
    contexts = random_contexts(6)
    actions = embeddings_of(made(task))[:40] if task == "Items" else random_actions(40, landscape.action_dim)
    values = landscape(contexts, actions.expand(6, -1, -1))
    assert (values.std(dim=0).amax() > 1e-2) and (values.std(dim=1).amax() > 1e-2)


@pytest.mark.parametrize("task", ["Peaks2D", "Rastrigin", "Items"])
def test_the_caller_may_change_the_first_observation(task):
    env = made(task)
    action = env.action_space.sample()
    env.reset(seed=0)
    reward = env.step(action)[1]
    obs, _ = env.reset(seed=0)
    obs[:] = 1
    last, reward_again, *_ = env.step(action)
    assert reward_again == reward
    assert env.observation_space.contains(last) and not np.array_equal(last, obs)


@pytest.mark.parametrize("task", ["Peaks2D", "Rastrigin", "Items"])
def test_the_caller_may_change_the_last_observation(task):
    env = made(task)
    action = env.action_space.sample()
    env.reset(seed=0)
    last, reward, *_ = env.step(action)
    expected = last.copy()
    last[:] = 1
    last_again, reward_again, *_ = env.step(action)
    assert reward_again == reward
    np.testing.assert_array_equal(last_again, expected)


@pytest.mark.parametrize("task", CONTINUOUS)
def test_the_action_is_neither_changed_nor_kept(task):
    env = made(task)
    env.reset(seed=0)
    action = np.full(env.action_space.shape, 0.3, dtype=np.float32)
    obs, reward, *_ = env.step(action)
    np.testing.assert_array_equal(action, np.full(env.action_space.shape, 0.3, dtype=np.float32))
    action[:] = -1
    np.testing.assert_array_equal(env.context, obs)
    assert env.step(np.full(env.action_space.shape, 0.3))[1] == pytest.approx(reward, abs=1e-6)


@pytest.mark.usefixtures("torch_warns_always")
@pytest.mark.filterwarnings("error")
def test_read_only_arrays_give_no_warning():
    """The caller's action and the embeddings of an item space may be read-only."""
    action = np.zeros(2, dtype=np.float32)
    action.flags.writeable = False
    for env, env_action in ((made("Peaks2D"), action), (made("Items"), 7)):
        env.reset(seed=0)
        env.step(env_action)


@pytest.mark.parametrize("task", TASKS)
def test_dummy_vec_env(task):
    env = make_vec_env(f"Landscape{task}-v0", n_envs=3, env_kwargs={"landscape_seed": 4}, vec_env_cls=DummyVecEnv)
    env.seed(0)
    env.action_space.seed(0)
    landscape = made(task, landscape_seed=4).landscape
    obs = env.reset()
    assert len(np.unique(obs)) == 3 * CONTEXT_DIM
    for _ in range(4):
        actions = np.array([env.action_space.sample() for _ in range(3)])
        original = actions.copy()
        next_obs, rewards, dones, infos = env.step(actions)
        np.testing.assert_array_equal(actions, original)
        points = env.action_space.embeddings[actions] if task == "Items" else actions
        expected = landscape(th.tensor(obs), th.tensor(points).unsqueeze(1)).squeeze(1)
        np.testing.assert_allclose(rewards, expected, atol=1e-6)
        assert dones.all() and not np.array_equal(next_obs, obs)
        for i, info in enumerate(infos):
            np.testing.assert_array_equal(info["terminal_observation"], obs[i])
            assert info["TimeLimit.truncated"] is False and info["episode"]["l"] == 1
        obs = next_obs


def test_steps_need_a_reset():
    env = gym.make("LandscapePeaks2D-v0")
    with pytest.raises(ResetNeeded, match="reset"):
        env.step(np.zeros(2, dtype=np.float32))


# Values


def height_of_peak(landscape, context, k):
    if not hasattr(landscape, "change"):
        return landscape.height[k]
    heights = [1 / (1 + math.exp(-(b + context @ landscape.change[:, j]))) for j, b in enumerate(landscape.base)]
    return heights[k] / max(heights)


def peaks_reference(landscape, context, action):
    highest = 0.0
    for k in range(len(landscape.place)):
        center = [
            0.9 * math.tanh(landscape.place[k, d] + sum(context[c] * landscape.motion[c, k, d] for c in range(CONTEXT_DIM)))
            for d in range(len(action))
        ]
        square = sum((action[d] - center[d]) ** 2 for d in range(len(action)))
        highest = max(highest, height_of_peak(landscape, context, k) * math.exp(-square / (2 * landscape.width[k] ** 2)))
    return highest


def terraces_reference(landscape, context, action):
    """Every terrace is 0.1 high, and begins 0.05 below its height."""
    return math.floor(10 * peaks_reference(landscape, context, action) + 0.5) / 10


def item_peaks_reference(landscape, context, action):
    highest = 0.0
    for k, center in enumerate(landscape.centers):
        height = 1 / (1 + math.exp(-(landscape.base[k] + context @ landscape.motion[:, k])))
        highest = max(highest, height * math.exp(-((action - center) ** 2).sum() / (2 * landscape.width**2)))
    return highest


def restricted_reference(landscape, context, action):
    radius = 0.3 * 1.8 * len(landscape.centers) ** (-1 / len(action))
    top = [0.9 * math.tanh(landscape.place[d] + context @ landscape.motion[:, d]) for d in range(len(action))]
    if all(math.dist(action, center) >= radius for center in landscape.centers):
        return 0.0
    nearest = min(max(math.dist(top, center) - radius, 0) for center in landscape.centers)
    # The standard deviation in one dimension is 0.5
    return math.exp((nearest**2 - math.dist(top, action) ** 2) / (2 * 0.5**2 * len(action)))


def ackley(x):
    """Ackley's function, from 0 to 20 + e. The test functions are from https://www.sfu.ca/~ssurjano/optimization.html."""
    d = len(x)
    root = math.sqrt(sum(v**2 for v in x) / d)
    return -20 * math.exp(-0.2 * root) - math.exp(sum(math.cos(2 * math.pi * v) for v in x) / d) + 20 + math.e


def rastrigin(x):
    return 10 * len(x) + sum(v**2 - 10 * math.cos(2 * math.pi * v) for v in x)


def shubert(x):
    """The additive form of Shubert's function."""
    return sum(i * math.cos((i + 1) * v + i) for v in x for i in range(1, 6))


def griewank(x):
    return 1 + sum(v**2 for v in x) / 4000 - math.prod(math.cos(v / math.sqrt(i)) for i, v in enumerate(x, start=1))


def levy(x):
    w = [1 + (v - 1) / 4 for v in x]
    inner = sum((v - 1) ** 2 * (1 + 10 * math.sin(math.pi * v + 1) ** 2) for v in w[:-1])
    return math.sin(math.pi * w[0]) ** 2 + inner + (w[-1] - 1) ** 2 * (1 + math.sin(2 * math.pi * w[-1]) ** 2)


HALF_WIDTHS = {
    "ackley": 32.768,
    "griewank": 50.0,
    "levy": 10.0,
    "rastrigin": 5.12,
    "ravines": 5.12,
    "shubert": 10.0,
    "waves": 1.0,
}


def shifted_reference(landscape, context, action):
    name = type(landscape).__name__.lower()
    half_width = HALF_WIDTHS[name]
    shift = [0.6 * math.tanh(landscape.place[d] + context @ landscape.motion[:, d]) for d in range(len(action))]
    x = [half_width * (a - s) for a, s in zip(action, shift, strict=True)]
    if name == "ackley":
        return 1 - ackley(x) / (20 + math.e)
    if name == "rastrigin":
        # The distance to the optimum is at most 1.6 half widths, and the waves add at most 20
        return 1 - rastrigin(x) / len(x) / ((1.6 * 5.12) ** 2 + 20)
    if name == "ravines":
        z = [sum(x[i] * landscape.rotation[i, j] for i in range(len(x))) for j in range(len(x))]
        return 1 - rastrigin(z) / len(x) / ((1.6 * 5.12) ** 2 + 20)
    if name == "griewank":
        return 1 - griewank(x) / (2 + len(x) * 80**2 / 4000)
    if name == "levy":
        # |w - 1| is at most 17/4
        return 1 - levy(x) / (1 + (17 / 4) ** 2 * (11 * (len(x) - 1) + 2))
    if name == "waves":
        crests = [math.cos(sum(w * v for w, v in zip(wave, x, strict=True))) for wave in landscape.waves]
        return (1 + sum(h * crest for h, crest in zip(landscape.heights, crests, strict=True))) / 2
    # The function's extremes, which test_shubert_extremes checks
    return (14.508008 - shubert(x) / len(x)) / (14.508008 + 12.8708855)


class NumpyConstants:
    """The constants of a landscape, as NumPy arrays in double precision."""

    def __init__(self, landscape):
        self.__dict__.update({name: values.double().numpy() for name, values in landscape.named_buffers()})
        if isinstance(landscape, ItemPeaks):
            self.width = landscape.width


def reference(landscape, context, action):
    context, action = context.double().numpy(), action.double().numpy()
    if isinstance(landscape, Terraces):
        return terraces_reference(NumpyConstants(landscape), context, action)
    if isinstance(landscape, Peaks):
        return peaks_reference(NumpyConstants(landscape), context, action)
    if isinstance(landscape, RestrictedHill):
        return restricted_reference(NumpyConstants(landscape), context, action)
    if isinstance(landscape, ItemPeaks):
        return item_peaks_reference(NumpyConstants(landscape), context, action)
    constants = type(type(landscape).__name__, (NumpyConstants,), {})(landscape)
    return shifted_reference(constants, context, action)


def references(landscape, contexts, actions):
    """:return: The reference's values, (batch, n_actions)"""
    return np.array([[reference(landscape, c, a) for a in row] for c, row in zip(contexts, actions, strict=True)])


@pytest.mark.parametrize("maker", [*MAKERS.values(), partial(made, "Items")], ids=[*MAKERS, "Items"])
def test_values_against_the_reference(maker):
    landscape = maker(landscape_seed=3).unwrapped.landscape
    contexts = random_contexts(4)
    # Half of the actions are near the optimum, because far from all peaks of eight dimensions the values are 0
    draws = random_actions(4, 8, landscape.action_dim)
    actions = th.cat([draws[:, :4], landscape.best(contexts).unsqueeze(1) + 0.1 * draws[:, 4:]], dim=1)
    values = landscape(contexts, actions)
    assert values.shape == (4, 8)
    expected = references(landscape, contexts, actions)
    np.testing.assert_allclose(values, expected, atol=2e-5)
    assert np.std(expected) > 0.01


def test_constants_of_peaks():
    landscape = made("Peaks2D").landscape
    assert landscape.height[0] == 1 and landscape.height.shape == (25,)
    assert landscape.height[1:].min() >= 0.3 and landscape.height[1:].max() <= 0.9
    assert landscape.width.min() >= 0.3 * 1.8 / 5 and landscape.width.max() <= 0.6 * 1.8 / 5 + 1e-6
    places = landscape.places(random_contexts(100))
    assert places.shape == (100, 25, 2) and places.abs().max() < 0.9
    assert places.std(dim=0).min() > 0.01


@pytest.mark.parametrize("maker", [*MAKERS.values(), partial(made, "Items")], ids=[*MAKERS, "Items"])
def test_values_are_from_0_to_1(maker):
    landscape = maker().unwrapped.landscape
    corners = random_actions(100, 100, landscape.action_dim).sign()
    for actions in (random_actions(100, 100, landscape.action_dim), corners):
        values = landscape(random_contexts(100), actions)
        assert values.min() >= 0 and values.max() <= 1 + 1e-6


# Optima


def dense_actions(action_dim):
    """:return: A grid in one or two dimensions, random actions in more, (n, action_dim)"""
    if action_dim > 2:
        return random_actions(20_000, action_dim)
    line = th.linspace(-1, 1, 20_001 if action_dim == 1 else 301)
    return th.cartesian_prod(*[line] * action_dim).view(-1, action_dim)


@pytest.mark.parametrize("landscape_seed", [0, 1])
@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)
def test_best_is_the_global_optimum(maker, landscape_seed):
    landscape = maker(landscape_seed=landscape_seed).unwrapped.landscape
    contexts = random_contexts(3)
    best = landscape.best(contexts)
    assert best.shape == (3, landscape.action_dim)
    np.testing.assert_allclose(landscape(contexts, best.unsqueeze(1)), 1, atol=1e-5)
    everywhere = dense_actions(landscape.action_dim)
    for i in range(3):
        neighborhood = best[i] + 0.05 * random_actions(2_000, landscape.action_dim)
        values = landscape(contexts[i : i + 1], th.cat([everywhere, neighborhood])[None])
        assert 0.5 < values.max() <= 1 + 1e-6


@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)
def test_best_is_an_action_and_moves_with_the_context(maker):
    landscape = maker().unwrapped.landscape
    corners = th.cartesian_prod(*[th.tensor([-1.0, 1.0])] * CONTEXT_DIM)
    best = landscape.best(th.cat([random_contexts(1_000), corners]))
    assert best.abs().max() <= 1
    assert (best.std(dim=0) > 0.02).all()


def test_shubert_extremes():
    landscape = made("Shubert").landscape
    line = np.linspace(-math.pi, math.pi, 200_001)
    values = sum(i * np.cos((i + 1) * line + i) for i in range(1, 6))
    assert landscape.lowest == pytest.approx(values.min(), abs=1e-5)
    assert landscape.highest == pytest.approx(values.max(), abs=1e-5)
    assert landscape.argmin == pytest.approx(line[values.argmin()], abs=1e-4)


@pytest.mark.parametrize("kwargs", [{}, {"landscape_seed": 1}, {"n_items": 50, "n_clusters": 60, "action_dim": 3}])
def test_best_item_by_brute_force(kwargs):
    env = make_item_landscape(**kwargs)
    contexts = random_contexts(4)
    best = env.landscape.best(contexts).numpy()
    embeddings = env.action_space.embeddings
    for context, point in zip(contexts, best, strict=True):
        values = [reference(env.landscape, context, item) for item in th.tensor(embeddings)]
        assert (embeddings == point).all(axis=1).any()
        assert reference(env.landscape, context, th.tensor(point)) == pytest.approx(max(values), abs=1e-6)


@pytest.mark.parametrize("landscape_seed", range(3))
def test_the_best_peak_changes(landscape_seed):
    landscape = make_landscape("switching", 4, landscape_seed=landscape_seed).landscape
    contexts = random_contexts(300)
    heights = landscape.heights(contexts)
    assert isinstance(landscape, Switching)
    assert th.equal(heights.amax(dim=1), th.ones(300))
    assert len(heights.argmax(dim=1).unique()) >= 5


def test_terraces_are_flat():
    landscape = make_landscape("terraces", 2).landscape
    contexts, actions = random_contexts(50), random_actions(50, 100, 2).requires_grad_(True)
    values = landscape(contexts, actions)
    assert len((10 * values).round().unique()) == 11
    np.testing.assert_allclose(10 * values.detach(), (10 * values.detach()).round(), atol=1e-5)
    assert not th.autograd.grad(values.sum(), actions)[0].any()


def test_ravines_are_rotated_and_stretched():
    """The columns of a rotation have length 1; the first coordinate is divided by three, the last by one."""
    landscape = make_landscape("ravines", 4).landscape
    assert isinstance(landscape, Ravines)
    matrix = landscape.rotation
    np.testing.assert_allclose(matrix.norm(dim=0), [1 / 3, 3 ** (-2 / 3), 3 ** (-1 / 3), 1], rtol=1e-5)
    directions = matrix / matrix.norm(dim=0)
    np.testing.assert_allclose(directions.T @ directions, np.eye(4), atol=1e-5)
    assert directions.abs().amax(dim=0).max() < 0.99


@pytest.mark.parametrize("landscape_seed", range(3))
def test_the_best_item_changes(landscape_seed):
    env = made("Items", landscape_seed=landscape_seed)
    best = env.landscape.best(random_contexts(300))
    assert len(best.unique(dim=0)) >= 5
    assert (best[:, None] == embeddings_of(env)).all(dim=2).any(dim=1).all()


# Local optima


def count_local_maxima(values):
    """:return: Number of inner points of a grid whose values are above those of all their neighbors"""
    inner = values[tuple(slice(1, -1) for _ in values.shape)]
    is_maximum = np.ones(inner.shape, dtype=bool)
    for offset in np.ndindex(*[3] * values.ndim):
        if any(step != 1 for step in offset):
            shifted = tuple(slice(step, step + size) for step, size in zip(offset, inner.shape, strict=True))
            is_maximum &= inner > values[shifted]
    return int(is_maximum.sum())


@pytest.mark.parametrize(
    "task, n_points, at_least, at_most",
    [
        ("Peaks1D", 4_001, 2, 8),
        ("Peaks2D", 401, 8, 25),
        ("Rastrigin", 401, 64, 144),
        ("Shubert", 401, 200, 484),
        ("Ackley", 801, 3_500, 66**2),
    ],
)
def test_number_of_local_optima(task, n_points, at_least, at_most):
    for landscape_seed in range(2):
        landscape = made(task, landscape_seed=landscape_seed).landscape
        line = th.linspace(-1, 1, n_points, dtype=th.float64)
        grid = th.cartesian_prod(*[line] * landscape.action_dim).view(1, -1, landscape.action_dim)
        values = deepcopy(landscape).double()(random_contexts(1).double(), grid)
        n_maxima = count_local_maxima(values.view([n_points] * landscape.action_dim).numpy())
        assert at_least <= n_maxima <= at_most


def count_tops(landscape, context, points):
    """:return: Number of points whose values are above those of all random neighbors at a small distance"""
    directions = nn.functional.normalize(th.randn(500, landscape.action_dim, generator=th.Generator().manual_seed(2)), dim=1)
    neighbors = (points.unsqueeze(1) + 0.03 * directions).flatten(0, 1)
    values = landscape(context, neighbors[None]).view(len(points), -1)
    return int((landscape(context, points[None])[0] > values.amax(dim=1)).sum())


@pytest.mark.parametrize("task", ["Peaks4D", "Peaks8D", "Items"])
def test_peaks_in_many_dimensions_are_local_optima(task):
    landscape, context = made(task).landscape, random_contexts(1)
    tops = landscape.centers if task == "Items" else landscape.places(context)[0]
    assert count_tops(landscape, context, tops) >= 12
    assert count_tops(landscape, context, random_actions(50, landscape.action_dim)) == 0


SMOOTH = {name: maker for name, maker in MAKERS.items() if not name.startswith("terraces")} | {"Items": partial(made, "Items")}


@pytest.mark.parametrize("maker", SMOOTH.values(), ids=SMOOTH)
def test_gradient(maker):
    """Compare with finite differences at random actions, which meet the landscapes' kinks with probability 0."""
    landscape = deepcopy(maker().unwrapped.landscape).double()
    contexts = random_contexts(3).double()
    best = landscape.best(contexts).unsqueeze(1)
    actions = best + 0.2 * random_actions(3, 4, landscape.action_dim).double()
    actions.requires_grad_(True)
    gradient = th.autograd.grad(landscape(contexts, actions).sum(), actions)[0]
    assert (gradient.abs() > 1e-2).any()
    assert th.autograd.gradcheck(partial(landscape, contexts), actions)


@pytest.mark.parametrize("task", TASKS)
def test_gradient_is_finite_at_the_tops(task):
    landscape, contexts = made(task).landscape, random_contexts(5)
    tops = landscape.centers.expand(5, -1, -1) if task == "Items" else landscape.best(contexts).unsqueeze(1)
    actions = tops.clone().requires_grad_(True)
    gradient = th.autograd.grad(landscape(contexts, actions).sum(), actions)[0]
    assert gradient.isfinite().all()
    # The best valid action is at the edge of a ball, where the hill still rises
    assert task == "Items" or "Restricted" in task or gradient.abs().max() < 0.05


# Pictures


@pytest.mark.parametrize("task", TASKS)
def test_rendering(task):
    env = made(task, render_mode="rgb_array")
    assert make_vec_env(f"Landscape{task}-v0").envs[0].render_mode == "rgb_array"
    env.reset(seed=0)
    before = env.render()
    assert before.shape == (384, 384, 3) and before.dtype == np.uint8
    best = env.landscape.best(th.tensor(env.context)[None])[0].numpy()
    points = {(255, 255, 255): best}
    if env.landscape.action_dim == 1:
        env.step(np.array([-0.9], np.float32))
        points[220, 50, 40] = np.array([-0.9, 0.0])
        points[255, 255, 255] = np.array([best[0], 0.0])
    elif task != "Items":
        env.step(np.full(env.landscape.action_dim, -0.9, np.float32))
        points[220, 50, 40] = np.full(2, -0.9)
    picture = env.render()
    assert (task == "Items") == np.array_equal(picture, before)
    for color, point in points.items():
        column, row = round((point[0] + 1) / 2 * 383), round((1 - point[1]) / 2 * 383)
        assert tuple(picture[row, column]) == color
    assert made(task).render() is None


@pytest.mark.parametrize("task", ["Peaks2D", "Items"])
def test_a_window(task, monkeypatch):
    """As ``rl_zoo3.enjoy`` makes it."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with pytest.warns(UserWarning, match="HumanRendering"):
        env = gym.make(f"Landscape{task}-v0", render_mode="human")
    env.reset(seed=0)
    env.step(env.action_space.sample())
    assert env.render_mode == "human"
    env.close()


def test_videos_show_the_action_taken():
    """A VecEnv resets the environment at the end of its only step, before it renders."""
    env = DummyVecEnv([lambda: made("Peaks2D", render_mode="rgb_array")])
    env.seed(0)
    env.reset()
    context = env.envs[0].unwrapped.context.copy()
    before = env.envs[0].render()
    env.step(np.array([[-0.9, 0.5]], np.float32))
    assert not np.array_equal(env.envs[0].unwrapped.context, context)
    picture = env.render()
    is_red = (picture == (220, 50, 40)).all(axis=2)
    rows, columns = np.nonzero(is_red)
    assert abs(columns.mean() / 383 * 2 - 1 + 0.9) < 0.05 and abs(1 - rows.mean() / 383 * 2 - 0.5) < 0.05
    # Around the square, the landscape is that of the step
    assert (picture == before).all(axis=2).mean() > 0.99


# Bad arguments


@pytest.mark.parametrize(
    "kwargs, error, message",
    [
        ({"landscape": "hills"}, ValueError, "landscape='hills' is not known: it must be one of 'peaks', 'restricted', 'swi"),
        ({"landscape": None}, ValueError, "landscape=None is not known"),
        ({"action_dim": 0}, ValueError, "action_dim=0 is too small: it must be an integer of at least 1"),
        ({"action_dim": 2.0}, TypeError, "action_dim=2.0 is a float: it must be an integer of at least 1"),
        ({"action_dim": True}, TypeError, "action_dim=True is a bool"),
        ({"n_peaks": 0}, ValueError, "n_peaks=0 is too small: it must be an integer of at least 1"),
        ({"n_peaks": "9"}, TypeError, "n_peaks='9' is a str"),
        ({"landscape": "ackley", "n_peaks": 40}, ValueError, "n_peaks=40: landscape='ackley' has its own number of optima"),
        ({"landscape": "shubert", "n_peaks": 1}, ValueError, "It is for 'peaks', 'restricted', 'switching', 'terraces'"),
        ({"landscape_seed": -1}, ValueError, "landscape_seed=-1 is too small: it must be an integer of at least 0"),
        ({"landscape_seed": None}, TypeError, "landscape_seed=None is a NoneType"),
    ],
)
def test_bad_arguments(kwargs, error, message):
    with pytest.raises(error, match=message):
        make_landscape(**kwargs)
    with pytest.raises(error, match=message):
        gym.make("LandscapePeaks2D-v0", **kwargs)


@pytest.mark.parametrize(
    "kwargs, error, message",
    [
        ({"n_items": 1}, ValueError, "n_items=1 is too small: it must be an integer of at least 2"),
        ({"n_items": 1e3}, TypeError, "n_items=1000.0 is a float"),
        ({"n_clusters": 0}, ValueError, "n_clusters=0 is too small: it must be an integer of at least 1"),
        ({"n_clusters": None}, TypeError, "n_clusters=None is a NoneType"),
        ({"action_dim": -2}, ValueError, "action_dim=-2 is too small: it must be an integer of at least 1"),
        ({"action_dim": 1.5}, TypeError, "action_dim=1.5 is a float"),
        ({"landscape_seed": -1}, ValueError, "landscape_seed=-1 is too small: it must be an integer of at least 0"),
        ({"landscape_seed": 0.0}, TypeError, "landscape_seed=0.0 is a float"),
    ],
)
def test_bad_arguments_of_items(kwargs, error, message):
    with pytest.raises(error, match=message):
        make_item_landscape(**kwargs)


def test_smallest_arguments():
    for env in (
        make_landscape("peaks", action_dim=1, n_peaks=1, landscape_seed=np.int64(0)),
        make_item_landscape(n_items=2, n_clusters=1, action_dim=1),
    ):
        env.reset(seed=0)
        assert 0 <= env.step(env.action_space.sample())[1] <= 1
