"""Stochastic actors: Gaussians that tanh squashes into [-1, 1], as in SB3's SAC."""

import math

import torch as th
from stable_baselines3.common.type_aliases import PyTorchObs
from torch.distributions import Normal

from sb3_savo.networks.actors import Actors

# CAP the standard deviation of the actor, as SB3's SAC does
LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0


class GaussianActors(Actors):
    """Actors that do not see each other's actions, each with a mean and a standard deviation per dimension of the action."""

    outputs_per_dim = 2

    def distribution(self, obs: PyTorchObs) -> tuple[th.Tensor, th.Tensor]:
        """
        :param obs: Observations, (batch, ...)
        :return: Means and standard deviations before tanh, (batch, n_actors, action_dim) each
        """
        return gaussian(self.outputs(obs))

    def forward(self, obs: PyTorchObs) -> th.Tensor:
        """
        :param obs: Observations, (batch, ...)
        :return: The squashed means, (batch, n_actors, action_dim)
        """
        return self.distribution(obs)[0].tanh()


def gaussian(outputs: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
    """
    :param outputs: A network's outputs: means and the logarithms of standard deviations, (..., 2 * action_dim)
    :return: Means and standard deviations, (..., action_dim) each
    """
    mean, log_std = outputs.chunk(2, dim=-1)
    return mean, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX).exp()


def sample(mean: th.Tensor, std: th.Tensor) -> th.Tensor:
    """
    :param mean: (...)
    :param std: (...)
    :return: Reparametrized samples before tanh, with a gradient to mean and standard deviation, (...)
    """
    return Normal(mean, std, validate_args=False).rsample()


def log_prob(mean: th.Tensor, std: th.Tensor, samples: th.Tensor) -> th.Tensor:
    """
    :param mean: (..., action_dim)
    :param std: (..., action_dim)
    :param samples: Samples before tanh, (..., action_dim)
    :return: Log density of the squashed samples, (...), by SB3's formula
    """
    log_density = Normal(mean, std, validate_args=False).log_prob(samples)
    return (log_density - th.log(1 - samples.tanh().square() + 1e-6)).sum(dim=-1)


def entropy(std: th.Tensor, actions: th.Tensor) -> th.Tensor:
    """
    The entropy of a squashed Gaussian, estimated by one action: the entropy of the Gaussian plus log(1 - a²).

    Unlike the log density, this estimate does not need the sample before tanh, which cannot be recovered from the action near
    ±1 in float32.

    :param std: (..., action_dim)
    :param actions: Samples after tanh, (..., action_dim)
    :return: An unbiased estimate, (...)
    """
    gaussian_entropy = 0.5 + 0.5 * math.log(2 * math.pi) + std.log()
    return (gaussian_entropy + th.log(1 - actions.square() + 1e-6)).sum(dim=-1)
