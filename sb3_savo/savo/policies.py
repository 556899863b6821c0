"""SAVO's policy: the chain of actors that proposes, and the surrogates that its later actors ascend."""

from functools import partial
from typing import Any, ClassVar, Literal

import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, NatureCNN
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule

from sb3_savo.acceleration import has_numpy_twin
from sb3_savo.arguments import MAX_NETWORKS, MAX_UNITS, Check, check_choice, check_flag, check_integer
from sb3_savo.common.actor_policy import ActorPolicy
from sb3_savo.networks.chain import ActorChain
from sb3_savo.networks.conditioning import Modulation, Pool, Summarizer
from sb3_savo.savo.surrogates import Surrogates

Surrogate = Literal["memory", "approximate", "exact", "hybrid", None]
LEARNED_SURROGATES = ("approximate", "hybrid")

# Of the arguments that a policy and its algorithm share
CHAIN_CHECKS: dict[str, Check] = {
    "n_actors": partial(check_integer, low=1, high=MAX_NETWORKS),
    "summarizer": partial(check_choice, choices=Summarizer),
    "modulation": partial(check_choice, choices=Modulation),
    "condition_on_previous": check_flag,
    "joint_action": check_flag,
}


class ChainPolicy(ActorPolicy):
    """
    A policy whose candidates come from a chain of actors, each conditioned on the earlier actions.

    :param observation_space: Observation space
    :param action_space: Action space, a ``Box`` or an :class:`EmbeddedDiscrete`
    :param lr_schedule: Learning rate schedule (could be constant)
    :param n_actors: Number of actors, μ and the ν_i; see :class:`SAVO` for this and the next four
    :param summarizer: ``deepset``, ``lstm`` or ``transformer``
    :param modulation: ``film`` or ``mlp``
    :param condition_on_previous: Whether the networks see the earlier actions
    :param joint_action: Whether one actor proposes all actions at once
    :param pool: The DeepSet's pooling, ``mean`` or ``max``
    :param summary_dim: Size of the summary of the earlier actions, at least 1
    :param kwargs: The arguments of all our policies with actors, see :class:`ActorPolicy`
    :raises TypeError: if an argument has the wrong type, or a space is of the wrong kind
    :raises ValueError: if an argument is out of its range
    """

    argument_checks: ClassVar[dict[str, Check]] = {
        **CHAIN_CHECKS,
        "pool": partial(check_choice, choices=Pool),
        "summary_dim": partial(check_integer, low=1, high=MAX_UNITS),
    }
    chain_class: ClassVar[type[ActorChain]] = ActorChain
    actor: ActorChain
    actor_target: ActorChain

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        *,
        n_actors: int = 3,
        summarizer: Summarizer = "deepset",
        modulation: Modulation = "film",
        condition_on_previous: bool = True,
        joint_action: bool = False,
        pool: Pool = "mean",
        summary_dim: int = 16,
        **kwargs: Any,
    ):
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)
        self.n_actors = n_actors
        self.summarizer = summarizer
        self.modulation = modulation
        self.condition_on_previous = condition_on_previous
        self.joint_action = joint_action
        self.pool = pool
        self.summary_dim = summary_dim

    @property
    def conditioning(self) -> dict[str, Any]:
        """How the networks see the earlier actions: arguments of :class:`ConditionedMLP`."""
        names = ("summarizer", "modulation", "condition_on_previous", "pool", "summary_dim")
        return {name: getattr(self, name) for name in names}

    def make_actor(self) -> ActorChain:
        return self.chain_class(
            **self._actor_arguments(),
            n_actors=self.n_actors,
            joint_action=self.joint_action,
            conditioning=self.conditioning,
        ).to(self.device)


class SAVOPolicy(ChainPolicy):
    """
    Policy class (with the actors, the critics and the surrogates) for SAVO.

    :param observation_space: Observation space
    :param action_space: Action space, a ``Box`` or an :class:`EmbeddedDiscrete`
    :param lr_schedule: Learning rate schedule (could be constant)
    :param surrogate: ``memory``, ``approximate``, ``exact``, ``hybrid`` or None; see :class:`SAVO`
    :param kwargs: The arguments of :class:`ChainPolicy`, :class:`ActorPolicy` and :class:`MaximizerPolicy`. Surrogates are as
        large as critics (``net_arch``), and share the features extractor if critics do (``share_features_extractor``).
    """

    argument_checks: ClassVar[dict[str, Check]] = {"surrogate": partial(check_choice, choices=Surrogate)}
    learner_names = (*ChainPolicy.learner_names, "surrogates")
    surrogates: Surrogates | None

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        *,
        surrogate: Surrogate = "memory",
        **kwargs: Any,
    ):
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)
        self.surrogate = surrogate
        self._build(lr_schedule)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        self.surrogates = None
        if self.surrogate in LEARNED_SURROGATES and self.n_actors > 1:
            self.surrogates = self.make_surrogates()
            self.surrogates.optimizer = self.make_optimizer(self.surrogates, lr_schedule)

    @property
    def n_surrogate_critics(self) -> int:
        """
        With a search memory, Ψ_i is made of the first critic alone. The memory finds the highest values of what it searches.
        The target min(Q', Q_2') is cautious only toward actors that ascend one critic: actors that ascend the minimum find
        the actions that both critics overrate. Q̂ imitates the minimum, so actors that ascend Q̂ are compared by it.
        """
        return 1 if self.surrogate == "memory" and self.smooth_critic is None else super().n_surrogate_critics

    @has_numpy_twin
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

    def make_surrogates(self) -> Surrogates:
        """:return: New surrogates"""
        arguments = {name: value for name, value in self.critic_kwargs.items() if name != "n_critics"}
        return Surrogates(
            **self._update_features_extractor(arguments, self.shared_extractor()),
            n_surrogates=self.n_actors - 1,
            init=self.init,
            conditioning=self.conditioning,
        ).to(self.device)


MlpPolicy = SAVOPolicy


class CnnPolicy(SAVOPolicy):
    """:class:`SAVOPolicy` for image observations: features by ``NatureCNN``."""

    default_features_extractor_class: ClassVar[type[BaseFeaturesExtractor]] = NatureCNN


class MultiInputPolicy(SAVOPolicy):
    """:class:`SAVOPolicy` for Dict observations: features by ``CombinedExtractor``."""

    default_features_extractor_class: ClassVar[type[BaseFeaturesExtractor]] = CombinedExtractor
