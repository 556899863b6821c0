"""
Does a long run need more and more memory?

    python -m benchmarks.soak
    python -m benchmarks.soak --modes eager --steps 200000

SAVO learns for a million environment steps, with small networks, several environments, a replay buffer that is soon full, and
checkpoints; once without and once with compiled losses, each in a process of its own. The command prints how much the
process's resident memory has grown since the first sample at which the buffer was full, and writes all samples to a CSV file.
The exit code is 1 if it has grown by more than the limit. The command reads Linux's ``/proc``.
"""

import argparse
import json
import re
import shlex
import sys
import tempfile
import warnings
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch as th
from stable_baselines3.common.env_util import make_vec_env

from benchmarks.command_line import at_least, number, output_file
from benchmarks.processes import in_process
from benchmarks.recording import write_durably
from benchmarks.timing import machine
from sb3_savo import SAVO

MODES = ("eager", "compiled")
BUFFER_SIZE = 20_000
N_ENVS = 10
N_SAMPLES = 100
MB = 10**6


class Sample(NamedTuple):
    """
    :param step: Environment steps so far
    :param resident_mb: Resident memory of the process, in MB
    :param checkpoint: The step of the newest checkpoint
    """

    step: int
    resident_mb: float
    checkpoint: int


def resident_memory() -> float:
    """:return: The resident memory of this process, in MB"""
    # Counts every page; the sums that the kernel keeps, as in /proc/self/statm, may lag behind
    text = Path("/proc/self/smaps_rollup").read_text()
    return int(re.search(r"^Rss: +(\d+) kB$", text, re.MULTILINE)[1]) * 1024 / MB  # type: ignore[index]


def learn(folder: Path, is_compiled: bool, n_steps: int, buffer_size: int) -> list[Sample]:
    """
    :param folder: For the checkpoints
    :param is_compiled: Whether the losses are compiled
    :param n_steps: Environment steps
    :param buffer_size: Size of the replay buffer
    :return: Samples at regular intervals
    """
    th.set_num_threads(1)
    samples: list[Sample] = []
    model = SAVO(
        "MlpPolicy",
        make_vec_env("Pendulum-v1", n_envs=N_ENVS, seed=0),
        buffer_size=buffer_size,
        learning_starts=1_000,
        batch_size=64,
        train_freq=5,  # with ten environments, an update every 50 transitions
        policy_kwargs={"net_arch": [32, 32]},
        compile=is_compiled,
        seed=0,
        device="cpu",
    )

    def sample(*_: Any) -> bool:
        if model.num_timesteps >= n_steps * (len(samples) + 1) / N_SAMPLES:
            newest = max(int(path.name.removeprefix("step-")) for path in folder.glob("step-*[0-9]"))
            samples.append(Sample(model.num_timesteps, resident_memory(), newest))
        return True

    with warnings.catch_warnings():
        warnings.filterwarnings("error", "compile: ")  # a loss that cannot be compiled ends a run that is to compile it
        model.learn(n_steps, callback=sample, log_interval=None, checkpoints=folder)
    return samples


def growth(samples: list[Sample], buffer_size: int) -> float:
    """
    :param samples: What :func:`learn` has returned
    :param buffer_size: Size of the replay buffer
    :return: How much the largest resident memory is above that of the first sample with a full buffer, in MB
    """
    full = [sample.resident_mb for sample in samples if sample.step >= buffer_size]
    return max(full) - full[0]


def soak(mode: str, n_steps: int, buffer_size: int) -> list[Sample]:
    """
    :param mode: One of :data:`MODES`
    :param n_steps: Environment steps
    :param buffer_size: Size of the replay buffer
    :return: What :func:`learn` returns in a process of its own
    :raises RuntimeError: if the process fails
    """
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        run = partial(learn, folder / "checkpoints", mode == "compiled", n_steps, buffer_size)
        result = in_process(lambda: json.dumps(run()), folder)
    if result is None:
        raise RuntimeError(f"The {mode} run has failed.")
    return [Sample(*sample) for sample in json.loads(result)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--steps", type=at_least(1), default=1_000_000, help="environment steps")
    parser.add_argument("--buffer-size", type=at_least(1), default=BUFFER_SIZE, help="transitions; fewer than the steps")
    parser.add_argument("--limit", type=number, default=5, help="the largest growth of memory, in MB")
    parser.add_argument("--output", type=output_file, default="benchmarks/results/soak.csv", help="CSV to write")
    args = parser.parse_args()
    if args.buffer_size > args.steps:
        parser.error(f"--buffer-size {args.buffer_size}: it must be at most --steps {args.steps}, or the buffer is never full")
    about = f"# {machine(1)}; python -m benchmarks.soak {shlex.join(sys.argv[1:])}".rstrip()
    growths, tables = [], []
    for mode in args.modes:
        samples = soak(mode, args.steps, args.buffer_size)
        tables.append(pd.DataFrame(samples).round(3).assign(mode=mode)[["mode", *Sample._fields]])
        write_durably(args.output, f"{about}\n{pd.concat(tables).to_csv(index=False)}")
        growths.append(growth(samples, args.buffer_size))
        print(f"{mode}: resident memory grew by {growths[-1]:.1f} MB after the buffer was full", flush=True)
    sys.exit(max(growths) > args.limit)


if __name__ == "__main__":
    main()
