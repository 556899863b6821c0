"""The learning that all our algorithms share: bootstrap with the maximizer, update the critics, sync the targets."""

from typing import Any, ClassVar, TypeVar

import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import maybe_make_env
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.type_aliases import (
    GymEnv,
    MaybeCallback,
    Schedule,
)
from torch.nn import functional as F

from sb3_savo.actions.nearest import NEAREST, ApproximateNearestItems
from sb3_savo.actions.spaces import EmbeddedDiscrete, check_action_space, proposal_space
from sb3_savo.arguments import check_choice, check_integer, check_number, check_train_freq
from sb3_savo.common.buffers import CandidateReplayBufferSamples
from sb3_savo.common.exploration import (
    EXPLORATION_NOISES,
    StepSchedule,
    check_step_schedule,
    make_candidate_noise,
)
from sb3_savo.common.policies import MaximizerPolicy
from sb3_savo.common.updater import COMPILE, PRECISIONS, Batch, UpdatingAlgorithm
from sb3_savo.networks.critics import CandidateCritic

SelfMaximizerAlgorithm = TypeVar("SelfMaximizerAlgorithm", bound="MaximizerAlgorithm")


class MaximizerAlgorithm(UpdatingAlgorithm):
    """
    Off-policy actor-critic whose policy proposes several actions and takes the one with the highest Q (paper, §4.1).

    A subclass gives the policy that proposes, and says in :meth:`update_actors`, or a :meth:`train` of its own that composes
    the steps below, how that learns.

    :param policy: The policy model to use (MlpPolicy, CnnPolicy, ...)
    :param env: The environment to learn from (if registered in Gym, can be str)
    :param learning_rate: Learning rate, above 0, or a function of the current progress remaining (from 1 to 0)
    :param qf_learning_rate: Learning rate of the critics (and of what imitates them); ``learning_rate`` if None
    :param buffer_size: Size of the replay buffer, in transitions; at least ``batch_size`` if that is given
    :param learning_starts: How many steps to collect transitions for, with uniformly random actions, before learning
    :param batch_size: Minibatch size for each gradient update; None for the paper's 256
    :param tau: The soft update coefficient ("Polyak update", between 0 and 1)
    :param gamma: The discount factor, between 0 and 1
    :param train_freq: Update the model every ``train_freq`` steps, or e.g. every ``(5, "step")`` or ``(2, "episode")``.
    :param gradient_steps: How many gradient steps to do after each rollout (see ``train_freq``);
        ``-1`` means as many gradient steps as steps done in the environments during the rollout.
    :param action_noise: Noise on the chosen action, beside that on the candidates (Algorithm 1's final ε); none by default
    :param replay_buffer_class: Replay buffer class to use (for instance ``HerReplayBuffer``); selected if ``None``.
        Each of SB3's is used in the version that stores the candidates, where the algorithm learns from those.
    :param replay_buffer_kwargs: Keyword arguments to pass to the replay buffer on creation.
    :param optimize_memory_usage: Enable a memory efficient variant of the replay buffer at a cost of more complexity.
    :param n_steps: Number of steps of the return in the critics' targets; above 1 with the ``NStepReplayBuffer``
    :param policy_delay: Actors and target networks are updated once every so many gradient steps
    :param target_policy_noise: Standard deviation of Gaussian noise on the target action (TD3's smoothing); 0 for none
    :param target_noise_clip: Limit for the absolute value of that noise
    :param max_grad_norm: Largest gradient norm of the actors, of the critics, of the surrogates; None for no limit
    :param exploration_noise: Noise on every candidate while collecting: ``"ou"`` (Ornstein-Uhlenbeck, restarted with
        every episode), ``"gaussian"`` or None
    :param exploration_noise_std: Scale of that noise in units of the action space scaled to [-1, 1];
        None for the paper's 0.2 (``"ou"``) and 0.1 (``"gaussian"``)
    :param exploration_noise_scale: Its multiplier: a number, or a line ``(initial value, final value, environment steps)``
    :param selection_epsilon: Probability of taking a random candidate (in a discrete space: a random item) instead of the
        best while collecting: a number, or a line over environment steps
    :param q_smoothing: Whether the actors that would ascend Q ascend Q̂, which learns to imitate it (§14.6); None for: in a
        discrete space
    :param nearest: How a proposal's nearest item is found in a discrete space: ``"exact"``, or ``"approximate"`` by an index
        of the library faiss, for hundreds of thousands of items; its recall is printed with ``verbose=1``
    :param compile: Whether the losses and their gradients are compiled (by torch's inductor, in processes of their own; a C++
        compiler is needed), which takes about a minute at the start of :meth:`learn` if it was not done before; ``"auto"``
        for: in runs of 20,000 gradient steps or more. The losses see the settings that there are at the start. What cannot
        be compiled runs without, with a warning.
    :param precision: ``"highest"``, or ``"medium"`` for the products of large layers in bfloat16, where the processor has
        them in hardware
    :param stats_window_size: Window size for the rollout logging, in episodes
    :param tensorboard_log: the log location for tensorboard (if None, no logging)
    :param policy_kwargs: additional arguments to be passed to the policy on creation
    :param verbose: Verbosity level: 0 for no output, 1 for info messages, 2 for debug messages
    :param seed: Seed for the pseudo random generators
    :param device: Device (cpu, cuda, ...) on which the code should be run; auto: on the GPU if possible.
    :raises TypeError: if an argument has the wrong type, or the policy or the action space is of the wrong kind
    :raises ValueError: if an argument is out of its range, or the action space is unbounded
    """

    policy_class_required: ClassVar[type[MaximizerPolicy]]
    critic_loss_scale: ClassVar[float] = 1.0
    policy: MaximizerPolicy
    actor: BasePolicy
    critic: CandidateCritic
    critic_target: CandidateCritic
    smooth_critic: CandidateCritic | None

    def __init__(
        self,
        policy: str | type[BasePolicy],
        env: GymEnv | str | None,
        *,
        learning_rate: float | Schedule = 3e-4,
        qf_learning_rate: float | Schedule | None = None,
        buffer_size: int = 500_000,
        learning_starts: int = 10_000,
        batch_size: int | None = None,
        tau: float = 0.005,
        gamma: float = 0.99,
        train_freq: int | tuple[int, str] = 1,
        gradient_steps: int = 1,
        action_noise: ActionNoise | None = None,
        replay_buffer_class: type[ReplayBuffer] | None = None,
        replay_buffer_kwargs: dict[str, Any] | None = None,
        optimize_memory_usage: bool = False,
        n_steps: int = 1,
        policy_delay: int = 2,
        target_policy_noise: float = 0.0,
        target_noise_clip: float = 0.5,
        max_grad_norm: float | None = 1.0,
        exploration_noise: str | None = "ou",
        exploration_noise_std: float | None = None,
        exploration_noise_scale: StepSchedule = (1.0, 0.01, 500_000),
        selection_epsilon: StepSchedule = 0.0,
        q_smoothing: bool | None = None,
        nearest: str = "exact",
        compile: bool | str = "auto",
        precision: str = "highest",
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
    ):
        name = type(self).__name__
        if isinstance(policy, type) and not issubclass(policy, self.policy_class_required):
            raise TypeError(f"policy={policy.__name__} is not a {name} policy: it must be one of {name}'s own.")
        for rate_name, rate in (("learning_rate", learning_rate), ("qf_learning_rate", qf_learning_rate)):
            if not (callable(rate) or (rate is None and rate_name == "qf_learning_rate")):
                check_number(rate_name, rate, above=True)
        check_integer("buffer_size", buffer_size, low=1)
        if batch_size is None:
            batch_size = 256
        else:
            check_integer("batch_size", batch_size, low=1)
            if buffer_size < batch_size:
                raise ValueError(f"buffer_size={buffer_size} is smaller than a batch: it must be at least {batch_size=}.")
        check_integer("learning_starts", learning_starts, low=0)
        check_number("tau", tau, high=1.0)
        check_number("gamma", gamma, high=1.0)
        check_train_freq(train_freq)
        check_integer("gradient_steps", gradient_steps, low=-1)
        check_integer("n_steps", n_steps, low=1)
        check_integer("policy_delay", policy_delay, low=1)
        check_number("target_policy_noise", target_policy_noise)
        check_number("target_noise_clip", target_noise_clip)
        if max_grad_norm is not None:
            check_number("max_grad_norm", max_grad_norm, above=True)
        check_choice("exploration_noise", exploration_noise, EXPLORATION_NOISES)
        if exploration_noise_std is not None:
            check_number("exploration_noise_std", exploration_noise_std)
        check_step_schedule("exploration_noise_scale", exploration_noise_scale)
        check_step_schedule("selection_epsilon", selection_epsilon, high=1.0)
        check_choice("q_smoothing", q_smoothing, (True, False, None))
        check_choice("nearest", nearest, NEAREST)
        check_choice("compile", compile, COMPILE)
        check_choice("precision", precision, PRECISIONS)
        if env is not None:
            env = maybe_make_env(env, verbose)
            check_action_space(env.action_space, name)
            if n_steps > 1 and isinstance(env.observation_space, spaces.Dict):
                raise ValueError(f"n_steps={n_steps}: n-step returns need SB3's NStepReplayBuffer, which has no Dict version.")

        super().__init__(
            policy,
            env,  # type: ignore[arg-type]
            learning_rate=learning_rate,
            buffer_size=buffer_size,
            learning_starts=learning_starts,
            batch_size=batch_size,
            tau=tau,
            gamma=gamma,
            train_freq=train_freq,
            gradient_steps=gradient_steps,
            action_noise=action_noise,
            replay_buffer_class=replay_buffer_class,
            replay_buffer_kwargs=replay_buffer_kwargs,
            optimize_memory_usage=optimize_memory_usage,
            n_steps=n_steps,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
            sde_support=False,
            support_multi_env=True,
        )
        self.qf_learning_rate = qf_learning_rate
        self.policy_delay = policy_delay
        self.target_policy_noise = target_policy_noise
        self.target_noise_clip = target_noise_clip
        self.max_grad_norm = max_grad_norm
        self.exploration_noise = exploration_noise
        self.exploration_noise_std = exploration_noise_std
        self.exploration_noise_scale = exploration_noise_scale
        self.selection_epsilon = selection_epsilon
        self.q_smoothing = q_smoothing
        self.nearest = nearest
        self.compile = compile
        self.precision = precision

    # Set up

    @property
    def smooths_q(self) -> bool:
        """Whether actors ascend Q̂ in place of Q."""
        return isinstance(self.action_space, EmbeddedDiscrete) if self.q_smoothing is None else self.q_smoothing

    @property
    def learns_from_candidates(self) -> bool:
        return self.smooths_q

    @property
    def n_ascending_q(self) -> int:
        """How many of the candidates, the first ones, come from actors that ascend Q (or Q̂ in its place)."""
        return self.n_candidates

    def _own_policy_arguments(self) -> dict[str, Any]:
        """:return: Those of the algorithm's arguments that its policy takes too"""
        return {"q_smoothing": self.smooths_q, "nearest": self.nearest}

    def _policy_arguments(self) -> dict[str, Any]:
        own = self._own_policy_arguments()
        for name in own.keys() & self.policy_kwargs.keys():
            raise ValueError(
                f"policy_kwargs holds {name!r}, which is an argument of the algorithm: {type(self).__name__}({name}=…)."
            )
        return {**self.policy_kwargs, **own}

    def _setup_model(self) -> None:
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        self.action_dim = get_action_dim(proposal_space(self.action_space))
        if self.replay_buffer is None:
            self.replay_buffer = self._make_replay_buffer()
        self.policy = self.policy_class(  # type: ignore[assignment]
            self.observation_space, self.action_space, self.lr_schedule, **self._policy_arguments()
        ).to(self.device)
        if isinstance(self.policy.items, ApproximateNearestItems) and self.verbose >= 1:
            print(f"Nearest items by an approximate index: its recall is {self.policy.items.recall:.3f}")
        self._convert_train_freq()
        self._create_aliases()
        self.candidate_noise = make_candidate_noise(
            self.exploration_noise, self.exploration_noise_std, (self.n_envs, self.n_candidates, self.action_dim)
        )
        super()._setup_model()

    def _create_aliases(self) -> None:
        for name in (*self.policy.learner_names, *self.policy.target_names):
            setattr(self, name, getattr(self.policy, name))

    # The steps of an update

    def train(self, gradient_steps: int, batch_size: int = 256) -> None:
        for batch in self.batches(gradient_steps, batch_size):
            self.update_critics(batch)
            # Delayed policy updates
            if self.policy_is_due:
                self.update_actors(batch)
                self.sync_targets()

    def target_q_values(self, batch: Batch) -> th.Tensor:
        """
        The Bellman target y = r + γ min(Q', Q_2')(s', μ_M(s')): the target actors propose, the online Q picks.

        :param batch: Transitions
        :return: Targets without gradient, (batch, 1)
        """
        # For n-step replay, discount factor is gamma**n_steps (when no early termination)
        discounts = batch.discounts if batch.discounts is not None else self.gamma
        masks = batch.next_action_masks if isinstance(batch, CandidateReplayBufferSamples) else None
        with th.no_grad():
            actions, _ = self.policy.snap(self.policy.propose_targets(batch.next_observations, masks), masks)
            if actions.shape[1] == 1:
                next_actions = actions[:, 0]
            else:
                next_actions, picked, q_values = self.policy.maximize(batch.next_observations, actions)
                self._record_choice(picked, q_values)
            if self.target_policy_noise > 0:
                noise = th.randn_like(next_actions) * self.target_policy_noise
                moved = (next_actions + noise.clamp(-self.target_noise_clip, self.target_noise_clip)).clamp(-1, 1)
                next_actions = self.policy.snap(moved.unsqueeze(1), masks)[0].squeeze(1)
            next_q_values = th.cat(self.critic_target(batch.next_observations, next_actions), dim=1).amin(dim=1, keepdim=True)
            return batch.rewards + (1 - batch.dones) * discounts * next_q_values

    def _record_choice(self, picked: th.Tensor, q_values: th.Tensor) -> None:
        for i in range(q_values.shape[1]):
            self.record(f"candidate_share_{i}", (picked == i).float().mean())
        self.record("q_gain", (q_values.gather(1, picked) - q_values[:, :1]).mean())

    def update_critics(self, batch: Batch) -> th.Tensor:
        """One step of the critics on some transitions, and of Q̂ that imitates them (§14.6); returns the critics' loss."""
        critic_loss = self.descend("critic", self.critic_loss, batch)
        if self.smooth_critic is not None:
            self.descend("smooth_critic", self.smoothing_loss, batch)
        return critic_loss

    def update_actors(self, batch: Batch) -> None:
        """One step of what proposes on some transitions: here of actors that all ascend Q."""
        self.descend("actor", self.actor_loss, batch)

    def actor_loss(self, batch: Batch) -> th.Tensor:
        """
        Minus Q, or Q̂, at what every actor proposes (Eq. 3), averaged over states.

        :param batch: Transitions, of which the observations are used
        :return: A scalar
        """
        loss = -self.policy.ascended_q(batch.observations, self.actor(batch.observations)).mean(dim=0).sum()
        self.record("actor_loss", loss)
        return loss

    def critic_loss(self, batch: Batch) -> th.Tensor:
        """
        The Bellman error of Eq. 1, summed over the critics.

        :param batch: Transitions
        :return: A scalar
        """
        target_q_values = self.target_q_values(batch)
        current_q_values = self.critic(batch.observations, batch.actions)
        losses = th.stack([F.mse_loss(current_q, target_q_values) for current_q in current_q_values])
        loss = self.critic_loss_scale * losses.sum()
        self.record("critic_loss", loss)
        return loss

    def smoothing_loss(self, batch: Batch) -> th.Tensor:
        """
        Q-smoothing (§14.6): the imitation of the critics by Q̂, at the taken action and at the proposals of the actors
        that ascend it, averaged over states and actions.

        :param batch: Transitions; without stored candidates, the current actors propose some
        :return: A scalar
        """
        assert self.smooth_critic is not None
        with th.no_grad():
            taken = batch.actions.unsqueeze(1)
            candidates, actions = (those[:, : self.n_ascending_q] for those in self.proposed(batch))
            targets = self.min_q_values(batch.observations, th.cat([taken, actions], dim=1))
        smooth_q = self.smooth_critic.q1(batch.observations, th.cat([taken, candidates], dim=1))
        loss = F.mse_loss(smooth_q, targets)
        self.record("smoothing_loss", loss)
        return loss

    def proposed(self, batch: Batch) -> tuple[th.Tensor, th.Tensor]:
        """
        :param batch: Transitions
        :return: The stored candidates, or in want of those what the policy proposes now, and the actions that they stand
            for (in a discrete space, the embeddings of their nearest items); (batch, n_candidates, action_dim) each
        """
        if not isinstance(batch, CandidateReplayBufferSamples):
            candidates = self.policy.propose(batch.observations)
            return candidates, self.policy.snap(candidates)[0]
        if self.policy.items is None or batch.candidate_items is None:
            return batch.candidates, batch.candidates
        return batch.candidates, self.policy.items.embed(batch.candidate_items)

    def min_q_values(self, obs: Any, actions: th.Tensor) -> th.Tensor:
        """
        :param obs: Observations, (batch, ...)
        :param actions: Several actions per observation, (batch, n_actions, action_dim)
        :return: min(Q, Q_2), which surrogates and Q̂ imitate ("twin critics for surrogates", §4.3); (batch, n_actions)
        """
        return self.critic.evaluate(obs, actions).amin(dim=0)

    # Learn, save and load

    def learn(
        self: SelfMaximizerAlgorithm,
        total_timesteps: float,
        callback: MaybeCallback = None,
        log_interval: int | None = 4,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfMaximizerAlgorithm:
        """
        :param total_timesteps: The total number of samples (env steps) to train on; a whole number, 3e6 as well as 3000000
        :param callback: callback(s) called at every step with state of the algorithm.
        :param log_interval: number of episodes between two logs; None for none
        :param tb_log_name: the name of the run for TensorBoard logging; the algorithm's by default
        :param reset_num_timesteps: whether or not to reset the current timestep number (used in logging)
        :param progress_bar: Display a progress bar using tqdm and rich.
        :return: the trained model
        :raises TypeError: if ``total_timesteps`` is not a number
        :raises ValueError: if it is negative or not whole
        """
        check_number("total_timesteps", total_timesteps)
        if total_timesteps != int(total_timesteps):
            raise ValueError(f"total_timesteps={total_timesteps!r} is not whole: it must be a number of environment steps.")
        return super().learn(
            total_timesteps=int(total_timesteps),
            callback=callback,
            log_interval=log_interval,  # type: ignore[arg-type]
            tb_log_name=tb_log_name or type(self).__name__,
            reset_num_timesteps=reset_num_timesteps,
            progress_bar=progress_bar,
        )

    def _excluded_save_params(self) -> list[str]:
        networks = [*self.policy_class_required.learner_names, *self.policy_class_required.target_names]
        own = ["candidate_noise", "_recorded", "_compiled", "_action_masks", "batch_norm_stats", "batch_norm_stats_target"]
        return [*super()._excluded_save_params(), *networks, *own]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", *(f"{name}.optimizer" for name in self.policy.learners)], []
