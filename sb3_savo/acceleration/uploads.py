"""
Transitions on their way to a GPU.

In a gradient step, Python only lists what a GPU is to compute, and goes on at once. So the GPU has no pause, as long as Python
does not wait for it. A plain copy from the CPU waits until the GPU has done all that is on the list. A copy from pinned memory
is put on the list.
"""

from typing import Any

import torch as th
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.vec_env import VecNormalize

CPU = th.device("cpu")
# Packages whose buffers put their samples on ``device``, and nothing else
KNOWN_PACKAGES = ("stable_baselines3", "sb3_savo")


def upload(tensor: th.Tensor, device: th.device) -> th.Tensor:
    """
    :param tensor: A tensor on the CPU
    :param device: Where it is needed
    :return: The tensor there; a GPU gets it without a wait
    """
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def sample_batch(buffer: ReplayBuffer, batch_size: int, env: VecNormalize | None) -> Any:
    """
    What the buffer's ``sample`` returns. For a GPU, the transitions are put together on the CPU, while the GPU computes, and
    then uploaded.

    :param buffer: A replay buffer
    :param batch_size: Number of transitions
    :param env: The VecEnv that normalizes the observations and rewards
    :return: The transitions, on the buffer's device
    """
    device = buffer.device
    if device.type == "cpu" or type(buffer).__module__.partition(".")[0] not in KNOWN_PACKAGES:
        return buffer.sample(batch_size, env=env)
    buffer.device = CPU
    try:
        samples: Any = buffer.sample(batch_size, env=env)
    finally:
        buffer.device = device
    return th.utils._pytree.tree_map_only(th.Tensor, lambda tensor: upload(tensor, device), samples)
