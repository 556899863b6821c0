"""
How long does a run of the paper's size take? A slice of it is measured, and the whole is an extrapolation.

    python -m benchmarks.scale
    python -m benchmarks.scale --tasks HopperRestricted-v4 --threads 2

SAVO has the hyperparameters of ``hyperparams/savo.yml``, and its losses are compiled before the slice. SB3's DQN or TD3 does
as many steps and updates with the critic's layers. The slice is ``--repeats`` cycles of collecting and learning, interleaved.

``collect_ms``: one transition. ``update_ms``: one gradient step. Both are medians, of the processor's time on one thread.
``first_update_s``: the first gradient steps; of SAVO so many that compiled losses have taken over, which are compiled
meanwhile or loaded from the user's folder of compiled code.
``hours``: the extrapolation to ``steps`` and ``updates``. It leaves out evaluations and the first gradient steps, and holds if
later cycles take as long as these: a full replay buffer is slower to sample from. ``ratio``: hours, relative to SB3's.
"""

import argparse
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
from stable_baselines3 import DQN, TD3
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from benchmarks.command_line import at_least
from benchmarks.suite import load_hyperparameters
from benchmarks.timing import add_timing_arguments, medians, run_parts, take_over, time_interleaved
from benchmarks.training import constructor_arguments, make_env
from sb3_savo import SAVO

TASKS: dict[str, type[OffPolicyAlgorithm]] = {"RecSim-v0": DQN, "MiningExpedition-v0": DQN, "HopperRestricted-v4": TD3}
SHARED = ("learning_rate", "gamma", "batch_size", "buffer_size", "learning_starts", "train_freq", "gradient_steps")


def scale(args: argparse.Namespace) -> pd.DataFrame:
    """
    :param args: The command line
    :return: One row per task and algorithm
    """
    rows = []
    for task in args.tasks:
        settings = constructor_arguments("savo", load_hyperparameters("savo", task))
        steps, n_envs = settings.pop("n_timesteps"), settings.pop("n_envs")
        per_cycle: tuple[int, int] = settings["train_freq"] * n_envs, settings["gradient_steps"]
        # Whole cycles of random transitions, after which no gradient step is due yet
        settings["learning_starts"] = math.ceil(settings["learning_starts"] / per_cycle[0]) * per_cycle[0]
        calls: dict[str, Callable[[], object]] = {}
        first = {}
        for algorithm in (TASKS[task], SAVO):
            model = make_model(algorithm, task, n_envs, settings, args.compile)
            start = time.perf_counter()
            take_over(model)
            learn(model)
            name = algorithm.__name__
            first[name] = time.perf_counter() - start
            calls |= {f"{name} collect": partial(collect, model), f"{name} update": partial(learn, model)}
        # Other processes hardly change the processor's time, which adds up the threads
        clock = time.process_time if args.threads == 1 else time.perf_counter
        times = medians(time_interleaved(calls, args.repeats, clock))
        for name, seconds in first.items():
            collect_ms, update_ms = (
                times[f"{name} {part}"] / n for part, n in zip(("collect", "update"), per_cycle, strict=True)
            )
            updates = steps // per_cycle[0] * per_cycle[1]
            hours = (steps * collect_ms + updates * update_ms) / 3.6e6
            row = {"task": task, "algorithm": name, "measured_steps": args.repeats * per_cycle[0], "collect_ms": collect_ms}
            row |= {"update_ms": update_ms, "first_update_s": seconds, "steps": steps, "updates": updates, "hours": hours}
            rows.append(row)
        rows[-1]["ratio"] = rows[-1]["hours"] / rows[-2]["hours"]
    return pd.DataFrame(rows)


def make_model(algorithm: type[OffPolicyAlgorithm], task: str, n_envs: int, settings: dict[str, Any], compile: bool) -> Any:
    """
    :param algorithm: SAVO, or SB3's
    :param task: Gymnasium's ID of the environment
    :param n_envs: Number of environments
    :param settings: SAVO's arguments
    :param compile: Whether SAVO's losses are compiled
    :return: A model that has collected some random transitions and has made no gradient step
    """
    if algorithm is SAVO:
        arguments = {**settings, "compile": compile}
    else:
        arch = settings["policy_kwargs"]["net_arch"]
        is_one = algorithm is DQN or isinstance(arch, list)
        arguments = {name: settings[name] for name in SHARED if name in settings} | {
            "policy": "MlpPolicy",
            "policy_kwargs": {"net_arch": arch["qf"] if is_one and isinstance(arch, dict) else arch},
        }
    model: Any = algorithm(env=make_env(task, {}, n_envs, seed=0), seed=0, device="cpu", **arguments)
    return model.learn(settings["learning_starts"], log_interval=None)


def collect(model: Any) -> None:
    """
    :param model: A model, which collects what is due between two series of gradient steps
    """
    callback = model._init_callback(None)
    model._total_timesteps = model.num_timesteps + model.train_freq.frequency * model.n_envs
    model.collect_rollouts(model.env, callback, model.train_freq, model.replay_buffer, learning_starts=0)


def learn(model: Any) -> None:
    """
    :param model: A model, which does one series of gradient steps
    """
    model.train(gradient_steps=model.gradient_steps, batch_size=model.batch_size)


PARTS = {"scale": scale}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_timing_arguments(parser, PARTS, "speed")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--repeats", type=at_least(1), default=10, help="timed cycles of each algorithm")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True, help="compile SAVO's losses")
    run_parts(PARTS, parser.parse_args())
    print("\nhours: an extrapolation from the measured steps to a whole run")


if __name__ == "__main__":
    main()
