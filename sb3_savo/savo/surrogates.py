"""The learned surrogates, which the later actors ascend."""

from typing import Any

import torch as th
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.type_aliases import PyTorchObs

from sb3_savo.networks.conditioning import ConditionedMLP
from sb3_savo.networks.network import Network
from sb3_savo.networks.stacked import Init, initialize_weights


class Surrogates(Network):
    """
    The learned surrogates Ψ̂_i(s, a; a_<i), i = 1 … n_actors - 1 (paper, §4.2.2), on one features extractor.

    :param n_surrogates: Number of surrogates
    :param init: How to initialize the weights
    :param conditioning: How the surrogates see the anchors: arguments of :class:`ConditionedMLP`
    :param kwargs: The arguments of every network, see :class:`Network`
    """

    def __init__(
        self, *, n_surrogates: int, init: Init = "orthogonal", conditioning: dict[str, Any] | None = None, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.n_surrogates = n_surrogates
        self.init = init
        self.conditioning = conditioning
        action_dim = get_action_dim(self.action_space)
        self.psi = ConditionedMLP(
            n_surrogates,
            self.features_dim + action_dim,
            1,
            self.net_arch,
            self.features_dim,
            action_dim,
            self.activation_fn,
            **(conditioning or {}),
        )
        initialize_weights(self, init, [self.psi.net.output])

    def forward(self, obs: PyTorchObs, anchors: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """
        :param obs: Observations, (batch, ...)
        :param anchors: a_0 … a_{n_surrogates-1}, of which Ψ̂_i sees a_0 … a_{i-1}; (batch, n_surrogates, action_dim)
        :param actions: The actions to evaluate each surrogate at, (batch, n_surrogates, n_actions, action_dim)
        :return: (batch, n_surrogates, n_actions)
        """
        features = self.features(obs)
        # Inside the stack, networks come first: (n_surrogates, n_actions, batch, ...)
        actions = actions.permute(1, 2, 0, 3)
        states = features.expand(*actions.shape[:3], -1)
        return self.psi(th.cat([states, actions], dim=3), features, anchors).squeeze(3).permute(2, 0, 1)
