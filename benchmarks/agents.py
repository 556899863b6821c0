"""
Train the small agents in the folder ``agents``, which the RL Zoo's ``enjoy`` shows, and evaluate them.

    python -m benchmarks.agents
    python -m benchmarks.agents --tasks LandscapePeaks2D-v0 MiningExpedition-v0
    python -m rl_zoo3.enjoy --algo savo --env LandscapePeaks2D-v0 -f agents --no-render

The RL Zoo trains each task in a process of its own, on one thread, with the hyperparameters of ``hyperparams/savo.yml`` except
for :data:`TASKS`: the budgets and the networks are small. ``agents/savo/TASK_1/TASK.zip`` keeps the networks, without the
state of the optimizers. ``benchmarks/results/agents.csv`` has a row per task: mean and standard deviation of the return over
deterministic episodes, the mean return of random actions, and the command that trains. Finished tasks are skipped.

These tasks are left out: ``…Restricted-v5``, which differ from ``-v4`` in their MuJoCo models only; ``RecSim100k-v0`` and
``RecSim500k-v0``, since a zip holds the embeddings of all items, 18 and 90 MB; ``RecSimData-v0``, which needs a data set whose
license does not allow us to ship it.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.type_aliases import PolicyPredictor
from stable_baselines3.common.vec_env import VecEnv

from benchmarks.command_line import output_file, output_folder
from benchmarks.random_policy import RandomPolicy
from benchmarks.recording import write_durably
from sb3_savo import SAVO
from sb3_savo.envs.registration import LANDSCAPES

ROOT = Path(__file__).parent.parent
AGENTS, SCORES = ROOT / "agents", ROOT / "benchmarks" / "results" / "agents.csv"
SEED = 0
# The evaluation's first environment has this seed, and no environment of the training does
EVALUATION_SEED = 10_000
MAX_ENVS = 20


class Budget(NamedTuple):
    """How an agent is trained and evaluated."""

    steps: int
    """Environment steps."""
    episodes: int
    """Episodes of the evaluation."""
    hyperparameters: tuple[str, ...] = ()
    """What replaces values of ``hyperparams/savo.yml``, as the RL Zoo's ``--hyperparams`` takes it."""


LANDSCAPE = Budget(10_000, episodes=1_000)
SMALL = "policy_kwargs:dict(net_arch=[64,64])"
# With so few updates, target networks of the default tau would see no further ahead than about 50 steps
QUICK = ("tau:0.02", SMALL)
PENDULUM = Budget(
    60_000, 10, ("n_envs:1", "train_freq:2", "gradient_steps:1", "exploration_noise_scale:[1.0,0.1,60000]", *QUICK)
)
LOCOMOTION = Budget(170_000, 10, ("exploration_noise_scale:[1.0,0.1,170000]", *QUICK))
# An update per 20 transitions. The schedules of the exploration shrink with the budget.
ITEMS = (
    "buffer_size:100000",
    "exploration_noise_scale:[1.0,0.01,100000]",
    "selection_epsilon:[1.0,0.01,20000]",
    "train_freq:20",
)

# In the order of their cost
TASKS: dict[str, Budget] = {
    **{f"Landscape{name}-v0": LANDSCAPE for name in (*LANDSCAPES, "Items")},
    "MiningExpedition-v0": Budget(100_000, 100, (*ITEMS, "gradient_steps:20")),
    "RecSim-v0": Budget(100_000, 100, (*ITEMS, "gradient_steps:16")),
    "InvertedPendulumRestricted-v4": PENDULUM,
    "InvertedDoublePendulumRestricted-v4": PENDULUM,
    "HopperRestricted-v4": LOCOMOTION,
    "Walker2dRestricted-v4": LOCOMOTION,
    "HalfCheetahRestricted-v4": LOCOMOTION,
    "AntRestricted-v4": LOCOMOTION,
}


def command(task: str) -> list[str]:
    """
    :param task: Name of a task
    :return: The command that trains its agent
    """
    budget = TASKS[task]
    options = ["--n-timesteps", str(budget.steps), "--seed", str(SEED), "--eval-freq", "-1"]
    quiet = ["--num-threads", "1", "--verbose", "0", "--log-folder", "agents"]
    changes = ["--hyperparams", *budget.hyperparameters] if budget.hyperparameters else []
    return ["python", "-m", "rl_zoo3.train", "--algo", "savo", "--env", task, *options, *quiet, *changes]


def path_of(task: str, folder: Path) -> Path:
    """
    :param task: Name of a task
    :param folder: The folder of all agents
    :return: The zip of its trained agent
    """
    return folder / "savo" / f"{task}_1" / f"{task}.zip"


def train(task: str, folder: Path) -> None:
    """
    Train in a process of its own, and keep the RL Zoo's files that ``enjoy`` reads.

    :param task: Name of a task
    :param folder: The folder of all agents
    :raises subprocess.CalledProcessError: if the training fails
    """
    with tempfile.TemporaryDirectory() as work:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        words = [sys.executable, *command(task)[1:]]
        subprocess.run(words, cwd=work, env=environment, stdout=subprocess.DEVNULL, check=True)
        trained = Path(work) / "agents" / "savo" / f"{task}_1"
        kept = path_of(task, folder).parent
        (kept / task).mkdir(parents=True, exist_ok=True)
        for name in ("args.yml", "config.yml"):
            shutil.copy(trained / task / name, kept / task / name)
        model = SAVO.load(trained / f"{task}.zip", device="cpu")
    for network in model.policy.learners.values():
        network.optimizer.state.clear()
    model.save(path_of(task, folder))


def load(task: str, folder: Path = AGENTS) -> SAVO:
    """
    :param task: Name of a task
    :param folder: The folder of all agents
    :return: Its trained agent
    """
    return SAVO.load(path_of(task, folder), device="cpu")


def returns(policy: PolicyPredictor, env: VecEnv, episodes: int) -> np.ndarray:
    """
    :param policy: An agent
    :param env: Environments
    :param episodes: Number of episodes
    :return: The returns of deterministic episodes, (episodes,)
    """
    env.seed(EVALUATION_SEED)
    return np.array(evaluate_policy(policy, env, episodes, return_episode_rewards=True, warn=False)[0])


def assess(task: str, model: SAVO, episodes: int) -> dict[str, Any]:
    """
    :param task: Name of a task
    :param model: Its trained agent
    :param episodes: Number of episodes
    :return: The row of the table of scores
    """
    env = make_vec_env(task, min(episodes, MAX_ENVS))
    scores, random = returns(model, env, episodes), returns(RandomPolicy(env.action_space), env, episodes)
    env.close()
    return {
        "task": task,
        "steps": model.num_timesteps,
        "updates": model._n_updates,
        "seed": SEED,
        "episodes": episodes,
        "return_mean": scores.mean(),
        "return_sd": scores.std(ddof=1),
        "random_mean": random.mean(),
        "command": shlex.join(command(task)),
    }


def read_scores(path: Path) -> pd.DataFrame:
    """
    :param path: File of the scores
    :return: Its table, without a row if there is no such file
    """
    return pd.read_csv(path) if path.exists() else pd.DataFrame({"task": []})


def main(arguments: Sequence[str] | None = None) -> None:
    """
    :param arguments: The command line; None for that of this process
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS), metavar="TASK", help="a part of them")
    parser.add_argument("--folder", type=output_folder, default=str(AGENTS), help="folder of the agents")
    parser.add_argument("--scores", type=output_file, default=str(SCORES), help="file of their scores")
    args = parser.parse_args(arguments)
    for task in args.tasks:
        if task in set(read_scores(args.scores).task) and path_of(task, args.folder).is_file():
            print(f"{task}: finished")
            continue
        train(task, args.folder)
        row = assess(task, load(task, args.folder), TASKS[task].episodes)
        print(f"{task}: {row['return_mean']:.2f} ± {row['return_sd']:.2f}, random {row['random_mean']:.2f}", flush=True)
        others = read_scores(args.scores)
        rows = pd.concat([others, pd.DataFrame([row])]) if len(others) else pd.DataFrame([row])
        write_durably(args.scores, rows.to_csv(index=False, float_format="%.4f"))


if __name__ == "__main__":
    main()
