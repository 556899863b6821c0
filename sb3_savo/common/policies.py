"""A policy proposes, the critic disposes: what the policies of all our algorithms share."""

from abc import abstractmethod
from typing import Any, ClassVar

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy, ContinuousCritic
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor, get_actor_critic_arch
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import nn


class CandidateCritic(ContinuousCritic):
    """SB3's critic, which also evaluates several actions per state on one extraction of the state's features."""

    def evaluate(self, obs: PyTorchObs, actions: th.Tensor) -> th.Tensor:
        """
        :param obs: Observations, (batch, ...)
        :param actions: Several actions per observation, (batch, n_actions, action_dim)
        :return: Every critic's value of them, (n_critics, batch, n_actions)
        """
        inputs = self._inputs(obs, actions)
        return th.stack([q_net(inputs).squeeze(-1) for q_net in self.q_networks])

    def q1(self, obs: PyTorchObs, actions: th.Tensor) -> th.Tensor:
        """
        :param obs: Observations, (batch, ...)
        :param actions: Several actions per observation, (batch, n_actions, action_dim)
        :return: The first critic's value of them, (batch, n_actions)
        """
        return self.q_networks[0](self._inputs(obs, actions)).squeeze(-1)

    def _inputs(self, obs: PyTorchObs, actions: th.Tensor) -> th.Tensor:
        # Like SB3's q1_forward: what is learned from actions leaves the features alone
        with th.no_grad():
            features = self.extract_features(obs, self.features_extractor)
        return th.cat([features.unsqueeze(1).expand(-1, actions.shape[1], -1), actions], dim=2)


class MaximizerPolicy(BasePolicy):
    """
    The maximizer μ_M (Eq. 5): its actor proposes candidate actions, and the critic picks the one with the highest Q.

    A subclass says in :meth:`make_actor` how candidates are proposed.

    :param observation_space: Observation space
    :param action_space: Action space
    :param lr_schedule: Learning rate schedule (could be constant)
    :param net_arch: The specification of the actor and critic networks; 256-256 by default
    :param activation_fn: Activation function
    :param features_extractor_class: Features extractor to use; by default that of the policy's kind of observation
    :param features_extractor_kwargs: Keyword arguments to pass to the features extractor.
    :param normalize_images: Whether to normalize images or not, dividing by 255.0 (True by default)
    :param optimizer_class: The optimizer to use, ``th.optim.Adam`` by default
    :param optimizer_kwargs: Additional keyword arguments, excluding the learning rate, to pass to the optimizer
    :param n_critics: Number of critic networks to create.
    :param share_features_extractor: Whether the critic uses the actor's features extractor (which then learns from
        the actor's loss only) or one of its own
    """

    default_features_extractor_class: ClassVar[type[BaseFeaturesExtractor]] = FlattenExtractor

    actor: BasePolicy
    actor_target: BasePolicy
    critic: CandidateCritic
    critic_target: CandidateCritic

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        lr_schedule: Schedule,
        net_arch: list[int] | dict[str, list[int]] | None = None,
        activation_fn: type[nn.Module] = nn.ReLU,
        features_extractor_class: type[BaseFeaturesExtractor] | None = None,
        features_extractor_kwargs: dict[str, Any] | None = None,
        normalize_images: bool = True,
        optimizer_class: type[th.optim.Optimizer] = th.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
        n_critics: int = 2,
        share_features_extractor: bool = False,
    ):
        super().__init__(
            observation_space,
            action_space,
            features_extractor_class or self.default_features_extractor_class,
            features_extractor_kwargs,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
            squash_output=True,
            normalize_images=normalize_images,
        )
        self.net_arch = [256, 256] if net_arch is None else net_arch
        self.activation_fn = activation_fn
        self.n_critics = n_critics
        self.share_features_extractor = share_features_extractor

        actor_arch, critic_arch = get_actor_critic_arch(self.net_arch)
        net_args = {
            "observation_space": observation_space,
            "action_space": action_space,
            "activation_fn": activation_fn,
            "normalize_images": normalize_images,
        }
        self.actor_kwargs = {**net_args, "net_arch": actor_arch}
        self.critic_kwargs = {
            **net_args,
            "net_arch": critic_arch,
            "n_critics": n_critics,
            "share_features_extractor": share_features_extractor,
        }

    def _build(self, lr_schedule: Schedule) -> None:
        """
        Create the networks, their target copies and their optimizers.

        :param lr_schedule: Learning rate schedule
        """
        self.actor, self.actor_target = self.make_actor(), self.make_actor()
        self.critic = self.make_critic(self._shared_extractor(self.actor))
        self.critic_target = self.make_critic(self._shared_extractor(self.actor_target))
        self.actor_target.load_state_dict(self.actor.state_dict())
        self.critic_target.load_state_dict(self.critic.state_dict())
        self.actor.optimizer = self.make_optimizer(self.actor, lr_schedule)
        self.critic.optimizer = self.make_optimizer(self.critic, lr_schedule)
        # Target networks should always be in eval mode
        self.actor_target.set_training_mode(False)
        self.critic_target.set_training_mode(False)

    def _shared_extractor(self, actor: BasePolicy) -> BaseFeaturesExtractor | None:
        return actor.features_extractor if self.share_features_extractor else None

    @abstractmethod
    def make_actor(self) -> BasePolicy:
        """:return: A network that maps observations to candidates, (batch, n_candidates, action_dim) in [-1, 1]"""

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> CandidateCritic:
        """
        :param features_extractor: Features extractor to share; None for a new one
        :return: A new critic
        """
        return CandidateCritic(**self._update_features_extractor(self.critic_kwargs, features_extractor)).to(self.device)

    def make_optimizer(self, module: nn.Module, lr_schedule: Schedule) -> th.optim.Optimizer:
        """
        :param module: The network to optimize
        :param lr_schedule: Learning rate schedule
        :return: A new optimizer of its parameters
        """
        return self.optimizer_class(module.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def propose(self, obs: PyTorchObs) -> th.Tensor:
        """
        :param obs: Observations, (batch, ...)
        :return: Candidate actions scaled to [-1, 1], (batch, n_candidates, action_dim)
        """
        return self.actor(obs)

    def maximize(self, obs: PyTorchObs, candidates: th.Tensor) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        """
        Pick the candidate with the highest value under the first online critic (Eq. 5).

        :param obs: Observations, (batch, ...)
        :param candidates: (batch, n_candidates, action_dim)
        :return: The picked action, (batch, action_dim), its index, (batch, 1), and all values, (batch, n_candidates)
        """
        q_values = self.critic.q1(obs, candidates)
        picked = q_values.argmax(dim=1, keepdim=True)
        return pick(candidates, picked), picked, q_values

    def forward(self, observation: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        return self._predict(observation, deterministic=deterministic)

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        # Like TD3's, predictions are always deterministic: exploration is the algorithm's
        candidates = self.propose(observation)
        if candidates.shape[1] == 1:
            return candidates[:, 0]
        return self.maximize(observation, candidates)[0]

    def set_training_mode(self, mode: bool) -> None:
        """
        Put the policy in either training or evaluation mode; the target networks stay in evaluation mode.

        This affects certain modules, such as batch normalisation and dropout.

        :param mode: if true, set to training mode, else set to evaluation mode
        """
        self.actor.set_training_mode(mode)
        self.critic.set_training_mode(mode)
        self.training = mode

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            **super()._get_constructor_parameters(),
            "net_arch": self.net_arch,
            "activation_fn": self.activation_fn,
            "n_critics": self.n_critics,
            "lr_schedule": self._dummy_schedule,  # not needed for loading the policy alone
            "optimizer_class": self.optimizer_class,
            "optimizer_kwargs": self.optimizer_kwargs,
            "features_extractor_class": self.features_extractor_class,
            "features_extractor_kwargs": self.features_extractor_kwargs,
            "share_features_extractor": self.share_features_extractor,
        }


def pick(candidates: th.Tensor, index: th.Tensor) -> th.Tensor:
    """
    :param candidates: (batch, n_candidates, action_dim)
    :param index: (batch, 1)
    :return: One candidate per state, (batch, action_dim)
    """
    return candidates.gather(1, index.unsqueeze(2).expand(-1, -1, candidates.shape[2])).squeeze(1)
