"""The IDs of our environments: in every process, without importing us, and without a notice that one is out of date."""

import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import load_env_creator
from gymnasium.error import ResetNeeded

from sb3_savo import ActionEmbedding
from sb3_savo.envs import RestrictedAction
from sb3_savo.envs.registration import environments
from sb3_savo.envs.restricted import make_restricted


def python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("env_id", environments())
def test_every_id_is_registered(env_id):
    assert gym.spec(env_id).entry_point == environments()[env_id]["entry_point"]
    assert callable(load_env_creator(gym.spec(env_id).entry_point))


@pytest.mark.parametrize("env_id", [env_id for env_id in environments() if env_id.endswith(("-v4", "-v5"))])
def test_no_version_is_out_of_date(env_id):
    """Neither ours, nor Gymnasium's version that ours is made of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make(env_id)
    assert env.spec.id == env_id


def test_a_task_of_gymnasium_that_does_not_exist():
    with pytest.raises(gym.error.Error, match="HopperNot"):
        make_restricted("HopperNot-v4")


def test_an_id_of_the_users_own_is_left_alone():
    code = (
        "import gymnasium as gym; gym.registry.pop('RecSim-v0'); "
        "gym.register('RecSim-v0', 'gymnasium.envs.classic_control:PendulumEnv'); import sb3_savo; "
        "assert type(gym.make('RecSim-v0').unwrapped).__name__ == 'PendulumEnv'"
    )
    python(code)


def test_a_fresh_process_knows_them_and_imports_nothing_else():
    code = (
        "import gymnasium as gym, sys; assert not {'sb3_savo', 'torch', 'stable_baselines3'} & set(sys.modules); "
        "env = gym.make('HopperRestricted-v4'); env.reset(); assert 'RestrictedAction' in str(env)"
    )
    assert python(code).stderr == ""


def test_a_new_worker_knows_them():
    """A function that only names the ID; test_run.py has an ID and the start method ``forkserver``."""
    code = (
        "import gymnasium as gym, sys; from stable_baselines3.common.vec_env import SubprocVecEnv; "
        "env = SubprocVecEnv([lambda: gym.make('LandscapePeaks2D-v0')], start_method='spawn'); "
        "assert env.reset().shape == (1, 4) and 'sb3_savo' not in sys.modules; env.close()"
    )
    python(code)


# Specifications

ROWS = np.random.default_rng(0).normal(size=(2, 3))
BALLS = {"centers": np.array([[0.25], [0.75]]), "radii": 0.1, "invalid_action": np.zeros(1), "invalid_reward": -10.0}


def embed(**kwargs):
    return ActionEmbedding(gym.make("CartPole-v1", **kwargs), ROWS)


def restrict(**kwargs):
    return RestrictedAction(gym.make("Pendulum-v1", **kwargs), **BALLS)


@pytest.fixture(params=["outside", "inside"])
def is_inside(request):
    """Whether a wrapper of ours is part of what ``gym.make`` makes, or was put around it."""
    gym.register("Embedded-v0", embed)
    gym.register("Balls-v0", restrict)
    yield request.param == "inside"
    del gym.registry["Embedded-v0"], gym.registry["Balls-v0"]


def test_an_embedding_is_made_again_from_its_specification(is_inside):
    env = gym.make("Embedded-v0") if is_inside else embed()
    again = gym.make(env.spec)
    assert again.action_space == env.action_space and again.spec == env.spec
    # The array is not copied: it may be large
    (recorded,) = [spec.kwargs for spec in env.spec.additional_wrappers if spec.name == "ActionEmbedding"]
    assert np.shares_memory(recorded["embeddings"], env.action_space.embeddings)
    assert gym.make(again.spec).action_space == env.action_space
    assert ActionEmbedding(gym.make("CartPole-v1"), 2 * ROWS).spec != env.spec


def test_a_restriction_is_made_again_from_its_specification(is_inside):
    env = gym.make("Balls-v0") if is_inside else restrict()
    again = gym.make(env.spec)
    assert again.spec == env.spec
    actions = np.linspace(-2, 2, 101, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(again.get_wrapper_attr("is_valid")(actions), env.get_wrapper_attr("is_valid")(actions))
    again.reset(seed=0)
    assert again.step(np.zeros(1, np.float32))[1] == -10.0
    # Only numbers and lists, for JSON
    assert gym.make(gym.envs.registration.EnvSpec.from_json(restrict().spec.to_json())).spec.kwargs == env.spec.kwargs


@pytest.mark.parametrize("env_id", ["HopperRestricted-v5", "MiningExpedition-v0", "LandscapeItems-v0", "RecSim-v0"])
def test_our_tasks_are_made_again_from_their_specification(env_id):
    env = gym.make(env_id)
    again = gym.make(env.spec)
    assert again.spec == env.spec and again.action_space == env.action_space and str(again) == str(env)


@pytest.mark.parametrize("env_id", ["LandscapePeaks2D-v0", "LandscapeItems-v0", "MiningExpedition-v0", "RecSim-v0"])
def test_a_step_needs_a_reset(env_id):
    """Of the environments themselves, without Gymnasium's wrappers; RecSimData's test is in test_movielens.py."""
    env = gym.make(env_id).unwrapped
    with pytest.raises(ResetNeeded, match="call reset"):
        env.step(env.action_space.sample())
    env.reset(seed=0)
    env.step(env.action_space.sample())


def test_a_picture_of_a_landscape_needs_a_reset():
    with pytest.raises(ResetNeeded, match="call reset"):
        gym.make("LandscapePeaks2D-v0", render_mode="rgb_array").unwrapped.render()
