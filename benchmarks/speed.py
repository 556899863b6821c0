"""
How fast is what is ours? Ratios of medians (and of minima), what is compared being measured in turn.

    python -m benchmarks.speed                    # all parts
    python -m benchmarks.speed --parts update --threads 2 --shapes Hopper --actors 3

update: a gradient step of SAVO against SB3's TD3 (and SBX's, if it is installed), of Hopper's and of RecSim's shapes, eager
and compiled, in either precision; ``torch_medium`` is float32 under ``torch.set_float32_matmul_precision("medium")``. acting:
``predict``. collection: environment steps without learning. training: environment steps per second with one gradient step
each. memory: peak of a process that trains. recsim: steps of 16 users in ``RecSimVecEnv`` against SB3's ``DummyVecEnv`` of the
scalar environment. nearest: our search for the nearest items against faiss's flat index, and our approximate index with its
recall, for 48 and 768 queries.

Each part is written to a CSV file of its own.
"""

import argparse
import dataclasses
import importlib.metadata
import os
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import gymnasium as gym
import numpy as np
import pandas as pd
import torch as th
from gymnasium import spaces
from stable_baselines3 import TD3
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from benchmarks.runs import RESULTS
from sb3_savo import SAVO
from sb3_savo.actions.nearest import ApproximateNearestItems, NearestItems
from sb3_savo.envs.recsim import RecSimVecEnv
from sb3_savo.envs.recsim.users import make_catalogue


@dataclasses.dataclass
class Shapes:
    """Sizes of observations, actions and networks."""

    obs_dim: int
    action_dim: int
    net_arch: dict[str, list[int]]
    own: dict[str, Any]


SHAPES = {
    "Hopper": Shapes(11, 3, {"pi": [256, 256], "qf": [256, 256]}, {}),
    "RecSim": Shapes(30, 45, {"pi": [64, 32, 32, 16], "qf": [64, 32]}, {"summary_dim": 32}),
}
N_STEPS = 10  # gradient steps at a time


class Noise(gym.Env):
    """Random observations, of given shapes: what is measured is not the environment."""

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


def in_turn(candidates: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """
    :param candidates: What to measure, by name
    :param repeats: How often each is called, after a call that does not count
    :return: The times of each, in milliseconds
    """
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for repeat in range(repeats + 1):
        for name, call in candidates.items():
            start = time.perf_counter()
            call()
            if repeat > 0:
                times[name].append(1e3 * (time.perf_counter() - start))
    return times


def medians(times: dict[str, list[float]]) -> dict[str, float]:
    """:return: The median of each"""
    return {name: median(values) for name, values in times.items()}


def compared(times: dict[str, list[float]], n: int, reference: str = "TD3") -> pd.DataFrame:
    """
    :param times: What :func:`in_turn` measured
    :param n: How much was done at a time
    :param reference: What the others are compared with
    :return: One row each: medians and minima of one in milliseconds, and their ratios to the reference's
    """
    rows = []
    for name, values in times.items():
        rows.append(
            {
                "what": name,
                "median_ms": median(values) / n,
                "min_ms": min(values) / n,
                "ratio": median(values) / median(times[reference]),
                "ratio_of_minima": min(values) / min(times[reference]),
            }
        )
    return pd.DataFrame(rows)


def make(algorithm: Any, shapes: Shapes, n_envs: int = 1, own_policy: bool = False, **kwargs: Any) -> Any:
    """
    :param algorithm: TD3 or SAVO
    :param shapes: Of what
    :param n_envs: Number of environments
    :param own_policy: Whether it takes the policy arguments that are SAVO's own
    :param kwargs: What else the algorithm takes
    :return: A model that has collected some transitions and not learned
    """
    env = make_vec_env(lambda: Noise(shapes), n_envs=n_envs, seed=0)
    policy_kwargs = {"net_arch": shapes.net_arch, **(shapes.own if own_policy else {})}
    options = {"buffer_size": 20_000, "learning_starts": 2_048, "batch_size": 256, "policy_kwargs": policy_kwargs, "seed": 0}
    if not algorithm.__module__.startswith("sbx"):
        options["device"] = "cpu"
    model = algorithm("MlpPolicy", env, **options, **kwargs)
    return model.learn(2_048, log_interval=None)


def sbx_td3() -> Any:
    """:return: SBX's TD3, or None"""
    try:
        from sbx import TD3 as SBXTD3
    except ImportError:
        return None
    return SBXTD3


@contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """
    :param precision: As of ``torch.set_float32_matmul_precision``
    :return: A context in which it holds
    """
    before = th.get_float32_matmul_precision()
    th.set_float32_matmul_precision(precision)
    yield
    th.set_float32_matmul_precision(before)


def update(args: argparse.Namespace) -> pd.DataFrame:
    """
    :param args: The command line
    :return: One row per shape and method
    """
    tables = []
    for name in args.shapes:
        shapes = SHAPES[name]
        models = {"TD3": make(TD3, shapes)}
        if sbx_td3() is not None:
            models["SBX TD3"] = make(sbx_td3(), shapes)
        settings: dict[str, dict[str, Any]] = {"TD3": {}, "SBX TD3": {}}
        for n_actors in args.actors:
            for compile in (False, True):
                for precision in ("highest", "medium"):
                    label = f"SAVO {n_actors} {'compiled' if compile else 'eager'} {precision}"
                    settings[label] = {"n_actors": n_actors, "compile": compile, "precision": precision}
                    models[label] = make(SAVO, shapes, own_policy=True, **settings[label])

        def steps(model: Any, precision: str = "highest") -> None:
            with matmul_precision(precision):
                model.train(gradient_steps=N_STEPS, batch_size=256)

        calls: dict[str, Callable[[], object]] = {label: partial(steps, model) for label, model in models.items()}
        for label in [label for label in models if label.endswith("compiled highest")]:
            torch_medium = label.replace("highest", "torch_medium")
            calls[torch_medium] = partial(steps, models[label], "medium")
            settings[torch_medium] = {**settings[label], "precision": "torch_medium"}
        table = compared(in_turn(calls, repeats=args.repeats), N_STEPS)
        columns = pd.DataFrame([settings[label] for label in table.what], columns=["n_actors", "compile", "precision"])
        tables.append(pd.concat([pd.Series([name] * len(table), name="shapes"), table, columns], axis=1))
    return pd.concat(tables)


def acting(args: argparse.Namespace) -> pd.DataFrame:
    """
    :param args: The command line
    :return: One row per number of environments and method: one call of ``predict``
    """
    shapes = SHAPES["Hopper"]
    models = {"TD3": make(TD3, shapes)} | {f"SAVO {n}": make(SAVO, shapes, n_actors=n) for n in args.actors}
    tables = []
    for n_envs in (1, 10, 16):
        obs = np.random.default_rng(0).uniform(-1, 1, (n_envs, shapes.obs_dim)).astype(np.float32)

        def predictions(model: OffPolicyAlgorithm, obs: np.ndarray) -> None:
            for _ in range(100):
                model.predict(obs, deterministic=True)

        table = compared(in_turn({k: partial(predictions, m, obs) for k, m in models.items()}, args.repeats), 100)
        tables.append(table.assign(n_envs=n_envs))
    return pd.concat(tables)


def collection(args: argparse.Namespace) -> pd.DataFrame:
    """
    :param args: The command line
    :return: One row per number of environments and method: one step of all environments, with the buffer
    """
    return _learning(args, n_steps=200, n_envs=(1, 16), gradient_steps=0)


def training(args: argparse.Namespace) -> pd.DataFrame:
    """
    :param args: The command line
    :return: One row per method: one step of an environment and one gradient step
    """
    return _learning(args, n_steps=50, n_envs=(1,), gradient_steps=1)


def _learning(args: argparse.Namespace, n_steps: int, n_envs: tuple[int, ...], gradient_steps: int) -> pd.DataFrame:
    def steps(model: Any) -> None:
        # Not by learn(), which would compile anew each time
        model._total_timesteps = model.num_timesteps + n_steps * model.n_envs
        callback = model._init_callback(None)
        while model.num_timesteps < model._total_timesteps:
            model.collect_rollouts(model.env, callback, model.train_freq, model.replay_buffer, learning_starts=0)
            if gradient_steps > 0:
                model.train(gradient_steps=gradient_steps, batch_size=256)

    tables = []
    for n in n_envs:
        kwargs: dict[str, Any] = {"n_envs": n, "gradient_steps": gradient_steps}
        shapes = SHAPES["Hopper"]
        models = {"TD3": make(TD3, shapes, **kwargs)}
        for n_actors in args.actors:
            for precision in ("highest", "medium") if gradient_steps > 0 else ("highest",):
                label = f"SAVO {n_actors} {precision}"
                own = {"n_actors": n_actors, "compile": gradient_steps > 0, "precision": precision}
                models[label] = make(SAVO, shapes, **kwargs, **own)
        table = compared(in_turn({k: partial(steps, m) for k, m in models.items()}, args.repeats), n_steps)
        tables.append(table.assign(n_envs=n, steps_per_second=1e3 * n / table.median_ms))
    return pd.concat(tables)


MEMORY_SCRIPT = """
import numpy
from benchmarks.speed import SHAPES, SAVO, TD3, make
model = make({algorithm}, SHAPES["Hopper"], **{kwargs})
for array in vars(model.replay_buffer).values():
    if isinstance(array, numpy.ndarray):
        array.fill(0)
model.train(gradient_steps=20, batch_size=256)
# (Of this process: ru_maxrss would count the one that started it.)
print(next(int(line.split()[1]) / 2**10 for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def memory(args: argparse.Namespace) -> pd.DataFrame:
    """
    :param args: The command line
    :return: One row per method: the peak of a process with a full replay buffer that makes some gradient steps
    """
    rows = []
    methods = {"TD3": ("TD3", {}), **{f"SAVO {n}": ("SAVO", {"n_actors": n, "compile": False}) for n in args.actors}}
    methods["SAVO 3 compiled"] = ("SAVO", {"n_actors": 3, "compile": True})
    for name, (algorithm, kwargs) in methods.items():
        script = MEMORY_SCRIPT.format(algorithm=algorithm, kwargs=kwargs)
        found = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True)
        rows.append({"what": name, "peak_MiB": float(found.stdout.split()[-1])})
    table = pd.DataFrame(rows)
    return table.assign(ratio=table.peak_MiB / table.peak_MiB[0])


def recsim(args: argparse.Namespace) -> pd.DataFrame:
    """
    :param args: The command line
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
    times = medians(in_turn({"scalar": lambda: steps(scalar), "batched": lambda: steps(batched)}, repeats=21))
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
            times = medians(in_turn(searches, repeats=5))
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


PARTS = {
    "update": update,
    "acting": acting,
    "collection": collection,
    "training": training,
    "memory": memory,
    "recsim": recsim,
    "nearest": nearest,
}


def machine(threads: int) -> str:
    """
    :param threads: Number of threads
    :return: Where and with what the figures were measured
    """
    cpu = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        names = [line.partition(":")[2].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
        cpu = names[0] if names else cpu
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("torch", "numpy", "stable_baselines3")]
    bfloat16 = "AMX" if th.cpu._is_amx_tile_supported() else "no AMX"
    return f"{cpu} ({th.backends.cpu.get_cpu_capability()}, {bfloat16}), {threads} threads, {', '.join(versions)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--actors", nargs="+", type=int, default=[1, 3, 5, 10], help="numbers of actors")
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--folder", type=Path, default=RESULTS / "speed")
    args = parser.parse_args()

    th.set_num_threads(args.threads)
    th.manual_seed(0)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    args.folder.mkdir(parents=True, exist_ok=True)
    print(machine(args.threads))
    for name in args.parts:
        table = PARTS[name](args)
        print(f"\n{name}\n{table.round(3).to_string(index=False)}", flush=True)
        path = args.folder / f"{name}-{args.threads}.csv"
        unfinished = path.with_suffix(".partial")
        unfinished.write_text(f"# {machine(args.threads)}\n{table.to_csv(index=False, float_format='%.4f')}")
        os.replace(unfinished, path)


if __name__ == "__main__":
    main()
