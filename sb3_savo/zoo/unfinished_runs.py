"""
The same command of the RL Zoo, run again, goes on with the run that did not finish::

    logs/savo/Pendulum-v1_1/
        run.json        what the command asked for, the seed, and whether the run has finished
        run.lock        held by the process that runs
        checkpoints/    those of ``learn``
"""

import argparse
import json
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_savo.files.atomic import write

ABOUT, LOCK, CHECKPOINTS = "run.json", "run.lock", "checkpoints"
# Arguments of the command that may be others where a run goes on. The seed is compared apart from them.
FREE_OPTIONS = (
    "command",
    "device",
    "log_folder",
    "num_threads",
    "progress",
    "saved_hyperparams",
    "seed",
    "tensorboard_log",
    "verbose",
)


class ZooRun:
    """
    The folder of a run that writes checkpoints.

    :param folder: The folder
    :param settings: What the command asked for, see :func:`command_settings`
    :param seed: The seed of the run
    """

    def __init__(self, folder: Path, settings: dict[str, Any], seed: int):
        self.folder = folder
        self.settings = settings
        self.seed = seed
        # Whether ``learn`` has returned, and was not interrupted
        self.has_learned = False
        self._lock = FileLock(folder / LOCK)

    def hold(self) -> bool:
        """:return: Whether this process has the folder to itself from now on"""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            return False
        return True

    def release(self) -> None:
        """Let other processes use the folder."""
        self._lock.release()

    def write(self) -> None:
        """
        Write what the run is.

        :raises OSError: if it cannot be written
        """
        about = {"settings": self.settings, "seed": self.seed, "is_finished": self.has_learned}
        write(self.folder / ABOUT, json.dumps(about, indent=1).encode())


class WithCheckpoints:
    """
    What the RL Zoo needs of a model that learns, with checkpoints in the folder of the run.

    :param model: The model
    :param run: The run
    """

    def __init__(self, model: BaseAlgorithm, run: ZooRun):
        self._model = model
        self._run = run

    @property
    def env(self) -> Any:
        """The model's environment."""
        return self._model.env

    def learn(self, total_timesteps: int, **kwargs: Any) -> None:
        """
        :param total_timesteps: See the model's ``learn``, as for the others
        """
        self._model.learn(total_timesteps, checkpoints=self._run.folder / CHECKPOINTS, **kwargs)  # type: ignore[call-arg]
        self._run.has_learned = True


def command_settings(args: argparse.Namespace, hyperparams: Mapping[str, Any], argv: list[str], seed: int) -> dict[str, Any]:
    """
    :param args: The arguments of the command, as the RL Zoo has parsed them
    :param hyperparams: The hyperparameters
    :param argv: The command itself
    :param seed: The seed
    :return: JSON by which one command is compared with another. Its entry "seed" is None if the RL Zoo has drawn it.
    """
    arguments = {name: value for name, value in sorted(vars(args).items()) if name not in FREE_OPTIONS}
    settings = {
        "arguments": arguments,
        "hyperparams": dict(hyperparams),
        "seed": None if has_drawn_seed(args, argv) else seed,
    }
    return json.loads(json.dumps(settings, default=describe))


def describe(value: Any) -> str:
    """:return: Text for what JSON does not know: the name of a class or a function, without its address"""
    name = getattr(value, "__qualname__", None)
    return repr(value) if name is None else f"{value.__module__}.{name}"


def has_drawn_seed(args: argparse.Namespace, argv: list[str]) -> bool:
    """
    :param args: The arguments of an experiment
    :param argv: The command
    :return: Whether the seed was drawn: the arguments are those of ``rl_zoo3.train``, and the command names no seed
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--seed", type=int, default=-1)
    return hasattr(args, "uuid") and parser.parse_known_args(argv[1:])[0].seed < 0


def find_unfinished_run(log_path: str, env_name: str, settings: dict[str, Any]) -> ZooRun | None:
    """
    :param log_path: The folder of an algorithm's runs
    :param env_name: The environment, as in the names of folders
    :param settings: What the command asks for
    :return: The newest run that asked for the same, has not finished, and that no process has; it is held by this process now.
        None if there is none.
    """
    pattern = re.compile(rf"{re.escape(env_name)}_\d+(_[0-9a-f-]+)?")
    found = [path for path in Path(log_path).glob(f"*/{ABOUT}") if pattern.fullmatch(path.parent.name)]
    for path in sorted(found, key=os.path.getmtime, reverse=True):
        run = read_unfinished_run(path, settings)
        # Another process may have finished it before this one held it
        if run is not None and run.hold():
            if read_unfinished_run(path, settings) is not None:
                return run
            run.release()
    return None


def read_unfinished_run(path: Path, settings: dict[str, Any]) -> ZooRun | None:
    """
    :param path: What :meth:`ZooRun.write` has written
    :param settings: What the command asks for
    :return: The run; None if it has finished or asked for something else
    """
    try:
        about = json.loads(path.read_text())
        is_same, seed = about["settings"] == settings and not about["is_finished"], int(about["seed"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        warnings.warn(f"{path} cannot be read, so its run does not go on: {type(error).__name__}: {error}", stacklevel=4)
        return None
    return ZooRun(path.parent, settings, seed) if is_same else None
