"""SB3's ``action_noise``: noise on the chosen action, whose size and values are checked."""

import copy
import math

import numpy as np
import torch as th
from stable_baselines3.common.noise import ActionNoise, VectorizedActionNoise

from sb3_savo.common.finite import check_finite, is_finite


def check_action_noise(noise: ActionNoise, shape: tuple[int, ...]) -> None:
    """
    Draw from a copy of the noise, so that neither its state nor the global random numbers change.

    :param noise: The noise, of all environments
    :param shape: (n_envs, and the shape of an action)
    :raises TypeError: if it returns something else than numbers
    :raises ValueError: if its size is wrong, or a number is not finite
    """
    if isinstance(noise, VectorizedActionNoise) and len(noise.noises) != shape[0]:
        raise ValueError(
            f"action_noise={noise!r} is for {len(noise.noises)} environments: it must be for {shape[0]}, or the noise of one."
        )
    numpy_state, torch_state = np.random.get_state(), th.random.get_rng_state()
    try:
        draw_action_noise(copy.deepcopy(noise), shape)
    finally:
        np.random.set_state(numpy_state)
        th.random.set_rng_state(torch_state)


def draw_action_noise(noise: ActionNoise, shape: tuple[int, ...]) -> np.ndarray:
    """
    :param noise: The noise, of all environments
    :param shape: (n_envs, and the shape of an action)
    :return: A sample of that shape; noise of one dimension moves all dimensions of an action alike, as in SB3's TD3
    :raises TypeError: if it returns something else than numbers
    :raises ValueError: if its size is wrong, or a number is not finite
    """
    sample = np.asarray(noise())
    if sample.dtype.kind not in "iuf":
        raise TypeError(f"action_noise={noise!r} returns the type {sample.dtype}: it must return numbers.")
    if not is_finite(sample):
        check_finite(f"action_noise={noise!r}: its sample", sample)
    if sample.size == math.prod(shape):
        return sample.reshape(shape)
    if sample.shape == (shape[0], 1):
        sample = sample.reshape(shape[0], *(1 for _ in shape[1:]))
    try:
        return np.broadcast_to(sample, shape).copy()
    except ValueError:
        n_dims = math.prod(shape[1:])
        raise ValueError(
            f"action_noise={noise!r} returns the shape {sample.shape}: it must have {n_dims} dimension{'s' * (n_dims > 1)}, "
            "those of an action (of an embedding, in a discrete space), or 1."
        ) from None
