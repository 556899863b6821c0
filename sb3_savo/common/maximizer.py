"""The loop that all our algorithms share: bootstrap with the maximizer, update the critics, sync the targets."""

import inspect
from typing import Any, ClassVar, Literal

import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from stable_baselines3.common.utils import FloatSchedule
from torch.nn import functional as F

from sb3_savo.actions.nearest import ApproximateNearestItems, Nearest
from sb3_savo.actions.spaces import EmbeddedDiscrete, proposal_space
from sb3_savo.arguments import Check, check_choice
from sb3_savo.common.arguments import ARGUMENT_CHECKS, SearchRange
from sb3_savo.common.buffers import Batch, CandidateReplayBufferSamples
from sb3_savo.common.environments import check_env, make_env
from sb3_savo.common.exploration import ExplorationNoise, StepSchedule, make_candidate_noise
from sb3_savo.common.loading import algorithm_name
from sb3_savo.common.policies import MaximizerPolicy
from sb3_savo.common.training import TrainingAlgorithm
from sb3_savo.common.updater import Precision, Updater
from sb3_savo.networks.critics import CandidateCritic

# A loss, and scalars to log
LossAndMetrics = tuple[th.Tensor, dict[str, th.Tensor]]


class MaximizerAlgorithm(TrainingAlgorithm):
    """
    Off-policy actor-critic whose policy proposes several actions and takes the one with the highest Q (paper, §4.1).

    A subclass names its policies, and updates what these propose with in :meth:`update_actors`, or in a :meth:`train` of its
    own.

    :param policy: The policy model to use (MlpPolicy, CnnPolicy, ...)
    :param env: The environment to learn from (if registered in Gym, can be str)
    :param learning_rate: Learning rate, above 0, or a function of the current progress remaining (from 1 to 0)
    :param qf_learning_rate: Learning rate of the critics, of Q̂ and of the surrogates; ``learning_rate`` if None
    :param buffer_size: Size of the replay buffer, in transitions; at least ``batch_size`` if that is given
    :param learning_starts: How many steps to collect transitions for, with uniformly random actions, before learning
    :param batch_size: Minibatch size for each gradient update; None for the paper's 256
    :param tau: The soft update coefficient ("Polyak update", between 0 and 1)
    :param gamma: The discount factor, between 0 and 1
    :param train_freq: Update the model every ``train_freq`` steps, or e.g. every ``(5, "step")`` or ``(2, "episode")``.
    :param gradient_steps: How many gradient steps to do after each rollout (see ``train_freq``);
        ``-1`` means as many gradient steps as steps done in the environments during the rollout.
    :param action_noise: Noise on the chosen action, in addition to the candidates' noise (Algorithm 1's final ε); none by
        default
    :param replay_buffer_class: Replay buffer class to use (for instance ``HerReplayBuffer``); selected if ``None``.
        Where the algorithm learns from the candidates, SB3's classes are replaced by versions that store them.
    :param replay_buffer_kwargs: Keyword arguments to pass to the replay buffer on creation.
    :param optimize_memory_usage: Enable a memory efficient variant of the replay buffer at a cost of more complexity.
    :param n_steps: Number of steps of the return in the critics' targets; above 1 with the ``NStepReplayBuffer``
    :param n_target_critics: How many critics, drawn anew for every batch, the target's minimum is over; None for all. REDQ has
        2 of 10 (``policy_kwargs={"n_critics": 10}``).
    :param policy_delay: Number of gradient steps per update of the actors and the target networks
    :param target_policy_noise: Standard deviation of Gaussian noise on the target action (TD3's smoothing); 0 for none
    :param target_noise_clip: Limit for the absolute value of that noise
    :param max_grad_norm: Largest gradient norm of the actors, of the critics, of the surrogates; None for no limit
    :param exploration_noise: Noise on every candidate while collecting: ``"ou"`` (Ornstein-Uhlenbeck, restarted with
        every episode), ``"gaussian"`` or None
    :param exploration_noise_std: Scale of that noise in units of the action space scaled to [-1, 1];
        None for the paper's 0.2 (``"ou"``) and 0.1 (``"gaussian"``)
    :param noise_per_candidate: Whether every candidate has noise of its own, as in the paper. The choice takes the one whose
        noise Q prefers, so a task that is costly until its goal is found is hardly explored. False gives all candidates of an
        environment the same noise, so several actors explore as one does.
    :param exploration_noise_scale: Its multiplier: a number, or a line ``(initial value, final value, environment steps)``. A
        run that is much shorter than the line explores with the initial value to its end.
    :param selection_epsilon: Probability of taking a random candidate, or in a discrete space a random item, instead of the
        best one while collecting: a number, or a line over environment steps
    :param q_smoothing: Whether actors ascend Q̂, which learns to imitate Q, instead of Q (§14.6); None for True in a discrete
        space and False in a continuous one
    :param nearest: How a proposal's nearest item is found in a discrete space: ``"exact"``, or ``"approximate"`` by an index
        of the library faiss, for hundreds of thousands of items; its recall is printed with ``verbose=1``
    :param compile: Whether to compile the losses and their gradients by torch's inductor, in separate processes. This needs a
        C++ compiler. The first 50 gradient steps of :meth:`learn` are computed without compilation, and then the compiled
        losses take over. The 51st step waits for them, up to a minute, unless the result is found in the folder
        ``~/.cache/sb3-savo/compiled`` (or in ``sb3_savo`` of ``TORCHINDUCTOR_CACHE_DIR``, if that is set). ``"auto"``
        compiles runs of 20,000 gradient steps or more. Compiled losses see the settings at the start of :meth:`learn`. A loss
        that cannot be compiled runs without compilation, with a warning.
    :param precision: ``"highest"`` for float32, or ``"medium"`` to compute the products of large layers in bfloat16. On a
        device without bfloat16 hardware, where these take tens of times as long, ``"medium"`` warns and computes in float32.
        ``"auto"`` is ``"medium"`` where there is such hardware and ``"highest"`` elsewhere, and prints its choice with
        ``verbose=1``.
    :param stats_window_size: Window size for the rollout logging, in episodes
    :param tensorboard_log: the log location for tensorboard (if None, no logging)
    :param policy_kwargs: additional arguments to be passed to the policy on creation
    :param verbose: Verbosity level: 0 for no output, 1 for info messages, 2 for debug messages
    :param seed: Seed for the pseudo random generators
    :param device: Device (cpu, cuda, ...) on which the code should be run; auto: on the GPU if possible.
    :raises TypeError: if an argument has the wrong type, or the policy or the action space is of the wrong kind
    :raises ValueError: if an argument is out of its range, or the action space is unbounded
    """

    argument_checks: ClassVar[dict[str, Check]] = ARGUMENT_CHECKS
    search_space: ClassVar[dict[str, SearchRange]] = {}
    """Where the RL Zoo's ``-optimize`` searches for the class's own arguments."""
    item_counts: ClassVar[tuple[str, ...]] = ()
    """Which of them count items, and so are at most the number of items."""
    takes_items: ClassVar[bool] = True
    """Whether the algorithm acts in discrete spaces with embeddings."""
    explores_by_noise: ClassVar[bool] = True
    """Whether the algorithm explores by noise on its candidates; otherwise it samples its actors."""
    critic_loss_scale: ClassVar[float] = 1.0
    policy: MaximizerPolicy
    critic: CandidateCritic
    critic_target: CandidateCritic
    smooth_critic: CandidateCritic | None

    def __init__(
        self,
        policy: str | type[BasePolicy],
        env: GymEnv | str | None,
        learning_rate: float | Schedule = 3e-4,
        *,
        qf_learning_rate: float | Schedule | None = None,
        buffer_size: int = 500_000,
        learning_starts: int = 100,
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
        n_target_critics: int | None = None,
        policy_delay: int = 2,
        target_policy_noise: float = 0.0,
        target_noise_clip: float = 0.5,
        max_grad_norm: float | None = 1.0,
        exploration_noise: ExplorationNoise = "ou",
        exploration_noise_std: float | None = None,
        noise_per_candidate: bool = True,
        exploration_noise_scale: StepSchedule = (1.0, 0.01, 500_000),
        selection_epsilon: StepSchedule = 0.0,
        q_smoothing: bool | None = None,
        nearest: Nearest = "exact",
        compile: bool | Literal["auto"] = "auto",
        precision: Precision = "highest",
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
    ):
        name = type(self).__name__
        if isinstance(policy, str):
            check_choice("policy", policy, tuple(self.policy_aliases))
        elif not (isinstance(policy, type) and issubclass(policy, self.policy_aliases["MlpPolicy"])):
            called = getattr(policy, "__name__", repr(policy))
            raise TypeError(f"policy={called} is not a {name} policy: it must be one of {name}'s own.")
        if batch_size is None:
            batch_size = 256
        elif buffer_size < batch_size:
            raise ValueError(f"buffer_size={buffer_size} is smaller than a batch: it must be at least {batch_size=}.")
        if env is not None:
            env = make_env(env, verbose)
            check_env(env, name, self.takes_items)
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
        self.algorithm_name = algorithm_name(type(self))
        self.qf_learning_rate = qf_learning_rate
        self.n_target_critics = n_target_critics
        self.policy_delay = policy_delay
        self.target_policy_noise = target_policy_noise
        self.target_noise_clip = target_noise_clip
        self.max_grad_norm = max_grad_norm
        self.exploration_noise = exploration_noise
        self.exploration_noise_std = exploration_noise_std
        self.noise_per_candidate = noise_per_candidate
        self.exploration_noise_scale = exploration_noise_scale
        self.selection_epsilon = selection_epsilon
        self.q_smoothing = q_smoothing
        self.nearest = nearest
        self.compile = compile
        self.precision = precision

    # Set up

    @property
    def uses_q_smoothing(self) -> bool:
        """Whether actors ascend Q̂ instead of Q."""
        return isinstance(self.action_space, EmbeddedDiscrete) if self.q_smoothing is None else self.q_smoothing

    @property
    def stores_candidates(self) -> bool:
        return self.uses_q_smoothing

    @property
    def n_q_actors(self) -> int:
        """How many of the candidates, the first ones, come from actors that ascend Q (or Q̂)."""
        return self.n_candidates

    def _policy_arguments(self) -> dict[str, Any]:
        """:return: The constructor arguments that are passed on to the policy: those that both have"""
        names = inspect.signature(type(self)).parameters.keys() & inspect.signature(self.policy_class).parameters.keys()
        arguments = {name: getattr(self, name) for name in names}
        return {**arguments, "q_smoothing": self.uses_q_smoothing} if "q_smoothing" in names else arguments

    def _setup_model(self) -> None:
        """Create networks, buffer and updater. SB3's method would add our arguments to the user's ``policy_kwargs``."""
        if getattr(self, "observation_space", None) is None:
            raise ValueError("env=None: the networks need the spaces of an environment: it must be one, or the ID of one.")
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        self.action_dim = get_action_dim(proposal_space(self.action_space))
        if self.replay_buffer is None:
            try:
                self.replay_buffer = self._make_replay_buffer()
            except MemoryError as error:
                raise ValueError(
                    f"buffer_size={self.buffer_size!r} is too large for this machine's memory. It must be smaller: {error}"
                ) from error
        self._check_action_noise()
        arguments = self._policy_arguments()
        for name in self.policy_kwargs.keys() & inspect.signature(type(self)).parameters.keys():
            raise ValueError(
                f"policy_kwargs holds {name!r}, which is an argument of the algorithm: {type(self).__name__}({name}=…)."
            )
        self.policy = self.policy_class(  # type: ignore[assignment]
            self.observation_space, self.action_space, self.lr_schedule, **{**arguments, **self.policy_kwargs}
        ).to(self.device)
        if self.n_target_critics is not None and self.n_target_critics > self.policy.n_critics:
            raise ValueError(
                f"n_target_critics={self.n_target_critics!r} of {self.policy.n_critics} critics: it must be at most the "
                'policy\'s n_critics (policy_kwargs={"n_critics": …}).'
            )
        if isinstance(self.policy.items, ApproximateNearestItems) and self.verbose >= 1:
            print(f"Nearest items by an approximate index: its recall is {self.policy.items.recall:.3f}")
        self._convert_train_freq()
        self._create_aliases()
        shape = (self.n_envs, self.n_candidates if self.noise_per_candidate else 1, self.action_dim)
        self.candidate_noise = make_candidate_noise(self.exploration_noise, self.exploration_noise_std, shape)
        self.updater = Updater(self.policy, self.max_grad_norm, self._uses_bfloat16, self.compile is True, self.verbose)

    def _create_aliases(self) -> None:
        for name in (*self.policy.learner_names, *self.policy.target_names):
            setattr(self, name, getattr(self.policy, name))

    def _setup_lr_schedule(self) -> None:
        super()._setup_lr_schedule()
        self.qf_lr_schedule = None if self.qf_learning_rate is None else FloatSchedule(self.qf_learning_rate)

    # The update

    def train(self, gradient_steps: int, batch_size: int = 256) -> None:
        for batch in self.batches(gradient_steps, batch_size):
            self.update_critics(batch)
            # Delayed policy updates
            if self.policy_is_due:
                self.update_actors(batch)
                self.updater.sync_targets(self.tau)

    def update_critics(self, batch: Batch) -> th.Tensor:
        """One step of the critics, and of Q̂ that imitates them (§14.6); returns the critics' loss."""
        critic_loss = self.updater.step("critic", self.critic_loss, batch)
        if self.smooth_critic is not None:
            self.updater.step("smooth_critic", self.smoothing_loss, batch)
        return critic_loss

    def update_actors(self, batch: Batch) -> None:
        """One step of the networks that propose: here, of actors that all ascend Q."""
        self.updater.step("actor", self.actor_loss, batch)

    # The losses

    def target_q_values(self, batch: Batch) -> LossAndMetrics:
        """
        The Bellman target y = r + γ min(Q', Q_2')(s', μ_M(s')): the target actors propose, the online Q picks.

        :param batch: Transitions
        :return: Targets without gradient, (batch, 1), and metrics of the choice
        """
        # For n-step replay, discount factor is gamma**n_steps (when no early termination)
        discounts = batch.discounts if batch.discounts is not None else self.gamma
        masks = batch.next_action_masks if isinstance(batch, CandidateReplayBufferSamples) else None
        with th.no_grad():
            actions, _ = self.policy.snap(self.policy.propose_targets(batch.next_observations, masks), masks)
            if actions.shape[1] == 1:
                next_actions, metrics = actions[:, 0], {}
            else:
                next_actions, picked, q_values = self.policy.maximize(batch.next_observations, actions)
                metrics = choice_metrics(picked, q_values)
            if self.target_policy_noise > 0:
                noise = th.randn_like(next_actions) * self.target_policy_noise
                moved = (next_actions + noise.clamp(-self.target_noise_clip, self.target_noise_clip)).clamp(-1, 1)
                next_actions = self.policy.snap(moved.unsqueeze(1), masks)[0].squeeze(1)
            next_q_values = self.min_target_q_values(batch.next_observations, next_actions)
            return batch.rewards + (1 - batch.dones) * discounts * next_q_values, metrics

    def min_target_q_values(self, obs: Any, actions: th.Tensor) -> th.Tensor:
        """
        :param obs: Next observations, (batch, ...)
        :param actions: (batch, action_dim)
        :return: min(Q', Q_2'), or the minimum over ``n_target_critics`` of more target critics (REDQ); (batch, 1)
        """
        q_values = th.cat(self.critic_target(obs, actions), dim=1)
        if self.n_target_critics is not None:
            drawn = th.randperm(q_values.shape[1], device=q_values.device)[: self.n_target_critics]
            q_values = q_values[:, drawn]
        return q_values.amin(dim=1, keepdim=True)

    def critic_loss(self, batch: Batch) -> LossAndMetrics:
        """
        The Bellman error of Eq. 1, summed over the critics.

        :param batch: Transitions
        :return: A scalar, and metrics: the mean of the first critic's Q, and those of the choice at the next states
        """
        target_q_values, metrics = self.target_q_values(batch)
        current_q_values = self.critic(batch.observations, batch.actions)
        losses = th.stack([F.mse_loss(current_q, target_q_values) for current_q in current_q_values])
        return self.critic_loss_scale * losses.sum(), {**metrics, "q_mean": current_q_values[0].detach().mean()}

    def smoothing_loss(self, batch: Batch) -> LossAndMetrics:
        """
        Q-smoothing (§14.6): the imitation of the critics by Q̂, at the taken action and at the proposals of the actors
        that ascend it, averaged over states and actions.

        :param batch: Transitions; without stored candidates, the current actors propose some
        :return: A scalar, and no metrics
        """
        assert self.smooth_critic is not None
        with th.no_grad():
            taken = batch.actions.unsqueeze(1)
            candidates, actions = (proposals[:, : self.n_q_actors] for proposals in self.proposals(batch))
            targets = self.min_q_values(batch.observations, th.cat([taken, actions], dim=1))
        smooth_q = self.smooth_critic.q1(batch.observations, th.cat([taken, candidates], dim=1))
        return F.mse_loss(smooth_q, targets), {}

    def actor_loss(self, batch: Batch) -> LossAndMetrics:
        """
        Minus Q, or Q̂, at every actor's proposal (Eq. 3), averaged over states and summed over actors.

        :param batch: Transitions, of which the observations are used
        :return: A scalar, and no metrics
        """
        proposals = self.policy.get_submodule("actor")(batch.observations)
        return -self.policy.actor_objective(batch.observations, proposals).mean(dim=0).sum(), {}

    def proposals(self, batch: Batch) -> tuple[th.Tensor, th.Tensor]:
        """
        :param batch: Transitions
        :return: The stored candidates (or fresh proposals, if the buffer has none) and the actions they map to, in a discrete
            space the embeddings of their nearest items; (batch, n_candidates, action_dim) each
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

    # Save

    def _excluded_save_params(self) -> list[str]:
        networks = [*self.policy.learner_names, *self.policy.target_names]
        return [
            *super()._excluded_save_params(),
            *networks,
            "candidate_noise",
            "updater",
            "_action_masks",
            "_checkpointed_run",
            "_n_updates_at_start",
            "_open_batches",
            "_plausible_range",
            "_check_observation",
            "_progress_bars",
            "_warned_of_no_masks",
        ]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", *(f"{name}.optimizer" for name in self.policy.learners)], []


def choice_metrics(picked: th.Tensor, q_values: th.Tensor) -> dict[str, th.Tensor]:
    """
    :param picked: The index of the candidate that was picked, (batch, 1)
    :param q_values: Values of all candidates, (batch, n_candidates)
    :return: How often each candidate was picked, and how much the best one gains over the first
    """
    shares = {f"candidate_share_{i}": (picked == i).float().mean() for i in range(q_values.shape[1])}
    return {**shares, "q_gain": (q_values.gather(1, picked) - q_values[:, :1]).mean()}
