"""
How fast does SAVO learn and act, relative to SB3's TD3? Ratios of medians and of minima, from interleaved runs.

    python -m benchmarks.speed                    # all parts
    python -m benchmarks.speed --parts update --threads 2 --shapes Hopper --actors 3
    python -m benchmarks.speed --parts compilation --actors 1 3
    python -m benchmarks.speed --device cuda --parts update acting collection training

update: one gradient step of SAVO, of SB3's TD3, and of SBX's TD3 if it is installed, with the shapes of Hopper and of RecSim.
SAVO runs eager and compiled, in either precision; ``torch_medium`` is float32 under
``torch.set_float32_matmul_precision("medium")``. acting: one call of ``predict``. operations: floating-point operations in the
matrix products of such a call, per observation, which are counted and not timed. collection: environment steps without
learning. training: environment steps per second with one gradient step each. memory: peak memory of a process that trains.
compilation: the first gradient steps, until compiled losses take over, with an empty folder of compiled code (cold) and again
(warm).

Every part is written to a CSV file of its own.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch as th
from stable_baselines3 import TD3
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from benchmarks.command_line import at_least
from benchmarks.timing import (
    SHAPES,
    add_timing_arguments,
    compare_to,
    count_flops,
    make_model,
    run_parts,
    take_over,
    time_interleaved,
)
from sb3_savo import SAVO

N_STEPS = 10  # gradient steps per timed call


def sbx_td3() -> Any:
    """:return: SBX's TD3, or None if SBX is not installed"""
    try:
        from sbx import TD3 as SBXTD3
    except ImportError:
        return None
    return SBXTD3


@contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """
    :param precision: Argument of ``torch.set_float32_matmul_precision``
    :return: A context with this precision
    """
    before = th.get_float32_matmul_precision()
    th.set_float32_matmul_precision(precision)
    yield
    th.set_float32_matmul_precision(before)


def synchronize(device: str) -> None:
    """
    :param device: Where the networks are; on a GPU, the call waits until it has done what was asked of it
    """
    if device != "cpu":
        th.get_device_module(device).synchronize(device)


def update(args: argparse.Namespace) -> pd.DataFrame:
    """
    :param args: The command line
    :return: One row per shape and method: one gradient step
    """
    tables = []
    for name in args.shapes:
        shapes = SHAPES[name]
        models = {"TD3": make_model(TD3, shapes, device=args.device)}
        if sbx_td3() is not None and args.device == "cpu":
            models["SBX TD3"] = make_model(sbx_td3(), shapes)
        settings: dict[str, dict[str, Any]] = {"TD3": {}, "SBX TD3": {}}
        for n_actors in args.actors:
            for compile in (False, True):
                for precision in ("highest", "medium"):
                    label = f"SAVO {n_actors} {'compiled' if compile else 'eager'} {precision}"
                    settings[label] = {"n_actors": n_actors, "compile": compile, "precision": precision}
                    models[label] = make_model(SAVO, shapes, device=args.device, **settings[label])
                    take_over(models[label])

        def train(model: Any, precision: str = "highest") -> None:
            with matmul_precision(precision):
                model.train(gradient_steps=N_STEPS, batch_size=256)
            synchronize(args.device)

        calls: dict[str, Callable[[], object]] = {label: partial(train, model) for label, model in models.items()}
        for label in [label for label in models if label.endswith("compiled highest")]:
            torch_medium = label.replace("highest", "torch_medium")
            calls[torch_medium] = partial(train, models[label], "medium")
            settings[torch_medium] = {**settings[label], "precision": "torch_medium"}
        table = compare_to("TD3", time_interleaved(calls, args.repeats), N_STEPS)
        columns = pd.DataFrame([settings[label] for label in table.what], columns=["n_actors", "compile", "precision"])
        tables.append(pd.concat([pd.Series([name] * len(table), name="shapes"), table, columns], axis=1))
    return pd.concat(tables)


def acting_models(args: argparse.Namespace) -> dict[str, Any]:
    """
    :param args: The command line
    :return: TD3 and SAVO with every number of actors, by name, with Hopper's shapes
    """
    models = {"TD3": make_model(TD3, SHAPES["Hopper"], device=args.device)}
    return models | {f"SAVO {n}": make_model(SAVO, SHAPES["Hopper"], device=args.device, n_actors=n) for n in args.actors}


def acting(args: argparse.Namespace) -> pd.DataFrame:
    """
    :param args: The command line
    :return: One row per number of environments and method: one call of ``predict``
    """
    shapes = SHAPES["Hopper"]
    models = acting_models(args)
    tables = []
    for n_envs in (1, 10, 16):
        obs = np.random.default_rng(0).uniform(-1, 1, (n_envs, shapes.obs_dim)).astype(np.float32)

        def predict(model: OffPolicyAlgorithm, obs: np.ndarray) -> None:
            for _ in range(100):
                model.predict(obs, deterministic=True)

        times = time_interleaved({label: partial(predict, model, obs) for label, model in models.items()}, args.repeats)
        tables.append(compare_to("TD3", times, 100).assign(n_envs=n_envs))
    return pd.concat(tables)


def operations(args: argparse.Namespace) -> pd.DataFrame:
    """
    :param args: The command line
    :return: One row per method: floating-point operations in the matrix products of ``predict``, per observation
    """
    rows = []
    for name, model in acting_models(args).items():
        model.policy.set_training_mode(False)
        obs, _ = model.policy.obs_to_tensor(np.zeros((1, SHAPES["Hopper"].obs_dim), dtype=np.float32))
        with th.no_grad():  # by the policy in torch, since NumPy's operations are not counted
            rows.append({"what": name, "flop": count_flops(partial(model.policy._predict, obs, deterministic=True))})
    table = pd.DataFrame(rows)
    return table.assign(ratio=table.flop / table.flop[0])


def collection(args: argparse.Namespace) -> pd.DataFrame:
    """
    :param args: The command line
    :return: One row per number of environments and method: one step of all environments, stored in the buffer
    """
    return _time_learning(args, n_steps=200, n_envs=(1, 16), gradient_steps=0)


def training(args: argparse.Namespace) -> pd.DataFrame:
    """
    :param args: The command line
    :return: One row per method: one step of an environment and one gradient step
    """
    return _time_learning(args, n_steps=50, n_envs=(1,), gradient_steps=1)


def _time_learning(args: argparse.Namespace, n_steps: int, n_envs: tuple[int, ...], gradient_steps: int) -> pd.DataFrame:
    def learn(model: Any) -> None:
        # learn() compiles the losses anew in every call, so repeat its loop here
        model._total_timesteps = model.num_timesteps + n_steps * model.n_envs
        callback = model._init_callback(None)
        while model.num_timesteps < model._total_timesteps:
            model.collect_rollouts(model.env, callback, model.train_freq, model.replay_buffer, learning_starts=0)
            if gradient_steps > 0:
                model.train(gradient_steps=gradient_steps, batch_size=256)
        synchronize(args.device)

    tables = []
    for n in n_envs:
        kwargs: dict[str, Any] = {"n_envs": n, "gradient_steps": gradient_steps, "device": args.device}
        shapes = SHAPES["Hopper"]
        models = {"TD3": make_model(TD3, shapes, **kwargs)}
        for n_actors in args.actors:
            for precision in ("highest", "medium") if gradient_steps > 0 else ("highest",):
                settings = {"n_actors": n_actors, "compile": gradient_steps > 0, "precision": precision}
                models[f"SAVO {n_actors} {precision}"] = make_model(SAVO, shapes, **kwargs, **settings)
                take_over(models[f"SAVO {n_actors} {precision}"])
        times = time_interleaved({label: partial(learn, model) for label, model in models.items()}, args.repeats)
        table = compare_to("TD3", times, n_steps)
        tables.append(table.assign(n_envs=n, steps_per_second=1e3 * n / table.median_ms))
    return pd.concat(tables)


MEMORY_SCRIPT = """
import numpy
from stable_baselines3 import TD3
from benchmarks.timing import SHAPES, make_model, process_memory, take_over
from sb3_savo import SAVO
model = make_model({algorithm}, SHAPES["Hopper"], **{kwargs})
for array in vars(model.replay_buffer).values():
    if isinstance(array, numpy.ndarray):
        array.fill(0)
take_over(model)
model.train(gradient_steps=20, batch_size=256)
print(process_memory("VmHWM"))
"""


def memory(args: argparse.Namespace) -> pd.DataFrame:
    """
    :param args: The command line
    :return: One row per method: peak memory of a process with a full replay buffer that makes some gradient steps
    """
    rows = []
    methods = {"TD3": ("TD3", {}), **{f"SAVO {n}": ("SAVO", {"n_actors": n, "compile": False}) for n in args.actors}}
    methods["SAVO 3 compiled"] = ("SAVO", {"n_actors": 3, "compile": True})
    for name, (algorithm, kwargs) in methods.items():
        script = MEMORY_SCRIPT.format(algorithm=algorithm, kwargs=kwargs)
        result = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True)
        rows.append({"what": name, "peak_MiB": float(result.stdout.split()[-1])})
    table = pd.DataFrame(rows)
    return table.assign(ratio=table.peak_MiB / table.peak_MiB[0])


COMPILATION_SCRIPT = """
import time
import torch
from benchmarks.timing import SHAPES, make_model
from sb3_savo import SAVO
from sb3_savo.acceleration.compiled_losses import EAGER_STEPS
torch.set_num_threads({threads})
eager, compiled = (make_model(SAVO, SHAPES["Hopper"], n_actors={n_actors}, compile=compile) for compile in (False, True))
times = [time.perf_counter()]
for call in (
    lambda: eager.train(gradient_steps=EAGER_STEPS, batch_size=256),
    lambda: compiled.train(gradient_steps=EAGER_STEPS, batch_size=256),
    lambda: compiled.train(gradient_steps=compiled.policy_delay, batch_size=256),
):
    call()
    times.append(time.perf_counter())
assert compiled.updater.is_compiled
print(*times)
"""


def compilation(args: argparse.Namespace) -> pd.DataFrame:
    """
    :param args: The command line
    :return: One row per number of actors and state of the folder of compiled code: ``takeover_s`` from the first gradient step
        until compiled losses have taken over, of which ``waited_s`` is the wait at the end; ``eager_s`` of as many gradient
        steps without compilation
    """
    rows = []
    for n_actors in args.actors:
        script = COMPILATION_SCRIPT.format(n_actors=n_actors, threads=args.threads)
        with tempfile.TemporaryDirectory(prefix="compilation-") as folder:
            for state in ("cold", "warm"):
                result = subprocess.run(
                    [sys.executable, "-W", "ignore", "-c", script],
                    env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": folder},
                    capture_output=True,
                    text=True,
                    check=True,
                )
                start, eager, first, end = map(float, result.stdout.splitlines()[-1].split())
                seconds = {"takeover_s": end - eager, "waited_s": end - first, "eager_s": eager - start}
                rows.append({"what": f"SAVO {n_actors} {state}", **seconds})
    return pd.DataFrame(rows)


PARTS = {
    "update": update,
    "acting": acting,
    "operations": operations,
    "collection": collection,
    "training": training,
    "memory": memory,
    "compilation": compilation,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_timing_arguments(parser, PARTS, "speed")
    parser.add_argument("--repeats", type=at_least(1), default=15, help="timed calls of each model")
    parser.add_argument("--actors", nargs="+", type=at_least(1), default=[1, 3, 5, 10], help="numbers of actors")
    parser.add_argument(
        "--device", default="cpu", help="where the networks are: cpu or cuda (but not for memory and compilation)"
    )
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    run_parts(PARTS, parser.parse_args())


if __name__ == "__main__":
    main()
