"""The benchmarks of speed: what is compared is what it says, and the figures are written with where they are from."""

import sys
from pathlib import Path

import gymnasium as gym
import pandas as pd
import pytest
import yaml
from stable_baselines3 import TD3

from benchmarks import phases, speed
from sb3_savo import SAVO


def test_compared():
    table = speed.compared({"TD3": [4.0, 2.0, 6.0], "other": [2.0, 10.0, 6.0]}, n=2)
    assert table.what.tolist() == ["TD3", "other"]
    assert table.median_ms.tolist() == [2.0, 3.0] and table.min_ms.tolist() == [1.0, 1.0]
    assert table.ratio.tolist() == [1.0, 1.5] and table.ratio_of_minima.tolist() == [1.0, 1.0]


def test_in_turn():
    calls = []
    times = speed.in_turn({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=2)
    assert calls == ["a", "b"] * 3 and len(times["a"]) == len(times["b"]) == 2


@pytest.mark.parametrize("algorithm", [TD3, SAVO])
@pytest.mark.parametrize("shapes", speed.SHAPES.values(), ids=speed.SHAPES)
def test_models_are_of_the_shapes(algorithm, shapes):
    model = speed.make(algorithm, shapes, own_policy=algorithm is SAVO)
    assert model.num_timesteps == 2_048 and model._n_updates == 0 and model.replay_buffer.size() == 2_048
    assert model.observation_space.shape == (shapes.obs_dim,) and model.action_space.shape == (shapes.action_dim,)
    if algorithm is SAVO:
        assert [layer.weight.shape[2] for layer in model.actor.nu.net.hidden] == shapes.net_arch["pi"]


def test_shapes_of_recsim():
    env = gym.make("RecSim-v0")
    shapes = speed.SHAPES["RecSim"]
    assert env.observation_space.shape == (shapes.obs_dim,) and env.action_space.embeddings.shape[1] == shapes.action_dim
    hyperparameters = yaml.safe_load((Path(speed.__file__).parent.parent / "hyperparams" / "savo.yml").read_text())
    assert hyperparameters["RecSim-v0"]["policy_kwargs"] == {"net_arch": shapes.net_arch, **shapes.own}


def test_main_writes_where_the_figures_are_from(monkeypatch, tmp_path, capsys):
    arguments = ["--parts", "acting", "collection", "--actors", "2", "--repeats", "1", "--folder", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["speed", *arguments])
    speed.main()
    assert capsys.readouterr().out.splitlines()[0] == speed.machine(1)
    for part, n_rows in (("acting", 6), ("collection", 4)):
        assert (tmp_path / f"{part}-1.csv").read_text().startswith(f"# {speed.machine(1)}\n")
        table = pd.read_csv(tmp_path / f"{part}-1.csv", comment="#")
        assert len(table) == n_rows and (table.median_ms > 0).all() and (table.ratio[table.what == "TD3"] == 1).all()
    assert not list(tmp_path.glob("*.partial"))


def test_phases(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["phases", "--shapes", "RecSim", "--n-actors", "2", "--n-steps", "4"])
    phases.main()
    rows = {" ".join(line.split()[:-2]) for line in capsys.readouterr().out.splitlines()}
    assert rows >= {"critic: loss", "surrogates: loss", "actor: loss", *phases.PHASES}


def test_flops():
    """Those of TD3, by hand, for one actor with RecSim's shapes."""
    actor = 30 * 64 + 64 * 32 + 32 * 32 + 32 * 16 + 16 * 45
    critic = 75 * 64 + 64 * 32 + 32 * 1
    # What is backpropagated ends at the first layer, or at the critic's action; the actor's loss leaves the critic alone
    critic_loss = actor + 2 * critic + 2 * (3 * critic - 75 * 64)
    actor_loss = (3 * actor - 30 * 64) + 2 * critic
    model = speed.make(SAVO, speed.SHAPES["RecSim"], own_policy=True, n_actors=1)
    assert phases.flops(model) == 2 * 256 * (critic_loss + actor_loss / 2)
