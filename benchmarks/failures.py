"""
Are failures named, and are saved models safe? Training goes on after every failure of the environments.

    python -m benchmarks.failures
    python -m benchmarks.failures --steps 100000 --steps-between 2000

Small agents learn in environments of which one fails at a random time: one agent chooses items with action masks, the other
has continuous actions. After each failure, the error must say which environment has failed and how, the last saved model and
replay buffer must load, and the model must predict what it predicted when it was saved. Training goes on from this save. The
exit code is 1 if a failure was not named, or a save was lost.

Columns: kind of the failure, number of failures, transitions before them, how many errors named environment and kind, and how
many saves were lost.
"""

import argparse
import multiprocessing
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from tqdm import tqdm

from benchmarks.command_line import at_least, output_file
from benchmarks.failing_env import EPISODE_STEPS, KINDS, N_ITEMS, OBSERVATION_DIM, FailingEnv, Failure
from benchmarks.recording import write_durably
from sb3_savo import SAVO, WatchedSubprocVecEnv

RESULTS = Path(__file__).parent / "results" / "failures.csv"
NO_MASKS = {"wrong_mask", "empty_mask"}
# Seconds without an answer after which an environment hangs
TIMEOUT = 5.0
N_PROBES = 50
SMALL = dict(
    n_actors=2,
    learning_starts=100,
    buffer_size=4_000,
    batch_size=32,
    train_freq=25,
    gradient_steps=2,
    compile=False,
    policy_kwargs={"net_arch": [16]},
    device="cpu",
)


class Save:
    """
    The last save: a model, its replay buffer, and what the model predicted.

    :param folder: Where it is
    :param name: Its files' name
    """

    def __init__(self, folder: Path, name: str):
        self.model_file, self.buffer_file = folder / f"{name}.zip", folder / f"{name}_replay_buffer"
        random = np.random.default_rng(0)
        self.probes = random.uniform(-1, 1, (N_PROBES, OBSERVATION_DIM)).astype(np.float32)
        self.masks = random.random((N_PROBES, N_ITEMS)) < 0.5
        self.masks[:, 0] = True

    def predictions(self, model: SAVO) -> np.ndarray:
        masks = self.masks if model.learned_with_masks else None
        return model.predict(self.probes, deterministic=True, action_masks=masks)[0]

    def write(self, model: SAVO) -> None:
        model.save(self.model_file)
        model.save_replay_buffer(self.buffer_file)
        self.num_timesteps = model.num_timesteps
        self.n_stored = model.replay_buffer.size()  # type: ignore[union-attr]
        self.predicted = self.predictions(model)

    def load(self, env: WatchedSubprocVecEnv | None = None) -> SAVO:
        """
        :param env: The environments in which the model is to learn
        :return: The saved model
        """
        model = SAVO.load(self.model_file, env=env, device="cpu")
        model.load_replay_buffer(self.buffer_file)
        return model

    def is_intact(self) -> bool:
        """:return: Whether the model loads with its replay buffer, and predicts as when it was saved"""
        try:
            model = self.load()
        except Exception as error:
            print(f"The save does not load: {error!r}", file=sys.stderr)
            return False
        stored = model.replay_buffer.size()  # type: ignore[union-attr]
        is_same = (model.num_timesteps, stored) == (self.num_timesteps, self.n_stored)
        return is_same and np.array_equal(self.predictions(model), self.predicted)


class SaveCallback(BaseCallback):
    """
    Saves at regular intervals.

    :param save: Where to save
    :param interval: Transitions from one save to the next
    """

    def __init__(self, save: Save, interval: int):
        super().__init__()
        self.save = save
        self.interval = interval

    def _on_step(self) -> bool:
        if self.num_timesteps - self.save.num_timesteps >= self.interval:
            self.save.write(self.model)  # type: ignore[arg-type]
        return True


def names(error: Exception | None, kind: str, worker: int) -> bool:
    """
    :param error: What training raised, if anything
    :param kind: How the environment failed
    :param worker: Which environment
    :return: Whether the error says both
    """
    return error is not None and re.search(KINDS[kind].format(worker=worker), str(error)) is not None


class Event(NamedTuple):
    """
    What a failure has shown: its kind (None for the end of the run), the transitions since the failure before, whether the
    error named it, and whether the save was lost.
    """

    kind: str | None
    n_steps: int
    is_named: bool = True
    is_lost: bool = False


class Trial:
    """
    One agent that learns through failures.

    :param has_items: Whether its actions are items
    :param args: The command line
    :param folder: Where to save
    """

    def __init__(self, has_items: bool, args: argparse.Namespace, folder: Path):
        self.has_items = has_items
        self.args = args
        self.random = np.random.default_rng([args.seed, has_items])
        self.save = Save(folder, "items" if has_items else "continuous")
        self.has_saved = False

    def kinds(self) -> Iterator[str]:
        """:return: All kinds of failures in random order, and again"""
        kinds = [kind for kind in KINDS if self.has_items or kind not in NO_MASKS]
        while True:
            yield from self.random.permutation(kinds)

    def run(self, n_steps: int) -> Iterator[Event]:
        """
        :param n_steps: Number of transitions
        :return: An event for each failure, and one for the last transitions, which no failure ended
        """
        for kind in self.kinds():
            # In transitions of all environments, of which one fails; some failures wait for the end of an episode
            after = int(self.random.integers(1, 2 * self.args.steps_between // self.args.n_envs + 1))
            budget = (after + 2 * EPISODE_STEPS) * self.args.n_envs
            fails = budget <= n_steps
            worker = int(self.random.integers(self.args.n_envs))
            failure = Failure(kind, after) if fails else None
            done, error = self._learn(min(budget, n_steps), worker, failure)
            n_steps -= done
            if not fails:
                if error is not None:
                    raise error
                yield Event(None, done)
                return
            is_named = names(error, kind, worker)
            if not is_named:
                print(f"{kind} of environment {worker} is not named: {error!r}", file=sys.stderr)
            is_lost = self.has_saved and not self.save.is_intact()
            self.has_saved = self.has_saved and not is_lost
            yield Event(kind, done, is_named, is_lost)

    def _learn(self, n_steps: int, worker: int, failure: Failure | None) -> tuple[int, Exception | None]:
        """:return: Number of transitions, and the error that ended them"""

        def make(index: int) -> FailingEnv:
            return FailingEnv(self.has_items, failure if index == worker else None)

        env = WatchedSubprocVecEnv([lambda i=i: make(i) for i in range(self.args.n_envs)], timeout=TIMEOUT)  # type: ignore[misc]
        try:
            env.seed(int(self.random.integers(2**31)))
            if self.has_saved:
                model = self.save.load(env)
            else:
                model = SAVO("MlpPolicy", env, seed=self.args.seed, **SMALL)  # type: ignore[arg-type]
                model.learned_with_masks = self.has_items
                self.save.write(model)
                self.has_saved = True
            start = model.num_timesteps
            try:
                callback = SaveCallback(self.save, self.args.steps_between // 4)
                model.learn(n_steps, callback, reset_num_timesteps=False)
            except Exception as error:
                return model.num_timesteps - start, error
            return model.num_timesteps - start, None
        finally:
            env.close()


def table(failures: list[Event]) -> pd.DataFrame:
    """
    :param failures: One event each
    :return: One row per kind
    """
    frame = pd.DataFrame(failures, columns=["kind", "transitions", "named", "lost_saves"])
    frame.insert(1, "failures", 1)
    order = [kind for kind in KINDS if kind in set(frame.kind)]
    return frame.groupby("kind").sum().loc[order].astype(int).reset_index()


def in_turn(trials: list[Trial], n_steps: int) -> Iterator[Event]:
    """
    :param trials: The agents
    :param n_steps: Number of transitions of each
    :return: What :meth:`Trial.run` yields, of the agent with the fewest transitions so far
    """
    events = {trial: trial.run(n_steps) for trial in trials}
    n_done = dict.fromkeys(trials, 0)
    while events:
        trial = min(events, key=lambda trial: n_done[trial])
        event = next(events[trial])
        n_done[trial] += event.n_steps
        if event.kind is None:
            del events[trial]
        yield event


def main() -> None:
    """:raises SystemExit: with 1 if a failure was not named or a save was lost, else with 0"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=at_least(2), default=2_000_000, help="number of transitions, half of them with items")
    parser.add_argument(
        "--steps-between", type=at_least(4), default=10_000, help="mean number of transitions between failures"
    )
    parser.add_argument("--n-envs", type=at_least(1), default=32, help="number of environments, each in a process")
    parser.add_argument("--seed", type=at_least(0), default=0, help="seed of the failures")
    parser.add_argument("--file", type=output_file, default=str(RESULTS), help="where to write")
    args = parser.parse_args()
    if 2 * args.steps_between < args.n_envs:
        parser.error(f"--steps-between {args.steps_between}: it must be at least half of --n-envs {args.n_envs}")
    th.set_num_threads(1)
    # The workers are forks of a process that has imported the libraries once
    multiprocessing.set_forkserver_preload(["benchmarks.failing_env", "pandas", "tqdm"])
    failures: list[Event] = []
    with tempfile.TemporaryDirectory() as folder, tqdm(total=args.steps) as bar:
        trials = [Trial(has_items, args, Path(folder)) for has_items in (True, False)]
        try:
            for event in in_turn(trials, args.steps // 2):
                bar.update(event.n_steps)
                if event.kind is not None:
                    failures.append(event)
                    write_durably(args.file, table(failures).to_csv(index=False))
        except KeyboardInterrupt:
            print("Stopped early", file=sys.stderr)
    result = table(failures)
    print(result.to_string(index=False))
    unnamed, lost = int((result.failures - result.named).sum()), int(result.lost_saves.sum())
    print(f"{bar.n:,} transitions, {len(failures)} failures: {unnamed} not named, {lost} saves lost")
    sys.exit(int(unnamed + lost > 0))


if __name__ == "__main__":
    main()
