"""Methods without actors: the action is searched for anew at every state."""

from abc import abstractmethod

import torch as th
from stable_baselines3.common.type_aliases import PyTorchObs

from sb3_savo.actions.candidates import perturb
from sb3_savo.common.maximizer import Batch, MaximizerAlgorithm
from sb3_savo.common.policies import MaximizerPolicy


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
