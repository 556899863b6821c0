"""What is checked before the first step of a run: the arguments of ``learn``, its callbacks, and whether it can learn."""

import math
import os
import warnings
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import TrainFrequencyUnit

from sb3_savo.actions.spaces import describe_difference
from sb3_savo.arguments import check_flag, check_integer, check_number, check_type
from sb3_savo.common.environments import have_equal_shapes

# Attributes of a callback by which SB3 tells it where it is in the run
PLACE_IN_RUN = ("model", "locals", "globals", "parent")


def check_learn_arguments(
    total_timesteps: Any,
    callback: Any,
    log_interval: Any,
    tb_log_name: Any,
    reset_num_timesteps: Any,
    progress_bar: Any,
    checkpoints: Any,
) -> None:
    """
    The arguments of ``learn``.

    :raises TypeError: if one has the wrong type
    :raises ValueError: if one is out of its range
    """
    check_number("total_timesteps", total_timesteps)
    if total_timesteps != int(total_timesteps):
        raise ValueError(f"total_timesteps={total_timesteps!r} is not whole: it must be a number of environment steps.")
    check_callback(callback)
    if log_interval is not None:
        check_integer("log_interval", log_interval, low=1)
    if tb_log_name is not None:
        check_type("tb_log_name", tb_log_name, str, "a name, or None")
    check_flag("reset_num_timesteps", reset_num_timesteps)
    check_flag("progress_bar", progress_bar)
    if checkpoints is not None:
        check_type("checkpoints", checkpoints, (str, os.PathLike), "the path of a folder, or None")
        if checkpoints == "":
            raise ValueError("checkpoints='' is no path: it must be the path of a folder, or None.")


def check_callback(callback: Any) -> None:
    """
    :param callback: A callback of SB3, several, or a function
    :raises TypeError: if it is none of them
    """
    if isinstance(callback, list):
        for part in callback:
            check_type("callback", part, BaseCallback, "an instance of BaseCallback, as all in a list of callbacks")
    elif isinstance(callback, type):
        raise TypeError(f"callback={callback!r} is a class: it must be an instance of it, {callback.__name__}(…).")
    elif callback is not None and not isinstance(callback, BaseCallback) and not callable(callback):
        raise TypeError(
            f"callback={callback!r} is a {type(callback).__name__}: it must be a BaseCallback, a list of them, "
            "a function or None."
        )


def callbacks_in(value: Any) -> list[BaseCallback]:
    """
    :param value: A callback, a container of callbacks, or anything else
    :return: The callback and all that it holds in its attributes, each once, the holder before what it holds
    """
    found: list[BaseCallback] = []
    seen: set[int] = set()

    def look_at(value: Any) -> None:
        if not isinstance(value, (BaseCallback, list, tuple, dict)) or id(value) in seen:
            return
        seen.add(id(value))
        if isinstance(value, BaseCallback):
            found.append(value)
            parts = [attribute for name, attribute in vars(value).items() if name not in PLACE_IN_RUN]
        else:
            parts = list(value.values()) if isinstance(value, dict) else list(value)
        for part in parts:
            look_at(part)

    look_at(value)
    return found


def check_evaluation(callback: Any, model: OffPolicyAlgorithm) -> None:
    """
    :param callback: The callbacks of a run
    :param model: The model that learns
    :raises ValueError: if it is to be evaluated in an environment with other actions or observations
    """
    for part in callbacks_in(callback):
        if not isinstance(part, EvalCallback):
            continue
        evaluated, own = part.eval_env.action_space, model.action_space
        if evaluated != own:
            raise ValueError(
                f"callback: the eval_env of EvalCallback has the action space {evaluated}, and the model's is {own}: "
                f"{describe_difference(own, evaluated)}. Both must be the same."
            )
        # Of images the channels may come first or last, as in the model's own environment
        evaluated = model._wrap_env(part.eval_env, verbose=0, monitor_wrapper=False).observation_space
        own = model.observation_space
        if not have_equal_shapes(own, evaluated):
            raise ValueError(
                f"callback: the eval_env of EvalCallback has the observation space {evaluated}, and the model's is {own}: "
                f"{describe_difference(own, evaluated)}. Both must be the same."
            )


def steps_to_do(model: OffPolicyAlgorithm, total_timesteps: int) -> int:
    """
    :param model: The model that is to learn
    :param total_timesteps: Environment steps that were asked for
    :return: Environment steps of the run, which ends with a whole rollout: ``train_freq`` steps of every environment. Where
        ``train_freq`` counts episodes, the last one is not known, and left out.
    """
    train_freq: Any = model.train_freq
    rollout = train_freq.frequency * model.n_envs if train_freq.unit == TrainFrequencyUnit.STEP else 1
    return math.ceil(total_timesteps / rollout) * rollout


def warn_of_no_gradient_step(model: OffPolicyAlgorithm, total_timesteps: int, reset_num_timesteps: bool) -> None:
    """
    Warn if the run ends before learning begins.

    :param model: The model that is to learn
    :param total_timesteps: Environment steps of this run
    :param reset_num_timesteps: Whether steps are counted from 0
    """
    start = 0 if reset_num_timesteps else model.num_timesteps
    end = start + steps_to_do(model, total_timesteps)
    if 0 < total_timesteps and end <= model.learning_starts and model.gradient_steps != 0:
        warnings.warn(
            f"total_timesteps={total_timesteps} and learning_starts={model.learning_starts}: this run makes no gradient step, "
            f"since it ends after {end} environment steps, all of them random actions. For a run that learns, learning_starts "
            "must be smaller, or total_timesteps larger.",
            UserWarning,
            stacklevel=3,
        )


def warn_of_empty_replay_buffer(model: OffPolicyAlgorithm, reset_num_timesteps: bool) -> None:
    """
    Warn if a run continues without what it has collected.

    :param model: The model that is to learn
    :param reset_num_timesteps: Whether steps are counted from 0
    """
    buffer = model.replay_buffer
    if not reset_num_timesteps and model.num_timesteps > 0 and buffer is not None and buffer.size() == 0:
        warnings.warn(
            f"reset_num_timesteps=False continues after {model.num_timesteps} environment steps, but the replay buffer is "
            "empty, since save() does not save it. For the same learning as without a break, call "
            "model.save_replay_buffer(path) after save(), and model.load_replay_buffer(path) after load().",
            UserWarning,
            stacklevel=3,
        )
