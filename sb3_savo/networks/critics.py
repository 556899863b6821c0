"""The critics: one stack of Q-networks."""

import math
from typing import Any, ClassVar

import torch as th
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import nn

from sb3_savo.networks.network import Network
from sb3_savo.networks.stacked import ALL, StackedLinear, StackedMLP

FIRST = slice(1)


class CandidateCritic(Network):
    """
    SB3's ``ContinuousCritic`` as one stack of networks, which also evaluates several actions per state on one extraction of
    the state's features.

    The methods for several actions give the features no gradient: as in SB3, learning from actions leaves them alone.

    A critic of your own kind, one that learns quantiles say, is a subclass with more ``n_outputs`` and its own
    :meth:`to_values`, and the ``critic_class`` of a policy.

    :param n_critics: Number of networks
    :param kwargs: The arguments of every network, see :class:`Network`
    """

    n_outputs: ClassVar[int] = 1
    """Outputs of every network."""

    def __init__(self, *, n_critics: int = 2, **kwargs: Any):
        super().__init__(**kwargs)
        self.n_critics = n_critics
        input_dim = self.features_dim + get_action_dim(self.action_space)
        self.q_networks = StackedMLP(n_critics, input_dim, self.n_outputs, self.net_arch, self.activation_fn)
        for layer in self.q_networks.modules():
            if isinstance(layer, StackedLinear):  # initialized as torch.nn.Linear is
                bound = 1 / math.sqrt(layer.weight.shape[1])
                nn.init.uniform_(layer.weight, -bound, bound)
                nn.init.uniform_(layer.bias, -bound, bound)

    def forward(self, obs: PyTorchObs, actions: th.Tensor) -> tuple[th.Tensor, ...]:
        """
        :param obs: Observations, (batch, ...)
        :param actions: (batch, action_dim)
        :return: Every network's value, (batch, 1) each, with a gradient to the features unless another network owns them
        """
        return self._q_values(self.features(obs), actions.unsqueeze(1)).unbind()

    def evaluate(self, obs: PyTorchObs, actions: th.Tensor) -> th.Tensor:
        """
        :param obs: Observations, (batch, ...)
        :param actions: Several actions per observation, (batch, n_actions, action_dim)
        :return: Every network's values, (n_critics, batch, n_actions)
        """
        return self._q_values(self.constant_features(obs), actions)

    def q1(self, obs: PyTorchObs, actions: th.Tensor) -> th.Tensor:
        """
        :param obs: Observations, (batch, ...)
        :param actions: Several actions per observation, (batch, n_actions, action_dim)
        :return: The first network's values, (batch, n_actions)
        """
        return self._q_values(self.constant_features(obs), actions, FIRST)[0]

    def q1_forward(self, obs: PyTorchObs, actions: th.Tensor) -> th.Tensor:
        """
        :param obs: Observations, (batch, ...)
        :param actions: (batch, action_dim)
        :return: The first network's value, (batch, 1)
        """
        return self.q1(obs, actions.unsqueeze(1))

    def outputs(self, features: th.Tensor, actions: th.Tensor, nets: slice = ALL) -> th.Tensor:
        """
        :param features: Features of the observations, (batch, features_dim)
        :param actions: Several actions per observation, (batch, n_actions, action_dim)
        :param nets: Which networks to evaluate
        :return: Their outputs, (n, n_actions, batch, n_outputs)
        """
        n_networks = len(range(self.n_critics)[nets])
        inputs = th.cat([features.expand(actions.shape[1], -1, -1), actions.transpose(0, 1)], dim=2)
        return self.q_networks(inputs.expand(n_networks, -1, -1, -1), nets)

    def to_values(self, outputs: th.Tensor) -> th.Tensor:
        """
        :param outputs: Outputs of the networks, (..., n_outputs)
        :return: The values of which they tell, (...)
        """
        return outputs.squeeze(-1)

    def _q_values(self, features: th.Tensor, actions: th.Tensor, nets: slice = ALL) -> th.Tensor:
        return self.to_values(self.outputs(features, actions, nets)).transpose(1, 2)
