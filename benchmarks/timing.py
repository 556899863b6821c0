"""
How the benchmarks measure time: models of given sizes, interleaved calls, ratios to a reference, and one CSV file per part.
"""

import argparse
import dataclasses
import importlib.metadata
import os
import platform
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import gymnasium as gym
import numpy as np
import pandas as pd
import torch as th
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.command_line import at_least, output_folder
from benchmarks.recording import write_durably
from sb3_savo import SAVO
from sb3_savo.acceleration.compiled_losses import EAGER_STEPS


@dataclasses.dataclass
class Shapes:
    """Sizes of observations, actions and networks; ``savo_policy_kwargs`` are policy arguments that only SAVO takes."""

    obs_dim: int
    action_dim: int
    net_arch: dict[str, list[int]]
    savo_policy_kwargs: dict[str, Any]


SHAPES = {
    "Hopper": Shapes(11, 3, {"pi": [256, 256], "qf": [256, 256]}, {}),
    "RecSim": Shapes(30, 45, {"pi": [64, 32, 32, 16], "qf": [64, 32]}, {"summary_dim": 32}),
}


class RandomEnv(gym.Env):
    """
    Returns random observations and rewards. It is cheap, so the time of the environment hardly counts.

    :param shapes: Sizes of observations and actions
    """

    def __init__(self, shapes: Shapes):
        self.observation_space = spaces.Box(-1, 1, (shapes.obs_dim,), np.float32)
        self.action_space = spaces.Box(-1, 1, (shapes.action_dim,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return self._observe(), float(self.np_random.normal()), self.np_random.random() < 0.01, False, {}

    def _observe(self) -> np.ndarray:
        return self.np_random.uniform(-1, 1, self.observation_space.shape).astype(np.float32)  # type: ignore[arg-type]


def process_memory(field: str) -> float:
    """
    :param field: A field of Linux's ``/proc/self/status``: ``VmRSS`` for the present memory of this process, ``VmHWM`` for its
        peak, which does not include that of its parent, as ``ru_maxrss`` does
    :return: Its value in MiB
    """
    text = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) / 2**10 for line in text.splitlines() if line.startswith(f"{field}:"))


def make_model(algorithm: Any, shapes: Shapes, n_envs: int = 1, **kwargs: Any) -> Any:
    """
    :param algorithm: SAVO, or SB3's or SBX's TD3
    :param shapes: Sizes of observations, actions and networks
    :param n_envs: Number of environments
    :param kwargs: Further arguments of the algorithm
    :return: A model that has collected some transitions and has made no gradient step
    """
    env = make_vec_env(lambda: RandomEnv(shapes), n_envs=n_envs, seed=0)
    policy_kwargs = {"net_arch": shapes.net_arch, **(shapes.savo_policy_kwargs if algorithm is SAVO else {})}
    options = {"buffer_size": 20_000, "learning_starts": 2_048, "batch_size": 256, "policy_kwargs": policy_kwargs, "seed": 0}
    if not algorithm.__module__.startswith("sbx"):
        options["device"] = "cpu"
    model = algorithm("MlpPolicy", env, **{**options, **kwargs})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*makes no gradient step")
        return model.learn(2_048, log_interval=None)


def take_over(model: Any) -> None:
    """
    Do the first gradient steps, until compiled losses have taken over.

    :param model: A model that has made no gradient step
    """
    if getattr(model, "compile", False) is True:
        # Losses that are due in every few steps only are due in one of the last
        model.train(gradient_steps=EAGER_STEPS + model.policy_delay, batch_size=model.batch_size)


def count_flops(call: Callable[[], object]) -> int:
    """
    :param call: A call whose losses are not compiled, since torch does not count the operations of compiled code
    :return: Floating-point operations in its matrix products
    """
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def time_interleaved(
    candidates: dict[str, Callable[[], object]], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """
    Call every candidate once per round, so that a disturbance of the machine hits all of them.

    :param candidates: The functions to time, by name
    :param repeats: Number of timed rounds; one round that is not timed precedes them
    :param clock: Returns the time in seconds; ``time.process_time`` counts the processor's time of this process only, which
        other processes hardly change
    :return: The times of each candidate, in milliseconds
    """
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for repeat in range(repeats + 1):
        for name, call in candidates.items():
            start = clock()
            call()
            if repeat > 0:
                times[name].append(1e3 * (clock() - start))
    return times


def medians(times: dict[str, list[float]]) -> dict[str, float]:
    """
    :param times: The times of each candidate
    :return: The median of each candidate
    """
    return {name: median(values) for name, values in times.items()}


def compare_to(reference: str, times: dict[str, list[float]], n_per_call: int) -> pd.DataFrame:
    """
    :param reference: Name of the candidate that the others are compared with
    :param times: The times of each candidate, from :func:`time_interleaved`
    :param n_per_call: Number of operations per call
    :return: One row per candidate: median and minimum per operation in milliseconds, and their ratios to the reference
    """
    rows = []
    for name, values in times.items():
        rows.append(
            {
                "what": name,
                "median_ms": median(values) / n_per_call,
                "min_ms": min(values) / n_per_call,
                "ratio": median(values) / median(times[reference]),
                "ratio_of_minima": min(values) / min(times[reference]),
            }
        )
    return pd.DataFrame(rows)


def machine(threads: int, device: str = "cpu") -> str:
    """
    :param threads: Number of threads
    :param device: Where the networks are
    :return: Card, if there is one, processor, threads and library versions of this measurement
    """
    cpu = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        cpu = names[0] if names else cpu
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("torch", "numpy", "stable_baselines3")]
    bfloat16 = "AMX" if th.cpu._is_amx_tile_supported() else "no AMX"
    card = "" if device == "cpu" else f"{th.get_device_module(device).get_device_name(device)}, "
    return f"{card}{cpu} ({th.backends.cpu.get_cpu_capability()}, {bfloat16}), {threads} threads, {', '.join(versions)}"


def add_timing_arguments(parser: argparse.ArgumentParser, parts: Iterable[str], results: str) -> None:
    """
    Add the arguments that all benchmarks of speed share.

    :param parser: The command line
    :param parts: Names of the parts
    :param results: Name of the results folder
    """
    parser.add_argument("--parts", nargs="+", choices=list(parts), default=list(parts))
    parser.add_argument("--threads", type=at_least(1), default=1, help="number of threads")
    folder = Path(__file__).parent / "results" / results
    parser.add_argument("--folder", type=output_folder, default=str(folder), help="results folder")


def run_parts(parts: Mapping[str, Callable[[argparse.Namespace], pd.DataFrame]], args: argparse.Namespace) -> None:
    """
    Measure the chosen parts, print their tables, and write each to ``PART-THREADS.csv``, or on another device than the
    processor ``PART-DEVICE.csv``, below a line about the machine.

    :param parts: Functions that measure and return a table, by name
    :param args: The command line, with the arguments of :func:`add_timing_arguments`
    """
    th.set_num_threads(args.threads)
    th.manual_seed(0)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    args.folder.mkdir(parents=True, exist_ok=True)
    device = getattr(args, "device", "cpu")
    about = machine(args.threads, device)
    print(about)
    for name in args.parts:
        table = parts[name](args)
        print(f"\n{name}\n{table.round(3).to_string(index=False)}", flush=True)
        text = f"# {about}\n{table.to_csv(index=False, float_format='%.4f')}"
        write_durably(args.folder / f"{name}-{args.threads if device == 'cpu' else device}.csv", text)
