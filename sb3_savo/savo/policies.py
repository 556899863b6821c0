"""SAVO's policy: the chain of actors that proposes, and the surrogates that its later actors ascend."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, NatureCNN
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule

from sb3_savo.arguments import check_choice, check_integer
from sb3_savo.common.policies import ActorPolicy
from sb3_savo.networks.chain import ActorChain
from sb3_savo.networks.conditioning import POOLS
from sb3_savo.savo.surrogates import Surrogates

LEARNED_SURROGATES = ("approximate", "hybrid")


class SAVOPolicy(ActorPolicy):
    """
    Policy class (with the actors, the critics and the surrogates) for SAVO.

    :param observation_space: Observation space
    :param action_space: Action space, a ``Box`` or an :class:`EmbeddedDiscrete`
    :param lr_schedule: Learning rate schedule (could be constant)
    :param n_actors: Number of actors, μ and the ν_i; see :class:`SAVO` for this and the next five
    :param surrogate: ``approximate``, ``exact``, ``hybrid`` or None
    :param summarizer: ``deepset``, ``lstm`` or ``transformer``
    :param modulation: ``film`` or ``mlp``
    :param condition_on_previous: Whether actors and surrogates see the earlier actions
    :param joint_action: Whether one actor proposes all actions at once
    :param pool: The DeepSet's pooling, ``mean`` or ``max``
    :param summary_dim: Size of the summary of the earlier actions, at least 1
    :param kwargs: What all our policies with actors take by name, see :class:`ActorPolicy` and :class:`MaximizerPolicy`:
        SB3's ``net_arch`` (a surrogate is as large as a critic), ``activation_fn``, ``features_extractor_class``,
        ``features_extractor_kwargs``, ``share_features_extractor`` (surrogates share it too), ``normalize_images``,
        ``optimizer_class``, ``optimizer_kwargs``, ``n_critics``; and ``layer_norm``, ``init``, ``q_smoothing``, ``nearest``
    :raises ValueError: if ``pool`` or ``summary_dim`` is none of these
    """

    learner_names = (*ActorPolicy.learner_names, "surrogates")
    chain_class: ClassVar[type[ActorChain]] = ActorChain
    actor: ActorChain
    actor_target: ActorChain
    surrogates: Surrogates | None

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        n_actors: int = 3,
        surrogate: str | None = "approximate",
        summarizer: str = "deepset",
        modulation: str = "film",
        condition_on_previous: bool = True,
        joint_action: bool = False,
        pool: str = "mean",
        summary_dim: int = 16,
        **kwargs: Any,
    ):
        check_choice("pool", pool, POOLS)
        check_integer("summary_dim", summary_dim, low=1)
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)
        self.n_actors = n_actors
        self.surrogate = surrogate
        self.joint_action = joint_action
        self.conditioning = {
            "summarizer": summarizer,
            "modulation": modulation,
            "condition_on_previous": condition_on_previous,
            "pool": pool,
            "summary_dim": summary_dim,
        }
        self._build(lr_schedule)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        self.surrogates = None
        if self.surrogate in LEARNED_SURROGATES and self.n_actors > 1:
            self.surrogates = self.make_surrogates()
            self.surrogates.optimizer = self.make_optimizer(self.surrogates, lr_schedule)

    def propose(
        self,
        obs: PyTorchObs,
        deterministic: bool = False,
        noise: th.Tensor | None = None,
        masks: th.Tensor | None = None,
    ) -> th.Tensor:
        if self.items is not None:
            return self.actor(obs, noise)  # in the space of embeddings the chain reacts to the noise
        return super().propose(obs, noise=noise)

    def _mirrored_proposals(self) -> Callable[[np.ndarray], np.ndarray] | None:
        return self.actor.mirror() if type(self).propose is SAVOPolicy.propose else None

    def make_actor(self) -> ActorChain:
        return self.chain_class(
            **self._actor_arguments(),
            n_actors=self.n_actors,
            joint_action=self.joint_action,
            conditioning=self.conditioning,
        ).to(self.device)

    def make_surrogates(self) -> Surrogates:
        """:return: New surrogates"""
        kwargs = {name: value for name, value in self.critic_kwargs.items() if name != "n_critics"}
        return Surrogates(
            **self._update_features_extractor(kwargs, self.shared_extractor()),
            n_surrogates=self.n_actors - 1,
            init=self.init,
            conditioning=self.conditioning,
        ).to(self.device)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            **super()._get_constructor_parameters(),
            "n_actors": self.n_actors,
            "surrogate": self.surrogate,
            "joint_action": self.joint_action,
            **self.conditioning,
        }


MlpPolicy = SAVOPolicy


class CnnPolicy(SAVOPolicy):
    """:class:`SAVOPolicy` for image observations: features by ``NatureCNN``."""

    default_features_extractor_class: ClassVar[type[BaseFeaturesExtractor]] = NatureCNN


class MultiInputPolicy(SAVOPolicy):
    """:class:`SAVOPolicy` for Dict observations: features by ``CombinedExtractor``."""

    default_features_extractor_class: ClassVar[type[BaseFeaturesExtractor]] = CombinedExtractor
