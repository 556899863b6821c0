"""
Replay buffers that store the candidate actions {â_i} beside the action that was taken (paper, Algorithm 1).

A candidate buffer is one of Stable-Baselines3's, built with a wider action: the taken one, then all the candidates.
``OffPolicyAlgorithm`` hands the wide action through untouched, and :meth:`sample` takes it apart.
"""

from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.common.vec_env import VecNormalize
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer


class CandidateReplayBufferSamples(NamedTuple):
    """SB3's replay samples and the candidates, (batch, n_candidates, action_dim)."""

    observations: PyTorchObs
    actions: th.Tensor
    next_observations: PyTorchObs
    dones: th.Tensor
    rewards: th.Tensor
    candidates: th.Tensor
    discounts: th.Tensor | None = None


class CandidateStorage(ReplayBuffer):
    """
    Mixin over a replay buffer: stores candidates with every transition.

    :param buffer_size: Max number of elements in the buffer
    :param observation_space: Observation space
    :param action_space: Action space of the environment
    :param args: What else the replay buffer takes
    :param n_candidates: Number of candidates per transition
    :param kwargs: What else the replay buffer takes, by name
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        *args: Any,
        n_candidates: int,
        **kwargs: Any,
    ):
        self.n_candidates = n_candidates
        self.candidate_dim = get_action_dim(action_space)
        stored = spaces.Box(-1.0, 1.0, ((1 + n_candidates) * self.candidate_dim,), np.float32)
        super().__init__(buffer_size, observation_space, stored, *args, **kwargs)

    @staticmethod
    def pack(actions: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """
        :param actions: Taken actions scaled to [-1, 1], (n_envs, ...)
        :param candidates: (n_envs, n_candidates, action_dim)
        :return: What :meth:`add` takes as the action, (n_envs, (1 + n_candidates) * action_dim)
        """
        n_envs = len(actions)
        return np.concatenate([actions.reshape(n_envs, -1), candidates.reshape(n_envs, -1)], axis=1, dtype=np.float32)

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> CandidateReplayBufferSamples:  # type: ignore[override]
        """
        :param batch_size: Number of transitions to sample
        :param env: The VecEnv that normalizes the observations and rewards
        :return: The transitions, each with its candidates
        """
        samples = super().sample(batch_size, env=env)
        actions, candidates = samples.actions.split([self.candidate_dim, self.n_candidates * self.candidate_dim], dim=1)
        return CandidateReplayBufferSamples(
            observations=samples.observations,
            actions=actions,
            next_observations=samples.next_observations,
            dones=samples.dones,
            rewards=samples.rewards,
            candidates=candidates.unflatten(1, (self.n_candidates, self.candidate_dim)),
            discounts=samples.discounts,
        )


class CandidateReplayBuffer(CandidateStorage, ReplayBuffer):
    """``ReplayBuffer`` with candidates."""


class CandidateDictReplayBuffer(CandidateStorage, DictReplayBuffer):  # type: ignore[misc]
    """``DictReplayBuffer`` with candidates."""


class CandidateNStepReplayBuffer(CandidateStorage, NStepReplayBuffer):
    """``NStepReplayBuffer`` with candidates: those proposed at the first of the n steps."""


class CandidateHerReplayBuffer(CandidateStorage, HerReplayBuffer):  # type: ignore[misc]
    """``HerReplayBuffer`` with candidates: those proposed for the goal that was pursued."""


WITH_CANDIDATES: dict[type[ReplayBuffer], type[CandidateStorage]] = {
    ReplayBuffer: CandidateReplayBuffer,
    DictReplayBuffer: CandidateDictReplayBuffer,
    NStepReplayBuffer: CandidateNStepReplayBuffer,
    HerReplayBuffer: CandidateHerReplayBuffer,
}
