"""The IDs of our environments: in every process, without importing us, and without a notice that one is out of date."""

import subprocess
import sys
import warnings

import gymnasium as gym
import pytest
from gymnasium.envs.registration import load_env_creator

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
