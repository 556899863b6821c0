"""Small models, and a network and a replay buffer of a user's own, that several tests share."""

import re
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from sb3_savo import SAVO
from sb3_savo.common.buffers import Batch
from tests.reference import spread_out

BATCH = 16
# Learns after 40 steps, and its buffer is full after 400
QUICK: dict[str, Any] = {"learning_starts": 40, "batch_size": BATCH, "buffer_size": 400, "seed": 0, "device": "cpu"}
# And has narrow networks
SMALL: dict[str, Any] = {**QUICK, "policy_kwargs": {"net_arch": [16, 16]}}


def make_model(
    algorithm: type[BaseAlgorithm] = SAVO, env: Any = "InvertedDoublePendulumRestricted-v5", n_steps: int = 80, **kwargs: Any
) -> Any:
    """:return: A small model that has learned a little, and whose proposals, their order and the targets differ"""
    model = algorithm("MlpPolicy", env, **{**SMALL, **kwargs}).learn(n_steps)
    spread_out(model)
    return model


def sample(model: Any) -> Batch:
    """:return: A batch as the losses get it, in the precision of the networks"""
    batch = next(model.batches(1, BATCH))
    return batch._replace(observations=batch.observations.float(), next_observations=batch.next_observations.float())


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


class PlainReplayBuffer(ReplayBuffer):
    """A user's own buffer, which knows nothing of candidates, masks or known actions."""
