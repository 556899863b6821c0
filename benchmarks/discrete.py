"""
Does SAVO learn in discrete spaces with embeddings, and do three actors find more than one?

All runs use the hyperparameters of ``hyperparams/savo.yml`` (the paper's Table 3) with a smaller budget: 300,000 steps instead
of 10M, and one update per 20 transitions (Table 3: one per 100 and 50). Table 3's schedules of noise and random items would
leave 85 % of the items random to the end in RecSim, so there the schedules shrink with the budget. The methods differ only in
the number of actors or in the objective of the later actors. Evaluations have no noise and no random items.

    python -m benchmarks.discrete            # train what is missing, then print the tables
    python -m benchmarks.discrete --report   # only print the tables

Finished runs are skipped, so the command can be stopped and run again.
"""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv

from benchmarks.random_policy import RandomPolicy
from benchmarks.runs import add_arguments, run_all, train
from benchmarks.suite import load_hyperparameters
from sb3_savo import SAVO
from sb3_savo.envs.recsim import RecSimVecEnv

ENV_IDS = ("MiningExpedition-v0", "RecSim-v0")
METHODS: dict[str, dict[str, Any]] = {
    "savo": {"n_actors": 3},
    "savo_1_actor": {"n_actors": 1},
    "savo_hybrid": {"n_actors": 3, "surrogate": "hybrid"},
}
N_EVALUATIONS = 20
EPISODES = 200
HYPERPARAMETERS = {env_id: load_hyperparameters("savo", env_id) for env_id in ENV_IDS}


def make_env(env_id: str, seed: int) -> VecEnv:
    """
    :param env_id: One of :data:`ENV_IDS`
    :param seed: Seed of the environments
    :return: As many environments as Table 3 uses
    """
    n_envs = HYPERPARAMETERS[env_id]["n_envs"]
    if env_id == "RecSim-v0":
        env = RecSimVecEnv(n_envs)
        env.seed(seed)
        return env
    return make_vec_env(env_id, n_envs=n_envs, seed=seed)


def make_model(env_id: str, method: str, seed: int, n_steps: int) -> BaseAlgorithm:
    """
    :param env_id: One of :data:`ENV_IDS`
    :param method: One of :data:`METHODS`
    :param seed: Seed of the run
    :param n_steps: Environment steps of the run
    :return: An untrained model
    """
    hyperparameters: dict[str, Any] = {**HYPERPARAMETERS[env_id]}
    share = n_steps / hyperparameters.pop("n_timesteps")
    if env_id == "RecSim-v0":
        for name in ("exploration_noise_scale", "selection_epsilon"):
            initial, final, steps = hyperparameters[name]
            hyperparameters[name] = (initial, final, round(share * steps))
    n_envs = hyperparameters.pop("n_envs")
    hyperparameters |= {
        **METHODS[method],
        "buffer_size": n_steps,
        "train_freq": 20,
        "gradient_steps": n_envs,
    }
    return SAVO(env=make_env(env_id, seed), seed=seed, device="cpu", **hyperparameters)


def run(env_id: str, method: str, seed: int, n_steps: int, folder: Path) -> None:
    """
    :param env_id: One of :data:`ENV_IDS`
    :param method: One of :data:`METHODS`
    :param seed: Seed of the run
    :param n_steps: Environment steps
    :param folder: Results folder
    """
    env = make_env(env_id, seed=10_000 + 100 * seed)
    path = folder / f"{env_id}-{method}-{seed}.csv"
    every = n_steps // N_EVALUATIONS
    train(lambda: make_model(env_id, method, seed, n_steps), env, n_steps, path, every, EPISODES)


def report(env_id: str, folder: Path, methods: list[str], seeds: int) -> None:
    """
    Print the mean return of the random policy, one row per run, and one row per method, which is the mean of its runs. The
    columns are the last return, the mean of the last quarter of the evaluations, the mean of all, and the best.

    :param env_id: One of :data:`ENV_IDS`
    :param folder: Results folder
    :param methods: Some of :data:`METHODS`
    :param seeds: Expected number of runs per method
    """
    env = make_env(env_id, seed=20_000)
    random_return, _ = evaluate_policy(RandomPolicy(env.action_space), env, 1_000, warn=False)  # type: ignore[arg-type]
    print(f"\n{env_id}: the random policy earns {random_return:.2f}")
    rows = []
    for method in methods:
        for seed in range(seeds):
            path = folder / f"{env_id}-{method}-{seed}.csv"
            if not path.exists():
                print(f"missing: {method}, seed {seed}")
                continue
            returns = pd.read_csv(path).mean_return
            last_quarter = returns.tail(len(returns) // 4).mean()
            row = {"last": returns.iloc[-1], "last_quarter": last_quarter, "all": returns.mean(), "best": returns.max()}
            rows.append({"method": method, "seed": seed, **row})
    if rows:
        table = pd.DataFrame(rows)
        print(table.round(2).to_string(index=False))
        print(table.drop(columns="seed").groupby("method", sort=False).mean().round(2).to_string())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", choices=ENV_IDS, default=ENV_IDS)
    add_arguments(parser, "discrete", seeds=3, n_steps=300_000, methods=list(METHODS))
    args = parser.parse_args()

    args.folder.mkdir(parents=True, exist_ok=True)
    if not args.report:
        runs = [
            (env_id, method, seed, args.n_steps, args.folder)
            for seed in range(args.seeds)
            for method in args.methods
            for env_id in args.envs
        ]
        run_all(run, runs, args.jobs)
    for env_id in args.envs:
        report(env_id, args.folder, args.methods, args.seeds)


if __name__ == "__main__":
    main()
