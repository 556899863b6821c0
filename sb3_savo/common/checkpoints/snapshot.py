"""Everything that decides how a run goes on, and how it is put back."""

import inspect
import platform
import random
import time
import warnings
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from sb3_savo.common.checkpoints.callbacks import (
    advance_progress_bars,
    callback_state,
    restored_callbacks,
    set_callback_state,
)
from sb3_savo.common.checkpoints.environments import environment_state, set_environment_state
from sb3_savo.common.checkpoints.logs import logger_state, set_logger_state
from sb3_savo.common.checkpoints.store import Checkpoint
from sb3_savo.common.checkpoints.values import differing, encode, known_classes, noise_settings, settings_of, values_of
from sb3_savo.common.loading import restore
from sb3_savo.files.codec import Decoder
from sb3_savo.files.models import REMADE, read_model

# Attributes that the constructor and ``learn`` make again, and that do not change meanwhile
REMADE_ATTRIBUTES = (
    *REMADE,
    "policy_class",
    "observation_space",
    "action_space",
    "n_envs",
    "algorithm_name",
    "action_dim",
    "start_time",
    "_total_timesteps",
    "_num_timesteps_at_start",
    "_stats_window_size",
)
# Attributes that ``save`` leaves out, but that decide how a run goes on
ADDED_ATTRIBUTES = ("action_noise", "candidate_noise", "_action_masks", "_n_updates_at_start", "_plausible_range")
# Arguments that may be others where a run goes on
FREE_ARGUMENTS = ("env", "policy", "verbose", "tensorboard_log", "device", "_init_setup_model")
# Arguments that may be functions of the progress remaining
SCHEDULES = ("learning_rate", "qf_learning_rate")
# Packages in which computations may round differently from version to version
VERSIONS = ("sb3-savo", "stable-baselines3", "torch", "numpy", "gymnasium", "mujoco")
# Replay buffers whose rows are zero until they are written
FILLED_FROM_ZERO = ("stable_baselines3", "sb3_contrib", "sb3_savo")


class Snapshot(NamedTuple):
    """
    :param state: Everything that is no array, as JSON
    :param arrays: The arrays, by name, and how many of their rows are not zero; None for all
    :param about: What a manifest tells of the run
    """

    state: Any
    arrays: dict[str, tuple[np.ndarray, int | None]]
    about: dict[str, Any]


def take_snapshot(model: BaseAlgorithm, callback: BaseCallback, is_finished: bool) -> Snapshot:
    """
    :param model: A model that learns, between two rollouts
    :param callback: The callbacks of the run
    :param is_finished: Whether a callback has ended the run
    :return: All but the networks and optimizers, which are in the model's zip
    :raises TypeError: if the replay buffer, or an environment's state, cannot be written without pickle; the message names it
    """
    run = {
        "random": random_state(model),
        "attributes": values_of(model, saved_attributes(model)),
        "elapsed": time.time_ns() - model.start_time,
        "buffer": getattr(model, "replay_buffer", None),
        "environment": environment_state(model.env),  # type: ignore[arg-type]
        "callbacks": [callback_state(part) for part in restored_callbacks(callback)],
        "logger": logger_state(model.logger),
    }
    described, arrays = encode(run, known_classes(model))
    n_rows, n_filled = filled_rows(model)

    def has_a_row_per_transition(name: str, array: np.ndarray) -> bool:
        # The arrays of its spaces, such as the items' embeddings, may be as long by chance
        is_of_buffer = name.startswith("run.buffer.") and "_space." not in name
        return is_of_buffer and len(array.shape) > 1 and len(array) == n_rows

    sized = {name: (array, n_filled if has_a_row_per_transition(name, array) else None) for name, array in arrays.items()}
    about = {
        "algorithm": type(model).__name__,
        "num_timesteps": model.num_timesteps,
        "start": model._num_timesteps_at_start,
        "is_finished": is_finished,
        "arguments": arguments_of(model),
        "machine": machine(),
    }
    return Snapshot(described, sized, about)


def put_back(model: BaseAlgorithm, callback: BaseCallback, checkpoint: Checkpoint) -> None:
    """
    :param model: A model of the same arguments, which has begun to learn
    :param callback: The callbacks of the run
    :param checkpoint: What to put back
    :raises FileError: if the checkpoint is damaged
    :raises ValueError: if the environments or the callbacks are not those of the checkpoint
    """
    run = Decoder(checkpoint.arrays, known_classes(model)).decode(checkpoint.state)
    callbacks = restored_callbacks(callback)
    own, saved = [type(part).__name__ for part in callbacks], [part["type"] for part in run["callbacks"]]
    if own != saved:
        raise ValueError(
            f"callback: this run has the callbacks {', '.join(own) or 'none'}, and the one in {str(checkpoint.folder)!r} has "
            f"{', '.join(saved) or 'none'}: they must be the same, in the same order."
        )
    # Its attributes are not needed, and may be functions that cannot be loaded safely
    _, states, variables = read_model(checkpoint.model, custom_objects=dict.fromkeys(vars(model)))
    restore(model, states, variables)
    # First all that may draw random numbers, last their generators
    set_environment_state(model.env, run["environment"], "env")  # type: ignore[arg-type]
    for part, state in zip(callbacks, run["callbacks"], strict=True):
        set_callback_state(part, state)
    for name, value in run["attributes"].items():
        setattr(model, name, value)
    if run["buffer"] is not None:
        put_back_buffer(model, run["buffer"])
    model.start_time = time.time_ns() - run["elapsed"]
    set_logger_state(model.logger, run["logger"])
    advance_progress_bars(callback, model.num_timesteps - model._num_timesteps_at_start)
    set_random_state(model, run["random"])


def put_back_buffer(model: Any, buffer: Any) -> None:
    """
    :param model: A model
    :param buffer: Its replay buffer
    """
    if isinstance(buffer, HerReplayBuffer):
        buffer.set_env(model.env)
    buffer.device = model.device
    model.replay_buffer = buffer


def filled_rows(model: BaseAlgorithm) -> tuple[int, int | None]:
    """
    :param model: A model
    :return: The number of rows of its replay buffer, and how many may not be zero; None where that is not known
    """
    buffer = getattr(model, "replay_buffer", None)
    if buffer is None or type(buffer).__module__.partition(".")[0] not in FILLED_FROM_ZERO:
        return 0, None
    # optimize_memory_usage writes the next observation into the next row
    return buffer.buffer_size, None if buffer.full else min(buffer.pos + 1, buffer.buffer_size)


def saved_attributes(model: BaseAlgorithm) -> list[str]:
    """:return: The attributes of a model that a run changes"""
    variables = {name.partition(".")[0] for names in model._get_torch_save_params() for name in names}
    left_out = {*model._excluded_save_params(), *variables, *REMADE_ATTRIBUTES, *inspect.signature(type(model)).parameters}
    names = [name for name in vars(model) if name not in left_out]
    return names + [name for name in ADDED_ATTRIBUTES if hasattr(model, name) and name not in names]


def arguments_of(model: BaseAlgorithm) -> dict[str, Any]:
    """:return: The arguments of a model's constructor as JSON, which those of another run are compared with"""
    names = [name for name in inspect.signature(type(model)).parameters if name not in (*FREE_ARGUMENTS, *ADDED_ATTRIBUTES)]
    arguments = {name: settings_of(getattr(model, name)) for name in names if hasattr(model, name)}
    for name in SCHEDULES:
        schedule = getattr(model, name, None)
        if callable(schedule):  # a function is told by its values
            arguments[name] = [float(schedule(left / 10)) for left in range(11)]
    return {**arguments, "action_noise": noise_settings(getattr(model, "action_noise", None))}


@cache
def versions() -> dict[str, str]:
    """:return: The versions of packages, which are read from their files once"""
    return {name: version(name) for name in VERSIONS}


def machine() -> dict[str, Any]:
    """:return: What decides how numbers are rounded"""
    return {
        **versions(),
        "python": platform.python_version(),
        "processor": th.backends.cpu.get_cpu_capability(),
        "threads": th.get_num_threads(),
    }


def check_continues(model: BaseAlgorithm, checkpoint: Checkpoint, start: int) -> None:
    """
    :param model: A model that is to learn
    :param checkpoint: The checkpoint from which it is to go on
    :param start: Environment steps before the run
    :raises ValueError: if another run wrote it. A machine that may round differently gives a warning.
    """
    about, folder = checkpoint.about, str(checkpoint.folder.parent)
    anew = "For a new run, it must be another folder, or this one must be deleted."
    if about["algorithm"] != type(model).__name__:
        raise ValueError(
            f"checkpoints={folder!r} holds a run of {about['algorithm']}, and this is a {type(model).__name__}. {anew}"
        )
    if told := differing(model, arguments_of(model), about["arguments"]):
        raise ValueError(
            f"checkpoints={folder!r} holds a run with other arguments than {told}: a run that goes on must have the same. "
            f"{anew}"
        )
    if about["start"] != start:
        raise ValueError(
            f"checkpoints={folder!r} holds a run that began at step {about['start']}, and this one begins at step {start}: "
            f"both must be the same. {anew}"
        )
    here, there = machine(), about["machine"]
    changes = [f"{name} {value} there, {here.get(name)} here" for name, value in there.items() if value != here.get(name)]
    if changes:
        warnings.warn(
            f"checkpoints={folder!r} was written under other conditions ({'; '.join(changes)}). The run goes on, but numbers "
            "may be rounded differently from now on.",
            stacklevel=6,
        )


def random_state(model: BaseAlgorithm) -> dict[str, Any]:
    """:return: The states of all random generators in this process"""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=False),
        "torch": th.get_rng_state(),
        "cuda": th.cuda.get_rng_state_all() if th.cuda.is_available() else [],
        "action_space": model.action_space._np_random,
    }


def set_random_state(model: BaseAlgorithm, state: dict[str, Any]) -> None:
    """
    :param model: A model
    :param state: What :func:`random_state` has returned
    """
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    th.set_rng_state(state["torch"])
    if th.cuda.is_available() and state["cuda"]:
        th.cuda.set_rng_state_all(state["cuda"])
    model.action_space._np_random = state["action_space"]


def log_folder(checkpoint: Checkpoint) -> tuple[Path | None, dict[str, int]]:
    """
    :param checkpoint: A checkpoint
    :return: The folder of the run's TensorBoard files and their sizes; None if it has none
    """
    logger = Decoder(checkpoint.arrays).decode(dict(checkpoint.state["dict"])["logger"])
    for output in logger["formats"]:
        if "events" in output and logger["folder"] is not None and Path(logger["folder"]).is_dir():
            return Path(logger["folder"]), output["events"]
    return None, {}
