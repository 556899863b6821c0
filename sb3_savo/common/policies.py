"""A policy proposes, the critic disposes: what the policies of all our algorithms share."""

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor, get_actor_critic_arch
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import nn

from sb3_savo.acceleration import has_numpy_twin, numpy_policy
from sb3_savo.actions.candidates import perturb, pick
from sb3_savo.actions.masks import as_masks
from sb3_savo.actions.nearest import Nearest, NearestItems, make_nearest_items
from sb3_savo.actions.spaces import EmbeddedDiscrete, proposal_space
from sb3_savo.arguments import InheritedArguments, check_choice
from sb3_savo.networks.actors import ActorNetwork, Actors
from sb3_savo.networks.critics import CandidateCritic
from sb3_savo.networks.network import Network
from sb3_savo.networks.stacked import Init

FUSED_OPTIMIZERS = (th.optim.Adam, th.optim.AdamW, th.optim.SGD, th.optim.Adagrad)


class MaximizerPolicy(InheritedArguments, BasePolicy):
    """
    The maximizer μ_M (Eq. 5): candidate actions are proposed, and the critic picks the one with the highest Q.

    A subclass proposes in :meth:`propose` and :meth:`propose_targets`, and calls :meth:`_build` at the end of its constructor.

    In a discrete space with embeddings, proposals and the critic's actions are points in the space of the embeddings, scaled
    to [-1, 1]; f_NN takes a proposal to the nearest item before the critic sees it (§3.2.1, §14.6).

    :param observation_space: Observation space
    :param action_space: Action space, a ``Box`` or an :class:`EmbeddedDiscrete`
    :param lr_schedule: Learning rate schedule (could be constant)
    :param net_arch: The specification of the networks, actors (``pi``) and critics (``qf``); 256-256 by default
    :param activation_fn: Activation function
    :param features_extractor_class: Features extractor to use; None for the default of the policy's kind of observation
    :param features_extractor_kwargs: Keyword arguments to pass to the features extractor.
    :param normalize_images: Whether to normalize images or not, dividing by 255.0 (True by default)
    :param optimizer_class: The optimizer to use, ``th.optim.Adam`` by default
    :param optimizer_kwargs: Additional keyword arguments, excluding the learning rate, to pass to the optimizer
    :param n_critics: Number of critic networks to create.
    :param q_smoothing: Whether there is a Q̂, which learns to imitate Q, and which the actors ascend instead of Q (§14.6)
    :param nearest: How the nearest items are found, ``exact`` or ``approximate``
    :raises ValueError: if ``nearest`` is unknown
    """

    default_features_extractor_class: ClassVar[type[BaseFeaturesExtractor]] = FlattenExtractor
    critic_class: ClassVar[type[CandidateCritic]] = CandidateCritic
    learner_names: ClassVar[tuple[str, ...]] = ("critic", "smooth_critic")
    """Names of the networks that have an optimizer. An unused one is None."""
    actor_names: ClassVar[tuple[str, ...]] = ("actor",)
    """Names of the networks that learn at ``learning_rate``; the others learn at ``qf_learning_rate``."""
    target_names: ClassVar[tuple[str, ...]] = ("critic_target",)
    """Names of the target networks, each the name of its online network and ``_target``."""

    critic: CandidateCritic
    critic_target: CandidateCritic
    smooth_critic: CandidateCritic | None
    items: NearestItems | None

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        net_arch: list[int] | dict[str, list[int]] | None = None,
        activation_fn: type[nn.Module] = nn.ReLU,
        features_extractor_class: type[BaseFeaturesExtractor] | None = None,
        features_extractor_kwargs: dict[str, Any] | None = None,
        normalize_images: bool = True,
        optimizer_class: type[th.optim.Optimizer] = th.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
        n_critics: int = 2,
        q_smoothing: bool = False,
        nearest: Nearest = "exact",
    ):
        check_choice("nearest", nearest, Nearest)
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
        self.action_dim = get_action_dim(proposal_space(action_space))
        self.net_arch = [256, 256] if net_arch is None else net_arch
        self.activation_fn = activation_fn
        self.n_critics = n_critics
        self.q_smoothing = q_smoothing
        self.nearest = nearest
        self.items = None
        if isinstance(action_space, EmbeddedDiscrete):
            self.items = make_nearest_items(nearest, action_space.embeddings)

        actor_arch, critic_arch = get_actor_critic_arch(self.net_arch)
        net_args = {
            "observation_space": observation_space,
            "action_space": proposal_space(action_space),
            "activation_fn": activation_fn,
            "normalize_images": normalize_images,
        }
        self.actor_kwargs = {**net_args, "net_arch": actor_arch}
        self.critic_kwargs = {**net_args, "net_arch": critic_arch, "n_critics": n_critics, "share_features_extractor": False}

    @property
    def learners(self) -> dict[str, Network]:
        """The networks that have an optimizer, by name."""
        networks = {name: getattr(self, name) for name in self.learner_names}
        return {name: network for name, network in networks.items() if network is not None}

    def _build(self, lr_schedule: Schedule) -> None:
        """
        Create the networks, their target copies and their optimizers.

        :param lr_schedule: Learning rate schedule
        """
        self.critic = self.make_critic(self.shared_extractor())
        self.critic_target = self.make_critic(self.shared_extractor(target=True))
        self.critic_target.load_state_dict(self.critic.state_dict())
        self.critic.optimizer = self.make_optimizer(self.critic, lr_schedule)
        self.smooth_critic = None
        if self.q_smoothing:
            self.smooth_critic = self.make_smooth_critic()
            self.smooth_critic.optimizer = self.make_optimizer(self.smooth_critic, lr_schedule)
        # Target networks should always be in eval mode
        self.critic_target.set_training_mode(False)
        for name in self.target_names:
            getattr(self, name).gather_parameters()

    def shared_extractor(self, target: bool = False) -> BaseFeaturesExtractor | None:
        """
        :param target: Whether for a target copy
        :return: The features extractor that the critic shares with another network, if it does
        """
        return None

    @staticmethod
    def batch_size(obs: PyTorchObs) -> int:
        """:return: Number of observations"""
        return len(next(iter(obs.values())) if isinstance(obs, dict) else obs)

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> CandidateCritic:
        """
        :param features_extractor: Features extractor to share; None for a new one
        :return: A new critic
        """
        return self.critic_class(**self._update_features_extractor(self.critic_kwargs, features_extractor)).to(self.device)

    def make_smooth_critic(self) -> CandidateCritic:
        """:return: A new Q̂: one network like the critic's, which uses the critic's features but does not train them"""
        kwargs = {**self.critic_kwargs, "n_critics": 1, "share_features_extractor": True}
        return CandidateCritic(**self._update_features_extractor(kwargs, self.critic.features_extractor)).to(self.device)

    def make_optimizer(self, network: Network, lr_schedule: Schedule) -> th.optim.Optimizer:
        """
        :param network: The network to optimize; the optimizer's only parameter is the network's ``parameter_vector``
        :param lr_schedule: Learning rate schedule
        :return: A new optimizer
        """
        kwargs = dict(self.optimizer_kwargs)
        if self.optimizer_class in FUSED_OPTIMIZERS and not kwargs.keys() & {"foreach", "differentiable"}:
            kwargs.setdefault("fused", True)
        return self.optimizer_class([network.gather_parameters().vector], lr=lr_schedule(1), **kwargs)  # type: ignore[call-arg]

    @abstractmethod
    def propose(
        self,
        obs: PyTorchObs,
        deterministic: bool = False,
        noise: th.Tensor | None = None,
        masks: th.Tensor | None = None,
    ) -> th.Tensor:
        """
        :param obs: Observations, (batch, ...)
        :param deterministic: Whether the proposals must depend on the observation only; a policy that samples then uses its
            means, or fixed random numbers
        :param noise: Noise to add to the candidates, which are clipped then; (batch, n_candidates, action_dim)
        :param masks: In a discrete space, which items are allowed, (batch, n_items); None for all
        :return: Candidate actions scaled to [-1, 1], (batch, n_candidates, action_dim)
        """

    @abstractmethod
    def propose_targets(self, obs: PyTorchObs, masks: th.Tensor | None = None) -> th.Tensor:
        """
        :param obs: Next observations, (batch, ...)
        :param masks: In a discrete space, which items are allowed there, (batch, n_items); None for all
        :return: The candidates that the Bellman target bootstraps from, (batch, n_candidates, action_dim)
        """

    def snap(self, candidates: th.Tensor, masks: th.Tensor | None = None) -> tuple[th.Tensor, th.Tensor | None]:
        """
        f_NN: map candidates to actions. In a continuous space, each candidate is an action already.

        :param candidates: (batch, n_candidates, action_dim)
        :param masks: Which items are allowed, (batch, n_items); None for all
        :return: The actions, (batch, n_candidates, action_dim); in a discrete space these are the embeddings of items, which
            are returned too, (batch, n_candidates)
        """
        if self.items is None:
            return candidates, None
        items = self.items.nearest(candidates, masks=masks).squeeze(2)
        return self.items.embed(items), items

    @has_numpy_twin
    def maximize(self, obs: PyTorchObs, actions: th.Tensor) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        """
        Pick the action with the highest value under the first online critic (Eq. 5).

        :param obs: Observations, (batch, ...)
        :param actions: The candidates' actions, (batch, n_candidates, action_dim)
        :return: The picked action, (batch, action_dim), its index, (batch, 1), and all values, (batch, n_candidates)
        """
        q_values = self.critic.q1(obs, actions)
        picked = q_values.argmax(dim=1, keepdim=True)
        return pick(actions, picked), picked, q_values

    def actor_objective(self, obs: PyTorchObs, actions: th.Tensor) -> th.Tensor:
        """
        The objective of an actor that maximizes Q: Q itself (Eq. 3), or Q̂ with Q-smoothing.

        :param obs: Observations, (batch, ...)
        :param actions: Several actions per observation, (batch, n_actions, action_dim)
        :return: Values, (batch, n_actions)
        """
        return (self.critic if self.smooth_critic is None else self.smooth_critic).q1(obs, actions)

    def forward(self, observation: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        return self._predict(observation, deterministic=deterministic)

    @has_numpy_twin
    def _predict(
        self, observation: PyTorchObs, deterministic: bool = False, action_masks: th.Tensor | None = None
    ) -> th.Tensor:
        actions, items = self.snap(self.propose(observation, deterministic, masks=action_masks), action_masks)
        if actions.shape[1] == 1:
            return actions[:, 0] if items is None else items[:, 0]
        chosen, picked, _ = self.maximize(observation, actions)
        return chosen if items is None else items.gather(1, picked).squeeze(1)

    def predict(  # type: ignore[override]
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        action_masks: np.ndarray | None = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """
        :param observation: the input observation
        :param state: The last hidden states, which are returned unchanged, since the policy is not recurrent
        :param episode_start: Not used, since the policy is not recurrent
        :param deterministic: Whether the action must depend on the observation only. This makes no difference to SAVO, which
            does not sample, as TD3 does not.
        :param action_masks: In a discrete space, which items are allowed: (n_items,), or (n_envs, n_items)
        :return: the model's action and the hidden state
        :raises ValueError: if there are masks and the space is continuous, or their shape is wrong
        """
        if action_masks is None:
            twin = numpy_policy(self)
            if twin is not None and (actions := twin.predict(observation)) is not None:
                if self.training:
                    self.set_training_mode(False)
                return actions, state
            return super().predict(observation, state, episode_start, deterministic)
        self.set_training_mode(False)
        obs_tensor, vectorized_env = self.obs_to_tensor(observation)
        with th.no_grad():
            items = self._predict(obs_tensor, deterministic, self.masks_to_tensor(action_masks)).cpu().numpy()
        return (items if vectorized_env else items[0]), state

    def masks_to_tensor(self, action_masks: np.ndarray) -> th.Tensor:
        """
        :param action_masks: Which items are allowed: (n_items,), or (n_envs, n_items)
        :return: The masks, (n_envs, n_items)
        :raises ValueError: if the space is continuous, the shape is wrong, or an entry is neither True nor False nor 1 nor 0
        """
        masks = np.atleast_2d(as_masks(action_masks))
        if self.items is None or masks.ndim != 2 or masks.shape[1] != self.action_space.n:  # type: ignore[attr-defined]
            raise ValueError(
                f"action_masks has the shape {np.shape(action_masks)}, but the action space is {self.action_space}: "
                "it must be a discrete one, and the masks (n_items,) or (n_envs, n_items)."
            )
        return th.as_tensor(masks, device=self.device)

    def set_training_mode(self, mode: bool) -> None:
        """
        Put the policy in either training or evaluation mode; the target networks stay in evaluation mode.

        This affects certain modules, such as batch normalization and dropout.

        :param mode: if true, set to training mode, else set to evaluation mode
        """
        for learner in self.learners.values():
            learner.set_training_mode(mode)
        self.training = mode

    def _get_constructor_parameters(self) -> dict[str, Any]:
        # The learning rate schedule is not needed for loading the policy alone
        return {**self.constructor_arguments(), "lr_schedule": self._dummy_schedule}


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
    :raises ValueError: if ``init`` is unknown
    """

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
        check_choice("init", init, Init)
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
