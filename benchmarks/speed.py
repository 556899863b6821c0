"""
How fast is what is ours? Ratios of medians, what is compared being measured in turn.

    python -m benchmarks.speed                    # all parts
    python -m benchmarks.speed --parts nearest --threads 2

recsim: steps of 16 users in ``RecSimVecEnv`` against SB3's ``DummyVecEnv`` of the scalar environment. nearest: our search for
the nearest items against faiss's flat index, and our approximate index with its recall, for 48 and 768 queries.
"""

import argparse
import platform
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import numpy as np
import pandas as pd
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

from sb3_savo.common.nearest import ApproximateNearestItems, NearestItems
from sb3_savo.envs.recsim import RecSimVecEnv
from sb3_savo.envs.recsim_users import make_catalogue


def in_turn(candidates: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """
    :param candidates: What to measure, by name
    :param repeats: How often each is called, after a call that does not count
    :return: The median time of each, in milliseconds
    """
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for repeat in range(repeats + 1):
        for name, call in candidates.items():
            start = time.perf_counter()
            call()
            if repeat > 0:
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: median(values) for name, values in times.items()}


def recsim(threads: int) -> pd.DataFrame:
    """
    :param threads: Number of threads
    :return: One row: milliseconds per step of 16 environments, and the ratio
    """

    def steps(env: VecEnv) -> None:
        for actions in all_actions:
            env.step(actions)

    n_envs, n_steps = 16, 100
    all_actions = np.random.default_rng(0).integers(10_000, size=(n_steps, n_envs))
    scalar, batched = make_vec_env("RecSim-v0", n_envs=n_envs, seed=0), RecSimVecEnv(n_envs)
    batched.seed(0)
    for env in (scalar, batched):
        env.reset()
    times = in_turn({"scalar": lambda: steps(scalar), "batched": lambda: steps(batched)}, repeats=21)
    row = {f"{name}_ms": value / n_steps for name, value in times.items()}
    return pd.DataFrame([{"n_envs": n_envs, **row, "scalar / batched": times["scalar"] / times["batched"]}])


def nearest(threads: int) -> pd.DataFrame:
    """
    :param threads: Number of threads
    :return: One row per number of items and of queries: milliseconds, and the ratios to faiss's flat index
    """
    import faiss

    faiss.omp_set_num_threads(threads)
    rows = []
    for n_items in (10_000, 100_000, 500_000):
        embeddings = make_catalogue(n_items, 0, 15).embeddings
        exact, approximate = NearestItems(embeddings), ApproximateNearestItems(embeddings)
        flat = faiss.IndexFlatL2(embeddings.shape[1])
        flat.add(np.ascontiguousarray(exact.embeddings.numpy()))
        for n_queries in (48, 768):
            queries = th.rand(n_queries // 3, 3, embeddings.shape[1]) * 2 - 1
            points = queries.flatten(0, 1).numpy()
            searches: dict[str, Callable[[], object]] = {
                "faiss_flat": partial(flat.search, points, 1),
                "exact": partial(exact.search, queries),
                "approximate": partial(approximate.search, queries),
            }
            times = in_turn(searches, repeats=5)
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
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()

    th.set_num_threads(args.threads)
    th.manual_seed(0)
    print(
        f"{platform.processor() or platform.machine()}, {args.threads} threads, torch {th.__version__}, numpy {np.__version__}"
    )
    for name in args.parts:
        print(f"\n{name}\n{PARTS[name](args.threads).round(3).to_string(index=False)}", flush=True)


if __name__ == "__main__":
    main()
