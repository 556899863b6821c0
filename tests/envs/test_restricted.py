"""The restricted tasks, compared with the check values of their specification."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from sb3_savo.envs import RestrictedAction
from sb3_savo.envs.restricted import paper_balls

TASKS = ("Hopper", "Walker2d", "InvertedPendulum", "InvertedDoublePendulum", "HalfCheetah", "Ant")
IDS = [f"{task}Restricted-{version}" for task in TASKS for version in ("v4", "v5")]


def corners(action_dim):
    return np.stack(np.meshgrid(*[[-1.0, 1.0]] * action_dim), axis=-1).reshape(-1, action_dim)


def find_wrapper(env):
    """:return: The :class:`RestrictedAction` among the environment's wrappers"""
    while not isinstance(env, RestrictedAction):
        env = env.env
    return env


@pytest.mark.parametrize("env_id", IDS)
def test_checkers_and_spaces(env_id):
    env, plain = gym.make(env_id), gym.make(env_id.replace("Restricted", ""))
    assert env.observation_space == plain.observation_space
    assert env.action_space == plain.action_space
    assert env.spec.max_episode_steps == 1000
    gymnasium_check_env(env.unwrapped, skip_render_check=True)
    sb3_check_env(env)
    env.close()


@pytest.mark.parametrize("action_dim, radius, coverage", [(1, 0.02727, 0.797), (3, 0.19276, 0.879), (6, 0.38999, 0.766)])
def test_radius_and_coverage(action_dim, radius, coverage):
    env_id = {1: "InvertedPendulum", 3: "Hopper", 6: "Walker2d"}[action_dim]
    env = find_wrapper(gym.make(f"{env_id}Restricted-v5"))
    assert env.centers.shape == (33 * action_dim, action_dim)
    np.testing.assert_allclose(env.radii, radius, atol=5e-6)
    assert env.coverage() == pytest.approx(coverage, abs=5e-3)
    assert env.is_valid(np.zeros(action_dim))


def test_valid_intervals_of_one_dimension():
    env = find_wrapper(gym.make("InvertedPendulumRestricted-v4"))
    actions = np.linspace(-1, 1, 200_001)
    valid = env.is_valid(3 * actions[:, None])
    starts = actions[1:][np.diff(valid.astype(int)) == 1]
    ends = actions[:-1][np.diff(valid.astype(int)) == -1]
    # The specification's values were read off a grid of width 0.002
    np.testing.assert_allclose(starts, [-0.936, -0.704, -0.482, 0.168, 0.644, 0.906], atol=1.1e-3)
    np.testing.assert_allclose(ends, [-0.762, -0.488, 0.158, 0.530, 0.754], atol=1.1e-3)
    assert valid[-1] and not valid[0]


@pytest.mark.parametrize("task, n_valid", [("Hopper", 2), ("Walker2d", 4)])
def test_valid_corners(task, n_valid):
    env = find_wrapper(gym.make(f"{task}Restricted-v4"))
    assert env.is_valid(corners(env.action_space.shape[0])).sum() == n_valid


@pytest.mark.parametrize("env_id", IDS)
def test_invalid_actions_are_replaced(env_id):
    """Every step equals a step of the plain task with the replaced action."""
    env, plain = gym.make(env_id), gym.make(env_id.replace("Restricted", ""))
    is_pendulum = "Pendulum" in env_id
    rng = np.random.default_rng(0)
    obs, _ = env.reset(seed=5)
    np.testing.assert_array_equal(obs, plain.reset(seed=5)[0])
    seen, is_first = set(), True
    low, high = env.action_space.low, env.action_space.high
    for _ in range(60):
        action = rng.uniform(low, high).astype(np.float32)
        original = action.copy()
        valid = bool(find_wrapper(env).is_valid(action)) or (is_pendulum and is_first)
        simulated = action if valid else np.full_like(action, -1.0 if is_pendulum else 0.0)
        expected = plain.step(simulated)
        actual = env.step(action)
        np.testing.assert_array_equal(action, original)
        np.testing.assert_array_equal(actual[0], expected[0])
        assert actual[1:4] == expected[1:4]
        assert actual[4]["valid_action"] == valid
        seen.add(valid)
        is_first = actual[2] or actual[3]
        if is_first:
            np.testing.assert_array_equal(env.reset(seed=6)[0], plain.reset(seed=6)[0])
    assert seen == {True, False}


def test_the_pendulums_first_step_is_exempt():
    env = gym.make("InvertedPendulumRestricted-v4")
    invalid = np.array([-3.0], dtype=np.float32)
    for _ in range(2):
        env.reset(seed=0)
        assert env.step(invalid)[4]["valid_action"] is True
        assert env.step(invalid)[4]["valid_action"] is False


def test_invalid_reward():
    invalid = np.array([1.0, -1.0, 1.0], dtype=np.float32)
    rewards = {}
    for reward in (None, -10.0):
        env = gym.make("HopperRestricted-v4", invalid_reward=reward)
        env.reset(seed=0)
        rewards[reward] = {}
        for action in (invalid, np.zeros(3, dtype=np.float32)):
            _, step_reward, _, _, info = env.step(action)
            rewards[reward][info["valid_action"]] = step_reward
    assert rewards[-10.0][False] == -10.0
    assert rewards[None][False] > 0.5
    assert rewards[None][True] == rewards[-10.0][True]


def test_custom_balls():
    env = RestrictedAction(gym.make("Pendulum-v1"), centers=[[0.25], [1.0]], radii=[0.1, 0.05], invalid_action=0.5)
    assert env.coverage() == pytest.approx(0.25, abs=0.01)
    assert env.is_valid(np.array([[-1.0], [-0.5], [1.95], [1.7]])).tolist() == [True, False, True, False]
    env.reset(seed=0)
    assert env.step(np.array([1.0], dtype=np.float32))[4]["valid_action"] is False


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"centers": [[0.5, 0.5]], "radii": 0.1}, r"centers has the shape \(1, 2\)"),
        ({"centers": np.empty((0, 1)), "radii": 0.1}, r"centers has the shape \(0, 1\)"),
        ({"centers": [[0.5]], "radii": [0.1, 0.2]}, r"radii has the shape \(2,\)"),
        ({"centers": [[0.5]], "radii": 0.0}, "above 0"),
        ({"centers": [[np.nan]], "radii": 0.1}, "finite"),
        ({"centers": [[1.2]], "radii": 0.1}, "no action would be valid"),
        ({"centers": [[0.5]], "radii": 0.1, "invalid_action": 5.0}, "invalid_action=5.0 is not in the action space"),
    ],
)
def test_bad_balls(kwargs, message):
    with pytest.raises(ValueError, match=message):
        RestrictedAction(gym.make("Pendulum-v1"), **kwargs)


def test_only_bounded_boxes():
    with pytest.raises(TypeError, match="not continuous"):
        RestrictedAction(gym.make("CartPole-v1"), centers=[[0.5]], radii=0.1)


def test_paper_balls_leave_the_global_random_state_unchanged():
    np.random.seed(7)
    before = np.random.get_state()[1].copy()
    centers, _ = paper_balls(3)
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    assert centers[0] == pytest.approx([0.69646919, 0.28613933, 0.22685145])
