"""Critics that are their own maximizers: Q interpolates learned control points, so that its maximum is at one of them."""

from typing import Any

import torch as th
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.type_aliases import PyTorchObs

from sb3_savo.networks.critics import FIRST, CandidateCritic
from sb3_savo.networks.stacked import ALL, StackedMLP

# Keeps a weight finite at a control point, and the range of the values away from zero
MIN_SQUARE = 1e-5


class ControlPointCritic(CandidateCritic):
    """
    Twin critics of Q3C. A generator maps a state to control points u_j, a value network gives y_j = q(s, u_j), and

        Q(s, a) = Σ_j w_j y_j / Σ_j w_j,    w_j = 1 / (‖a - u_j‖² + ε + c (ŷ_max - ŷ_j)),

    over the ``n_nearest`` largest weights, where ŷ are the values of the state scaled to [0, 1]. Each of the critics has a
    generator and a value network of its own.

    :param n_points: Number N of control points
    :param n_nearest: How many of them a value depends on, at most ``n_points``
    :param generator_arch: Sizes of the hidden layers of the generators; those of the value networks are ``net_arch``
    :param kwargs: The arguments of all critics, see :class:`CandidateCritic`
    """

    smoothing: th.Tensor
    """c, at least 0. The larger, the further the best point's value reaches."""

    def __init__(self, *, n_points: int, n_nearest: int, generator_arch: list[int], **kwargs: Any):
        super().__init__(**kwargs)
        self.n_points = n_points
        self.n_nearest = n_nearest
        self.generator_arch = generator_arch
        self.action_dim = get_action_dim(self.action_space)
        self.generators = StackedMLP(
            self.n_critics, self.features_dim, n_points * self.action_dim, generator_arch, self.activation_fn
        )
        # The points are spread uniformly at first
        with th.no_grad():
            self.generators.output.bias.uniform_(-0.95, 0.95).atanh_()
        self.register_buffer("smoothing", th.zeros(()))

    def control_points(self, obs: PyTorchObs, nets: slice = FIRST) -> tuple[th.Tensor, th.Tensor]:
        """
        :param obs: Observations, (batch, ...)
        :param nets: Which of the critics
        :return: Control points in [-1, 1], (n, batch, n_points, action_dim), and their values, (n, batch, n_points), without a
            gradient to the features
        """
        return self._control_points(self.constant_features(obs), nets)

    def _control_points(self, features: th.Tensor, nets: slice) -> tuple[th.Tensor, th.Tensor]:
        n_networks = len(range(self.n_critics)[nets])
        outputs = self.generators(features.expand(n_networks, -1, -1), nets)
        points = outputs.tanh().unflatten(2, (self.n_points, self.action_dim))
        rows = features.unsqueeze(1).expand(n_networks, -1, self.n_points, -1)
        return points, self.q_networks(th.cat([rows, points], dim=3), nets).squeeze(3)

    def _q_values(self, features: th.Tensor, actions: th.Tensor, nets: slice = ALL) -> th.Tensor:
        return self.interpolate(actions, *self._control_points(features, nets))

    def interpolate(self, actions: th.Tensor, points: th.Tensor, values: th.Tensor) -> th.Tensor:
        """
        :param actions: (batch, n_actions, action_dim)
        :param points: Control points, (n, batch, n_points, action_dim)
        :param values: Their values, (n, batch, n_points)
        :return: Q, (n, batch, n_actions)
        """
        squares = (actions.unsqueeze(2) - points.unsqueeze(2)).square().sum(dim=4)
        highest, lowest = values.amax(dim=2, keepdim=True), values.amin(dim=2, keepdim=True)
        drops = (highest - values) / (highest - lowest + MIN_SQUARE)
        weights = 1 / (squares + MIN_SQUARE + self.smoothing * drops.unsqueeze(2))
        weights, nearest = weights.topk(self.n_nearest, dim=3)
        nearest_values = values.unsqueeze(2).expand(-1, -1, actions.shape[1], -1).gather(3, nearest)
        return (weights * nearest_values).sum(dim=3) / weights.sum(dim=3)

    def crowding(self, obs: PyTorchObs) -> th.Tensor:
        """
        :param obs: Observations, (batch, ...)
        :return: Mean inverse distance between two control points of the same critic and state, averaged over states and
            summed over critics
        """
        points, _ = self._control_points(self.constant_features(obs), ALL)
        first, second = th.triu_indices(self.n_points, self.n_points, offset=1, device=points.device)
        squares = (points[:, :, first] - points[:, :, second]).square().sum(dim=3)
        return (squares + MIN_SQUARE).rsqrt().mean(dim=(1, 2)).sum()
