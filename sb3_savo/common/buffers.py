"""
Replay buffers that store the candidate actions {â_i} beside the action that was taken (paper, Algorithm 1).

A candidate buffer is one of Stable-Baselines3's, built with a wider action: the taken one, then all the candidates.
``OffPolicyAlgorithm`` hands the wide action through untouched, and :meth:`sample` takes it apart.

A transition of another controller (a demonstration) has no candidates. :meth:`CandidateStorage.add` fills them in, see there.

A buffer with a memory also keeps one known action per transition, which :meth:`CandidateStorage.remember` replaces when the
search finds a better one. The wide action then also holds the transition's row, so that every sampled transition says where
it is stored, however it was sampled.
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

from sb3_savo.acceleration import upload
from sb3_savo.actions.masks import check_mask
from sb3_savo.actions.nearest import scale
from sb3_savo.actions.spaces import EmbeddedDiscrete, proposal_space
from sb3_savo.common.finite import check_finite

MASK_BITS = 32  # bits of a mask that one float32 number holds
ROUNDING = 1e-5  # how far an action that was scaled in float32 may be beyond [-1, 1]


class CandidateReplayBufferSamples(NamedTuple):
    """
    SB3's replay samples and the candidates, (batch, n_candidates, action_dim).

    In an :class:`EmbeddedDiscrete` space also the candidates' items, (batch, n_candidates), and, where the environment has
    action masks, the masks at the next observations, (batch, n_items). From a buffer with a memory also the transitions' rows
    in it, (batch,), for :meth:`CandidateStorage.recall`.
    """

    observations: PyTorchObs
    actions: th.Tensor
    next_observations: PyTorchObs
    dones: th.Tensor
    rewards: th.Tensor
    candidates: th.Tensor
    candidate_items: th.Tensor | None = None
    next_action_masks: th.Tensor | None = None
    rows: th.Tensor | None = None
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
    :param has_memory: Whether to keep a known action of every transition, at first the one that was taken
    :param kwargs: Other arguments of the replay buffer, by name
    """

    # Also of a buffer that was saved before there was a memory
    has_memory: bool = False
    # On a GPU, the known actions are in its memory, so that neither reading nor writing them waits for it
    _known_on_gpu: th.Tensor | None = None
    # Not in a buffer that was saved before it was kept
    box_space: spaces.Space | None = None

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        *args: Any,
        n_candidates: int,
        store_masks: bool = False,
        has_memory: bool = False,
        **kwargs: Any,
    ):
        self.n_candidates = n_candidates
        self.candidate_dim = get_action_dim(proposal_space(action_space))
        self.item_space = action_space if isinstance(action_space, EmbeddedDiscrete) else None
        self.box_space = action_space if self.item_space is None else None
        self.n_items = int(self.item_space.n) if self.item_space is not None else 0
        self.store_masks = store_masks
        self.has_memory = has_memory
        # The items' scaled embeddings, once they are needed
        self._embeddings: np.ndarray | None = None
        stored = spaces.Box(-np.inf, np.inf, (sum(self.widths),), np.float32)
        super().__init__(buffer_size, observation_space, stored, *args, **kwargs)

    @property
    def env_action_space(self) -> spaces.Space | None:
        """The action space of the environment; None in a buffer that was saved before it was kept."""
        return self.box_space if self.item_space is None else self.item_space

    @property
    def widths(self) -> list[int]:
        """The widths of the taken action, the candidates' items, candidates, mask, row and known action."""
        taken_dim = 1 if self.n_items else self.candidate_dim
        return [
            taken_dim,
            self.n_candidates if self.n_items else 0,
            self.n_candidates * self.candidate_dim,
            -(-self.n_items // MASK_BITS) if self.store_masks else 0,
            1 if self.has_memory else 0,
            taken_dim if self.has_memory else 0,
        ]

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

    def add(
        self,
        obs: Any,
        next_obs: Any,
        action: np.ndarray,
        reward: np.ndarray,
        done: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        """
        Add a transition per environment. To a transition of another controller, whose ``action`` is not :meth:`pack`'s,
        candidates are added:

        - In a continuous space, uniformly random ones, as in the warm-up. What a surrogate has to learn holds for any
          candidates, and random ones are as good for a policy that will be trained as for one that is.
        - In a discrete space, uniformly random items at their embeddings, for the same reason.
        - With action masks, the item taken, since it is the only one that is known to be allowed at ``obs``.

        The taken action need not be among the candidates: every loss that uses the candidates uses it too.

        :param obs: Observations, (n_envs, ...)
        :param next_obs: Next observations, (n_envs, ...)
        :param action: Actions taken, scaled to [-1, 1], (n_envs, action_dim), or items taken, (n_envs,); or the result of
            :meth:`pack` and :meth:`pack_masks`
        :param reward: Rewards, (n_envs,)
        :param done: Whether the episode ended, (n_envs,)
        :param infos: Information about the transitions. With action masks, ``infos[i]["action_masks"]`` holds the mask at
            the next observation; it may be missing at the end of an episode, where all items are then allowed.
        :raises TypeError: if the actions are not numbers, or the items not integers
        :raises ValueError: if the actions have the wrong shape or are beyond [-1, 1], an item is unknown, a mask is missing
            or wrong, or an observation, a reward or an action is not finite
        """
        # This method adds the row and the known action
        if np.size(action) != self.n_envs * sum(self.widths[:4]):
            moment = f"position {self.pos} of the buffer"
            for name, value in (("obs", obs), ("next_obs", next_obs), ("reward", reward), ("action", action)):
                check_finite(name, value, moment)
            action = self._with_candidates(np.asarray(action))
            if self.store_masks:
                action = self.pack_masks(action, self._next_masks(done, infos))
        if self.has_memory:
            first, taken = self.pos * self.n_envs, action[:, : self.widths[0]]
            if self._known_on_gpu is not None:
                new = th.tensor(taken, dtype=th.float32)
                self._known_on_gpu[first : first + self.n_envs] = upload(new, self._known_on_gpu.device)
            rows = (first + np.arange(self.n_envs, dtype=np.int32)).view(np.float32)
            action = np.concatenate([action, rows[:, None], taken], axis=1)
        super().add(obs, next_obs, action, reward, done, infos)

    def _with_candidates(self, action: np.ndarray) -> np.ndarray:
        """
        :param action: Actions or items of another controller
        :return: The wide actions, without masks
        """
        taken_dim = self.widths[0]
        if action.size != self.n_envs * taken_dim:
            shape = f"({self.n_envs},)" if self.n_items else f"({self.n_envs}, {taken_dim})"
            raise ValueError(f"action has the shape {action.shape}: it must be {shape}, n_envs={self.n_envs} actions.")
        action = action.reshape(self.n_envs, taken_dim)
        if self.item_space is None:
            if action.dtype.kind not in "fiu":
                raise TypeError(f"action is of the type {action.dtype}: it must hold numbers, scaled to [-1, 1].")
            if np.abs(action).max() > 1 + ROUNDING:
                raise ValueError(
                    f"action={action.tolist()} is beyond [-1, 1]: it must be scaled, as by model.policy.scale_action(action)."
                )
            candidates = np.random.uniform(-1, 1, (self.n_envs, self.n_candidates, self.candidate_dim))
            return self.pack(action.clip(-1, 1), candidates)
        if action.dtype.kind not in "iu":
            raise TypeError(
                f"action is of the type {action.dtype}: it must hold items, integers from 0 to {self.n_items - 1}."
            )
        if action.min() < 0 or action.max() >= self.n_items:
            raise ValueError(f"action={action.ravel().tolist()}: an item must be from 0 to {self.n_items - 1}.")
        items = action.repeat(self.n_candidates, axis=1)
        if not self.store_masks:
            items = np.random.randint(self.n_items, size=items.shape)
        return self.pack(action, items, self._scaled_embeddings()[items])

    def _scaled_embeddings(self) -> np.ndarray:
        if self._embeddings is None:
            self._embeddings = scale(self.item_space.embeddings)  # type: ignore[union-attr]
        return self._embeddings

    def _next_masks(self, done: np.ndarray, infos: list[dict[str, Any]]) -> np.ndarray:
        """
        :param done: Whether the episode ended, (n_envs,)
        :param infos: Information about the transitions
        :return: Action masks at the next observations, (n_envs, n_items)
        """
        for i, info in enumerate(infos):
            if not done[i] and "action_masks" not in info:
                raise ValueError(
                    f"infos[{i}] holds no 'action_masks': the mask at the next observation is needed for the Bellman target, "
                    "e.g. infos[i]['action_masks'] = sb3_contrib.common.maskable.utils.get_action_masks(env)[i]."
                )
        masks = np.ones((self.n_envs, self.n_items), dtype=bool)
        for i, info in enumerate(infos):
            if "action_masks" in info:
                masks[i] = self.bootstrap_mask(info["action_masks"], bool(done[i]), info, f"infos[{i}]['action_masks']")
        return masks

    def bootstrap_mask(self, mask: Any, done: bool, info: dict[str, Any], where: str) -> np.ndarray:
        """
        :param mask: Which items are allowed at the next observation
        :param done: Whether the episode ended
        :param info: Information about the transition
        :param where: Where the mask comes from, for the message
        :return: The mask to store, (n_items,). Nothing is bootstrapped at a terminal state, so its mask may be empty. All
            items are then allowed.
        :raises ValueError: if the mask is wrong, or allows no item of a state that is not terminal
        """
        allowed = check_mask(mask, self.n_items, f" ({where})")
        if not allowed.any():
            is_truncated = self.handle_timeout_termination and info.get("TimeLimit.truncated", False)
            if not done or is_truncated:
                kind = "truncated, not terminal" if done else "not at the end of an episode"
                raise ValueError(
                    f"action_masks ({where}) allows none of the {self.n_items} items: it must allow one, since the state is "
                    f"{kind}."
                )
            return np.ones(self.n_items, dtype=bool)
        return allowed

    @property
    def known_actions(self) -> np.ndarray:
        """The known actions by row: scaled to [-1, 1], (rows, action_dim), or items as numbers, (rows, 1)."""
        self._download_known()
        return self._stored_known

    def recall(self, rows: th.Tensor) -> th.Tensor:
        """
        :param rows: Rows of transitions, (batch,)
        :return: Their known actions, scaled to [-1, 1], (batch, action_dim), or items, (batch,)
        """
        known = self._on_gpu()[rows] if self.is_on_gpu else self.to_torch(self.known_actions[rows.numpy()])
        return known.squeeze(1).long() if self.n_items else known

    def remember(self, rows: th.Tensor, actions: th.Tensor) -> None:
        """
        Replace known actions. Of a row that occurs more than once, one of its actions is kept; on a GPU, it may get the
        components of different ones.

        :param rows: Rows of transitions, (batch,)
        :param actions: Their new known actions, scaled to [-1, 1], (batch, action_dim), or items, (batch,)
        """
        actions = actions.view(len(rows), -1)
        if self.is_on_gpu:
            self._on_gpu()[rows] = actions.float()
        else:
            self.known_actions[rows.numpy()] = actions.numpy()

    @property
    def is_on_gpu(self) -> bool:
        """Whether the model's networks, and so the sampled transitions, are on a GPU."""
        return self.device.type != "cpu"

    @property
    def _stored_known(self) -> np.ndarray:
        return self.actions.reshape(-1, self.action_dim)[:, self.action_dim - self.widths[5] :]

    def _on_gpu(self) -> th.Tensor:
        if self._known_on_gpu is None:
            self._known_on_gpu = th.tensor(self._stored_known, device=self.device)
        return self._known_on_gpu

    def _download_known(self) -> None:
        if self._known_on_gpu is not None:
            self._stored_known[:] = self._known_on_gpu.numpy(force=True)
            if not self.is_on_gpu:  # the buffer was given to a model on the CPU
                self._known_on_gpu = None

    def __getstate__(self) -> dict[str, Any]:
        self._download_known()
        return {**super().__getstate__(), "_embeddings": None, "_known_on_gpu": None}  # type: ignore[dict-item]

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> CandidateReplayBufferSamples:  # type: ignore[override]
        """
        :param batch_size: Number of transitions to sample
        :param env: The VecEnv that normalizes the observations and rewards
        :return: The transitions, each with its candidates
        """
        samples = super().sample(batch_size, env=env)
        actions, items, candidates, mask_words, row_bits, _ = samples.actions.split(self.widths, dim=1)
        return CandidateReplayBufferSamples(
            observations=samples.observations,
            actions=actions.long() if self.n_items else actions,
            next_observations=samples.next_observations,
            dones=samples.dones,
            rewards=samples.rewards,
            candidates=candidates.unflatten(1, (self.n_candidates, self.candidate_dim)),
            candidate_items=items.long() if self.n_items else None,
            next_action_masks=self._unpack_masks(mask_words) if self.store_masks else None,
            rows=row_bits.contiguous().view(th.int32).squeeze(1).long() if self.has_memory else None,
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

# Their samples are independent of each other, so that one large sample is as good as several small ones. HER is not among
# them: it puts the relabeled transitions of a sample first.
INDEPENDENT_SAMPLES: frozenset[type[ReplayBuffer]] = frozenset(
    (
        ReplayBuffer,
        DictReplayBuffer,
        NStepReplayBuffer,
        CandidateReplayBuffer,
        CandidateDictReplayBuffer,
        CandidateNStepReplayBuffer,
    )
)
SAMPLING_METHODS = {"sample", "_get_samples", "_normalize_obs", "_normalize_reward", "to_torch"}


def end_episodes(buffer: ReplayBuffer) -> None:
    """
    Note that every environment begins a new episode, so that no return and no goal of a transition comes from another episode
    than its own.

    :param buffer: A replay buffer
    """
    if buffer.size() == 0:
        return
    if isinstance(buffer, HerReplayBuffer):
        for i in np.flatnonzero(buffer._current_ep_start != buffer.pos):
            buffer._compute_episode_length(int(i))
    elif buffer.optimize_memory_usage:
        # Their next observations will be overwritten
        buffer.dones[buffer.pos - 1] = True
    else:
        buffer.timeouts[buffer.pos - 1] = np.logical_or(buffer.timeouts[buffer.pos - 1], buffer.dones[buffer.pos - 1] == 0)


def draws_independently(buffer: ReplayBuffer) -> bool:
    """
    :param buffer: A replay buffer
    :return: Whether it is known to sample every transition independently and without side effects. A subclass is not known,
        and neither is a buffer whose methods were replaced.
    """
    return type(buffer) in INDEPENDENT_SAMPLES and SAMPLING_METHODS.isdisjoint(vars(buffer))


def split(batch: Batch, n: int) -> Iterator[Batch]:
    """
    :param batch: Transitions
    :param n: Number of parts
    :return: The transitions in n batches
    """
    if n == 1:
        return iter([batch])
    leaves, structure = th.utils._pytree.tree_flatten(batch)
    parts = [leaf.chunk(n) if isinstance(leaf, th.Tensor) else [leaf] * n for leaf in leaves]
    return (th.utils._pytree.tree_unflatten(part, structure) for part in zip(*parts, strict=True))
