"""
What does the README's first example earn on Pendulum?

    python -m benchmarks.pendulum

It learns with several seeds. The table has one row per seed: mean and standard deviation of the return over ten deterministic
episodes, as the example prints them, and the processor's minutes on one thread. The last row is of random actions.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch as th
from stable_baselines3.common.evaluation import evaluate_policy

from benchmarks.command_line import at_least, output_file
from benchmarks.random_policy import RandomPolicy
from benchmarks.recording import write_durably
from sb3_savo import SAVO

ENV_ID, N_STEPS, N_EPISODES = "Pendulum-v1", 8_000, 10
LEARNING_RATE = 1e-3
ARGUMENTS: dict[str, Any] = {"learning_starts": 500, "gamma": 0.98, "policy_kwargs": {"net_arch": [64, 64]}}
RESULTS = Path(__file__).parent / "results" / "pendulum.csv"


def learn(seed: int) -> list[dict[str, Any]]:
    """
    :param seed: Seed of the model and of its environment
    :return: The rows of this seed; for the first seed, with that of random actions
    """
    start = time.process_time()
    model = SAVO("MlpPolicy", ENV_ID, LEARNING_RATE, seed=seed, device="cpu", **ARGUMENTS).learn(N_STEPS)
    minutes = (time.process_time() - start) / 60
    env = model.get_env()
    assert env is not None
    mean, sd = evaluate_policy(model, env, n_eval_episodes=N_EPISODES)
    rows = [{"policy": "SAVO", "seed": seed, "return_mean": mean, "return_sd": sd, "minutes": minutes}]
    if seed == 0:
        mean, sd = evaluate_policy(RandomPolicy(env.action_space), env, n_eval_episodes=100)
        rows.append({"policy": "random", "seed": seed, "return_mean": mean, "return_sd": sd, "minutes": np.nan})
    return rows


def in_words(table: pd.DataFrame) -> str:
    """
    :param table: The rows of all seeds, and that of random actions
    :return: The same in one sentence, as the README has it
    """
    texts = {policy: [f"{row.return_mean:,.0f}" for row in rows.itertuples()] for policy, rows in table.groupby("policy")}
    (first, *others), (random,) = texts["SAVO"], texts["random"]
    sd = table.return_sd[(table.policy == "SAVO") & (table.seed == 0)].item()
    return f"{first} ± {sd:.0f} with seed 0, {' and '.join(others)} with other seeds, {random} by random actions"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=at_least(1), default=3, help="number of seeds")
    parser.add_argument("-o", "--output", type=output_file, default=str(RESULTS), help="file of the table")
    args = parser.parse_args()
    th.set_num_threads(1)
    table = pd.DataFrame([row for seed in range(args.seeds) for row in learn(seed)]).sort_values("policy", ignore_index=True)
    table = table.round(2)  # as it is stored
    print(table.to_string(index=False))
    print(in_words(table))
    write_durably(args.output, table.to_csv(index=False))


if __name__ == "__main__":
    main()
