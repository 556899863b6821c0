"""The same command of the RL Zoo, run again, goes on with the run that did not finish."""

import json
import os
import re
import runpy
import sys
from argparse import Namespace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecNormalize

from sb3_savo import SAVO
from sb3_savo.files.objects import read_object
from sb3_savo.zoo.unfinished_runs import ZooRun, command_settings, find_unfinished_run
from tests.checkpoints.runs import Interrupted, count_rollouts, interrupted_at

ID = "ShortPendulum-v0"
HYPERPARAMS = (
    "n_timesteps:160",
    "learning_starts:40",
    "buffer_size:500",
    "policy_kwargs:dict(net_arch=[8])",
    "normalize:True",
    "n_envs:2",
)


@pytest.fixture
def train(monkeypatch, tmp_path):
    """Runs ``python -m rl_zoo3.train`` in this process; with ``stop``, until an error at this step."""
    spec = EnvSpec(ID, "gymnasium.envs.classic_control:PendulumEnv", max_episode_steps=30)
    monkeypatch.setitem(gym.registry, ID, spec)
    monkeypatch.chdir(tmp_path)
    count_rollouts(monkeypatch, 20)

    def run(*arguments, stop=None, checkpoints=True):
        command = ["train", "--algo", "savo", "--env", ID, "--eval-freq", 50, "--eval-episodes", 1, *arguments]
        hyperparams = ["--hyperparams", *HYPERPARAMS, f"checkpoints:{checkpoints}"]
        monkeypatch.setattr("sys.argv", [*map(str, command), *hyperparams])
        monkeypatch.delitem(sys.modules, "rl_zoo3.train", raising=False)
        with interrupted_at(monkeypatch, stop):
            runpy.run_module("rl_zoo3.train", run_name="__main__")

    return run


def runs(folder="logs"):
    return sorted(path.name for path in Path(folder, "savo").iterdir())


def result(folder):
    """What a run leaves: the weights of its agents, its evaluations, its statistics, and the rows of its monitors."""
    models = [SAVO.load(folder / f"{name}.zip", device="cpu") for name in (ID, "best_model")]
    statistics = read_object(folder / ID / "vecnormalize.pkl", VecNormalize)
    arrays = {}
    for i, model in enumerate(models):
        arrays |= {f"{i}.{name}": value.numpy() for name, value in model.policy.state_dict().items()}
    with np.load(folder / "evaluations.npz") as evaluations:
        arrays |= dict(evaluations)
    logs = [path.read_text().splitlines()[1:] for path in sorted(folder.glob("*.monitor.csv"))]
    rows = [[line.split(",")[:2] for line in log] for log in logs]
    return {**arrays, "mean": statistics.obs_rms.mean, "variance": statistics.ret_rms.var, "rows": np.array(rows)}


def test_an_interrupted_run_is_an_uninterrupted_one(train, capsys):
    """The seed is drawn, and the run goes on with it."""
    with pytest.raises(Interrupted):
        train(stop=130)
    train()
    assert runs() == [f"{ID}_1"]
    seed = json.loads(Path(f"logs/savo/{ID}_1/run.json").read_text())["seed"]
    told = capsys.readouterr().out
    assert f"Going on with the unfinished run in logs/savo/{ID}_1, with its seed {seed}" in told
    assert int(re.search(r"Going on at step (\d+)", told)[1]) > 50
    train("--seed", seed, "-f", "whole", checkpoints=False)
    found, expected = result(Path(f"logs/savo/{ID}_1")), result(Path(f"whole/savo/{ID}_1"))
    assert found.keys() == expected.keys() and len(expected["timesteps"]) == 3
    assert expected["rows"].shape == (2, 3, 2)  # a header and two episodes of two environments
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert not Path(f"whole/savo/{ID}_1/run.json").exists()
    # The run has finished, so the next one is a new one
    with pytest.raises(Interrupted):
        train(stop=10)
    assert runs() == [f"{ID}_1", f"{ID}_2"]


def test_control_c_saves_the_agent_and_does_not_finish_the_run(train, monkeypatch):
    def stop(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(BaseCallback, "on_step", stop)
        train("-n", 50)
    folder = Path(f"logs/savo/{ID}_1")
    assert (folder / f"{ID}.zip").exists() and not json.loads((folder / "run.json").read_text())["is_finished"]
    train("-n", 50)
    assert runs() == [f"{ID}_1"] and SAVO.load(folder / f"{ID}.zip").num_timesteps == 50


def test_a_trained_agent_starts_a_run_without_checkpoints(train):
    train("-n", 20, checkpoints=False)
    with pytest.warns(UserWarning, match="checkpoints=True has no effect with -i"):
        train("-n", 20, "-i", f"logs/savo/{ID}_1/{ID}.zip")
    assert not list(Path("logs").rglob("run.json"))


SETTINGS = {"arguments": {"env": ID}, "hyperparams": {"tau": 0.1}, "seed": None}


def unfinished(folder, settings=SETTINGS, seed=0):
    run = ZooRun(folder, settings, seed)
    assert run.hold()
    run.write()
    run.release()
    return run


@pytest.mark.parametrize("name", [f"{ID}_1", f"{ID}_1_0f8fad5b-d9cb-469f-a165-70867728950e"])
def test_a_run_is_found(tmp_path, name):
    unfinished(tmp_path / name, seed=7)
    found = find_unfinished_run(str(tmp_path), ID, SETTINGS)
    assert found.folder == tmp_path / name and found.seed == 7
    # From now on it is in use, until it is released
    assert find_unfinished_run(str(tmp_path), ID, SETTINGS) is None
    found.release()
    found = find_unfinished_run(str(tmp_path), ID, SETTINGS)
    found.has_learned = True
    found.write()
    found.release()
    assert find_unfinished_run(str(tmp_path), ID, SETTINGS) is None


def test_the_newest_of_several_runs_goes_on_first(tmp_path):
    for number in (1, 3, 2):
        run = unfinished(tmp_path / f"{ID}_{number}", seed=number)
        os.utime(run.folder / "run.json", (number, number))
    found = [find_unfinished_run(str(tmp_path), ID, SETTINGS) for _ in range(3)]
    assert [run.seed for run in found] == [3, 2, 1]


@pytest.mark.parametrize("name", ["Pendulum-v1_1", f"{ID}_extra_1", ID])
def test_folders_of_other_environments_are_left_alone(tmp_path, name):
    unfinished(tmp_path / name)
    assert find_unfinished_run(str(tmp_path), ID, SETTINGS) is None


@pytest.mark.parametrize("different", [{"hyperparams": {"tau": 0.2}}, {"arguments": {"env": "x"}}, {"seed": 1}])
def test_another_command_starts_a_new_run(tmp_path, different):
    unfinished(tmp_path / f"{ID}_1", {**SETTINGS, **different})
    assert find_unfinished_run(str(tmp_path), ID, SETTINGS) is None


@pytest.mark.parametrize("content", ["{", "[]", '{"settings": {}}'])
def test_a_damaged_file_is_named(tmp_path, content):
    unfinished(tmp_path / f"{ID}_1")
    (tmp_path / f"{ID}_1" / "run.json").write_text(content)
    with pytest.warns(UserWarning, match=r"run\.json cannot be read"):
        assert find_unfinished_run(str(tmp_path), ID, SETTINGS) is None


@pytest.mark.parametrize(
    "args, argv, expected",
    [
        ({"uuid": False}, ["train.py", "--env", ID], None),
        ({"uuid": False}, ["train.py", "--seed", "3"], 3),
        ({"uuid": False}, ["train.py", "--se=3", "-n", "5"], 3),
        ({"uuid": False}, ["train.py", "--seed", "-1"], None),
        ({}, ["script.py"], 3),  # not the RL Zoo's command: whoever made the experiment has given the seed
    ],
)
def test_which_seeds_are_compared(args, argv, expected):
    assert command_settings(Namespace(seed=3, **args), {}, argv, 3)["seed"] == expected


def test_settings_are_compared_by_what_they_mean():
    first = command_settings(Namespace(device="cpu", n=1, verbose=0), {"policy_kwargs": {"activation_fn": th.nn.ReLU}}, [], 0)
    again = command_settings(Namespace(device="cuda", n=1, verbose=1), {"policy_kwargs": {"activation_fn": th.nn.ReLU}}, [], 0)
    other = command_settings(Namespace(device="cpu", n=1, verbose=0), {"policy_kwargs": {"activation_fn": th.nn.Tanh}}, [], 0)
    assert first == again != other
