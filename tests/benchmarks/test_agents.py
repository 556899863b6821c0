"""The trained agents: each file is small, loads, and earns what the table of scores says."""

import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml
from stable_baselines3.common.env_util import make_vec_env

from benchmarks import agents
from sb3_savo.envs.registration import environments

pytestmark = pytest.mark.skipif(not agents.AGENTS.exists(), reason="not a checkout")

SCORES = pd.read_csv(agents.SCORES, index_col="task") if agents.SCORES.exists() else pd.DataFrame()
# One episode of these takes a few milliseconds
CHEAP = [task for task in SCORES.index if not task.endswith("Restricted-v4")]
LEFT_OUT = {"RecSim100k-v0", "RecSim500k-v0", "RecSimData-v0"}


def test_every_task_has_an_agent_or_is_left_out():
    others = {name for name in environments() if name.endswith("Restricted-v5")} | LEFT_OUT
    assert {*agents.TASKS} == set(environments()) - others
    assert all(name in agents.__doc__ for name in LEFT_OUT)


def test_every_score_has_an_agent():
    assert {path.stem for path in agents.AGENTS.rglob("*.zip")} == set(SCORES.index)
    assert CHEAP


def test_agents_are_small():
    sizes = {path.stem: path.stat().st_size for path in agents.AGENTS.rglob("*.zip")}
    # Mining Expedition has the networks of hyperparams/savo.yml, and a zip of RecSim holds the embeddings of 10,000 items
    assert {task for task, size in sizes.items() if size > 1e6} <= {"MiningExpedition-v0", "RecSim-v0"}
    assert sum(path.stat().st_size for path in agents.AGENTS.rglob("*.*")) < 15e6


@pytest.mark.parametrize("task", SCORES.index)
def test_agents_load_without_the_state_of_optimizers(task):
    model = agents.load(task)
    assert model.num_timesteps == SCORES.steps[task] >= agents.TASKS[task].steps
    assert model._n_updates == SCORES.updates[task]
    assert all(len(network.optimizer.state) == 0 for network in model.policy.learners.values())
    arguments = (agents.AGENTS / "savo" / f"{task}_1" / task / "args.yml").read_text()
    assert dict(yaml.unsafe_load(arguments))["n_timesteps"] == agents.TASKS[task].steps


@pytest.mark.parametrize("task", CHEAP)
def test_agents_earn_their_scores(task):
    n_episodes = 200 if task.startswith("Landscape") else 10
    env = make_vec_env(task, 10)
    scores = agents.returns(agents.load(task), env, n_episodes)
    error = SCORES.return_sd[task] / np.sqrt(n_episodes)
    assert abs(scores.mean() - SCORES.return_mean[task]) < 4 * error + 0.01


@pytest.mark.parametrize("task", SCORES.index)
def test_the_stored_command_is_that_of_the_task(task):
    assert SCORES.command[task] == agents.shlex.join(agents.command(task))


@pytest.mark.expensive
def test_command(monkeypatch, tmp_path, capsys):
    budget = agents.Budget(64, 4, ("learning_starts:32", "gradient_steps:1"))
    monkeypatch.setitem(agents.TASKS, "LandscapePeaks1D-v0", budget)
    arguments = ["--tasks", "LandscapePeaks1D-v0", "--folder", str(tmp_path), "--scores", str(tmp_path / "scores.csv")]
    agents.main(arguments)
    assert re.match(r"LandscapePeaks1D-v0: 0\.\d\d ± 0\.\d\d, random 0\.\d\d\n", capsys.readouterr().out)
    text = (tmp_path / "scores.csv").read_text()
    agents.main(arguments)  # finished
    assert (tmp_path / "scores.csv").read_text() == text and not capsys.readouterr().out

    enjoy = [sys.executable, "-m", "rl_zoo3.enjoy", "--algo", "savo", "--env", "LandscapePeaks1D-v0", "-f", str(tmp_path)]
    done = subprocess.run([*enjoy, "--no-render", "-n", "5"], capture_output=True, text=True, check=True)
    assert "5 Episodes" in done.stdout
