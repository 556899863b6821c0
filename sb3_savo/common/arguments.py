"""The arguments that all our algorithms take: their types, for editors and type checkers, and their checks."""

import os
from functools import partial
from typing import Any, Literal, TypedDict

import numpy as np
import torch as th
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.type_aliases import Schedule

from sb3_savo.actions.nearest import Nearest
from sb3_savo.arguments import (
    Check,
    check_choice,
    check_class,
    check_device,
    check_flag,
    check_integer,
    check_learning_rate,
    check_number,
    check_train_freq,
    check_type,
    optional,
)
from sb3_savo.common.exploration import ExplorationNoise, StepSchedule, check_step_schedule
from sb3_savo.common.updater import Precision

# Where ``-optimize`` of the RL Zoo searches for an argument: between two numbers, on a logarithmic scale with "log"
SearchRange = tuple[int, int] | tuple[float, float] | tuple[float, float, Literal["log"]]

# No run has more transitions, and no machine the memory for more: a larger number is a typing error, or of a bad file
MAX_TRANSITIONS = 10**8


class OffPolicyArguments(TypedDict, total=False):
    """The types of the arguments that all our algorithms take by name; see :class:`MaximizerAlgorithm`."""

    qf_learning_rate: float | Schedule | None
    batch_size: int | None
    tau: float
    gamma: float
    train_freq: int | tuple[int, str]
    gradient_steps: int
    action_noise: ActionNoise | None
    replay_buffer_class: type[ReplayBuffer] | None
    replay_buffer_kwargs: dict[str, Any] | None
    optimize_memory_usage: bool
    n_steps: int
    n_target_critics: int | None
    selection_epsilon: StepSchedule
    stats_window_size: int
    tensorboard_log: str | None
    policy_kwargs: dict[str, Any] | None
    verbose: int
    seed: int | None
    device: th.device | str


class MaximizerArguments(OffPolicyArguments, total=False):
    """The types of the arguments that our algorithms on TD3 take by name; see :class:`MaximizerAlgorithm`."""

    buffer_size: int
    learning_starts: int
    max_grad_norm: float | None
    policy_delay: int
    target_policy_noise: float
    target_noise_clip: float
    exploration_noise: ExplorationNoise
    exploration_noise_std: float | None
    noise_per_candidate: bool
    exploration_noise_scale: StepSchedule
    q_smoothing: bool | None
    nearest: Nearest
    compile: bool | Literal["auto"]
    precision: Precision


def check_tau(name: str, value: Any) -> None:
    """
    :param name: The argument
    :param value: The soft update coefficient
    :raises TypeError: if it is not a number
    :raises ValueError: if it is not above 0 and at most 1
    """
    if isinstance(value, (int, float)) and value == 0:
        raise ValueError(
            f"{name}={value!r} would never update the target networks: it must be a number above 0 and at most 1."
        )
    check_number(name, value, high=1.0, above=True)


ARGUMENT_CHECKS: dict[str, Check] = {
    "learning_rate": check_learning_rate,
    "qf_learning_rate": optional(check_learning_rate),
    "buffer_size": partial(check_integer, low=1, high=MAX_TRANSITIONS),
    "learning_starts": partial(check_integer, low=0),
    "batch_size": optional(partial(check_integer, low=1)),
    "tau": check_tau,
    "gamma": partial(check_number, high=1.0),
    "train_freq": check_train_freq,
    "gradient_steps": partial(check_integer, low=-1),
    "action_noise": optional(partial(check_type, types=ActionNoise, wanted="an ActionNoise of SB3, or None")),
    "replay_buffer_class": optional(partial(check_class, parent=ReplayBuffer)),
    "replay_buffer_kwargs": optional(partial(check_type, types=dict, wanted="a dictionary, or None")),
    "optimize_memory_usage": check_flag,
    "n_steps": partial(check_integer, low=1),
    "n_target_critics": optional(partial(check_integer, low=1)),
    "policy_delay": partial(check_integer, low=1),
    "target_policy_noise": check_number,
    "target_noise_clip": check_number,
    "max_grad_norm": optional(partial(check_number, above=True)),
    "exploration_noise": partial(check_choice, choices=ExplorationNoise),
    "exploration_noise_std": optional(check_number),
    "noise_per_candidate": check_flag,
    "exploration_noise_scale": check_step_schedule,
    "selection_epsilon": partial(check_step_schedule, high=1.0),
    "q_smoothing": optional(check_flag),
    "nearest": partial(check_choice, choices=Nearest),
    "compile": partial(check_choice, choices=(True, False, "auto")),
    "precision": partial(check_choice, choices=Precision),
    "stats_window_size": partial(check_integer, low=1),
    "tensorboard_log": optional(partial(check_type, types=(str, os.PathLike), wanted="a path, or None")),
    "policy_kwargs": optional(partial(check_type, types=dict, wanted="a dictionary, or None")),
    "verbose": partial(check_type, types=(int, np.integer), wanted="0, 1 or 2"),
    "seed": optional(partial(check_integer, low=0, high=2**32 - 1)),
    "device": check_device,
}
