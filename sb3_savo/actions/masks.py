"""Action masks: which items are allowed."""

from typing import Any

import numpy as np


def as_masks(masks: Any, where: str = "") -> np.ndarray:
    """
    :param masks: Which items are allowed, of any shape: booleans, or numbers that are 0 or 1
    :param where: Where the masks come from, for the message
    :return: The masks as booleans, of the same shape
    :raises ValueError: if they are anything else
    """
    try:
        array = np.asarray(masks)
    except ValueError:  # rows of several lengths
        raise ValueError(f"action_masks{where} has rows of several lengths: each must have one entry per item.") from None
    if array.dtype == bool:
        return array
    wanted = "an entry must be True or False (or 1 or 0)"
    if array.dtype.kind not in "iuf":
        raise ValueError(f"action_masks{where} is of the type {array.dtype}: {wanted}.")
    is_wrong = (array != 0) & (array != 1)
    if is_wrong.any():
        raise ValueError(f"action_masks{where} holds {array[is_wrong][0]}: {wanted}.")
    return array.astype(bool)


def check_mask(mask: Any, n_items: int, where: str) -> np.ndarray:
    """
    :param mask: Which items one state allows
    :param n_items: Number of items
    :param where: Where the mask comes from, for the message
    :return: The mask as booleans, (n_items,)
    :raises ValueError: if it has another shape, or entries that are neither True nor False nor 1 nor 0
    """
    array = as_masks(mask, where)
    if array.shape != (n_items,):
        raise ValueError(f"action_masks{where} has the shape {array.shape}: it must be ({n_items},), one entry per item.")
    return array
