"""Operations on candidate actions, (batch, n_candidates, action_dim)."""

from collections.abc import Callable

import torch as th
from torch.nn import functional as F


def perturb(candidates: th.Tensor, noise: th.Tensor | None) -> th.Tensor:
    """
    :param candidates: In [-1, 1], (...)
    :param noise: Noise to add to the candidates, (...); None for no noise
    :return: The sum, clipped to [-1, 1], (...)
    """
    return candidates if noise is None else (candidates + noise).clamp(-1, 1)


def take(candidates: th.Tensor, indices: th.Tensor) -> th.Tensor:
    """
    :param candidates: (batch, n_candidates, action_dim)
    :param indices: (batch, n)
    :return: Some candidates per state, (batch, n, action_dim)
    """
    return candidates.gather(1, indices.unsqueeze(2).expand(-1, -1, candidates.shape[2]))


def pick(candidates: th.Tensor, index: th.Tensor) -> th.Tensor:
    """
    :param candidates: (batch, n_candidates, action_dim)
    :param index: (batch, 1)
    :return: One candidate per state, (batch, action_dim)
    """
    return take(candidates, index).squeeze(1)


def nan_unless_finite(actions: th.Tensor, values: th.Tensor) -> th.Tensor:
    """
    Let NaN and Inf of a critic show in the actions that were found by its values.

    :param actions: (batch, action_dim)
    :param values: The actions' values, (batch, 1)
    :return: The actions, NaN where their value is not finite, (batch, action_dim)
    """
    return actions.where(values.isfinite(), th.nan)


def ascend(q: Callable[[th.Tensor], th.Tensor], actions: th.Tensor, n_steps: int, step_size: float | th.Tensor) -> th.Tensor:
    """
    Gradient ascent by normalized steps, whose length falls linearly to zero.

    :param q: Values of several actions per state, (batch, n_actions)
    :param actions: Where to start, in [-1, 1], (batch, n_actions, action_dim); this tensor may be changed
    :param n_steps: Number of steps
    :param step_size: Length of the first step; or one length per action, (n_actions, 1)
    :return: The ends of the ascents, in [-1, 1], (batch, n_actions, action_dim)
    """
    for i in range(n_steps):
        with th.enable_grad():
            actions.requires_grad_(True)
            gradient = th.autograd.grad(q(actions).sum(), actions)[0]
        length = step_size * (1 - i / n_steps)
        actions = (actions.detach() + length * F.normalize(gradient, dim=2)).clamp(-1, 1)
    return actions
