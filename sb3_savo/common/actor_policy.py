"""A policy whose candidates come from actors: what SAVO, SAVOSAC, Ensemble, Wolpertinger and GreedyAC share."""

from functools import partial
from typing import Any, ClassVar

import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule

from sb3_savo.acceleration import has_numpy_twin
from sb3_savo.actions.candidates import perturb
from sb3_savo.arguments import Check, check_choice, check_flag
from sb3_savo.common.policies import MaximizerPolicy
from sb3_savo.networks.actors import ActorNetwork, Actors
from sb3_savo.networks.stacked import Init


class ActorPolicy(MaximizerPolicy):
    """
    A maximizer whose candidates come from actors, which have one target copy.

    A subclass with other actors than the independent ones overrides :meth:`make_actor`.

    :param observation_space: Observation space
    :param action_space: Action space, a ``Box`` or an :class:`EmbeddedDiscrete`
    :param lr_schedule: Learning rate schedule (could be constant)
    :param share_features_extractor: Whether the critic uses the actors' features extractor, which then learns from the
        actors' loss only, or one of its own
    :param layer_norm: Whether to normalize every hidden layer of the actors
    :param init: Initial weights: ``orthogonal``, ``xavier``, ``random`` or ``add`` (§14.7)
    :param kwargs: The arguments of all our policies, see :class:`MaximizerPolicy`
    :raises TypeError: if an argument has the wrong type, or a space is of the wrong kind
    :raises ValueError: if an argument is out of its range
    """

    argument_checks: ClassVar[dict[str, Check]] = {
        "share_features_extractor": check_flag,
        "layer_norm": check_flag,
        "init": partial(check_choice, choices=Init),
    }
    learner_names = ("actor", *MaximizerPolicy.learner_names)
    target_names = ("actor_target", *MaximizerPolicy.target_names)
    actor: ActorNetwork
    actor_target: ActorNetwork

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        *,
        share_features_extractor: bool = False,
        layer_norm: bool = True,
        init: Init = "orthogonal",
        **kwargs: Any,
    ):
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)
        self.share_features_extractor = share_features_extractor
        self.critic_kwargs["share_features_extractor"] = share_features_extractor
        self.layer_norm = layer_norm
        self.init = init

    def _build(self, lr_schedule: Schedule) -> None:
        self.actor = self.make_actor()
        if "actor_target" in self.target_names:
            self.actor_target = self.make_actor()
            self.actor_target.load_state_dict(self.actor.state_dict())
            self.actor_target.set_training_mode(False)
        self.actor.optimizer = self.make_optimizer(self.actor, lr_schedule)
        super()._build(lr_schedule)

    def make_actor(self) -> ActorNetwork:
        """:return: A network that maps observations to candidates, (batch, n_candidates, action_dim) in [-1, 1]"""
        return Actors(**self._actor_arguments()).to(self.device)

    def _actor_arguments(self) -> dict[str, Any]:
        arguments = self._update_features_extractor(self.actor_kwargs)
        return {**arguments, "layer_norm": self.layer_norm, "init": self.init}

    def shared_extractor(self, target: bool = False) -> BaseFeaturesExtractor | None:
        actor = self.actor_target if target else self.actor
        return actor.features_extractor if self.share_features_extractor else None

    @has_numpy_twin
    def propose(
        self,
        obs: PyTorchObs,
        deterministic: bool = False,
        noise: th.Tensor | None = None,
        masks: th.Tensor | None = None,
    ) -> th.Tensor:
        return perturb(self.actor(obs), noise)

    def propose_targets(self, obs: PyTorchObs, masks: th.Tensor | None = None) -> th.Tensor:
        return self.actor_target(obs)
