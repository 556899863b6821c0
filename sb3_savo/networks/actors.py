"""Actors that propose independently of one another, and what the policies of all algorithms with actors share."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import nn

from sb3_savo.acceleration.numpy_networks import MirroredMLP, can_mirror
from sb3_savo.networks.stacked import StackedMLP, initialize_weights


class Actors(BasePolicy):
    """
    Some actors μ_i(s) that know nothing of one another, on one features extractor.

    :param observation_space: Observation space
    :param action_space: Action space
    :param net_arch: Sizes of every actor's hidden layers
    :param features_extractor: Network to extract features
    :param features_dim: Number of features
    :param activation_fn: Activation function
    :param normalize_images: Whether to normalize images or not, dividing by 255.0 (True by default)
    :param n_actors: Number of actors
    :param layer_norm: Whether to normalise every hidden layer
    :param init: How to initialise the weights
    """

    outputs_per_dim: ClassVar[int] = 1
    """Outputs of an actor per dimension of the action."""

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        net_arch: list[int],
        features_extractor: BaseFeaturesExtractor,
        features_dim: int,
        activation_fn: type[nn.Module] = nn.ReLU,
        normalize_images: bool = True,
        n_actors: int = 1,
        layer_norm: bool = True,
        init: str = "orthogonal",
    ):
        super().__init__(
            observation_space,
            action_space,
            features_extractor=features_extractor,
            normalize_images=normalize_images,
            squash_output=True,
        )
        self.constructor_kwargs = {
            "net_arch": net_arch,
            "features_extractor": features_extractor,
            "features_dim": features_dim,
            "activation_fn": activation_fn,
            "n_actors": n_actors,
            "layer_norm": layer_norm,
            "init": init,
        }
        self.n_actors = n_actors
        n_outputs = self.outputs_per_dim * get_action_dim(action_space)
        self.mu = StackedMLP(n_actors, features_dim, n_outputs, net_arch, activation_fn, layer_norm=layer_norm)
        initialize_weights(self, init, [self.mu.output])

    def outputs(self, obs: PyTorchObs) -> th.Tensor:
        """
        :param obs: Observations, (batch, ...)
        :return: What the networks return, (batch, n_actors, outputs_per_dim * action_dim)
        """
        features = self.extract_features(obs, self.features_extractor)
        return self.mu(features.expand(self.n_actors, -1, -1)).transpose(0, 1)

    def forward(self, obs: PyTorchObs) -> th.Tensor:
        """
        :param obs: Observations, (batch, ...)
        :return: One proposal per actor, (batch, n_actors, action_dim) in [-1, 1]
        """
        return self.outputs(obs).tanh()

    def mirror(self) -> Callable[[np.ndarray], np.ndarray] | None:
        """:return: As :class:`Mirror` takes it: observations to proposals, (n_actors, n, action_dim), if NumPy can"""
        if type(self) is not Actors or not can_mirror(self.mu):
            return None
        networks = [MirroredMLP(self.mu, i) for i in range(self.n_actors)]
        return lambda obs: np.tanh(np.stack([network(obs) for network in networks]))

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        # The actors alone cannot say which proposal is best: the critic does, in the policy
        return self(observation)[:, 0]

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), **self.constructor_kwargs}
