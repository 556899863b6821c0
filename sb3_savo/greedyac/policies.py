"""Greedy-AC's policy: a Gaussian actor, and a Gaussian proposal policy that looks for what the actor should imitate."""

from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import CombinedExtractor, NatureCNN
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule

from sb3_savo.common.actors import ActorPolicy
from sb3_savo.common.gaussian import GaussianActors, sample
from sb3_savo.common.policies import perturb


class GreedyPolicy(ActorPolicy):
    """
    Policy class (with the actor, the proposal policy and the critics) for GreedyAC and GreedyTD3.

    :param observation_space: Observation space
    :param action_space: Action space, a ``Box`` or an :class:`EmbeddedDiscrete`
    :param lr_schedule: Learning rate schedule (could be constant)
    :param samples_actor: Whether to act by, and bootstrap from, a sample of the actor's distribution, or its mean
    :param kwargs: What all our policies with actors take, see :class:`ActorPolicy`
    """

    learner_names = (*ActorPolicy.learner_names, "proposal")
    actor: GaussianActors
    actor_target: GaussianActors
    proposal: GaussianActors

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        samples_actor: bool = True,
        **kwargs: Any,
    ):
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)
        self.samples_actor = samples_actor
        self._build(lr_schedule)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        self.proposal = self.make_actor()
        self.proposal.optimizer = self.make_optimizer(self.proposal, lr_schedule)

    def make_actor(self) -> GaussianActors:
        return GaussianActors(**self._actor_arguments()).to(self.device)

    def propose(
        self,
        obs: PyTorchObs,
        deterministic: bool = False,
        noise: th.Tensor | None = None,
        masks: th.Tensor | None = None,
    ) -> th.Tensor:
        return perturb(self.act(self.actor, obs, deterministic), noise)

    def propose_targets(self, obs: PyTorchObs, masks: th.Tensor | None = None) -> th.Tensor:
        return self.act(self.actor_target, obs)

    def act(self, actor: GaussianActors, obs: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        """
        :param actor: The actor, or its target copy
        :param obs: Observations, (batch, ...)
        :param deterministic: Whether to take the mean in any case
        :return: Its action, (batch, 1, action_dim)
        """
        return sample(*actor.distribution(obs)).tanh() if self.samples_actor and not deterministic else actor(obs)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "samples_actor": self.samples_actor}


MlpPolicy = GreedyPolicy


class CnnPolicy(GreedyPolicy):
    """:class:`GreedyPolicy` for image observations: features by ``NatureCNN``."""

    default_features_extractor_class = NatureCNN


class MultiInputPolicy(GreedyPolicy):
    """:class:`GreedyPolicy` for Dict observations: features by ``CombinedExtractor``."""

    default_features_extractor_class = CombinedExtractor
