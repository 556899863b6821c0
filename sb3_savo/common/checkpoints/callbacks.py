"""The state of callbacks: what they have counted and found since the run began."""

import inspect
from collections.abc import Iterator
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback, ProgressBarCallback
from stable_baselines3.common.vec_env import VecEnv

from sb3_savo.common.before_learning import PLACE_IN_RUN, callbacks_in
from sb3_savo.common.checkpoints.environments import environment_state, knows_its_state, set_environment_state
from sb3_savo.common.checkpoints.values import values_of


def restored_callbacks(callback: BaseCallback) -> list[BaseCallback]:
    """:return: The callbacks of a run that a checkpoint holds: all but progress bars"""
    return [part for part in callbacks_in(callback) if not isinstance(part, ProgressBarCallback)]


def evaluation_environments(callback: BaseCallback) -> Iterator[VecEnv]:
    """:return: The vectorized environments that callbacks have"""
    for part in restored_callbacks(callback):
        yield from (value for value in vars(part).values() if isinstance(value, VecEnv))


def callback_state(callback: BaseCallback) -> dict[str, Any]:
    """
    :param callback: A callback
    :return: What its ``get_state`` returns, if it has ``get_state`` and ``set_state``; else its attributes that are no
        arguments of its constructor, as those are the script's
    """
    settings = inspect.signature(type(callback)).parameters
    environments = {name: environment_state(value) for name, value in vars(callback).items() if isinstance(value, VecEnv)}
    state = {"type": type(callback).__name__, "values": {}, "environments": environments}
    if knows_its_state(callback):
        return {**state, "own": callback.get_state()}  # type: ignore[attr-defined]
    left_out = {*settings, *PLACE_IN_RUN, *environments}
    names = [name for name, value in vars(callback).items() if name not in left_out and not callbacks_in(value)]
    return {**state, "values": values_of(callback, names)}


def set_callback_state(callback: BaseCallback, state: dict[str, Any]) -> None:
    """
    :param callback: A callback
    :param state: What :func:`callback_state` has returned
    """
    if "own" in state:
        callback.set_state(state["own"])  # type: ignore[attr-defined]
    for name, value in state["values"].items():
        setattr(callback, name, value)
    for name, environment in state["environments"].items():
        set_environment_state(getattr(callback, name), environment, f"{type(callback).__name__}.{name}")


def advance_progress_bars(callback: BaseCallback, num_timesteps: int) -> None:
    """
    :param callback: The callbacks of a run
    :param num_timesteps: Environment steps that a checkpoint has brought
    """
    for part in callbacks_in(callback):
        if isinstance(part, ProgressBarCallback):
            part.pbar.update(num_timesteps)
