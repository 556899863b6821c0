"""Methods without actors, which find the action of every state by their critics alone."""

from abc import abstractmethod

import torch as th
from stable_baselines3.common.type_aliases import PyTorchObs

from sb3_savo.actions.candidates import perturb
from sb3_savo.common.buffers import Batch
from sb3_savo.common.maximizer import MaximizerAlgorithm
from sb3_savo.common.policies import MaximizerPolicy


class SearchPolicy(MaximizerPolicy):
    """A policy whose only candidate is the action with the highest Q (Q̂ with Q-smoothing) that :meth:`find_action` finds."""

    @abstractmethod
    def find_action(self, obs: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        """
        :param obs: Observations, (batch, ...)
        :param deterministic: Whether to use the same random numbers in every state and at every call
        :return: The best action found, scaled to [-1, 1], (batch, action_dim); NaN where its Q is not finite
        """

    def propose(
        self,
        obs: PyTorchObs,
        deterministic: bool = False,
        noise: th.Tensor | None = None,
        masks: th.Tensor | None = None,
    ) -> th.Tensor:
        return perturb(self.find_action(obs, deterministic).unsqueeze(1), noise)

    def propose_targets(self, obs: PyTorchObs, masks: th.Tensor | None = None) -> th.Tensor:
        return self.find_action(obs).unsqueeze(1)


class SearchAlgorithm(MaximizerAlgorithm):
    """
    Off-policy Q-learning without actors: it acts by, and bootstraps from, the action that its policy finds by the online
    critics; but Q3C bootstraps from the one that it finds by the target critics.
    """

    @property
    def n_candidates(self) -> int:
        return 1

    def update_actors(self, batch: Batch) -> None:
        """There are no actors to update."""
