"""Is this an observation of that space? Asked before every action, so that the usual answer takes a microsecond."""

from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space

# An observation is far beyond its space if it lies outside by more than REACH times the width of the space. A normalized
# observation may lie outside of the environment's own bounds. So a narrower space counts as MIN_WIDTH wide.
REACH = 1_000.0
MIN_WIDTH = 10.0

# Up to this size one dot product tells whether all numbers are small; the BLAS library would use several threads above it
MAX_DOT_SIZE = 10_000

SUPPORTED = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


def check_observation_space(space: Any, algorithm: str, argument: str = "env") -> None:
    """
    :param space: An observation space
    :param algorithm: Name of the algorithm that is to observe it
    :param argument: The argument that it comes from
    :raises TypeError: if no features can be extracted from it
    :raises ValueError: if it is empty, or SB3 cannot count its values or has no place for its shape
    """
    parts = space.spaces.values() if isinstance(space, spaces.Dict) else [space]
    for part in parts:
        if not isinstance(part, SUPPORTED):
            raise TypeError(
                f"{argument}: the observation space {space} is not supported: {algorithm} needs a Box, Discrete, "
                "MultiDiscrete or MultiBinary space, or a Dict of these without a Dict in it "
                "(gymnasium.wrappers.FlattenObservation)."
            )
        if np.any(getattr(part, "start", 0)):
            raise ValueError(
                f"{argument}: the observation space {space} has values that do not begin with 0, and SB3 counts them from 0: "
                f"{algorithm} needs start=0 (gymnasium.wrappers.TransformObservation)."
            )
        n_axes = len(part.shape or ())
        if (isinstance(part, spaces.Box) and n_axes == 0) or (isinstance(part, spaces.MultiDiscrete) and n_axes != 1):
            raise ValueError(
                f"{argument}: the observation space has a {type(part).__name__} of the shape {part.shape}, which SB3 cannot "
                f"use: {algorithm} needs at least one axis in a Box, and one in a MultiDiscrete "
                "(gymnasium.wrappers.FlattenObservation)."
            )
    if len(parts) == 0 or any(isinstance(part, spaces.Box) and part.low.size == 0 for part in parts):
        raise ValueError(f"{argument}: the observation space {space} is empty: {algorithm} needs at least one number.")


OF_A_POLICY = "it must be an observation as this policy saw them in training, with the same units and normalization."
OF_AN_ENVIRONMENT = "the environment must return observations of the space that it declares, or declare wider bounds."


class ObservationCheck:
    """
    Checks observations of a space, one or several at once.

    :param space: The space, as the policy sees it
    :param name: What to call an observation in an error
    :param remedy: What an error says of an observation that is far beyond the space
    """

    def __init__(self, space: spaces.Space, name: str = "observation", remedy: str = OF_A_POLICY):
        self.space = space
        self.name = name
        self.remedy = remedy
        self.parts = {}
        if isinstance(space, spaces.Dict):
            self.parts = {key: ObservationCheck(part, f"{name}[{key!r}]", remedy) for key, part in space.spaces.items()}
            return
        low, high = bounds(space)
        self.is_integer = not isinstance(space, spaces.Box)
        largest = np.finfo(np.float64).max
        with np.errstate(over="ignore", invalid="ignore"):
            # An integer that counts has one meaning only
            reach = 0.0 if self.is_integer else REACH * np.maximum(high - low, MIN_WIDTH)
            self.low = np.nan_to_num(low - reach, nan=-largest, neginf=-largest)
            self.high = np.nan_to_num(high + reach, nan=largest, posinf=largest)
        # Of one sign only if the space is far from 0; then no number is so small that it needs no look
        self.smallest_square = max(0.0, min(-float(self.low.max()), float(self.high.min()), 1e150)) ** 2
        self.shapes = {space.shape}
        if is_image_space(space) and space.shape is not None:
            # SB3 transposes images whose channels come last
            self.shapes |= {(*space.shape[1:], space.shape[0])}

    def __call__(self, observation: Any) -> int | None:
        """
        :param observation: An observation, or several, (batch, ...)
        :return: Their number; None for a single one
        :raises TypeError: if it is of another kind
        :raises ValueError: if its shape is wrong, a number is NaN or infinite, or one is far beyond the space
        """
        if self.parts:
            return self._check_parts(observation)
        if not isinstance(observation, np.ndarray):
            observation = self._to_array(observation)
        kind, shape = observation.dtype.kind, observation.shape
        if kind not in "fiub" or (self.is_integer and kind == "f"):
            raise TypeError(
                f"{self.name} is of the type {observation.dtype}: it must be {'integers' if self.is_integer else 'numbers'} "
                f"of the observation space {self.space}."
            )
        if shape in self.shapes:
            n = None
        elif shape[1:] in self.shapes and shape:
            n = shape[0]
        else:
            sizes = ", ".join(("n_envs", *map(str, self.space.shape or ())))
            raise ValueError(
                f"Unexpected observation shape {shape}: {self.name} must have the shape {self.space.shape}, or ({sizes}) "
                f"for several, as the observation space {self.space} says."
            )
        if kind == "f" and observation.itemsize > 2 and observation.size <= MAX_DOT_SIZE:
            # NaN is below nothing; vdot overflows without a warning
            if float(np.vdot(observation, observation)) < self.smallest_square:
                return n
        if kind != "b":
            self._check_numbers(observation)
        return n

    def _check_parts(self, observation: Any) -> int | None:
        if not isinstance(observation, dict):
            raise TypeError(
                f"{self.name} is a {type(observation).__name__}: it must be a dictionary with the keys {sorted(self.parts)}."
            )
        if observation.keys() != self.parts.keys():
            raise ValueError(
                f"{self.name} has the keys {sorted(map(str, observation))}: they must be {sorted(self.parts)}, as in the "
                f"observation space {self.space}."
            )
        numbers = {key: check(observation[key]) for key, check in self.parts.items()}
        if len(set(numbers.values())) > 1:
            raise ValueError(f"{self.name}: the number of observations must be the same for all keys, but it is {numbers}.")
        return next(iter(numbers.values()))

    def _to_array(self, observation: Any) -> np.ndarray:
        if isinstance(observation, tuple) and len(observation) == 2 and isinstance(observation[1], dict):
            raise ValueError(
                f"{self.name} is a tuple of an observation and a dictionary: it must be the observation alone. You are "
                "probably mixing Gym API and SB3's VecEnv API: obs, info = env.reset() returns two values, and obs = "
                "vec_env.reset() one."
            )
        try:
            return np.asarray(observation)
        except (ValueError, TypeError) as error:
            raise TypeError(f"{self.name}={observation!r} is not an array: it must be one of {self.space}: {error}") from error

    def _check_numbers(self, observation: np.ndarray) -> None:
        if not np.isfinite(observation).all():
            raise ValueError(
                f"{self.name} holds NaN or an infinite number, first at {first_index(~np.isfinite(observation))}: the "
                "environment, or what normalizes its observations, must return finite numbers."
            )
        if observation.shape[-len(self.space.shape or ()) or None :] != self.space.shape:
            return  # an image whose channels come last; its numbers are bytes
        beyond = (observation < self.low) | (observation > self.high)
        if beyond.any():
            index = first_index(beyond)
            raise ValueError(
                f"{self.name} holds {float(observation[index])!r} at {index}, far beyond the observation space {self.space}: "
                f"{self.remedy}"
            )


def bounds(space: spaces.Space) -> tuple[np.ndarray, np.ndarray]:
    """
    :param space: A space without parts
    :return: The lowest and the highest numbers of an observation, in float64
    """
    if isinstance(space, spaces.Box):
        return space.low.astype(np.float64), space.high.astype(np.float64)
    if isinstance(space, spaces.Discrete):
        return np.asarray(float(space.start)), np.asarray(float(space.start + space.n - 1))
    if isinstance(space, spaces.MultiDiscrete):
        return space.start.astype(np.float64), (space.start + space.nvec - 1).astype(np.float64)
    shape = space.shape or ()
    return np.zeros(shape), np.ones(shape)


def first_index(wrong: np.ndarray) -> tuple[int, ...]:
    """:return: Where the first True is"""
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(wrong)), wrong.shape))
