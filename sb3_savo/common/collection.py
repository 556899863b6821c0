"""Acting: which candidate is taken (Algorithm 1, "Select Action"), and what the replay buffer stores."""

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch as th
from gymnasium import spaces
from sb3_contrib.common.maskable.utils import EXPECTED_METHOD_NAME, is_masking_supported
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback, ProgressBarCallback
from stable_baselines3.common.noise import ActionNoise, VectorizedActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import MaybeCallback, RolloutReturn, TrainFreq
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from sb3_savo.acceleration import numpy_policy
from sb3_savo.actions.candidates import pick
from sb3_savo.actions.masks import check_mask
from sb3_savo.actions.spaces import EmbeddedDiscrete
from sb3_savo.common.action_noise import check_action_noise, draw_action_noise
from sb3_savo.common.before_learning import callbacks_in, steps_to_do
from sb3_savo.common.buffers import WITH_CANDIDATES, CandidateStorage, end_episodes
from sb3_savo.common.environments import watch_shapes
from sb3_savo.common.exploration import (
    CandidateNoise,
    StepSchedule,
    randomize_choice,
    sample_bypass,
    sample_noise,
    value_at,
)
from sb3_savo.common.finite import BROKEN_POLICY, check_finite
from sb3_savo.common.masked_evaluation import mask_evaluations
from sb3_savo.common.observations import OF_AN_ENVIRONMENT, ObservationCheck
from sb3_savo.common.plausible import PlausibleRange
from sb3_savo.common.policies import MaximizerPolicy
from sb3_savo.common.transition_checks import check_first_observations, check_transition

if TYPE_CHECKING:
    from sb3_savo.common.checkpoints import CheckpointedRun


class CollectingAlgorithm(OffPolicyAlgorithm):
    """
    Off-policy algorithm that collects with the best of its policy's perturbed proposals.

    In a discrete space with embeddings the actions are items. Where the environment has ``action_masks()``, as for
    sb3-contrib's maskable algorithms, only allowed items are taken, and the masks at the next observations are stored for the
    Bellman target. After a reset, ``action_masks()`` describes the first state of the next episode. So the mask at the end of
    an episode is ``info["action_masks"]`` if the environment gives it, and otherwise allows all items.
    """

    policy: MaximizerPolicy
    candidate_noise: CandidateNoise | None
    exploration_noise_scale: StepSchedule
    selection_epsilon: StepSchedule
    action_dim: int
    # Which items are allowed now, (n_envs, n_items), where the environment has masks
    _action_masks: np.ndarray | None = None
    # Whether the environment of the last call of ``learn`` had masks; saved with the model
    learned_with_masks: bool = False
    _warned_of_no_masks: bool = False
    # Of this call of ``learn``
    _plausible_range: PlausibleRange | None = None
    _check_observation: ObservationCheck | None = None
    _progress_bars: Sequence[ProgressBarCallback] = ()
    _checkpointed_run: "CheckpointedRun | None" = None

    @property
    def n_candidates(self) -> int:
        """Number of candidates that the policy proposes, at least 1."""
        raise NotImplementedError

    @property
    def stores_candidates(self) -> bool:
        """Whether the replay buffer has to store the candidates, since the algorithm learns from them."""
        return False

    @property
    def has_memory(self) -> bool:
        """Whether the algorithm searches for better actions of stored transitions, which the replay buffer has to keep."""
        return False

    @property
    def has_masks(self) -> bool:
        """Whether the environment says which items are allowed."""
        return isinstance(self.action_space, EmbeddedDiscrete) and self.env is not None and is_masking_supported(self.env)

    def _choose_replay_buffer(self) -> tuple[type[ReplayBuffer], dict[str, Any]]:
        """
        :return: The class of the replay buffer, and its keyword arguments beyond those that all replay buffers have
        :raises ValueError: if the algorithm or the environment needs what the class or the arguments do not have
        """
        buffer_class = self.replay_buffer_class
        if buffer_class is None:
            buffer_class = DictReplayBuffer if isinstance(self.observation_space, spaces.Dict) else ReplayBuffer
            if self.n_steps > 1:
                buffer_class = NStepReplayBuffer
        buffer_kwargs, n_steps = self.replay_buffer_kwargs.copy(), self.n_steps
        if issubclass(buffer_class, NStepReplayBuffer):
            buffer_kwargs = {"n_steps": self.n_steps, "gamma": self.gamma, **buffer_kwargs}
            n_steps = buffer_kwargs["n_steps"]
        elif self.n_steps > 1:
            raise ValueError(f"n_steps={self.n_steps} needs an NStepReplayBuffer: {buffer_class.__name__} is none.")
        if issubclass(buffer_class, HerReplayBuffer):
            if self.env is None:
                raise ValueError("env=None: HerReplayBuffer computes rewards by the environment, so one must be passed.")
            buffer_kwargs["env"] = self.env
        if self.has_masks and n_steps > 1:
            raise ValueError(f"{n_steps=}: env has action masks, which are stored for the next step only.")
        if self.stores_candidates or self.has_masks:
            buffer_class = WITH_CANDIDATES.get(buffer_class, buffer_class)
            if issubclass(buffer_class, CandidateStorage):
                needs = {"n_candidates": self.n_candidates, "store_masks": self.has_masks, "has_memory": self.has_memory}
                buffer_kwargs = {**needs, **buffer_kwargs}
        return buffer_class, buffer_kwargs

    def _make_replay_buffer(self) -> ReplayBuffer:
        buffer_class, buffer_kwargs = self._choose_replay_buffer()
        if self.optimize_memory_usage and self.buffer_size < 2 * self.n_envs:
            raise ValueError(
                f"buffer_size={self.buffer_size} with optimize_memory_usage and {self.n_envs} environments: it must be at "
                f"least {2 * self.n_envs}, two transitions of each."
            )
        try:
            return buffer_class(
                self.buffer_size,
                self.observation_space,
                self.action_space,
                device=self.device,
                n_envs=self.n_envs,
                optimize_memory_usage=self.optimize_memory_usage,
                **buffer_kwargs,
            )
        except TypeError as error:
            raise TypeError(
                f"replay_buffer_kwargs={self.replay_buffer_kwargs!r}: they must be arguments of {buffer_class.__name__}: "
                f"{error}"
            ) from error

    def predict(  # type: ignore[override]
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        action_masks: np.ndarray | None = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """
        :param observation: the input observation
        :param state: The last hidden states, which are returned unchanged, since the policy is not recurrent
        :param episode_start: Not used, since the policy is not recurrent
        :param deterministic: Whether the action must depend on the observation only. This makes no difference to SAVO, which
            does not sample, as TD3 does not.
        :param action_masks: In a discrete space, which items are allowed: (n_items,), or (n_envs, n_items)
        :return: the model's action and the hidden state
        :raises ValueError: if there are masks and the space is continuous, or their shape is wrong
        """
        if action_masks is None and self.learned_with_masks and not self._warned_of_no_masks:
            self._warned_of_no_masks = True
            warnings.warn(
                "action_masks=None: this model has learned with action masks, and without them it may choose items that are "
                "not allowed. SB3's evaluate_policy passes no masks. Pass action_masks=get_action_masks(env), or use "
                "sb3_contrib.common.maskable.evaluation.evaluate_policy.",
                stacklevel=2,
            )
        return self.policy.predict(observation, state, episode_start, deterministic, action_masks)

    def _init_callback(self, callback: MaybeCallback, progress_bar: bool = False) -> BaseCallback:
        result = super()._init_callback(callback, progress_bar)
        self._progress_bars = [part for part in callbacks_in(result) if isinstance(part, ProgressBarCallback)]
        if isinstance(self.action_space, EmbeddedDiscrete):
            mask_evaluations(result, self)
        return result

    def close_progress_bars(self) -> None:
        """Close the bars of this run, which an error has left open: the terminal shows one bar at a time."""
        for part in self._progress_bars:
            if hasattr(part, "pbar"):
                part.pbar.close()
        self._progress_bars = []

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str = "run",
        progress_bar: bool = False,
    ) -> tuple[int, BaseCallback]:
        watch_shapes(self.env)  # type: ignore[arg-type]
        self._check_observation = ObservationCheck(self.observation_space, remedy=OF_AN_ENVIRONMENT)
        begins_episodes = reset_num_timesteps or self._last_obs is None
        total_timesteps, callback = super()._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar
        )
        if begins_episodes:
            end_episodes(self.replay_buffer)  # type: ignore[arg-type]
            if self.candidate_noise is not None:
                self.candidate_noise.reset(np.ones(self.n_envs, dtype=bool))
        # The same number of rollouts, but SB3's progress bar then ends at 100 %
        total_timesteps = self.num_timesteps + steps_to_do(self, total_timesteps - self.num_timesteps)
        self.learned_with_masks = self.has_masks
        stores_masks = isinstance(self.replay_buffer, CandidateStorage) and self.replay_buffer.store_masks
        if self.has_masks != stores_masks:
            raise ValueError(
                f"env has {'' if self.has_masks else 'no '}action masks, but the {type(self.replay_buffer).__name__} of this "
                f"model is for environments {'with' if stores_masks else 'without'}: load the model with the environment, "
                f"{type(self).__name__}.load(…, env=env), and use one of SB3's buffers."
            )
        self._action_masks = self._current_masks() if self.has_masks else None
        self._check_action_noise()
        self._plausible_range = PlausibleRange(self.gamma)
        check_first_observations(self)
        return total_timesteps, callback

    def _check_action_noise(self) -> None:
        if self.action_noise is not None:
            # ``learn`` makes the noise of one environment one of several
            n_envs = self.n_envs if isinstance(self.action_noise, VectorizedActionNoise) else 1
            check_action_noise(self.action_noise, (n_envs, *self._noise_shape))

    def _current_masks(self) -> np.ndarray:
        """
        :return: Which items the environments allow now, (n_envs, n_items)
        :raises ValueError: if a mask is wrong, or allows none
        """
        masks = []
        for i, given in enumerate(self.env.env_method(EXPECTED_METHOD_NAME)):  # type: ignore[union-attr]
            where = f" of environment {i} at step {self.num_timesteps}"
            masks.append(check_mask(given, int(self.action_space.n), where))  # type: ignore[attr-defined]
            if not masks[-1].any():
                raise ValueError(
                    f"action_masks{where} allows none of the {self.action_space.n} items: "  # type: ignore[attr-defined]
                    "it must allow one wherever an episode goes on."
                )
        return np.stack(masks)

    @property
    def _noise_shape(self) -> tuple[int, ...]:
        """The shape of ``action_noise`` for one environment: an action's, or in a discrete space an embedding's."""
        return (self.action_dim,) if isinstance(self.action_space, EmbeddedDiscrete) else self.action_space.shape  # type: ignore[return-value]

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        train_freq: TrainFreq,
        replay_buffer: ReplayBuffer,
        action_noise: ActionNoise | None = None,
        learning_starts: int = 0,
        log_interval: int | None = None,
    ) -> RolloutReturn:
        """
        SB3's method, before which a checkpoint is put back, or written if one is due.

        :param env: The training environment
        :param callback: The callbacks of the run
        :param train_freq: How much to collect
        :param replay_buffer: Where to store it
        :param action_noise: Noise on the chosen action
        :param learning_starts: Number of steps before learning for the warm-up phase
        :param log_interval: Number of episodes between two logs; None for none
        :return: The number of steps and episodes, and whether the run goes on
        """
        if self._checkpointed_run is not None:
            if not self._checkpointed_run.visit(callback):
                return RolloutReturn(0, 0, continue_training=False)
            # Where the run goes on from a checkpoint, this has replaced both
            assert self.replay_buffer is not None
            replay_buffer, action_noise = self.replay_buffer, self.action_noise
        rollout = super().collect_rollouts(
            env, callback, train_freq, replay_buffer, action_noise, learning_starts, log_interval
        )
        if not rollout.continue_training:
            # The last step is not stored, so the next call of ``learn`` resets the environments
            self._last_obs = None
        return rollout

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """
        Take the best of the perturbed proposals (Algorithm 1, "Select Action"), or a random action while warming up.

        :param learning_starts: Number of steps before learning for the warm-up phase.
        :param action_noise: Noise on the chosen action
        :param n_envs: Number of environments
        :return: The actions to take in the environments, and the actions to store: scaled to [-1, 1] if they are continuous,
            and packed with the candidates if the replay buffer stores these
        """
        stores_candidates = isinstance(self.replay_buffer, CandidateStorage)
        is_continuous = self.policy.items is None
        masks = None if self._action_masks is None else self.policy.masks_to_tensor(self._action_masks)
        noise = None
        if action_noise is not None:
            noise = partial(draw_action_noise, action_noise, (n_envs, *self._noise_shape))
        items = None
        if self.num_timesteps >= learning_starts:
            taken, candidates, items = self._explore(masks, noise)
            if is_continuous:
                taken = taken.reshape(n_envs, *self.action_space.shape)  # type: ignore[misc]
            action = self.policy.unscale_action(taken) if is_continuous else taken
        else:
            if is_continuous:
                action, taken = super()._sample_action(learning_starts, noise, n_envs)  # type: ignore[arg-type]
            else:
                action = taken = self._random_items(n_envs)
            if stores_candidates:
                candidates = th.empty(n_envs, self.n_candidates, self.action_dim, device=self.device).uniform_(-1, 1)
                items = self.policy.snap(candidates, masks)[1]

        if not stores_candidates:
            return action, taken
        stored = (candidates,) if items is None else (items, candidates)
        return action, CandidateStorage.pack(taken, *(part.cpu().numpy() for part in stored))

    @th.no_grad()
    def _explore(
        self, masks: th.Tensor | None, action_noise: Callable[[], np.ndarray] | None
    ) -> tuple[np.ndarray, th.Tensor, th.Tensor | None]:
        """
        :param masks: Which items are allowed, (n_envs, n_items); None for all
        :param action_noise: Draws the noise on the chosen action; None for none
        :return: The actions to take, scaled to [-1, 1], (n_envs, action_dim), or the items to take, (n_envs,); the candidates,
            (n_envs, n_candidates, action_dim); in a discrete space the candidates' items, (n_envs, n_candidates)
        """
        actor = numpy_policy(self.policy) or self.policy
        obs, _ = actor.obs_to_tensor(self._last_obs)  # type: ignore[arg-type]
        noise = sample_noise(
            self.candidate_noise, self.n_candidates, self.exploration_noise_scale, self.num_timesteps, self.device
        )
        candidates = actor.propose(obs, noise=noise, masks=masks)
        actions, items = self.policy.snap(candidates, masks)
        if self.n_candidates == 1:
            picked = th.zeros(len(actions), 1, dtype=th.long, device=self.device)
        else:
            _, picked, _ = actor.maximize(obs, actions)
        bypass = sample_bypass(value_at(self.selection_epsilon, self.num_timesteps), len(actions))
        if items is None:
            picked = randomize_choice(picked, bypass, self.n_candidates)
        chosen, chosen_items = pick(actions, picked), None if items is None else items.gather(1, picked)
        if action_noise is not None:
            sample = th.as_tensor(action_noise(), dtype=th.float32, device=self.device).reshape(chosen.shape)
            moved, chosen_items = self.policy.snap((chosen + sample).clamp(-1, 1).unsqueeze(1), masks)
            chosen = moved.squeeze(1)
        if chosen_items is None:
            actions_taken = chosen.cpu().numpy()
            check_finite("action", actions_taken, f"step {self.num_timesteps}", BROKEN_POLICY)
            return actions_taken, candidates, None
        check_finite("candidate actions", candidates.cpu().numpy(), f"step {self.num_timesteps}", BROKEN_POLICY)
        taken = chosen_items.squeeze(1).cpu().numpy()
        if bypass.any():
            taken = np.where(bypass, self._random_items(len(taken)), taken)
        return taken, candidates, items

    def _random_items(self, n_envs: int) -> np.ndarray:
        """
        :param n_envs: Number of environments
        :return: Uniformly random allowed items, (n_envs,)
        """
        masks = [None] * n_envs if self._action_masks is None else self._action_masks.astype(np.int8)
        return np.array([self.action_space.sample(mask=mask) for mask in masks])

    def _store_transition(
        self,
        replay_buffer: ReplayBuffer,
        buffer_action: np.ndarray,
        new_obs: np.ndarray | dict[str, np.ndarray],
        reward: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        check_transition(self, new_obs, reward, dones, infos)
        if self._action_masks is not None and isinstance(replay_buffer, CandidateStorage):
            next_masks = self._current_masks()
            self._action_masks = next_masks.copy()
            for i in np.flatnonzero(dones):
                where = f"info of environment {i} at step {self.num_timesteps}"
                mask = infos[i].get("action_masks", np.ones_like(next_masks[i]))
                next_masks[i] = replay_buffer.bootstrap_mask(mask, True, infos[i], where)
            buffer_action = CandidateStorage.pack_masks(buffer_action, next_masks)
        super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, infos)
        if self.candidate_noise is not None:
            self.candidate_noise.reset(dones)
