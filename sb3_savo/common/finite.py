"""NaN and Inf are found where they come in: in observations, rewards and actions before they are stored, and in losses."""

from typing import Any

import numpy as np

from sb3_savo.arguments import is_number

# Networks compute in float32, where a larger number is infinite
LARGEST = float(np.finfo(np.float32).max)
# A sum of squares up to this one has no entry beyond LARGEST, whatever its precision
LARGEST_SQUARE = 1e76
# Up to this size one product is the fastest test; from here on it could wake the threads of BLAS
MAX_PRODUCT_SIZE = 4096

# Hints for :func:`check_finite`
BROKEN_WEIGHTS = "Learning went wrong: go back to the last saved model, and lower learning_rate or scale the rewards."
BROKEN_POLICY = (
    "The policy's weights are not finite, since its learning went wrong, or the numbers of the observation are too large for "
    "them: normalize these (VecNormalize)."
)


class NonFiniteError(FloatingPointError, ValueError):
    """A number is NaN, infinite, or too large for float32."""


def is_finite(array: np.ndarray) -> bool:
    """
    :param array: Numbers of any type and shape
    :return: Whether all are finite in float32
    """
    if array.dtype.kind != "f" or array.size == 0:
        return True
    if array.size <= MAX_PRODUCT_SIZE and float(np.vdot(array, array)) <= LARGEST_SQUARE:
        return True
    # A comparison with NaN is false
    return float(array.max()) <= LARGEST and float(array.min()) >= -LARGEST


def check_finite(name: str, value: Any, moment: str | None = None, hint: str = "") -> None:
    """
    :param name: What the value is, for the message
    :param value: An array, a number, or a dictionary of these
    :param moment: When the environments gave the value, e.g. ``"step 5"``. The first axis is then that of the environments.
    :param hint: What may be wrong, a sentence to add to the message
    :raises NonFiniteError: if a number is NaN, infinite or too large for float32. The message names the environment, the
        moment, the key and the position.
    """
    if isinstance(value, dict):
        for key, part in value.items():
            check_finite(f"{name}[{key!r}]", part, moment, hint)
        return
    array = np.asarray(value)
    if not is_finite(array):
        raise NonFiniteError(describe(name, array, moment, hint))


def check_numbers(name: str, array: np.ndarray, n_envs: int, moment: str) -> None:
    """
    :param name: What the environments gave, for the message
    :param array: One value of each environment
    :param n_envs: Number of environments
    :param moment: When they gave it
    :raises ValueError: if a value is no number, but None, text or an array. The message names the environment and the moment.
    """
    if array.dtype.kind in "fiub" and array.shape == (n_envs,):
        return
    for i, value in enumerate(array):
        if not is_number(value):
            raise ValueError(f"{name} is {value!r} in environment {i} at {moment}: it must be a number.")
    raise ValueError(f"{name} has the shape {array.shape} at {moment}: it must have {(n_envs,)}, one value per environment.")


def describe(name: str, array: np.ndarray, moment: str | None, hint: str) -> str:
    """:return: The message for an array that :func:`is_finite` refuses; see :func:`check_finite`"""
    places = np.argwhere(~(np.abs(array.astype(np.float64)) <= LARGEST))
    place = tuple(int(i) for i in places[0])
    value = f"is {array[place]}"
    if np.isfinite(array[place]):
        value += ", which is infinite in float32"
    if moment is not None and place:
        value += f" in environment {place[0]} at {moment}"
        place = place[1:]
    position = f" at position {place}" if place else ""
    others = f" ({len(places) - 1} more are not finite)" if len(places) > 1 else ""
    return f"{name}{position} {value}{others}: it must be finite.{hint and ' ' + hint}"
