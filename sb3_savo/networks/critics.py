"""The critics: one stack of Q-networks."""

import math

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BaseModel
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import nn

from sb3_savo.networks.stacked import ALL, StackedLinear, StackedMLP

FIRST = slice(1)


class CandidateCritic(BaseModel):
    """
    SB3's ``ContinuousCritic`` as one stack of networks, which also evaluates several actions per state on one extraction of
    the state's features.

    :param observation_space: Observation space
    :param action_space: Action space
    :param net_arch: Sizes of every network's hidden layers
    :param features_extractor: Network to extract features
    :param features_dim: Number of features
    :param activation_fn: Activation function
    :param normalize_images: Whether to normalize images or not, dividing by 255.0 (True by default)
    :param n_critics: Number of networks
    :param share_features_extractor: Whether the features extractor is another network's, and so not learned here
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
        n_critics: int = 2,
        share_features_extractor: bool = True,
    ):
        super().__init__(
            observation_space,
            action_space,
            features_extractor=features_extractor,
            normalize_images=normalize_images,
        )
        self.n_critics = n_critics
        self.share_features_extractor = share_features_extractor
        self.q_networks = StackedMLP(n_critics, features_dim + get_action_dim(action_space), 1, net_arch, activation_fn)
        for layer in self.q_networks.modules():
            if isinstance(layer, StackedLinear):  # as torch.nn.Linear's at first
                bound = 1 / math.sqrt(layer.weight.shape[1])
                nn.init.uniform_(layer.weight, -bound, bound)
                nn.init.uniform_(layer.bias, -bound, bound)

    def forward(self, obs: PyTorchObs, actions: th.Tensor) -> tuple[th.Tensor, ...]:
        """
        :param obs: Observations, (batch, ...)
        :param actions: (batch, action_dim)
        :return: Every network's value, (batch, 1) each; with a gradient to the features, unless they are another's
        """
        return self._q_values(learned_features(self, obs), actions.unsqueeze(1)).unbind()

    def evaluate(self, obs: PyTorchObs, actions: th.Tensor) -> th.Tensor:
        """
        :param obs: Observations, (batch, ...)
        :param actions: Several actions per observation, (batch, n_actions, action_dim)
        :return: Every network's value of them, (n_critics, batch, n_actions)
        """
        return self._q_values(self._constant_features(obs), actions)

    def q1(self, obs: PyTorchObs, actions: th.Tensor) -> th.Tensor:
        """
        :param obs: Observations, (batch, ...)
        :param actions: Several actions per observation, (batch, n_actions, action_dim)
        :return: The first network's value of them, (batch, n_actions)
        """
        return self._q_values(self._constant_features(obs), actions, FIRST)[0]

    def q1_forward(self, obs: PyTorchObs, actions: th.Tensor) -> th.Tensor:
        """
        :param obs: Observations, (batch, ...)
        :param actions: (batch, action_dim)
        :return: The first network's value, (batch, 1)
        """
        return self.q1(obs, actions.unsqueeze(1))

    def _constant_features(self, obs: PyTorchObs) -> th.Tensor:
        # Like SB3's q1_forward: what is learned from actions leaves the features alone
        with th.no_grad():
            return self.extract_features(obs, self.features_extractor)

    def _q_values(self, features: th.Tensor, actions: th.Tensor, nets: slice = ALL) -> th.Tensor:
        n_networks = len(range(self.n_critics)[nets])
        inputs = th.cat([features.expand(actions.shape[1], -1, -1), actions.transpose(0, 1)], dim=2)
        return self.q_networks(inputs.expand(n_networks, -1, -1, -1), nets).squeeze(3).transpose(1, 2)


def learned_features(network: BaseModel, obs: PyTorchObs) -> th.Tensor:
    """
    :param network: A network with ``share_features_extractor``
    :param obs: Observations, (batch, ...)
    :return: Their features, with a gradient to the extractor unless it is another network's, (batch, features_dim)
    """
    with th.set_grad_enabled(th.is_grad_enabled() and not network.share_features_extractor):
        return network.extract_features(obs, network.features_extractor)  # type: ignore[arg-type]
