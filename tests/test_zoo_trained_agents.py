"""The RL Zoo's programs that show a trained agent: its items are the ones that the environment allows."""

from functools import partial
from importlib import import_module
from typing import ClassVar

import gymnasium as gym
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from sb3_savo import SAVO, WatchedSubprocVecEnv
from sb3_savo.common.masked_evaluation import MaskedModel
from sb3_savo.zoo.trained_agents import TrainedAgents, show_our_agents
from tests.test_masked_evaluation import Board
from tests.zoo_programs import run_program

ID = "Board-v0"


class Picture(Board):
    """A board that can be filmed."""

    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def render(self):
        return (255 * self.board).astype("uint8").reshape(3, 3, 1).repeat(16, 0).repeat(16, 1).repeat(3, 2)


@pytest.fixture
def program(monkeypatch):
    """Runs ``python -m rl_zoo3.NAME`` in this process, which knows the board."""
    monkeypatch.setitem(gym.registry, ID, gym.envs.registration.EnvSpec(ID, Picture))
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    return partial(run_program, monkeypatch, ID)


@pytest.fixture
def agent(tmp_path, monkeypatch, program):
    """The folder in which an agent has learned to fill the board."""
    monkeypatch.chdir(tmp_path)
    program("train", "-n", 60, "--eval-freq", -1, "--hyperparams", "learning_starts:40", "buffer_size:500")
    return tmp_path


@pytest.mark.parametrize("n_envs", [1, 2])
def test_enjoy_keeps_to_the_masks(agent, program, capsys, n_envs):
    """The board refuses every other item, and a prediction without masks warns, which is an error here."""
    program("enjoy", "-f", "logs", "--no-render", "-n", 45, "--n-envs", n_envs)
    if n_envs == 1:
        assert "5 Episodes\nMean reward: 9.00 +/- 0.00" in capsys.readouterr().out
    assert import_module("rl_zoo3").ALGOS["savo"] is SAVO


def test_record_video_keeps_to_the_masks(agent, program):
    program("record_video", "-f", "logs", "-n", 20, "--n-envs", 2, "-o", agent / "videos")
    assert list((agent / "videos").glob("*.mp4"))


def test_enjoy_without_the_import_hook(agent, program, monkeypatch, capsys):
    """``python -m sb3_savo enjoy`` extends modules that were imported before."""
    utils, package = import_module("rl_zoo3.utils"), import_module("rl_zoo3")
    theirs = utils.create_test_env.__self__
    monkeypatch.setattr(utils, "get_model_path", theirs._get_model_path)
    monkeypatch.setattr(utils, "create_test_env", theirs._create_test_env)
    monkeypatch.setattr(utils, "get_saved_hyperparams", theirs._get_saved_hyperparams)
    monkeypatch.setattr(package, "get_saved_hyperparams", theirs._get_saved_hyperparams)
    monkeypatch.setattr(package, "create_test_env", theirs._create_test_env)
    with pytest.warns(UserWarning, match="action_masks=None"), pytest.raises(AssertionError, match="not allowed"):
        program("enjoy", "-f", "logs", "--no-render", "-n", 45)
    show_our_agents(utils, package)
    assert isinstance(package.create_test_env.__self__, TrainedAgents)
    program("enjoy", "-f", "logs", "--no-render", "-n", 45)
    assert "Mean reward: 9.00" in capsys.readouterr().out


def test_extending_twice_changes_nothing():
    utils = import_module("rl_zoo3.utils")
    before = utils.create_test_env
    show_our_agents(utils, import_module("rl_zoo3"))
    assert utils.create_test_env == before


@pytest.mark.parametrize(
    "algo, n_envs, kwargs, expected",
    [
        ("savo", 1, {}, DummyVecEnv),
        ("savo", 2, {}, WatchedSubprocVecEnv),
        ("savo", 2, {"vec_env_cls": DummyVecEnv}, DummyVecEnv),
        ("td3", 2, {}, SubprocVecEnv),
    ],
)
def test_workers_of_our_agents_are_watched(algo, n_envs, kwargs, expected, program, tmp_path):
    """And the RL Zoo's table of algorithms is as before as soon as the agent is loaded."""
    utils = import_module("rl_zoo3.utils")
    algorithm = utils.ALGOS[algo]
    (tmp_path / algo / f"{ID}_1").mkdir(parents=True)
    SAVO("MlpPolicy", Board()).save(tmp_path / algo / f"{ID}_1" / f"{ID}.zip")
    _, path, _ = utils.get_model_path(1, str(tmp_path), algo, ID)
    env = utils.create_test_env(ID, n_envs=n_envs, should_render=False, hyperparams={}, **kwargs)
    assert type(env) is expected
    env.close()
    if algo == "savo":
        assert issubclass(utils.ALGOS[algo], SAVO)
        assert isinstance(utils.ALGOS[algo].load(path, device="cpu"), MaskedModel)
    assert utils.ALGOS[algo] is algorithm
    # The next environment is made by the RL Zoo alone
    env = utils.create_test_env(ID, should_render=False, hyperparams={})
    env.close()
    assert utils.ALGOS[algo] is algorithm
