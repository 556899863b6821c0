"""How the benchmarks measure time: models, interleaved calls, ratios, and the files of the tables."""

import argparse

import gymnasium as gym
import pandas as pd
import pytest
from stable_baselines3 import TD3

from benchmarks import timing
from benchmarks.suite import load_hyperparameters
from sb3_savo import SAVO
from sb3_savo.acceleration.ahead_of_time import AheadOfTimeCompiler
from tests.acceleration import stand_in


def test_compare_to():
    table = timing.compare_to("TD3", {"TD3": [4.0, 2.0, 6.0], "other": [2.0, 10.0, 6.0]}, n_per_call=2)
    assert table.what.tolist() == ["TD3", "other"]
    assert table.median_ms.tolist() == [2.0, 3.0] and table.min_ms.tolist() == [1.0, 1.0]
    assert table.ratio.tolist() == [1.0, 1.5] and table.ratio_of_minima.tolist() == [1.0, 1.0]


def test_medians():
    assert timing.medians({"a": [3.0, 1.0, 2.0], "b": [1.0, 2.0]}) == {"a": 2.0, "b": 1.5}


def test_time_interleaved():
    calls = []
    times = timing.time_interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=2)
    assert calls == ["a", "b"] * 3 and len(times["a"]) == len(times["b"]) == 2


@pytest.mark.parametrize("algorithm", [TD3, SAVO], ids=["TD3", "SAVO"])
@pytest.mark.parametrize("name", timing.SHAPES)
def test_models_have_the_shapes(algorithm, name):
    shapes = timing.SHAPES[name]
    model = timing.make_model(algorithm, shapes)
    assert model.num_timesteps == 2_048 and model._n_updates == 0 and model.replay_buffer.size() == 2_048
    assert model.observation_space.shape == (shapes.obs_dim,) and model.action_space.shape == (shapes.action_dim,)
    policy_kwargs = shapes.savo_policy_kwargs if algorithm is SAVO else {}
    assert model.policy_kwargs.items() >= {"net_arch": shapes.net_arch, **policy_kwargs}.items()


def test_take_over(monkeypatch):
    monkeypatch.setattr(AheadOfTimeCompiler, "begin", stand_in.begin)
    shapes = timing.Shapes(2, 1, {"pi": [8], "qf": [8]}, {})
    eager, compiled, td3 = (
        timing.make_model(algorithm, shapes, batch_size=16, **kwargs)
        for algorithm, kwargs in ((SAVO, {"compile": False}), (SAVO, {"compile": True, "policy_delay": 3}), (TD3, {}))
    )
    for model in (eager, compiled, td3):
        timing.take_over(model)
    assert eager._n_updates == td3._n_updates == 0
    assert {name for name, _ in compiled.updater.compiled_losses.losses} == {"critic", "actor"}


def test_shapes_of_recsim():
    env = gym.make("RecSim-v0")
    shapes = timing.SHAPES["RecSim"]
    assert env.observation_space.shape == (shapes.obs_dim,) and env.action_space.embeddings.shape[1] == shapes.action_dim
    policy_kwargs = {"net_arch": shapes.net_arch, **shapes.savo_policy_kwargs}
    assert load_hyperparameters("savo", "RecSim-v0")["policy_kwargs"] == policy_kwargs


def test_run_parts(tmp_path, capsys):
    """Every chosen part has a file with a line about the machine, which an older file does not survive."""
    parts = {"a": lambda args: pd.DataFrame({"x": [args.number]}), "b": lambda args: pd.DataFrame({"x": [0.25]})}
    (tmp_path / "b-1.csv").write_text("old")
    args = argparse.Namespace(parts=["b"], threads=1, folder=tmp_path, number=3)
    timing.run_parts(parts, args)
    assert capsys.readouterr().out.splitlines()[0] == timing.machine(1)
    assert [path.name for path in tmp_path.iterdir()] == ["b-1.csv"]
    assert (tmp_path / "b-1.csv").read_text() == f"# {timing.machine(1)}\nx\n0.2500\n"
    timing.run_parts(parts, argparse.Namespace(parts=["a", "b"], threads=1, folder=tmp_path, number=3))
    assert pd.read_csv(tmp_path / "a-1.csv", comment="#").x.tolist() == [3]


def test_a_part_that_fails_leaves_no_file(tmp_path):
    def broken(args):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        timing.run_parts({"a": broken}, argparse.Namespace(parts=["a"], threads=1, folder=tmp_path))
    assert not list(tmp_path.iterdir())
