"""What the experiments share: runs of one thread each, some at a time, each recorded in one CSV file that grows as it goes."""

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
    Append the mean return and length of some evaluation episodes to a CSV file.

    :param path: The file
    :param env: Environments to evaluate in
    :param every: Steps from one evaluation to the next
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
    Train, record and save one run, unless it was finished before.

    :param make_model: Makes the untrained model
    :param env: Environments to evaluate in
    :param n_steps: Environment steps
    :param path: The CSV file, which ends in ``.partial`` while the run goes on; the trained agent is beside it, as a zip
    :param every: Steps from one evaluation to the next
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
    :param function: Does one run
    :param runs: The arguments of each
    :param jobs: Runs at a time
    """
    with multiprocessing.get_context("spawn").Pool(jobs, maxtasksperchild=1) as pool:
        pool.starmap(function, runs, chunksize=1)


def add_arguments(parser: argparse.ArgumentParser, results: str, seeds: int, n_steps: int, methods: Sequence[str]) -> None:
    """
    :param parser: The command line of an experiment, which gets the arguments that all have
    :param results: Name of the folder of its results
    :param seeds: Runs per method
    :param n_steps: Environment steps per run
    :param methods: The methods
    """
    parser.add_argument("--seeds", type=int, default=seeds, help="runs per method")
    parser.add_argument("--n-steps", type=int, default=n_steps, help="environment steps per run")
    parser.add_argument("--methods", nargs="+", choices=methods, default=methods)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--folder", type=Path, default=RESULTS / results)
    parser.add_argument("--report", action="store_true", help="only print the table")
