"""Checks of constructor arguments: each error names the argument, its value and what would be right."""

import math
from collections.abc import Collection
from typing import Any

import numpy as np


def check_choice(name: str, value: Any, allowed: Collection[Any]) -> None:
    """
    :param name: The argument
    :param value: What was passed
    :param allowed: The values it may take
    :raises ValueError: if the value is none of them
    """
    if value not in allowed:
        raise ValueError(f"{name}={value!r} is not known: it must be one of {', '.join(map(repr, allowed))}.")


def check_integer(name: str, value: Any, low: int) -> None:
    """
    :param name: The argument
    :param value: What was passed
    :param low: The smallest value it may take
    :raises TypeError: if the value is not an integer
    :raises ValueError: if it is too small
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}={value!r} is a {type(value).__name__}: it must be an integer of at least {low}.")
    if value < low:
        raise ValueError(f"{name}={value!r} is too small: it must be an integer of at least {low}.")


def check_number(name: str, value: Any, low: float = 0.0, high: float = math.inf, above: bool = False) -> None:
    """
    :param name: The argument
    :param value: What was passed
    :param low: The smallest value it may take
    :param high: The largest value it may take
    :param above: True if it must be above ``low``
    :raises TypeError: if the value is not a number
    :raises ValueError: if it is out of range, infinite or not a number (NaN)
    """
    wanted = f"a number {'above' if above else 'of at least'} {low:g}"
    if high < math.inf:
        wanted += f" and at most {high:g}"
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name}={value!r} is a {type(value).__name__}: it must be {wanted}.")
    if not math.isfinite(value) or value > high or value < low or (above and value == low):
        raise ValueError(f"{name}={value!r} is out of range: it must be {wanted}.")


def check_train_freq(train_freq: Any) -> None:
    """
    :param train_freq: Number of steps, or (number, ``"step"`` or ``"episode"``)
    :raises TypeError: if the number is not an integer
    :raises ValueError: if it is below 1, or the unit is unknown
    """
    if not isinstance(train_freq, tuple):
        check_integer("train_freq", train_freq, low=1)
        return
    if len(train_freq) != 2:
        raise ValueError(f"train_freq={train_freq!r} must be a number of steps, or two: (number, 'step' or 'episode').")
    check_integer("train_freq[0]", train_freq[0], low=1)
    check_choice("train_freq[1]", train_freq[1], ("step", "episode"))
