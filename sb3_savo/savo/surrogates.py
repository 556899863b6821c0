"""The learned surrogates, which the later actors ascend."""

from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BaseModel
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import nn

from sb3_savo.networks.conditioning import ConditionedMLP
from sb3_savo.networks.critics import learned_features
from sb3_savo.networks.stacked import initialize_weights


class Surrogates(BaseModel):
    """
    The learned surrogates Ψ̂_i(s, a; a_<i), i = 1 … n_actors - 1 (paper, §4.2.2), on one features extractor.

    :param observation_space: Observation space
    :param action_space: Action space
    :param net_arch: Sizes of every surrogate's hidden layers
    :param features_extractor: Network to extract features
    :param features_dim: Number of features
    :param activation_fn: Activation function
    :param normalize_images: Whether to normalize images or not, dividing by 255.0 (True by default)
    :param n_surrogates: Number of surrogates
    :param share_features_extractor: Whether the features extractor is the actor's, and so not learned here
    :param init: How to initialise the weights
    :param conditioning: How the surrogates see the anchors; see :class:`ConditionedMLP`
    """

    features_extractor: BaseFeaturesExtractor

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        net_arch: list[int],
        features_extractor: BaseFeaturesExtractor,
        features_dim: int,
        activation_fn: type[nn.Module] = nn.ReLU,
        normalize_images: bool = True,
        n_surrogates: int = 2,
        share_features_extractor: bool = False,
        init: str = "orthogonal",
        conditioning: dict[str, Any] | None = None,
    ):
        super().__init__(
            observation_space,
            action_space,
            features_extractor=features_extractor,
            normalize_images=normalize_images,
        )
        self.share_features_extractor = share_features_extractor
        action_dim = get_action_dim(action_space)
        self.psi = ConditionedMLP(
            n_surrogates,
            features_dim + action_dim,
            1,
            net_arch,
            features_dim,
            action_dim,
            activation_fn,
            **(conditioning or {}),
        )
        initialize_weights(self, init, [self.psi.net.output])

    def forward(self, obs: PyTorchObs, anchors: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """
        :param obs: Observations, (batch, ...)
        :param anchors: a_0 … a_{n_surrogates-1}, of which Ψ̂_i sees those before i; (batch, n_surrogates, action_dim)
        :param actions: The actions to evaluate each surrogate at, (n_surrogates, n_actions, batch, action_dim)
        :return: (n_surrogates, n_actions, batch)
        """
        features = learned_features(self, obs)
        states = features.expand(*actions.shape[:3], -1)
        return self.psi(th.cat([states, actions], dim=3), features, anchors).squeeze(3)
