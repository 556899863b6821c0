"""A policy proposes, the critic disposes: what the policies of all our algorithms share."""

from abc import abstractmethod
from contextlib import nullcontext
from functools import partial
from typing import Any, ClassVar, cast

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor, get_actor_critic_arch
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import nn
from torch.nn.parameter import is_lazy

from sb3_savo.acceleration import has_numpy_twin, numpy_policy
from sb3_savo.actions.candidates import pick
from sb3_savo.actions.nearest import Nearest, NearestItems, make_nearest_items
from sb3_savo.actions.spaces import EmbeddedDiscrete, check_action_space, proposal_space
from sb3_savo.arguments import (
    MAX_NETWORKS,
    Check,
    InheritedArguments,
    check_choice,
    check_class,
    check_flag,
    check_integer,
    check_learning_rate,
    check_type,
    optional,
)
from sb3_savo.common.finite import BROKEN_POLICY, BROKEN_WEIGHTS, check_finite
from sb3_savo.common.observations import ObservationCheck, check_observation_space
from sb3_savo.common.policy_arguments import check_features_extractor, check_net_arch, check_optimizer
from sb3_savo.common.update_lock import UpdateLock
from sb3_savo.files.policies import SavedAlone
from sb3_savo.networks.critics import CandidateCritic
from sb3_savo.networks.network import Network
from sb3_savo.tracing import in_policy, is_exporting

FUSED_OPTIMIZERS = (th.optim.Adam, th.optim.AdamW, th.optim.SGD, th.optim.Adagrad)


class MaximizerPolicy(InheritedArguments, SavedAlone, BasePolicy):
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
    :raises TypeError: if an argument has the wrong type, or a space is of the wrong kind
    :raises ValueError: if an argument is out of its range
    """

    argument_checks: ClassVar[dict[str, Check]] = {
        "lr_schedule": check_learning_rate,
        "net_arch": optional(check_net_arch),
        "activation_fn": partial(check_class, parent=nn.Module),
        "features_extractor_class": optional(partial(check_class, parent=BaseFeaturesExtractor)),
        "features_extractor_kwargs": optional(partial(check_type, types=dict, wanted="a dictionary, or None")),
        "normalize_images": check_flag,
        "optimizer_class": partial(check_class, parent=th.optim.Optimizer),
        "optimizer_kwargs": optional(partial(check_type, types=dict, wanted="a dictionary, or None")),
        "n_critics": partial(check_integer, low=1, high=MAX_NETWORKS),
        "q_smoothing": check_flag,
        "nearest": partial(check_choice, choices=Nearest),
    }
    default_features_extractor_class: ClassVar[type[BaseFeaturesExtractor]] = FlattenExtractor
    critic_class: ClassVar[type[CandidateCritic]] = CandidateCritic
    learner_names: ClassVar[tuple[str, ...]] = ("critic", "smooth_critic")
    """Names of the networks that have an optimizer. An unused one is None."""
    actor_names: ClassVar[tuple[str, ...]] = ("actor",)
    """Names of the networks that learn at ``learning_rate``; the others learn at ``qf_learning_rate``."""
    target_names: ClassVar[tuple[str, ...]] = ("critic_target",)
    """Names of the target networks, each the name of its online network and ``_target``."""
    differentiates_to_act: ClassVar[bool] = False
    """Whether :meth:`propose` takes gradients, which ``torch.export`` cannot record by itself."""

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
        check_observation_space(observation_space, type(self).__name__, argument="observation_space")
        self.check_action_space(action_space)
        extractor_class = features_extractor_class or self.default_features_extractor_class
        check_features_extractor(extractor_class, observation_space, normalize_images)
        check_optimizer(optimizer_class, optimizer_kwargs or {})
        super().__init__(
            observation_space,
            action_space,
            extractor_class,
            features_extractor_kwargs,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
            squash_output=True,
            normalize_images=normalize_images,
        )
        self.check_observation = ObservationCheck(observation_space)
        self.action_dim = get_action_dim(proposal_space(action_space))
        self.net_arch = [256, 256] if net_arch is None else net_arch
        self.activation_fn = activation_fn
        self.n_critics = n_critics
        self.q_smoothing = q_smoothing
        self.nearest = nearest
        self.update_lock = UpdateLock()
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

    def make_features_extractor(self) -> BaseFeaturesExtractor:
        """:return: A new features extractor, in which lazy layers have found their sizes by a sample of the observations"""
        try:
            extractor = super().make_features_extractor()
        except TypeError as error:
            raise TypeError(
                f"features_extractor_kwargs={self.features_extractor_kwargs!r}: they must be arguments of "
                f"{self.features_extractor_class.__name__}: {error}"
            ) from error
        if any(is_lazy(parameter) for parameter in extractor.parameters()):
            obs, _ = self.obs_to_tensor(self.observation_space.sample())
            with th.no_grad():
                self.extract_features(obs, extractor.eval())
            extractor.train()
        return extractor

    @classmethod
    def check_action_space(cls, action_space: spaces.Space) -> None:
        """
        :param action_space: An action space
        :raises TypeError: if the policy cannot act in spaces of this kind
        :raises ValueError: if it cannot act in this one
        """
        check_action_space(action_space, cls.__name__, argument="action_space")

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
        return (next(iter(obs.values())) if isinstance(obs, dict) else obs).shape[0]

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
        vector = network.gather_parameters()
        optimizer = self.optimizer_class([vector.vector], lr=lr_schedule(1), **kwargs)  # type: ignore[call-arg]
        optimizer.register_load_state_dict_pre_hook(vector.gather_state)
        return optimizer

    def load_from_vector(self, vector: np.ndarray) -> None:
        """
        Load parameters from a 1D vector. They keep their own memory, which optimizers and NumPy use.

        :param vector: The values of all parameters, as :meth:`parameters_to_vector` returns them
        :raises ValueError: if it has another size
        """
        values = th.as_tensor(vector, dtype=th.float32, device=self.device)
        sizes = [parameter.numel() for parameter in self.parameters()]
        if values.shape != (sum(sizes),):
            raise ValueError(
                f"vector has the shape {tuple(values.shape)}: it must be ({sum(sizes)},), one value per parameter."
            )
        with th.no_grad():
            for parameter, part in zip(self.parameters(), values.split(sizes), strict=True):
                parameter.copy_(part.view(parameter.shape))

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

    @property
    def n_surrogate_critics(self) -> int:
        """Of how many critics the surrogates Ψ_i are the minimum: of all ("twin critics for surrogates", §4.3)."""
        return self.critic.n_critics

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
        with in_policy() if is_exporting() else nullcontext():
            return self._choose(self, observation, deterministic, action_masks)

    def _choose(self, actor: Any, obs: PyTorchObs, deterministic: bool, masks: th.Tensor | None) -> th.Tensor:
        """
        :param actor: Who proposes and evaluates: this policy, or its twin in NumPy
        :param obs: Its observations, (batch, ...)
        :param deterministic: See :meth:`propose`
        :param masks: See :meth:`propose`
        :return: Scaled actions, (batch, action_dim), or items, (batch,)
        """
        candidates = actor.propose(obs, deterministic, masks=masks)
        actions, items = self.snap(candidates, masks)
        if items is not None:
            self._check_computed("candidate actions", candidates)
        if actions.shape[1] == 1:
            return actions[:, 0] if items is None else items[:, 0]
        chosen, picked, q_values = actor.maximize(obs, actions)
        self._check_computed("Q-values", q_values)
        return chosen if items is None else items.gather(1, picked).squeeze(1)

    @staticmethod
    def _check_computed(name: str, values: th.Tensor) -> None:
        if not is_exporting() and not th.compiler.is_compiling():
            check_finite(name, values.detach().cpu().numpy(), hint=BROKEN_POLICY)

    @th.no_grad()  # with gradients it takes a lock of autograd, for which another thread that learns may wait
    def check_weights(self) -> None:
        """
        :raises NonFiniteError: if a weight of a network that learns is NaN or infinite; the message names the first
        """
        for name, network in self.learners.items():
            for part, parameter in network.named_parameters():
                if not bool(parameter.isfinite().all()):
                    check_finite(f"policy.{name}.{part}", parameter.detach().cpu().numpy(), hint=BROKEN_WEIGHTS)

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
        :return: the model's action and the hidden state, an action of the space's data type within its bounds
        :raises TypeError: if an observation or a mask is of another type
        :raises ValueError: if an observation has another shape, holds NaN or an infinite number, or is far beyond its space;
            if there are masks and the space is continuous, their shape is wrong, or one allows nothing
        :raises NonFiniteError: if the candidates, their Q-values or the action are not finite, or, at the first prediction
            after the policy was made, loaded or has learned, a weight
        """
        if deterministic is not True and deterministic is not False:
            check_flag("deterministic", deterministic)
        n_obs = self.check_observation(observation)
        if action_masks is None:
            with self.update_lock:
                self._begin_to_predict()
                twin = numpy_policy(self) if isinstance(observation, np.ndarray) else None
                if twin is not None and self.items is not None:
                    with th.no_grad():
                        items = self._choose(twin, twin.obs_to_tensor(observation)[0], deterministic, None).numpy()
                    return (items if n_obs is not None else items.squeeze(0)), state
                predicted = None if twin is None else twin.predict(observation)
                if predicted is None:
                    actions, state = super().predict(observation, state, episode_start, deterministic)
                else:
                    actions, q_values = predicted
                    if q_values is not None:
                        check_finite("Q-values", q_values, hint=BROKEN_POLICY)
            check_finite("action", actions, hint=BROKEN_POLICY)
            return actions, state
        masks = self.masks_to_tensor(action_masks)
        if len(masks) not in (1, n_obs or 1):
            raise ValueError(
                f"action_masks has the shape {np.shape(action_masks)}, but there are {n_obs or 1} observations: it must have "
                "one row per observation, or be (n_items,)."
            )
        with self.update_lock, th.no_grad():
            self._begin_to_predict()
            obs_tensor, vectorized_env = self.obs_to_tensor(observation)
            items = self._predict(obs_tensor, deterministic, masks.expand(n_obs or 1, -1)).cpu().numpy()
        return (items if vectorized_env else items[0]), state

    def _begin_to_predict(self) -> None:
        # A policy is in training mode when it was made, loaded or has learned: the weights may be new
        if self.training:
            self.check_weights()
            self.set_training_mode(False)

    def unscale_action(self, scaled_action: np.ndarray) -> np.ndarray:
        """
        :param scaled_action: Actions in [-1, 1], (..., *shape of an action)
        :return: The actions in the units of the action space: of its data type, and within its bounds in spite of rounding
        """
        space = cast(spaces.Box, self.action_space)
        return np.clip(super().unscale_action(scaled_action), space.low, space.high).astype(space.dtype, copy=False)

    def masks_to_tensor(self, action_masks: np.ndarray) -> th.Tensor:
        """
        :param action_masks: Which items are allowed: (n_items,), or (n_envs, n_items); bool, or integers 0 and 1
        :return: The masks, (n_envs, n_items)
        :raises TypeError: if they are of another type
        :raises ValueError: if the space is continuous, the shape is wrong, an integer is not 0 or 1, or a row allows nothing
        """
        given = np.asarray(action_masks)
        if self.items is None or given.ndim not in (1, 2) or given.shape[-1] != self.action_space.n:  # type: ignore[attr-defined]
            raise ValueError(
                f"action_masks has the shape {given.shape}, but the action space is {self.action_space}: "
                "it must be a discrete one, and the masks (n_items,) or (n_envs, n_items)."
            )
        if given.dtype.kind not in "biu":
            raise TypeError(
                f"action_masks is of the type {given.dtype}: it must be bool, True for an item that is allowed "
                "(probabilities > 0, say)."
            )
        if given.dtype.kind != "b" and not ((given == 0) | (given == 1)).all():
            raise ValueError(
                "action_masks holds integers other than 0 and 1: it must be bool, True for an item that is allowed."
            )
        masks = np.atleast_2d(given.astype(bool, copy=False))
        if not (allowed := masks.any(axis=1)).all():
            raise ValueError(
                f"action_masks: a row allows none of the {masks.shape[1]} items, row {int(np.argmin(allowed))}: every "
                "observation must have at least one item that is allowed."
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
