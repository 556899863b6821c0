"""Wolpertinger: the baseline "1-Actor, k samples" (paper, §6.1)."""

from functools import partial
from typing import Any, ClassVar, Unpack

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import CombinedExtractor, NatureCNN
from stable_baselines3.common.type_aliases import GymEnv, PyTorchObs, Schedule

from sb3_savo.actions.candidates import perturb
from sb3_savo.actions.spaces import EmbeddedDiscrete
from sb3_savo.arguments import MAX_SAMPLES, Check, check_integer, check_number
from sb3_savo.common.actor_policy import ActorPolicy
from sb3_savo.common.arguments import MaximizerArguments, SearchRange
from sb3_savo.common.maximizer import MaximizerAlgorithm

# Of the arguments that the policy and its algorithm share
WOLPERTINGER_CHECKS: dict[str, Check] = {
    "k": partial(check_integer, low=1, high=MAX_SAMPLES),
    "sample_std": check_number,
}


class WolpertingerPolicy(ActorPolicy):
    """
    Policy class (with the actor and the critics) for Wolpertinger.

    :param observation_space: Observation space
    :param action_space: Action space, a ``Box`` or an :class:`EmbeddedDiscrete`
    :param lr_schedule: Learning rate schedule (could be constant)
    :param k: Number of candidates
    :param sample_std: Standard deviation of the candidates around the actor's proposal, in a continuous space
    :param kwargs: The arguments of all our policies with actors, see :class:`ActorPolicy`
    :raises ValueError: if ``k`` is more than the items of a discrete space
    """

    argument_checks: ClassVar[dict[str, Check]] = WOLPERTINGER_CHECKS
    offsets: th.Tensor

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        *,
        k: int = 3,
        sample_std: float = 0.01,
        **kwargs: Any,
    ):
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)
        if isinstance(action_space, EmbeddedDiscrete) and k > action_space.n:
            raise ValueError(f"k={k} is too large: the action space has only {action_space.n} items.")
        self.k = k
        self.sample_std = sample_std
        # The samples' offsets where proposals must not be random
        self.register_buffer("offsets", th.randn(1, k - 1, self.action_dim))
        self._build(lr_schedule)

    def propose(
        self,
        obs: PyTorchObs,
        deterministic: bool = False,
        noise: th.Tensor | None = None,
        masks: th.Tensor | None = None,
    ) -> th.Tensor:
        proposal = perturb(self.actor(obs), None if noise is None else noise[:, :1])
        return self.around(proposal, deterministic, masks)

    def propose_targets(self, obs: PyTorchObs, masks: th.Tensor | None = None) -> th.Tensor:
        return self.around(self.actor_target(obs), masks=masks)

    def around(self, proposal: th.Tensor, deterministic: bool = False, masks: th.Tensor | None = None) -> th.Tensor:
        """
        :param proposal: The actor's, (batch, 1, action_dim)
        :param deterministic: Whether to take the same offsets in every state and at every call
        :param masks: In a discrete space, which items are allowed, (batch, n_items); None for all
        :return: The proposal, and samples of N(proposal, sample_std²); in a discrete space the proposal, which f_NN maps to
            the nearest item, and the second to k-th nearest items; (batch, k, action_dim)
        """
        if self.items is not None:
            nearest = self.items.nearest(proposal, self.k, masks).squeeze(1)
            return th.cat([proposal, self.items.embed(nearest[:, 1:])], dim=1)
        offsets = self.offsets if deterministic else th.randn_like(self.offsets.expand(proposal.shape[0], -1, -1))
        return th.cat([proposal, perturb(proposal, self.sample_std * offsets)], dim=1)


MlpPolicy = WolpertingerPolicy


class CnnPolicy(WolpertingerPolicy):
    """:class:`WolpertingerPolicy` for image observations: features by ``NatureCNN``."""

    default_features_extractor_class = NatureCNN


class MultiInputPolicy(WolpertingerPolicy):
    """:class:`WolpertingerPolicy` for Dict observations: features by ``CombinedExtractor``."""

    default_features_extractor_class = CombinedExtractor


class Wolpertinger(MaximizerAlgorithm):
    """
    One actor that ascends Q; the best of some candidates near its proposal is taken (Dulac-Arnold et al., 2015).

    Exploration noise moves the actor's proposal, not each of the candidates around it.

    :param policy: The policy model to use (MlpPolicy, CnnPolicy, MultiInputPolicy)
    :param env: The environment to learn from (if registered in Gym, can be str)
    :param learning_rate: Learning rate, above 0, or a function of the current progress remaining (from 1 to 0)
    :param k: Number of candidates, at least 1: the actor's proposal and samples around it; in a discrete space the k items
        nearest to it
    :param sample_std: Standard deviation of the samples, in units of the action space scaled to [-1, 1]; 0.01 as the
        authors ran it, 0.1 is stronger
    :param kwargs: The arguments of :class:`MaximizerAlgorithm`, by name
    :param _init_setup_model: Whether or not to build the network at the creation of the instance
    :raises TypeError: if an argument has the wrong type, or the policy or the action space is of the wrong kind
    :raises ValueError: if an argument is out of its range, or the action space is unbounded
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
    }
    argument_checks: ClassVar[dict[str, Check]] = WOLPERTINGER_CHECKS
    search_space: ClassVar[dict[str, SearchRange]] = {"k": (2, 30), "sample_std": (0.001, 0.5, "log")}
    item_counts = ("k",)
    policy: WolpertingerPolicy

    def __init__(
        self,
        policy: str | type[WolpertingerPolicy],
        env: GymEnv | str | None,
        learning_rate: float | Schedule = 3e-4,
        *,
        k: int = 3,
        sample_std: float = 0.01,
        _init_setup_model: bool = True,
        **kwargs: Unpack[MaximizerArguments],
    ):
        super().__init__(policy, env, learning_rate, **kwargs)
        self.k = k
        self.sample_std = sample_std

        if _init_setup_model:
            self._setup_model()

    @property
    def n_candidates(self) -> int:
        return self.k

    @property
    def n_q_actors(self) -> int:
        return 1
