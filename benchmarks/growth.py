"""
How do time and memory grow with the number of actors, the batch, the dimensions of the action and the number of items?

    python -m benchmarks.growth

One size is varied at a time; the others are 3 actors, batches of 256, and actions of 3 dimensions, with observations of 11
numbers and networks of 256-256. Items are those of ``LandscapeItems-v0`` (8 dimensions). Every point has a process of its own,
on one thread, with losses that are not compiled.

``act_ms``: one call of ``predict`` for one observation, but not the first one after learning, which checks the weights.
``update_ms``: one gradient step. Both are the least of several times of the processor, which other programs disturb least.
``memory_MiB``: how much the process's peak exceeds its memory before the model was made. The exponent p of a quantity is the
slope of a line through its logarithms: the quantity grows as the size to the power of p. Where it is still constant at small
sizes, p is below the exponent of large ones.

The command writes the points, the exponents and the figure (``growth-1.csv``, ``exponents-1.csv``, ``growth-1.png``). It needs
``sb3-savo[plots]``.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.command_line import at_least
from benchmarks.figures import COLORS, DPI, MARKERS, plt
from benchmarks.timing import add_timing_arguments, run_parts

SIZES = {
    "n_actors": (1, 2, 3, 5, 8, 15),
    "batch_size": (32, 64, 128, 256, 512, 1_024),
    "action_dim": (1, 3, 10, 30, 100),
    "n_items": (1_000, 10_000, 100_000, 1_000_000),
}
QUANTITIES = {"act_ms": "predict (ms)", "update_ms": "gradient step (ms)", "memory_MiB": "memory (MiB)"}
NAMES = {"n_actors": "actors", "batch_size": "batch size", "action_dim": "dimensions of the action", "n_items": "items"}

SCRIPT = """
import json, sys, time
import gymnasium as gym
import torch as th
from benchmarks.timing import RandomEnv, Shapes, process_memory, time_interleaved
from sb3_savo import SAVO

th.set_num_threads(1)
size = json.loads(sys.argv[1])
if "n_items" in size:
    env = gym.make("LandscapeItems-v0", n_items=size["n_items"])
else:
    env = RandomEnv(Shapes(11, size.get("action_dim", 3), {}, {}))
before = process_memory("VmRSS")
n_actors, batch_size = size.get("n_actors", 3), size.get("batch_size", 256)
settings = {"n_actors": n_actors, "buffer_size": 1_100, "learning_starts": 1_100, "compile": False}
model = SAVO("MlpPolicy", env, device="cpu", seed=0, **settings)
model.learn(1_100, log_interval=None)
observation = env.observation_space.sample()
calls = {
    "first_act_ms": lambda: model.predict(observation, deterministic=True),
    "act_ms": lambda: [model.predict(observation, deterministic=True) for _ in range(20)],
    "update_ms": lambda: model.train(2, batch_size),
}
times = {name: min(values) for name, values in time_interleaved(calls, int(sys.argv[2]), time.process_time).items()}
grown = process_memory("VmHWM") - before
figures = {"act_ms": times["act_ms"] / 20, "update_ms": times["update_ms"] / 2, "memory_MiB": grown}
print(json.dumps(figures))
"""


def growth(args: argparse.Namespace) -> pd.DataFrame:
    """
    :param args: The command line
    :return: One row per varied size and value
    """
    rows = []
    for size in args.sizes:
        for value in SIZES[size]:
            command = [sys.executable, "-W", "ignore", "-c", SCRIPT, json.dumps({size: value}), str(args.repeats)]
            result = subprocess.run(command, capture_output=True, text=True, check=True)
            rows.append({"size": size, "value": value, **json.loads(result.stdout.splitlines()[-1])})
    table = pd.DataFrame(rows)
    exponents(table).to_csv(args.folder / f"exponents-{args.threads}.csv", index=False, float_format="%.3f")
    draw(table, args.folder / f"growth-{args.threads}.png")
    return table


def exponents(table: pd.DataFrame) -> pd.DataFrame:
    """
    :param table: Columns ``size``, ``value`` and :data:`QUANTITIES`
    :return: One row per size: the slope of every quantity's logarithm over that of the value
    """
    rows = []
    for size, points in table.groupby("size", sort=False):
        slopes = {name: np.polyfit(np.log(points.value), np.log(points[name]), 1)[0] for name in QUANTITIES}
        rows.append({"size": size, **slopes})
    return pd.DataFrame(rows)


def draw(table: pd.DataFrame, path: Path) -> None:
    """
    :param table: As for :func:`exponents`
    :param path: Where to write the figure: one column per size, one row per quantity, both axes logarithmic
    """
    slopes = exponents(table).set_index("size")
    figure, axes = plt.subplots(
        len(QUANTITIES), len(slopes), figsize=(2.2 * len(slopes), 5.5), sharex="col", sharey="row", squeeze=False
    )
    for column, (size, points) in enumerate(table.groupby("size", sort=False)):
        for row, (name, label) in enumerate(QUANTITIES.items()):
            ax = axes[row, column]
            ax.loglog(points.value, points[name], color=COLORS[row], marker=MARKERS[row], markersize=4)
            ax.set_title(f"exponent {slopes.loc[size, name]:.2f}")
            if column == 0:
                ax.set_ylabel(label)
        axes[-1, column].set_xlabel(NAMES[str(size)])
    figure.tight_layout()
    figure.savefig(path, dpi=DPI)
    plt.close(figure)


PARTS = {"growth": growth}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_timing_arguments(parser, PARTS, "speed")
    parser.add_argument("--repeats", type=at_least(1), default=9, help="timed calls")
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES), help="which sizes to vary")
    run_parts(PARTS, parser.parse_args())


if __name__ == "__main__":
    main()
