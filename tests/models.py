"""Small models, and networks of a user's own, that several tests share."""

import re
from typing import Any

from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn


def without_addresses(value: Any) -> str:
    """:return: The value's text without addresses, which differ between the processes of pytest-xdist"""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))


class BatchNormExtractor(BaseFeaturesExtractor):
    """A user's own extractor, with running statistics and dropout-free layers."""

    def __init__(self, observation_space):
        super().__init__(observation_space, 8)
        self.net = nn.Sequential(nn.Linear(observation_space.shape[0], 8), nn.BatchNorm1d(8), nn.ReLU())

    def forward(self, observations):
        return self.net(observations)
