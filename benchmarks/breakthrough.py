"""
When does a run break through on the restricted inverted pendulum: SAVO with each of its surrogates, SAVO with one actor, and
SB3's TD3?

A single actor stays at a return of 50-60 of 1000 for a long time. All methods have the same noise, networks, batches, number
of updates and seeds. The table shows the step at which each run first evaluates above 900, and its final return. Unlike TD3,
SAVO has layer normalization in its actor and no target smoothing; two variants of SAVO switch one of the two each.

    python -m benchmarks.breakthrough            # train what is missing, then print the table
    python -m benchmarks.breakthrough --report   # only print the table

Finished runs are skipped, so the command can be stopped and run again.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from stable_baselines3 import TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import OrnsteinUhlenbeckActionNoise

from benchmarks.runs import add_arguments, run_all, train
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
SAVOS: dict[str, dict[str, Any]] = {
    "savo": {},
    "savo_1_actor": {"n_actors": 1},
    "savo_1_actor_without_layer_norm": {"n_actors": 1, "policy_kwargs": {"net_arch": [256, 256], "layer_norm": False}},
    "savo_1_actor_with_smoothing": {"n_actors": 1, "target_policy_noise": 0.2},
    "savo_exact": {"surrogate": "exact"},
    "savo_hybrid": {"surrogate": "hybrid"},
    "savo_medium": {"precision": "medium"},
}
METHODS = (*SAVOS, "td3")


def make_model(method: str, seed: int) -> BaseAlgorithm:
    """
    :param method: One of :data:`METHODS`
    :param seed: Seed of the run
    :return: An untrained model; every method explores with the same Ornstein-Uhlenbeck noise at a constant scale
    """
    kwargs = {**SHARED, "seed": seed, "device": "cpu"}
    if method == "td3":
        noise = OrnsteinUhlenbeckActionNoise(np.zeros(1), 0.2 * np.ones(1), theta=0.15, dt=1.0)
        return TD3("MlpPolicy", ENV_ID, action_noise=noise, **kwargs)
    return SAVO("MlpPolicy", ENV_ID, exploration_noise_scale=1.0, **{**kwargs, **SAVOS[method]})


def run(method: str, seed: int, n_steps: int, folder: Path) -> None:
    """
    :param method: One of :data:`METHODS`
    :param seed: Seed of the run
    :param n_steps: Environment steps
    :param folder: Results folder
    """
    env = make_vec_env(ENV_ID, seed=10_000 + seed)
    train(lambda: make_model(method, seed), env, n_steps, folder / f"{method}-{seed}.csv", every=2_000, n_episodes=5)


def report(folder: Path, seeds: int) -> None:
    """
    Print one row per run, and one row per method: how many of its runs broke through, and when.

    :param folder: Results folder
    :param seeds: Expected number of runs per method
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
    add_arguments(parser, "breakthrough", seeds=5, n_steps=100_000, methods=METHODS)
    args = parser.parse_args()

    args.folder.mkdir(parents=True, exist_ok=True)
    if not args.report:
        runs = [(method, seed, args.n_steps, args.folder) for seed in range(args.seeds) for method in args.methods]
        run_all(run, runs, args.jobs)
    report(args.folder, args.seeds)


if __name__ == "__main__":
    main()
