"""Runs of the experiments: some at a time, one thread each, and one CSV file per run."""

import argparse
import multiprocessing
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv

RESULTS = Path(__file__).parent / "results"


class RecordEvaluations(BaseCallback):
    """
    Evaluate regularly, and append the mean return and length of the episodes to a CSV file.

    :param path: The CSV file
    :param env: Environments of the evaluations
    :param every: Environment steps from one evaluation to the next
    :param n_episodes: Episodes per evaluation
    """

    def __init__(self, path: Path, env: VecEnv, every: int, n_episodes: int):
        super().__init__()
        self.path = path
        self.env = env
        self.every = every
        self.n_episodes = n_episodes
        self.n_evaluations = 0

    def _on_training_start(self) -> None:
        self.path.write_text("timestep,mean_return,mean_length\n")

    def _on_step(self) -> bool:
        if self.num_timesteps // self.every > self.n_evaluations:
            self.n_evaluations += 1
            returns, lengths = evaluate_policy(self.model, self.env, self.n_episodes, return_episode_rewards=True)
            assert isinstance(returns, list) and isinstance(lengths, list)
            with self.path.open("a") as file:
                file.write(f"{self.num_timesteps},{sum(returns) / len(returns):.3f},{sum(lengths) / len(lengths):.2f}\n")
        return True


def train(make_model: Callable[[], BaseAlgorithm], env: VecEnv, n_steps: int, path: Path, every: int, n_episodes: int) -> None:
    """
    Train, record and save one run. Do nothing if its CSV file exists.

    :param make_model: Makes the untrained model
    :param env: Environments of the evaluations
    :param n_steps: Environment steps
    :param path: The CSV file, which ends in ``.partial`` until the run is complete; the trained agent is a zip beside it
    :param every: Environment steps from one evaluation to the next
    :param n_episodes: Episodes per evaluation
    """
    if path.exists():
        return
    th.set_num_threads(1)
    unfinished = path.with_suffix(".partial")
    model = make_model().learn(n_steps, callback=RecordEvaluations(unfinished, env, every, n_episodes))
    model.save(path.with_suffix(".zip"))
    os.replace(unfinished, path)


def run_all(function: Callable[..., None], runs: Sequence[tuple], jobs: int) -> None:
    """
    Do all runs, every one in a fresh process.

    :param function: Does one run
    :param runs: The arguments of the function, for every run
    :param jobs: Number of runs at a time
    """
    with multiprocessing.get_context("spawn").Pool(jobs, maxtasksperchild=1) as pool:
        pool.starmap(function, runs, chunksize=1)


def add_arguments(
    parser: argparse.ArgumentParser,
    results: str,
    seeds: int,
    n_steps: int,
    methods: Sequence[str],
    unit: str = "environment steps",
) -> None:
    """
    Add the arguments that the experiments with runs share.

    :param parser: The command line
    :param results: Name of the results folder
    :param seeds: Default number of runs per method
    :param n_steps: Default number of steps per run
    :param methods: Names of the methods
    :param unit: Meaning of a step
    """
    parser.add_argument("--seeds", type=int, default=seeds, help="runs per method")
    parser.add_argument("--n-steps", type=int, default=n_steps, help=f"{unit} per run")
    parser.add_argument("--methods", nargs="+", choices=methods, default=methods)
    parser.add_argument("--jobs", type=int, default=2, help="number of runs at a time, one thread each")
    parser.add_argument("--folder", type=Path, default=RESULTS / results, help="results folder")
    parser.add_argument("--report", action="store_true", help="only print the tables of the finished runs")
