"""
How fast are the parts around learning: simulated users, and the search for the nearest items?

    python -m benchmarks.components
    python -m benchmarks.components --parts nearest --n-items 10000

recsim: one step of 16 users in ``RecSimVecEnv``, against SB3's ``DummyVecEnv`` of the scalar environment. nearest: our exact
search for the nearest items and our approximate index with its recall, against faiss's flat index, for 48 and 768 queries.

Every part is written to a CSV file of its own.
"""

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

from benchmarks.command_line import at_least
from benchmarks.timing import add_timing_arguments, medians, run_parts, time_interleaved
from sb3_savo.actions.nearest import ApproximateNearestItems, NearestItems
from sb3_savo.envs.recsim import RecSimVecEnv
from sb3_savo.envs.recsim.users import make_catalogue


def recsim(args: argparse.Namespace) -> pd.DataFrame:
    """
    :param args: The command line
    :return: One row: milliseconds per step of 16 environments, and their ratio
    """

    def step_through(env: VecEnv) -> None:
        for actions in all_actions:
            env.step(actions)

    n_envs, n_steps = 16, 100
    all_actions = np.random.default_rng(0).integers(10_000, size=(n_steps, n_envs))
    scalar, batched = make_vec_env("RecSim-v0", n_envs=n_envs, seed=0), RecSimVecEnv(n_envs)
    batched.seed(0)
    for env in (scalar, batched):
        env.reset()
    calls: dict[str, Callable[[], object]] = {
        "scalar": partial(step_through, scalar),
        "batched": partial(step_through, batched),
    }
    times = medians(time_interleaved(calls, args.repeats or 21))
    row = {f"{name}_ms": value / n_steps for name, value in times.items()}
    return pd.DataFrame([{"n_envs": n_envs, **row, "scalar / batched": times["scalar"] / times["batched"]}])


def nearest(args: argparse.Namespace) -> pd.DataFrame:
    """
    :param args: The command line
    :return: One row per number of items and of queries: milliseconds, and the ratios to faiss's flat index
    """
    import faiss

    faiss.omp_set_num_threads(args.threads)
    rows = []
    for n_items in args.n_items:
        embeddings = make_catalogue(n_items, 0, 15).embeddings
        exact, approximate = NearestItems(embeddings), ApproximateNearestItems(embeddings)
        flat = faiss.IndexFlatL2(embeddings.shape[1])
        flat.add(np.ascontiguousarray(exact.embeddings.numpy()))
        for n_queries in (48, 768):
            queries = th.rand(n_queries // 3, 3, embeddings.shape[1]) * 2 - 1
            points = queries.flatten(0, 1).numpy()
            searches: dict[str, Callable[[], object]] = {
                "faiss_flat": partial(flat.search, points, 1),
                "exact": partial(exact.nearest, queries),
                "approximate": partial(approximate.nearest, queries),
            }
            times = medians(time_interleaved(searches, args.repeats or 5))
            rows.append(
                {
                    "n_items": n_items,
                    "n_queries": n_queries,
                    **{f"{name}_ms": value for name, value in times.items()},
                    "exact / flat": times["exact"] / times["faiss_flat"],
                    "approximate / flat": times["approximate"] / times["faiss_flat"],
                    "recall": approximate.recall,
                }
            )
    return pd.DataFrame(rows)


PARTS = {"recsim": recsim, "nearest": nearest}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_timing_arguments(parser, PARTS, "components")
    parser.add_argument(
        "--repeats", type=at_least(1), help="timed calls of each candidate (default: 21 for recsim, 5 for nearest)"
    )
    parser.add_argument("--n-items", nargs="+", type=at_least(1), default=[10_000, 100_000, 500_000], help="numbers of items")
    run_parts(PARTS, parser.parse_args())


if __name__ == "__main__":
    main()
