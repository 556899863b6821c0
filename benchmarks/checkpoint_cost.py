"""
Which share of its time does a run spend on checkpoints?

    python -m benchmarks.checkpoint_cost
    python -m benchmarks.checkpoint_cost --env AntRestricted-v4 --seconds 120

SAVO learns with the hyperparameters of ``hyperparams/savo.yml`` and ``learn(…, checkpoints=folder)`` for some time: once from
an empty replay buffer, and once with a full one, of which every checkpoint holds all. The losses are not compiled, or the time
of their compilation would count as time of the run. All times are taken within the run, so that other work on the machine
hardly changes the shares. Columns:

- ``transitions``: in the replay buffer at the end
- ``seconds``: duration of the run
- ``n_checkpoints``: how many were written
- ``first_s``, ``median_s``: duration of the first checkpoint, and of a median one of the others
- ``files_mb``: the checkpoint's files, as they are at the end
- ``whole_pct``: share of the run in the code of checkpoints. A run writes one when it begins and one when it ends, however
  short it is
- ``due_pct``: the same between the end of the first and the end of the last one that became due: the share in a long run
- ``recording_pct``: share of noting actions in the environments, by timing an environment with and without
"""

import argparse
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

from benchmarks.command_line import at_least, output_file, positive
from benchmarks.recording import write_durably
from benchmarks.suite import load_hyperparameters
from benchmarks.timing import machine, medians, time_interleaved
from sb3_savo import SAVO
from sb3_savo.common import learning
from sb3_savo.common.checkpoints import CheckpointedRun
from sb3_savo.common.checkpoints.environments import start_recording

# Transitions of which a full buffer holds copies
FILLED_FROM = 1_000


class TimedRun(CheckpointedRun):
    """A run that notes when its checkpoints began and ended, and how long everything else of it took."""

    def __init__(self, *args: Any):
        self.written: list[tuple[float, float]] = []
        self.seconds = 0.0
        self.began = time.perf_counter()
        with self._timed():
            super().__init__(*args)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - began

    def __enter__(self) -> "TimedRun":
        with self._timed():
            super().__enter__()
        return self

    def __exit__(self, *args: Any) -> None:
        with self._timed():
            super().__exit__(*args)
        self.ended = time.perf_counter()

    def visit(self, *args: Any) -> bool:
        with self._timed():
            return super().visit(*args)

    def _write(self, is_finished: bool = False) -> None:
        began = time.perf_counter()
        super()._write(is_finished)
        self.written.append((began, time.perf_counter()))


def shares(run: TimedRun) -> dict[str, Any]:
    """
    :param run: A run that has ended
    :return: Columns of the table, see the top of this file; NaN where no checkpoint became due
    """
    first, *due, _ = run.written  # the last is that of the end
    durations = [ended - began for began, ended in run.written]
    due_s = sum(ended - began for began, ended in due)
    return {
        "seconds": run.ended - run.began,
        "n_checkpoints": len(run.written),
        "first_s": durations[0],
        "median_s": median(durations[1:]),
        "whole_pct": 100 * run.seconds / (run.ended - run.began),
        "due_pct": 100 * due_s / (due[-1][1] - first[1]) if due else np.nan,
    }


def measure(env_id: str, is_full: bool, seconds: float, overrides: dict[str, Any]) -> dict[str, Any]:
    """
    :param env_id: Gymnasium's ID of the environment
    :param is_full: Whether the replay buffer is full from the beginning, with copies of a few transitions
    :param seconds: Duration of the run
    :param overrides: Hyperparameters to change
    :return: A row of the table
    """
    hyperparameters = {**load_hyperparameters("savo", env_id), **overrides}
    n_steps = hyperparameters.pop("n_timesteps")
    env = make_vec_env(env_id, n_envs=hyperparameters.pop("n_envs", 1), seed=0)
    model = SAVO(env=env, device="cpu", seed=0, compile=False, **hyperparameters)
    buffer: Any = model.replay_buffer
    if is_full:
        model.learn(FILLED_FROM, log_interval=None)
        for array in vars(buffer).values():
            if isinstance(array, np.ndarray):
                array[...] = np.resize(array[: buffer.pos], array.shape)
        buffer.full = True
    runs: list[TimedRun] = []

    def timed_run(*args: Any) -> TimedRun:
        runs.append(TimedRun(*args))
        return runs[0]

    with tempfile.TemporaryDirectory(prefix="checkpoint-cost-") as name, patch.object(learning, "CheckpointedRun", timed_run):
        model.learn(n_steps, lambda *_: time.perf_counter() < runs[0].began + seconds, log_interval=None, checkpoints=name)
        files_mb = sum(path.stat().st_size for path in Path(name).rglob("*") if path.is_file()) / 1e6
    row = shares(runs[0])
    recording_s = recording_seconds(env_id) * model.num_timesteps
    return {
        "env": env_id,
        "transitions": buffer.size() * env.num_envs,
        "steps": model.num_timesteps,
        **row,
        "recording_pct": 100 * recording_s / row["seconds"],
        "files_mb": files_mb,
    }


def recording_seconds(env_id: str, n_steps: int = 500, repeats: int = 20) -> float:
    """
    :param env_id: Gymnasium's ID of an environment
    :param n_steps: Steps in each of the repeats
    :param repeats: How often both are timed
    :return: What noting its action adds to an environment step, in seconds
    """
    envs = {name: make_vec_env(env_id, n_envs=1, seed=0) for name in ("plain", "recorded")}
    start_recording(envs["recorded"])
    actions = np.random.default_rng(0).uniform(-1, 1, (n_steps, 1, *envs["plain"].action_space.shape))  # type: ignore[misc]

    def steps(env: VecEnv) -> None:
        env.seed(0)
        env.reset()
        for action in actions:
            env.step(action)

    times = medians(
        time_interleaved(
            {name: lambda env=env: steps(env) for name, env in envs.items()},  # type: ignore[misc]
            repeats,
            time.process_time,
        )
    )
    return max(times["recorded"] - times["plain"], 0) / 1e3 / n_steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="HopperRestricted-v4", help="an environment with a continuous action space")
    parser.add_argument("--seconds", type=positive, default=600, help="duration of each of the two runs")
    parser.add_argument("--buffer-size", type=at_least(1), default=500_000, help="transitions")
    parser.add_argument("--output", type=output_file, default="benchmarks/results/checkpoint_cost.csv", help="CSV to write")
    args = parser.parse_args()
    th.set_num_threads(1)
    rows = []
    for is_full in (False, True):
        rows.append(measure(args.env, is_full, args.seconds, {"buffer_size": args.buffer_size}))
        print(pd.DataFrame(rows[-1:]).round(3).to_string(index=False), flush=True)
    about = f"# {machine(1)}; python -m benchmarks.checkpoint_cost {shlex.join(sys.argv[1:])}".rstrip()
    write_durably(args.output, f"{about}\n{pd.DataFrame(rows).to_csv(index=False, float_format='%.4f')}")


if __name__ == "__main__":
    main()
