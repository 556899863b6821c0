"""Methods without actors: the action is searched for anew at every state."""

from abc import abstractmethod
from collections.abc import Callable

import torch as th
from stable_baselines3.common.type_aliases import PyTorchObs
from torch.nn import functional as F

from sb3_savo.common.maximizer import Batch, MaximizerAlgorithm
from sb3_savo.common.policies import MaximizerPolicy, perturb


class SearchPolicy(MaximizerPolicy):
    """A policy whose only candidate is what a search for the highest Q finds (Q̂ with Q-smoothing)."""

    @abstractmethod
    def search(self, obs: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        """
        :param obs: Observations, (batch, ...)
        :param deterministic: Whether to use the same random numbers in every state and at every call
        :return: The best action found, scaled to [-1, 1], (batch, action_dim)
        """

    def propose(
        self,
        obs: PyTorchObs,
        deterministic: bool = False,
        noise: th.Tensor | None = None,
        masks: th.Tensor | None = None,
    ) -> th.Tensor:
        return perturb(self.search(obs, deterministic).unsqueeze(1), noise)

    def propose_targets(self, obs: PyTorchObs, masks: th.Tensor | None = None) -> th.Tensor:
        return self.search(obs).unsqueeze(1)


class SearchAlgorithm(MaximizerAlgorithm):
    """Off-policy Q-learning that acts and bootstraps with what the search finds on the online Q."""

    @property
    def n_candidates(self) -> int:
        return 1

    def update_actors(self, batch: Batch) -> None:
        """There are none."""


def ascend(q: Callable[[th.Tensor], th.Tensor], actions: th.Tensor, n_steps: int, step_size: float) -> th.Tensor:
    """
    Gradient ascent by steps of a given length, which falls linearly to zero, in the direction of the gradient.

    :param q: Values of several actions per state, (batch, n_actions)
    :param actions: Where to start, in [-1, 1], (batch, n_actions, action_dim); a tensor that nobody else holds
    :param n_steps: Number of steps
    :param step_size: Length of the first of them
    :return: Where they end, in [-1, 1], (batch, n_actions, action_dim)
    """
    for i in range(n_steps):
        with th.enable_grad():
            actions.requires_grad_(True)
            gradient = th.autograd.grad(q(actions).sum(), actions)[0]
        length = step_size * (1 - i / n_steps)
        actions = (actions.detach() + length * F.normalize(gradient, dim=2)).clamp(-1, 1)
    return actions
