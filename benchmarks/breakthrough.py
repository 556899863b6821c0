"""
When does a run break through? SAVO, one actor of SAVO and SB3's TD3 on the restricted inverted pendulum.

A single actor saturates at a return of 50-60 (of 1000) for long. Every method gets the same noise, networks, batches, number
of updates and seeds; the table says at which step each run first evaluates above 900, and its final return.

    python -m benchmarks.breakthrough            # train what is missing, then print the table
    python -m benchmarks.breakthrough --report   # only print the table

Each run is one thread and one CSV file, which grows with every evaluation; finished runs are skipped, so the command can be
stopped and run again.
"""

import argparse
import multiprocessing
import os
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pandas as pd
import torch as th
from stable_baselines3 import TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import OrnsteinUhlenbeckActionNoise

from sb3_savo import SAVO

ENV_ID = "InvertedPendulumRestricted-v4"
THRESHOLD = 900.0
SHARED: dict[str, Any] = {
    "learning_rate": 3e-4,
    "learning_starts": 10_000,
    "train_freq": 2,
    "gradient_steps": 1,
    "policy_kwargs": {"net_arch": [256, 256]},
}
METHODS = ("savo", "savo_1_actor", "td3")


def make_model(method: str, seed: int) -> BaseAlgorithm:
    """
    :param method: One of :data:`METHODS`
    :param seed: Seed of the run
    :return: An untrained model; all explore by the same Ornstein-Uhlenbeck process at constant scale
    """
    kwargs = {**SHARED, "seed": seed, "device": "cpu"}
    if method == "td3":
        noise = OrnsteinUhlenbeckActionNoise(np.zeros(1), 0.2 * np.ones(1), theta=0.15, dt=1.0)
        return TD3("MlpPolicy", ENV_ID, action_noise=noise, **kwargs)
    return SAVO("MlpPolicy", ENV_ID, n_actors=3 if method == "savo" else 1, exploration_noise_scale=1.0, **kwargs)


class RecordEvaluations(BaseCallback):
    """
    Append the mean return of some evaluation episodes to a CSV file.

    :param path: The file
    :param every: Steps from one evaluation to the next
    :param n_episodes: Episodes per evaluation
    """

    def __init__(self, path: Path, every: int = 2_000, n_episodes: int = 5):
        super().__init__()
        self.path = path
        self.every = every
        self.n_episodes = n_episodes
        self.env = Monitor(gym.make(ENV_ID))

    def _on_training_start(self) -> None:
        self.path.write_text("timestep,mean_return\n")
        self.env.reset(seed=10_000 + (self.model.seed or 0))

    def _on_step(self) -> bool:
        if self.num_timesteps % self.every == 0:
            mean_return, _ = evaluate_policy(self.model, self.env, self.n_episodes)
            with self.path.open("a") as file:
                file.write(f"{self.num_timesteps},{mean_return:.1f}\n")
        return True


def run(method: str, seed: int, n_steps: int, folder: Path) -> None:
    """
    Train and record one run, unless it was finished before.

    :param method: One of :data:`METHODS`
    :param seed: Seed of the run
    :param n_steps: Environment steps
    :param folder: Where the results are
    """
    path = folder / f"{method}-{seed}.csv"
    if path.exists():
        return
    th.set_num_threads(1)
    unfinished = path.with_suffix(".partial")
    make_model(method, seed).learn(n_steps, callback=RecordEvaluations(unfinished))
    os.replace(unfinished, path)


def report(folder: Path, seeds: int) -> None:
    """
    Print one row per run, and per method how many broke through and when.

    :param folder: Where the results are
    :param seeds: Number of runs that each method should have
    """
    rows = []
    for method in METHODS:
        for seed in range(seeds):
            path = folder / f"{method}-{seed}.csv"
            if not path.exists():
                print(f"missing: {method}, seed {seed}")
                continue
            returns = pd.read_csv(path)
            above = returns.timestep[returns.mean_return > THRESHOLD]
            first = float(above.iloc[0]) if len(above) else np.inf
            rows.append({"method": method, "seed": seed, "first_above_900": first, "final": returns.mean_return.iloc[-1]})
    table = pd.DataFrame(rows)
    print(table.to_string(index=False))
    summary = table.groupby("method", sort=False).agg(
        runs=("seed", "count"),
        broke_through=("first_above_900", lambda steps: int(np.isfinite(steps).sum())),
        median_step=("first_above_900", "median"),
        mean_final=("final", "mean"),
        median_final=("final", "median"),
    )
    print(summary.to_string())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="runs per method")
    parser.add_argument("--n-steps", type=int, default=100_000, help="environment steps per run")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent / "results" / "breakthrough")
    parser.add_argument("--report", action="store_true", help="only print the table")
    args = parser.parse_args()

    args.folder.mkdir(parents=True, exist_ok=True)
    if not args.report:
        jobs = [(method, seed, args.n_steps, args.folder) for seed in range(args.seeds) for method in args.methods]
        with multiprocessing.get_context("spawn").Pool(args.jobs, maxtasksperchild=1) as pool:
            pool.starmap(run, jobs, chunksize=1)
    report(args.folder, args.seeds)


if __name__ == "__main__":
    main()
