"""Which actions the environment swallows."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import RescaleAction

from sb3_savo.analysis.validity import balls, intervals, restriction_of, validity_of
from sb3_savo.envs.restricted import RestrictedAction


def restricted(rescaled):
    env = RestrictedAction(gym.make("LandscapePeaks2D-v0"), [[0.2, 0.3], [0.7, 0.9]], [0.2, 0.3])
    return RescaleAction(env, np.float32(0), np.float32(10)) if rescaled else env


@pytest.mark.parametrize("rescaled", [False, True])
def test_what_is_valid_is_what_the_environment_carries_out(rescaled):
    env = restricted(rescaled)
    rng = np.random.default_rng(0)
    actions = rng.uniform(env.action_space.low, env.action_space.high, (60, 2)).astype(np.float32)
    carried_out = []
    for action in actions:
        env.reset(seed=0)
        carried_out.append(env.step(action)[4]["valid_action"])
    assert validity_of(env)(actions).tolist() == carried_out
    assert 0 < sum(carried_out) < 60


def test_an_unrestricted_environment():
    env = gym.make("LandscapePeaks2D-v0")
    assert restriction_of(env) is None and validity_of(env) is None


def test_balls_in_the_units_of_the_environment():
    env = restricted(False)
    centers, radii = balls(env)
    np.testing.assert_allclose(centers, [[-0.6, -0.4], [0.4, 0.8]], atol=1e-6)
    np.testing.assert_allclose(radii, [[0.4, 0.4], [0.6, 0.6]], atol=1e-6)
    for center, radius in zip(centers, radii, strict=True):
        assert env.is_valid(center + radius * [0.99, 0]) and not env.is_valid(center - radius * [1.01, 0])


@pytest.mark.parametrize(
    "inside, expected",
    [
        ([0, 0, 0, 0], []),
        ([1, 1, 1, 1], [(0, 3)]),
        ([1, 0, 0, 1], [(0, 0.5), (2.5, 3)]),
        ([0, 1, 1, 0], [(0.5, 2.5)]),
    ],
)
def test_intervals(inside, expected):
    assert intervals(np.arange(4.0), np.array(inside, dtype=bool)) == expected
