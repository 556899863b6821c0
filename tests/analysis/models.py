"""Small models, whose critic may be an analytic function."""

import gymnasium as gym
import numpy as np
import torch as th
from torch import nn

from sb3_savo import SAVO
from tests.models import SMALL
from tests.reference import spread_out

OBS_DIM = 4  # of the landscapes
OBSERVATION = np.array([0.1, -0.2, 0.3, 0.4], dtype=np.float32)


class AnalyticQ(nn.Module):
    """A function of the action in place of all critics' networks."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, inputs, nets):
        return self.function(inputs[..., OBS_DIM:]).unsqueeze(-1)


def untrained(action_dim=2, algorithm=SAVO, env=None, **kwargs):
    """:return: A model of a landscape, whose weights are spread out"""
    th.manual_seed(0)
    env = env or gym.make("LandscapePeaks2D-v0", action_dim=action_dim)
    if algorithm is SAVO:
        kwargs = {"surrogate": "approximate", **kwargs}  # so that there are learned surrogates to look at
    model = algorithm("MlpPolicy", env, **{**SMALL, **kwargs})
    spread_out(model)
    return model


def with_function(function, action_dim, **kwargs):
    """:return: An untrained model whose Q is the function, which takes (..., action_dim)"""
    model = untrained(action_dim, **kwargs)
    model.critic.q_networks = AnalyticQ(function)
    return model


class Hills:
    """The sum of narrow Gaussian hills, each of which is a local maximum."""

    def __init__(self, places, heights, width=0.15):
        self.places, self.heights, self.width = th.as_tensor(places), th.as_tensor(heights), width

    def __call__(self, actions):
        squares = (actions.unsqueeze(-2) - self.places).square().sum(dim=-1)
        return (self.heights * th.exp(-squares / (2 * self.width**2))).sum(dim=-1)
