"""
Is a run that was killed again and again the same, bit for bit, as one that was not?

    python -m benchmarks.resume
    python -m benchmarks.resume --kills 3 --tasks Hopper RecSim --algorithms savo

Every case is learned twice in processes of its own: without checkpoints, and with them under SIGKILLs at random times. Then
the networks, optimizers, replay buffers, random generators, noise, environments, evaluations and rows of the logs are
compared. The first cases are all tasks with all algorithms, the others SAVO with one special setting each. The exit code is 1
if one differs.
"""

import argparse
import csv
import hashlib
import io
import itertools
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pandas as pd
import torch as th
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.common.logger import configure
from stable_baselines3.common.noise import OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecFrameStack, VecMonitor, VecNormalize

from benchmarks.command_line import at_least, output_file
from benchmarks.processes import in_process
from benchmarks.recording import write_durably
from sb3_savo import WatchedSubprocVecEnv
from sb3_savo.algorithms import ALGORITHMS
from sb3_savo.common.checkpoints import run as checkpointed_run
from sb3_savo.common.checkpoints.snapshot import random_state
from sb3_savo.envs.recsim import RecSimVecEnv

TASKS = {
    "Hopper": "HopperRestricted-v4",
    "Ant": "AntRestricted-v4",
    "AdroitHandDoor": "AdroitHandDoor-v1",
    "Mining": "MiningExpedition-v0",
    "RecSim": "RecSim-v0",
    "RecSimVecEnv": "RecSimVecEnv",
    "Landscape": "LandscapePeaks2D-v0",
}
ITEMS = ("Mining", "RecSim", "RecSimVecEnv")
N_STEPS = 400
# Checkpoints are more frequent here than otherwise, so that there is one between two kills
PERIOD = 2
# Columns of logs that hold times
TIMES = ("t", "time/fps", "time/time_elapsed")


class Case(NamedTuple):
    """
    :param name: Its name
    :param task: One of :data:`TASKS`, or Gymnasium's ID
    :param algorithm: One of :data:`sb3_savo.algorithms.ALGORITHMS`
    :param n_envs: Number of environments
    :param arguments: Arguments of the constructor
    :param vec_env: The kind of vectorized environment
    :param wrap: Wraps it
    :param n_steps: Environment steps
    """

    name: str
    task: str
    algorithm: str = "savo"
    n_envs: int = 1
    arguments: dict[str, Any] = {}  # noqa: RUF012 (never changed)
    vec_env: type[DummyVecEnv] | type[SubprocVecEnv] = DummyVecEnv
    wrap: Callable[[VecEnv], VecEnv] | None = None
    n_steps: int = N_STEPS


class GoalEnv(BitFlippingEnv):
    """SB3's task of flipping bits, drawing from its own generator only, as environments have to."""

    def __init__(self) -> None:
        super().__init__(n_bits=4, continuous=True, max_steps=5)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """:return: The first observation, and no information"""
        gym.Env.reset(self, seed=seed)
        self.current_step = 0
        self.state = self.np_random.integers(2, size=4).astype(self.state.dtype if hasattr(self, "state") else int)
        return self._get_obs(), {}


def special_cases() -> Iterator[Case]:
    """:return: SAVO with one special setting each"""
    noise = OrnsteinUhlenbeckActionNoise(np.zeros(1), 0.1 * np.ones(1))
    yield Case("4 processes", "InvertedPendulumRestricted-v4", n_envs=4, vec_env=SubprocVecEnv)
    yield Case("4 watched processes", "InvertedPendulumRestricted-v4", n_envs=4, vec_env=WatchedSubprocVecEnv)
    yield Case("VecNormalize", "Pendulum-v1", n_envs=2, wrap=VecNormalize)
    yield Case("VecFrameStack", "Pendulum-v1", n_envs=2, wrap=lambda env: VecFrameStack(env, 3))
    yield Case("3-step returns", "InvertedPendulumRestricted-v4", arguments={"n_steps": 3})
    yield Case(
        "optimize_memory_usage",
        "Pendulum-v1",
        arguments={"optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}},
    )
    yield Case("episodes", "InvertedPendulumRestricted-v4", arguments={"train_freq": (1, "episode"), "gradient_steps": -1})
    yield Case("action noise", "Pendulum-v1", n_envs=2, arguments={"action_noise": noise})
    yield Case("HER", "goals", arguments={"policy": "MultiInputPolicy", "replay_buffer_class": HerReplayBuffer})
    yield Case("the paper's surrogates", "Pendulum-v1", arguments={"surrogate": "approximate"})
    # Compiled losses take over at step 252
    yield Case("compiled", "Pendulum-v1", arguments={"compile": True})


def all_cases() -> list[Case]:
    """:return: All cases: every task with every algorithm, with 1 and 4 environments in turn, and the special ones"""
    pairs = itertools.product(TASKS, ALGORITHMS)
    return [
        *(
            Case(f"{task}, {algorithm}, {n_envs} env{'s' if n_envs > 1 else ''}", task, algorithm, n_envs)
            for (task, algorithm), n_envs in zip(pairs, itertools.cycle((1, 4)), strict=False)
            if not (task in ITEMS and algorithm == "savosac")
        ),
        *special_cases(),
    ]


def make_env(case: Case, n_envs: int, seed: int, folder: Path | None = None) -> VecEnv:
    """
    :param case: A case
    :param n_envs: Number of environments
    :param seed: Their seed
    :param folder: Where their monitors write
    :return: The environments
    """
    env: VecEnv
    if case.task == "RecSimVecEnv":
        env = VecMonitor(RecSimVecEnv(n_envs), None if folder is None else str(folder / "users"))
        env.seed(seed)
    else:
        env_id: Any = GoalEnv if case.task == "goals" else TASKS.get(case.task, case.task)
        env = make_vec_env(
            env_id,
            n_envs,
            seed=seed,
            monitor_dir=None if folder is None else str(folder),
            vec_env_cls=case.vec_env,
            # Workers that import nothing again
            vec_env_kwargs={} if case.vec_env is DummyVecEnv else {"start_method": "fork"},
        )
    return env if case.wrap is None else case.wrap(env)


def learn(case: Case, folder: Path, checkpoints: Path | None, at_start: Callable[[], None] = lambda: None) -> str:
    """
    Learn a case.

    :param case: The case
    :param folder: For its logs
    :param checkpoints: For its checkpoints; None for none
    :param at_start: Is called when everything is made
    :return: A digest of the whole result
    """
    th.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    env = make_env(case, case.n_envs, 1, folder)
    arguments = {
        "policy": "MlpPolicy",
        "learning_starts": 50,
        "buffer_size": 300,
        "batch_size": 16,
        "train_freq": 2,
        "gradient_steps": 1,
        "policy_kwargs": {"net_arch": [16, 16]},
        "seed": 0,
        "device": "cpu",
        **case.arguments,
    }
    model: Any = ALGORITHMS[case.algorithm](env=env, **arguments)
    model.set_logger(configure(str(folder), ["csv"]))
    evaluation = EvalCallback(
        make_env(case, 1, 2),
        eval_freq=max(1, 100 // case.n_envs),
        n_eval_episodes=1,
        log_path=str(folder),
        verbose=0,
        warn=False,
    )
    at_start()
    try:
        model.learn(case.n_steps, callback=evaluation, checkpoints=checkpoints)
        return digest(model, evaluation, folder)
    finally:
        model.logger.close()
        env.close()
        evaluation.eval_env.close()


def digest(model: Any, evaluation: EvalCallback, folder: Path) -> str:
    """
    :param model: A model that has learned
    :param evaluation: Its evaluations
    :param folder: Its logs
    :return: A digest of everything that must be the same
    """
    sha = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, dict):
            for key in sorted(value, key=str):
                sha.update(str(key).encode())
                add(value[key])
        elif isinstance(value, (list, tuple)):
            for part in value:
                add(part)
        elif isinstance(value, th.Tensor):
            add(value.detach().cpu().numpy())
        elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
            sha.update(value.tobytes())
        elif isinstance(value, np.random.Generator):
            add(value.bit_generator.state)
        else:
            sha.update(repr(value).encode())

    states, _ = model._get_torch_save_params()
    parts: list[Any] = [model.get_parameters()[name] for name in states]
    buffer = vars(model.replay_buffer)
    parts += [buffer[name] for name in sorted(buffer) if isinstance(buffer[name], (np.ndarray, dict, int))]
    parts += [random_state(model), model.num_timesteps, model._n_updates, model._last_obs]
    parts.append(getattr(model.candidate_noise, "state", None))
    parts += [evaluation.evaluations_results, evaluation.evaluations_timesteps, evaluation.best_mean_reward]
    if model.get_vec_normalize_env() is not None:
        normalize = model.get_vec_normalize_env()
        parts += [normalize.obs_rms.mean, normalize.obs_rms.var, normalize.ret_rms.var, normalize.returns]  # type: ignore[union-attr]
    for path in sorted(folder.glob("*.csv")):
        parts.append([path.name, rows_without_times(path)])
    add(parts)
    return sha.hexdigest()


def rows_without_times(path: Path) -> list[dict[str, str]]:
    """
    :param path: A log
    :return: Its rows without the columns that hold times
    """
    text = "\n".join(line for line in path.read_text().splitlines() if not line.startswith("#"))
    rows = csv.DictReader(io.StringIO(text))
    return [{name: value for name, value in sorted(row.items()) if name not in TIMES} for row in rows]


def survive(case: Case, n_kills: int, folder: Path, rng: random.Random) -> tuple[int, bool]:
    """
    :param case: A case
    :param n_kills: How often to kill it
    :param folder: For its files
    :param rng: Draws the times of the kills
    :return: How often it was killed, and whether the result is the same in the end
    """
    checkpointed_run.PERIOD = PERIOD
    started = folder / "started"
    expected = in_process(lambda: learn(case, folder / "whole", None, started.touch), folder)
    if expected is None:
        return 0, False
    duration = time.time() - started.stat().st_mtime
    began = time.monotonic()
    kills = 0
    while kills < n_kills:
        started.unlink(missing_ok=True)
        seconds = rng.uniform(0, 2 * duration / n_kills)

        def kill_after(seconds: float = seconds) -> float:
            limit = time.monotonic() + 60
            while not started.exists() and time.monotonic() < limit:
                time.sleep(0.002)
            return seconds

        work = lambda: learn(case, folder / "killed", folder / "checkpoints", started.touch)  # noqa: E731
        if in_process(work, folder, kill_after) is not None:
            break
        kills += 1
        if time.monotonic() - began > 600:
            break
    result = in_process(lambda: learn(case, folder / "killed", folder / "checkpoints"), folder)
    return kills, result == expected


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=at_least(1), default=20, help="SIGKILLs per case")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, help="only these")
    parser.add_argument("--algorithms", nargs="+", choices=ALGORITHMS, help="only these")
    parser.add_argument("--special", action="store_true", help="only the special settings")
    parser.add_argument("--seed", type=at_least(0), default=0, help="seed of the times of the kills")
    parser.add_argument("--output", type=output_file, default="benchmarks/results/resume.csv", help="CSV to write")
    args = parser.parse_args()

    import rl_zoo3.utils  # noqa: F401 (registers the Adroit tasks)

    special = {case.name for case in special_cases()}
    cases = [
        case
        for case in all_cases()
        if (args.tasks is None or case.task in args.tasks)
        and (args.algorithms is None or case.algorithm in args.algorithms)
        and (not args.special or case.name in special)
    ]
    if not cases:
        parser.error("--tasks, --algorithms, --special: no case has all of them")
    rng = random.Random(args.seed)
    rows: list[dict[str, Any]] = []
    for case in cases:
        folder = Path(tempfile.mkdtemp(prefix="resume-"))
        kills, is_equal = survive(case, args.kills, folder, rng)
        shutil.rmtree(folder, ignore_errors=True)
        rows.append({"case": case.name, "kills": kills, "equal": is_equal})
        print(f"{case.name:40} {kills:3} kills  {'equal' if is_equal else 'DIFFERENT'}", flush=True)
        write_durably(args.output, pd.DataFrame(rows).to_csv(index=False))
    equal = sum(row["equal"] for row in rows)
    print(f"{equal} of {len(rows)} cases are bit for bit equal after {sum(row['kills'] for row in rows)} kills")
    sys.exit(equal < len(rows))


if __name__ == "__main__":
    main()
