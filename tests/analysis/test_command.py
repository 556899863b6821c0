"""The command: what it writes, and that it names a wrong argument before any work."""

import pickle
import re
import sys

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_savo import CEM, SAVO, GreedyTD3
from sb3_savo.analysis import __main__ as command
from sb3_savo.analysis import landscape_numbers
from sb3_savo.analysis.runs import algorithms_of, load_on_cpu, read_settings, to_vec_env, visited_observations
from tests.analysis.models import OBSERVATION, untrained
from tests.models import SMALL
from tests.test_buffers import Board
from tests.test_safe_files import Bomb

pytest.importorskip("matplotlib")
ENV = "LandscapePeaks1D-v0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Models at two numbers of steps, states, and files that are none"""
    folder = tmp_path_factory.mktemp("analysis")
    model = untrained(env=ENV)
    model.num_timesteps = 20
    model.save(folder / "b.zip")
    model.num_timesteps = 100
    model.save(folder / "a.zip")
    untrained(env=ENV, algorithm=GreedyTD3).save(folder / "greedy.zip")
    np.save(folder / "states.npy", np.stack([OBSERVATION, -OBSERVATION]))
    np.save(folder / "wrong.npy", np.zeros(3))
    (folder / "text.zip").write_text("no zip")
    model.action_noise = Bomb(folder / "executed")
    with pytest.warns(UserWarning, match="action_noise"):
        model.save(folder / "bomb.zip")
    (folder / "bomb.pkl").write_bytes(pickle.dumps(model.action_noise))
    return folder


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["analysis", *map(str, arguments)])
    command.main()


def without_files():
    """As ``RecSimData-v0`` where the data set is missing"""
    raise FileNotFoundError("ratings.csv is missing")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("landscape missing.zip --env {env} -o {out}", "MODEL: missing.zip is not there"),
        ("landscape {folder}/text.zip --env {env} -o {out}", "MODEL: .*text.zip holds no model"),
        ("landscape {folder}/greedy.zip --algo greedyac --env {env} -o {out}", "--algo greedyac: .* is that of greedytd3"),
        ("landscape {folder}/bomb.zip --env {env} -o {out}", "MODEL: .*bomb.zip holds no model: .*execute"),
        ("landscape {folder}/a.zip --env {env} --normalize {folder}/bomb.pkl -o {out}", "--normalize .*bomb.pkl.*execute"),
        ("landscape {folder}/a.zip --algo cem --env {env} -o {out}", "--algo cem: the policy .* is that of savo"),
        ("landscape {folder}/a.zip --env Missing-v0 -o {out}", "--env: .*Missing"),
        ("landscape {folder}/a.zip --env WithoutFiles-v0 -o {out}", "--env: ratings.csv is missing"),
        ("landscape {folder}/a.zip --env LandscapePeaks2D-v0 -o {out}", "--env LandscapePeaks2D-v0: its action_space"),
        ("landscape {folder}/a.zip --env {env} --dims 1 -o {out}", r"--dims: dims=\[1\]"),
        ("landscape {folder}/a.zip --env {env} --dims 0 --projection pca -o {out}", "--dims .* and --projection pca exclude"),
        ("landscape {folder}/a.zip --env {env} --state none.npy -o {out}", "--state: none.npy is not there"),
        ("landscape {folder}/a.zip --env {env} --state {folder}/wrong.npy -o {out}", r"--state: .* has the shape \(3,\)"),
        ("strip {folder}/a.zip --env {env} --state {folder}/states.npy -o {out}", "--state .* holds 2 observations"),
        ("landscape {folder}/a.zip --env {env} --normalize none.pkl -o {out}", "--normalize none.pkl is not there"),
        ("landscape {folder}/a.zip --env {env} --normalize {folder}/a.zip -o {out}", "--normalize .* does not hold"),
        ("landscape {folder}/a.zip --env {env} --seed -1 -o {out}", "--seed -1 is out of range"),
        ("landscape {folder}/a.zip --env {env} -o {out}.gif", "--output .*must be .png or .pdf or .svg"),
        ("animation {folder}/a.zip --env {env} -o {out}", "--output .*must be .gif"),
        ("numbers {folder}/a.zip --env {env} -o none/a.csv", "--output .*the folder none is not there"),
        ("valid-set --env {env} -o {out}", f"--env {ENV} is not restricted"),
        ("valid-set --env AntRestricted-v5 -o {out}", "--dims: dims=None needs an action of at most 3 dimensions"),
    ],
)
def test_wrong_arguments_are_named(monkeypatch, capsys, folder, tmp_path, arguments, message):
    monkeypatch.setattr(command, "load_on_cpu", lambda *_: pytest.fail("the model was loaded"))
    monkeypatch.setitem(gym.registry, "WithoutFiles-v0", gym.envs.registration.EnvSpec("WithoutFiles-v0", without_files))
    text = arguments.format(folder=folder, env=ENV, out=tmp_path / "out.png")
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, *text.split(" "))
    assert stop.value.code == 2
    assert re.search(message, capsys.readouterr().err)
    assert not list(tmp_path.iterdir()) and not (folder / "executed").exists()


def test_a_picture_and_its_title(monkeypatch, folder, tmp_path):
    titles = []
    monkeypatch.setattr(
        command, "plot_strip", lambda landscape, title: titles.append(title) or command.plot_landscape(landscape, title)
    )
    run(monkeypatch, "strip", folder / "a.zip", "--env", ENV, "--state", "2", "--seed", "5", "-o", tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 0
    assert titles == [f"SAVO on {ENV}, 100 steps, model's seed 0\nstate: step 2 of an episode with seed 5"]


def test_an_animation_in_the_order_of_the_steps(monkeypatch, folder, tmp_path):
    titles = []
    monkeypatch.setattr(command, "animate_strip", lambda landscapes, names, path: titles.extend(names))
    run(monkeypatch, "animation", folder / "a.zip", folder / "b.zip", "--env", ENV, "-o", tmp_path / "a.gif")
    assert [title.split(", ")[1] for title in titles] == ["20 steps", "100 steps"]


def test_numbers_of_a_file(monkeypatch, capsys, folder, tmp_path):
    run(monkeypatch, "numbers", folder / "a.zip", "--env", ENV, "--state", folder / "states.npy", "-o", tmp_path / "n.csv")
    table = pd.read_csv(tmp_path / "n.csv", index_col="state")
    numbers = landscape_numbers(load_on_cpu(folder / "a.zip", "savo").policy, np.load(folder / "states.npy"))
    np.testing.assert_allclose(table.suboptimality, numbers.suboptimality, rtol=1e-6)
    np.testing.assert_array_equal(table[["n_optima_psi_1", "n_optima_psi_2"]], numbers.n_surrogate_optima)
    assert "suboptimality_of_first" in capsys.readouterr().out


def test_numbers_of_a_hundred_states(monkeypatch, folder, tmp_path):
    run(monkeypatch, "numbers", folder / "a.zip", "--env", ENV, "--points", "100", "-o", tmp_path / "n.csv")
    assert len(pd.read_csv(tmp_path / "n.csv")) == 100


def test_the_algorithm_of_a_zip(folder, tmp_path):
    untrained(env=ENV, algorithm=CEM).save(tmp_path / "cem.zip")
    assert algorithms_of(read_settings(tmp_path / "cem.zip")) == ["cem"]
    settings = read_settings(folder / "greedy.zip")
    assert algorithms_of(settings) == ["greedytd3"]
    del settings["algorithm_name"]  # as in older zips
    assert algorithms_of(settings) == ["greedyac", "greedytd3"]


def test_states_are_normalized_as_in_training(folder, tmp_path):
    """A wrapped environment gives the model the statistics' observations, and keeps the statistics as they are."""
    normalize = VecNormalize(DummyVecEnv([lambda: gym.make(ENV)]))
    normalize.obs_rms.mean[:], normalize.obs_rms.var[:] = 3.0, 4.0
    normalize.save(tmp_path / "statistics.pkl")
    model = load_on_cpu(folder / "a.zip", "savo", to_vec_env(gym.make(ENV), tmp_path / "statistics.pkl"))
    visited = visited_observations(model, 3, seed=7)
    model.set_env(to_vec_env(gym.make(ENV), None))
    raw = visited_observations(model, 3, seed=7)
    assert visited.shape == (4, 4)
    # The first context depends on the seed alone
    np.testing.assert_allclose(visited[0], (raw[0] - 3) / 2, atol=1e-5)


def test_states_are_visited_within_the_masks():
    """The board fails when an item is taken a second time, and is full after nine."""
    model = SAVO("MlpPolicy", Board(), **SMALL)
    visited = visited_observations(model, 20, seed=0)
    np.testing.assert_array_equal(visited.sum(axis=1), np.arange(21) % 9)


class Camera(gym.Env):
    """Images whose channels come last, alone or in a Dict."""

    image = gym.spaces.Box(0, 255, (36, 36, 3), np.uint8)
    action_space = gym.spaces.Box(-1, 1, (1,))

    def __init__(self, in_dict):
        self.observation_space = gym.spaces.Dict(image=self.image) if in_dict else self.image

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, False, {}


@pytest.mark.parametrize("in_dict", [False, True])
def test_images_with_their_channels_last(monkeypatch, tmp_path, in_dict):
    monkeypatch.setitem(
        gym.registry, "Camera-v0", gym.envs.registration.EnvSpec("Camera-v0", Camera, kwargs={"in_dict": in_dict})
    )
    SAVO("MultiInputPolicy" if in_dict else "CnnPolicy", gym.make("Camera-v0"), **SMALL).save(tmp_path / "model")
    run(
        monkeypatch,
        "numbers",
        tmp_path / "model.zip",
        "--env",
        "Camera-v0",
        "--state",
        "2",
        "--points",
        "9",
        "-o",
        tmp_path / "n.csv",
    )
    assert len(pd.read_csv(tmp_path / "n.csv")) == 3
