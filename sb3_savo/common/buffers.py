"""
Replay buffers that store the candidate actions {â_i} beside the action that was taken (paper, Algorithm 1).

A candidate buffer is one of Stable-Baselines3's, built with a wider action: the taken one, then all the candidates.
``OffPolicyAlgorithm`` hands the wide action through untouched, and :meth:`sample` takes it apart.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.type_aliases import DictReplayBufferSamples, PyTorchObs, ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from sb3_savo.actions.spaces import EmbeddedDiscrete, proposal_space

MASK_BITS = 32  # bits of a mask that one float32 number holds


class CandidateReplayBufferSamples(NamedTuple):
    """
    SB3's replay samples and the candidates, (batch, n_candidates, action_dim).

    In an :class:`EmbeddedDiscrete` space also the candidates' items, (batch, n_candidates), and, where the environment has
    action masks, the masks at the next observations, (batch, n_items).
    """

    observations: PyTorchObs
    actions: th.Tensor
    next_observations: PyTorchObs
    dones: th.Tensor
    rewards: th.Tensor
    candidates: th.Tensor
    candidate_items: th.Tensor | None = None
    next_action_masks: th.Tensor | None = None
    discounts: th.Tensor | None = None


Batch = ReplayBufferSamples | DictReplayBufferSamples | CandidateReplayBufferSamples


class CandidateStorage(ReplayBuffer):
    """
    Mixin over a replay buffer: stores candidates with every transition.

    :param buffer_size: Max number of elements in the buffer
    :param observation_space: Observation space
    :param action_space: Action space of the environment
    :param args: Other arguments of the replay buffer
    :param n_candidates: Number of candidates per transition
    :param store_masks: Whether to store the action masks at the next observations, one bit per item
    :param kwargs: Other arguments of the replay buffer, by name
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        *args: Any,
        n_candidates: int,
        store_masks: bool = False,
        **kwargs: Any,
    ):
        self.n_candidates = n_candidates
        self.candidate_dim = get_action_dim(proposal_space(action_space))
        self.n_items = int(action_space.n) if isinstance(action_space, EmbeddedDiscrete) else 0
        self.store_masks = store_masks
        # Taken action, the candidates' items, candidates, mask
        self.widths = [
            1 if self.n_items else self.candidate_dim,
            n_candidates if self.n_items else 0,
            n_candidates * self.candidate_dim,
            -(-self.n_items // MASK_BITS) if store_masks else 0,
        ]
        stored = spaces.Box(-np.inf, np.inf, (sum(self.widths),), np.float32)
        super().__init__(buffer_size, observation_space, stored, *args, **kwargs)

    @staticmethod
    def pack(*parts: np.ndarray) -> np.ndarray:
        """
        :param parts: Taken actions scaled to [-1, 1], or taken items, (n_envs, ...); the candidates' items,
            (n_envs, n_candidates), in a discrete space; candidates, (n_envs, n_candidates, action_dim)
        :return: The wide action for :meth:`add`, (n_envs, the sum of the parts' sizes)
        """
        return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1, dtype=np.float32)

    @staticmethod
    def pack_masks(buffer_actions: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """
        :param buffer_actions: The result of :meth:`pack`
        :param masks: Action masks at the next observations, (n_envs, n_items)
        :return: The wide action for :meth:`add`, in which the bits of float32 numbers hold the masks
        """
        padded = np.pad(masks.astype(bool), ((0, 0), (0, -masks.shape[1] % MASK_BITS)))
        return np.concatenate([buffer_actions, np.packbits(padded, axis=1, bitorder="little").view(np.float32)], axis=1)

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> CandidateReplayBufferSamples:  # type: ignore[override]
        """
        :param batch_size: Number of transitions to sample
        :param env: The VecEnv that normalizes the observations and rewards
        :return: The transitions, each with its candidates
        """
        samples = super().sample(batch_size, env=env)
        actions, items, candidates, mask_words = samples.actions.split(self.widths, dim=1)
        return CandidateReplayBufferSamples(
            observations=samples.observations,
            actions=actions.long() if self.n_items else actions,
            next_observations=samples.next_observations,
            dones=samples.dones,
            rewards=samples.rewards,
            candidates=candidates.unflatten(1, (self.n_candidates, self.candidate_dim)),
            candidate_items=items.long() if self.n_items else None,
            next_action_masks=self._unpack_masks(mask_words) if self.store_masks else None,
            discounts=samples.discounts,
        )

    def _unpack_masks(self, words: th.Tensor) -> th.Tensor:
        bits = th.arange(8, dtype=th.uint8, device=words.device)
        masks = (words.contiguous().view(th.uint8).unsqueeze(2) >> bits) & 1
        return masks.flatten(1)[:, : self.n_items].bool()


class CandidateReplayBuffer(CandidateStorage, ReplayBuffer):
    """``ReplayBuffer`` with candidates."""


class CandidateDictReplayBuffer(CandidateStorage, DictReplayBuffer):  # type: ignore[misc]
    """``DictReplayBuffer`` with candidates."""


class CandidateNStepReplayBuffer(CandidateStorage, NStepReplayBuffer):
    """``NStepReplayBuffer`` with candidates: those proposed at the first of the n steps."""


class CandidateHerReplayBuffer(CandidateStorage, HerReplayBuffer):  # type: ignore[misc]
    """``HerReplayBuffer`` with candidates: those proposed for the original goal."""


WITH_CANDIDATES: dict[type[ReplayBuffer], type[CandidateStorage]] = {
    ReplayBuffer: CandidateReplayBuffer,
    DictReplayBuffer: CandidateDictReplayBuffer,
    NStepReplayBuffer: CandidateNStepReplayBuffer,
    HerReplayBuffer: CandidateHerReplayBuffer,
}


def split(batch: Batch, n: int) -> Iterator[Batch]:
    """
    :param batch: Transitions
    :param n: Number of parts
    :return: The transitions in n batches
    """
    if n == 1:
        return iter([batch])
    fields = {name: split_field(value, n) for name, value in batch._asdict().items()}
    return (type(batch)(**{name: parts[i] for name, parts in fields.items()}) for i in range(n))


def split_field(value: PyTorchObs | None, n: int) -> list[Any] | tuple[Any, ...]:
    """
    :param value: A tensor, a dictionary of tensors, or None
    :param n: Number of parts
    :return: The parts
    """
    if value is None:
        return [None] * n
    if isinstance(value, dict):
        entries = {key: tensor.chunk(n) for key, tensor in value.items()}
        return [{key: parts[i] for key, parts in entries.items()} for i in range(n)]
    return value.chunk(n)
