"""Which values a checkpoint holds: numbers, text, arrays, containers, spaces, noise, random generators, replay buffers."""

import copy
import inspect
import warnings
from collections.abc import Iterable
from functools import partial
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import ActionNoise, VectorizedActionNoise
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.stacked_observations import StackedObservations

from sb3_savo.common.exploration import GaussianCandidateNoise, OrnsteinUhlenbeckCandidateNoise
from sb3_savo.common.plausible import PlausibleRange
from sb3_savo.files.codec import Encoder

KNOWN = (StackedObservations, GaussianCandidateNoise, OrnsteinUhlenbeckCandidateNoise, PlausibleRange)


def known_classes(model: BaseAlgorithm) -> tuple[type, ...]:
    """
    :param model: A model
    :return: Classes of which its checkpoints hold instances, besides the containers and SB3's and Gymnasium's own
    """
    buffer = getattr(model, "replay_buffer", None)
    return KNOWN if buffer is None else (*KNOWN, type(buffer))


def is_encodable(value: Any) -> bool:
    """:return: Whether a checkpoint can hold a value"""
    try:
        Encoder(KNOWN).encode(value, "")
    except TypeError:
        return False
    return True


def values_of(part: Any, names: Iterable[str]) -> dict[str, Any]:
    """
    :param part: A model, a callback, or a wrapper of a vectorized environment
    :param names: Attributes of it
    :return: Those that a checkpoint can hold. A warning names the others, except environments, functions and classes.
    """
    values = {}
    for name in names:
        value = getattr(part, name)
        if is_encodable(value):
            values[name] = value
        elif not isinstance(value, (VecEnv, type, partial)) and not inspect.isroutine(value):
            warnings.warn(
                f"checkpoints: {type(part).__name__}.{name} is a {type(value).__name__}, which no checkpoint holds. It begins "
                "anew where the run goes on.",
                stacklevel=8,
            )
    return values


def encode(value: Any, classes: tuple[type, ...]) -> tuple[Any, dict[str, Any]]:
    """
    :param value: A value that a checkpoint can hold
    :param classes: What :func:`known_classes` has returned
    :return: The value as JSON, and its arrays by name
    :raises TypeError: if a part of it cannot be held; the message names the part
    """
    encoder = Encoder(classes)
    return encoder.encode(value, "run"), encoder.arrays


def settings_of(value: Any) -> Any:
    """
    :param value: An argument of a constructor
    :return: JSON by which it is compared with another run's. Functions, and objects that no checkpoint can hold, are compared
        by their names and classes only.
    """
    try:
        described, arrays = encode(copy.copy(value), KNOWN)
    except TypeError:
        if isinstance(value, dict):
            return {str(key): settings_of(part) for key, part in value.items()}
        if isinstance(value, (list, tuple)):
            return [settings_of(part) for part in value]
        named = value if hasattr(value, "__qualname__") else type(value)
        return f"{named.__module__}.{named.__qualname__}"
    return [described, {name: array.tolist() for name, array in arrays.items()}]


def differing(part: Any, own: dict[str, Any], saved: dict[str, Any]) -> str:
    """
    :param part: A model, or a wrapper of a vectorized environment
    :param own: Its settings by name, see :func:`settings_of`
    :param saved: Those in a checkpoint
    :return: The settings that differ, as the part has them, ``name=value, …``; empty if none does
    """
    names = sorted(name for name in own.keys() & saved.keys() if own[name] != saved[name])
    return ", ".join(f"{name}={getattr(part, name, None)!r}" for name in names)


def noise_settings(noise: ActionNoise | None) -> Any:
    """
    :param noise: The action noise of a model, before or while it learns
    :return: JSON by which it is compared with another run's, without what it remembers from former steps
    """
    if isinstance(noise, VectorizedActionNoise):
        noise = noise.base_noise
    if noise is None or not is_encodable(noise):
        return settings_of(noise)
    noise = copy.deepcopy(noise)
    noise.reset()
    return settings_of(noise)
