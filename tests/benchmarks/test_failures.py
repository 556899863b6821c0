"""Training through failures of the environments: what is counted, and that a bad result is one."""

import argparse
import sys

import numpy as np
import pandas as pd
import pytest

from benchmarks import failing_env, failures
from benchmarks.failing_env import EPISODE_STEPS, KINDS, FailingEnv, Failure

ARGUMENTS = argparse.Namespace(n_envs=2, steps_between=80, seed=0)


def run(monkeypatch, tmp_path):
    """:return: The exit code and the table, for both agents with two failures each"""
    arguments = ["--steps", "240", "--steps-between", "20", "--n-envs", "2", "--file", str(tmp_path / "failures.csv")]
    monkeypatch.setattr(sys, "argv", ["failures", *arguments])
    with pytest.raises(SystemExit) as ended:
        failures.main()
    return ended.value.code, pd.read_csv(tmp_path / "failures.csv")


@pytest.fixture
def forks(monkeypatch):
    """Workers that start at once, and failures that come soon and end at once."""
    monkeypatch.setattr(failures, "EPISODE_STEPS", 5)
    monkeypatch.setattr(failing_env, "EPISODE_STEPS", 5)
    make = failures.WatchedSubprocVecEnv
    monkeypatch.setattr(failures, "WatchedSubprocVecEnv", lambda *args, **kwargs: make(*args, start_method="fork", **kwargs))
    monkeypatch.setattr(failures.Trial, "kinds", lambda self: iter(["nan_reward", "killed"] * 100))


def test_command(forks, monkeypatch, tmp_path, capsys):
    code, table = run(monkeypatch, tmp_path)
    assert code == 0 and table.kind.tolist() == ["nan_reward", "killed"]
    assert table.failures.min() >= 2 and (table.named == table.failures).all() and (table.lost_saves == 0).all()
    total = int(capsys.readouterr().out.splitlines()[-1].split()[0].replace(",", ""))
    assert table.transitions.sum() <= total and total >= 240


def test_an_unnamed_failure_is_counted(forks, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(failures.KINDS, "nan_reward", "never said")
    code, table = run(monkeypatch, tmp_path)
    assert code == 1 and table.named.tolist() == [0, table.failures[1]]
    assert "nan_reward of environment" in capsys.readouterr().err


def test_a_lost_save_is_counted(forks, monkeypatch, tmp_path, capsys):
    """A save of other weights loads, but predicts something else; training begins anew."""
    write = failures.Save.write

    def write_and_forget(self, model):
        write(self, model)
        self.predicted = self.predicted + 1

    monkeypatch.setattr(failures.Save, "write", write_and_forget)
    code, table = run(monkeypatch, tmp_path)
    assert code == 1 and (table.lost_saves == table.failures).all() and (table.named == table.failures).all()


def test_a_save_that_does_not_load(tmp_path, capsys):
    save = failures.Save(tmp_path, "nothing")
    assert not save.is_intact()
    assert "does not load: FileNotFoundError" in capsys.readouterr().err


@pytest.mark.parametrize("has_items", [True, False])
def test_every_kind_occurs(has_items, tmp_path):
    trial = failures.Trial(has_items, ARGUMENTS, tmp_path)
    expected = set(KINDS) if has_items else set(KINDS) - failures.NO_MASKS
    kinds = trial.kinds()
    for _ in range(2):
        assert {next(kinds) for _ in expected} == expected


@pytest.mark.parametrize("kind", KINDS)
def test_an_environment_is_healthy_until_it_fails(kind):
    env = FailingEnv(has_items=True, failure=Failure(kind, 2 * EPISODE_STEPS))
    env.reset(seed=0)
    for _ in range(2 * EPISODE_STEPS):
        observation, reward, _, is_over, _ = env.step(np.flatnonzero(env.action_masks())[0])
        assert observation in env.observation_space and np.isfinite(reward)
        if is_over:
            env.reset()


def test_an_environment_refuses_items_that_are_not_allowed():
    env = FailingEnv(has_items=True)
    env.reset(seed=0)
    env.step(3)
    with pytest.raises(ValueError, match="The item 3 is not allowed"):
        env.step(3)
