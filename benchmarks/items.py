"""
From how many items on does SAVO pay, beside SB3's DQN, which evaluates every item?

    python -m benchmarks.items

Both learn ``LandscapeItems-v0`` (embeddings of 8 dimensions) with networks of 64-64 and batches of 256, on one thread.
Times are the processor's.
``*_act_ms``: one call of ``predict`` for one observation. ``*_update_ms``: one gradient step, and ``savo_compiled_ms`` that of
compiled losses, which runs of 20,000 gradient steps have. ``*_minutes``: 10,000 steps with a gradient step per four of them,
without compilation. ``ratio`` and ``compiled_ratio``: SAVO's minutes, relative to DQN's. ``*_update_mflop``: millions of
floating-point operations in the matrix products of a gradient step, which are counted and not timed. DQN is not measured
beyond 100,000 items, where its last layer alone has millions of weights.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pandas as pd
from stable_baselines3 import DQN

from benchmarks.command_line import at_least
from benchmarks.timing import add_timing_arguments, count_flops, medians, run_parts, take_over, time_interleaved
from sb3_savo import SAVO

MAX_ITEMS_OF_DQN = 100_000
N_ACTIONS, N_UPDATES = 20, 10  # in one timed call
N_STEPS, TRAIN_FREQ = 10_000, 4


def items(args: argparse.Namespace) -> pd.DataFrame:
    """
    :param args: The command line
    :return: One row per number of items
    """
    rows = []
    for n_items in args.n_items:
        env = gym.make("LandscapeItems-v0", n_items=n_items)
        methods = {"savo": SAVO, "dqn": DQN} if n_items <= MAX_ITEMS_OF_DQN else {"savo": SAVO}
        observation = env.observation_space.sample()
        calls: dict[str, Callable[[], object]] = {}
        counts = {}
        for name, method in methods.items():
            shared: dict[str, Any] = {
                "learning_starts": 299,
                "buffer_size": 1_000,
                "batch_size": 256,
                "policy_kwargs": {"net_arch": [64, 64]},
            }
            model = method("MlpPolicy", env, seed=0, device="cpu", **shared).learn(300)
            calls[f"{name}_act_ms"] = partial(act, model, observation)
            calls[f"{name}_update_ms"] = partial(model.train, N_UPDATES, 256)
            if method is SAVO:
                compiled = SAVO("MlpPolicy", env, seed=0, device="cpu", compile=True, **shared).learn(300)
                take_over(compiled)
                calls["savo_compiled_ms"] = partial(compiled.train, N_UPDATES, 256)
            counts[f"{name}_update_mflop"] = count_flops(calls[f"{name}_update_ms"]) / N_UPDATES / 1e6
        times = medians(time_interleaved(calls, args.repeats, time.process_time))
        row = {name: times.get(name, np.nan) / (N_ACTIONS if "act" in name else N_UPDATES) for name in COLUMNS}
        cycles = {name: TRAIN_FREQ * row[f"{name}_act_ms"] + row[f"{name}_update_ms"] for name in ("savo", "dqn")}
        compiled_cycle = TRAIN_FREQ * row["savo_act_ms"] + row["savo_compiled_ms"]
        minutes = {f"{name}_minutes": ms * N_STEPS / TRAIN_FREQ / 60_000 for name, ms in cycles.items()}
        ratios = {"ratio": cycles["savo"] / cycles["dqn"], "compiled_ratio": compiled_cycle / cycles["dqn"]}
        rows.append({"n_items": n_items, **row, **minutes, **ratios, **counts})
    return pd.DataFrame(rows)


COLUMNS = ("savo_act_ms", "savo_update_ms", "savo_compiled_ms", "dqn_act_ms", "dqn_update_ms")


def act(model: SAVO | DQN, observation: np.ndarray) -> None:
    """
    :param model: A model
    :param observation: What it acts on, several times
    """
    for _ in range(N_ACTIONS):
        model.predict(observation, deterministic=True)


PARTS = {"items": items}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_timing_arguments(parser, PARTS, "items")
    parser.add_argument("--repeats", type=at_least(1), default=5, help="timed calls of each method")
    parser.add_argument(
        "--n-items",
        nargs="+",
        type=at_least(1),
        default=[100, 1_000, 2_000, 10_000, 100_000, 500_000],
        help="numbers of items",
    )
    run_parts(PARTS, parser.parse_args())


if __name__ == "__main__":
    main()
