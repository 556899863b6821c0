"""SAVO: Successive Actors for Value Optimization."""

from typing import Any, ClassVar

import torch as th
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from stable_baselines3.common.utils import update_learning_rate
from torch.nn import functional as F

from sb3_savo.common.buffers import CandidateReplayBufferSamples
from sb3_savo.common.checks import check_choice, check_integer
from sb3_savo.common.conditioning import MODULATIONS, SUMMARIZERS
from sb3_savo.common.exploration import StepSchedule
from sb3_savo.common.maximizer import Batch, MaximizerAlgorithm
from sb3_savo.common.stacked import INITS
from sb3_savo.savo.policies import ActorChain, CnnPolicy, MlpPolicy, MultiInputPolicy, SAVOPolicy, Surrogates

SURROGATES = ("approximate", "exact", None)


class SAVO(MaximizerAlgorithm):
    """
    Successive Actors for Value Optimization (SAVO) on TD3: a chain of actors, each of which ascends a surrogate of Q that
    is flat below the actions already found; the true Q picks the best of their proposals.

    Paper: Mitigating Suboptimality of Deterministic Policy Gradients in Complex Q-functions
    (the equations, sections and Algorithm 1 that the code cites are this paper's).

    :param policy: The policy model to use (MlpPolicy, CnnPolicy, MultiInputPolicy)
    :param env: The environment to learn from (if registered in Gym, can be str)
    :param learning_rate: Learning rate of the optimizers, above 0;
        it can be a function of the current progress remaining (from 1 to 0)
    :param qf_learning_rate: Learning rate of the critics and the surrogates; ``learning_rate`` if None
    :param buffer_size: Size of the replay buffer, in transitions; at least ``batch_size`` if that is given
    :param learning_starts: How many steps to collect transitions for, with uniformly random actions, before learning
    :param batch_size: Minibatch size for each gradient update; None for the paper's 256
    :param tau: The soft update coefficient ("Polyak update", between 0 and 1)
    :param gamma: The discount factor, between 0 and 1
    :param train_freq: Update the model every ``train_freq`` steps. Alternatively pass a tuple of frequency and unit
        like ``(5, "step")`` or ``(2, "episode")``.
    :param gradient_steps: How many gradient steps to do after each rollout (see ``train_freq``);
        ``-1`` means as many gradient steps as steps done in the environments during the rollout.
    :param n_actors: Number of actors, at least 1; ``1`` is TD3 without target smoothing
    :param surrogate: What the later actors ascend: ``"approximate"``: learned surrogates Ψ̂_i (Eq. 8 and 9);
        ``"exact"``: Ψ_i itself, which is flat below the anchors (Eq. 7; the paper's "- Approximation"); None: Q, like the
        first actor
    :param summarizer: How the earlier actions are summarized (§13.3): ``"deepset"``, ``"lstm"`` or ``"transformer"``
    :param modulation: How the summary enters a network (§13.4): ``"film"``, or ``"mlp"`` for concatenation to its input
    :param condition_on_previous: Whether actors and surrogates see the earlier actions (False: "- Previous Actions")
    :param joint_action: Let one actor propose all ``n_actors`` actions at once ("+ Joint Action")
    :param init: Initial weights of actors and surrogates (§14.7): ``"orthogonal"``, ``"xavier"``, ``"random"`` or ``"add"``
    :param action_noise: Noise on the chosen action, beside that on the candidates (Algorithm 1's final ε); none by default
    :param replay_buffer_class: Replay buffer class to use (for instance ``HerReplayBuffer``); selected if ``None``.
        Each of SB3's is used in the version that stores the candidates; with any other class, the anchors of Eq. 8 are
        computed anew by the current actors.
    :param replay_buffer_kwargs: Keyword arguments to pass to the replay buffer on creation.
    :param optimize_memory_usage: Enable a memory efficient variant of the replay buffer at a cost of more complexity.
    :param n_steps: Number of steps of the return in the critics' targets; above 1 with the ``NStepReplayBuffer``
    :param policy_delay: Actors and target networks are updated once every so many gradient steps
    :param target_policy_noise: Standard deviation of Gaussian noise on the target action ("+ Action Smoothing"); 0 for none
    :param target_noise_clip: Limit for the absolute value of that noise
    :param max_grad_norm: Largest gradient norm of the actors, of the critics, of the surrogates; None for no limit
    :param exploration_noise: Noise on every candidate while collecting: ``"ou"`` (Ornstein-Uhlenbeck, restarted with
        every episode), ``"gaussian"`` or None
    :param exploration_noise_std: Scale of that noise in units of the action space scaled to [-1, 1];
        None for the paper's 0.2 (``"ou"``) and 0.1 (``"gaussian"``)
    :param exploration_noise_scale: What it is multiplied by: a number, or a line over environment steps
        ``(initial value, final value, steps)``
    :param selection_epsilon: Probability of taking a random candidate instead of the best while collecting: a number,
        or a line over environment steps
    :param stats_window_size: Window size for the rollout logging, in episodes
    :param tensorboard_log: the log location for tensorboard (if None, no logging)
    :param policy_kwargs: additional arguments to be passed to the policy on creation, see :class:`SAVOPolicy`
    :param verbose: Verbosity level: 0 for no output, 1 for info messages (such as device or wrappers used), 2 for
        debug messages
    :param seed: Seed for the pseudo random generators
    :param device: Device (cpu, cuda, ...) on which the code should be run.
        Setting it to auto, the code will be run on the GPU if possible.
    :param _init_setup_model: Whether or not to build the network at the creation of the instance
    :raises TypeError: if an argument has the wrong type, or the policy or the action space is of the wrong kind
    :raises ValueError: if an argument is out of its range, or the action space is unbounded
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
    }
    policy_class_required: ClassVar[type] = SAVOPolicy
    policy: SAVOPolicy
    actor: ActorChain
    actor_target: ActorChain
    surrogates: Surrogates | None

    def __init__(
        self,
        policy: str | type[SAVOPolicy],
        env: GymEnv | str | None,
        learning_rate: float | Schedule = 3e-4,
        buffer_size: int = 500_000,
        learning_starts: int = 10_000,
        batch_size: int | None = None,
        tau: float = 0.005,
        gamma: float = 0.99,
        train_freq: int | tuple[int, str] = 1,
        gradient_steps: int = 1,
        n_actors: int = 3,
        surrogate: str | None = "approximate",
        summarizer: str = "deepset",
        modulation: str = "film",
        condition_on_previous: bool = True,
        joint_action: bool = False,
        init: str = "orthogonal",
        qf_learning_rate: float | Schedule | None = None,
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
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        _init_setup_model: bool = True,
    ):
        check_integer("n_actors", n_actors, low=1)
        check_choice("surrogate", surrogate, SURROGATES)
        check_choice("summarizer", summarizer, SUMMARIZERS)
        check_choice("modulation", modulation, MODULATIONS)
        check_choice("condition_on_previous", condition_on_previous, (True, False))
        check_choice("joint_action", joint_action, (True, False))
        check_choice("init", init, INITS)
        super().__init__(
            policy,
            env,
            learning_rate=learning_rate,
            qf_learning_rate=qf_learning_rate,
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
            policy_delay=policy_delay,
            target_policy_noise=target_policy_noise,
            target_noise_clip=target_noise_clip,
            max_grad_norm=max_grad_norm,
            exploration_noise=exploration_noise,
            exploration_noise_std=exploration_noise_std,
            exploration_noise_scale=exploration_noise_scale,
            selection_epsilon=selection_epsilon,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
        )
        self.n_actors = n_actors
        self.surrogate = surrogate
        self.summarizer = summarizer
        self.modulation = modulation
        self.condition_on_previous = condition_on_previous
        self.joint_action = joint_action
        self.init = init

        if _init_setup_model:
            self._setup_model()

    @property
    def n_candidates(self) -> int:
        return self.n_actors

    @property
    def learns_from_candidates(self) -> bool:
        return self.surrogate == "approximate" and self.n_actors > 1

    def _policy_arguments(self) -> dict[str, Any]:
        own = {
            "n_actors": self.n_actors,
            "surrogate": self.surrogate,
            "summarizer": self.summarizer,
            "modulation": self.modulation,
            "condition_on_previous": self.condition_on_previous,
            "joint_action": self.joint_action,
            "init": self.init,
        }
        for name in own.keys() & self.policy_kwargs.keys():
            raise ValueError(f"policy_kwargs holds {name!r}, which is an argument of the algorithm: SAVO({name}=…).")
        return {**super()._policy_arguments(), **own}

    def _create_aliases(self) -> None:
        super()._create_aliases()
        self.surrogates = self.policy.surrogates

    def train(self, gradient_steps: int, batch_size: int = 256) -> None:
        # Sample N transitions (s, a, {â_i}, r, s') from B
        for batch in self.batches(gradient_steps, batch_size):
            # Compute target action ã = μ_M(s'), update Q, Q_2 ← r + γ min{Q'(s', ã), Q_2'(s', ã)}
            critic_loss = self.critic_loss(batch)
            self.minimize(self.critic, critic_loss)

            # Update Ψ̂_i with Eq. 8
            if self.surrogates is not None:
                surrogate_loss = self.surrogate_loss(batch)
                self.minimize(self.surrogates, surrogate_loss)
                # §14.5: the surrogates' error as a share of the mean Bellman error of a critic
                self.record("surrogate_error_pct", 100 * surrogate_loss / (critic_loss / self.critic.n_critics))

            # Delayed policy updates
            if self.policy_is_due:
                # Update actor μ with Eq. 3 and actors ν_i with Eq. 9
                self.minimize(self.actor, self.actor_loss(batch))
                self.sync_targets()

    def surrogate_loss(self, batch: Batch) -> th.Tensor:
        """
        The surrogates' imitation of Ψ_i at the taken action and at the i-th stored proposal (Eq. 8), averaged over
        states, surrogates and both actions.

        :param batch: Transitions; without stored candidates, the current actors propose some
        :return: A scalar
        """
        assert self.surrogates is not None
        with th.no_grad():
            if isinstance(batch, CandidateReplayBufferSamples):
                candidates = batch.candidates
            else:
                candidates = self.actor(batch.observations)
            proposed = candidates[:, 1:]
            at = th.stack([batch.actions.unsqueeze(1).expand_as(proposed), proposed], dim=2).transpose(0, 1)
            q_values = self.min_q_values(batch.observations, th.cat([batch.actions.unsqueeze(1), candidates], dim=1))
            q_taken, q_candidates = q_values[:, :1], q_values[:, 1:]
            thresholds = anchor_thresholds(q_candidates)
            targets = th.stack([th.maximum(q_taken, thresholds), th.maximum(q_candidates[:, 1:], thresholds)], dim=2)
        psi = self.surrogates(batch.observations, candidates[:, :-1], at)
        loss = F.mse_loss(psi, targets.transpose(0, 1))
        self.record("surrogate_loss", loss)
        return loss

    def actor_loss(self, batch: Batch) -> th.Tensor:
        """
        Minus the first actor's Q (Eq. 3) and minus the later actors' surrogates (Eq. 9), averaged over states. Every actor
        has a gradient through its own action only: the anchors are constants.

        :param batch: Transitions, of which the observations are used
        :return: A scalar
        """
        obs = batch.observations
        anchors, proposals = self.actor.propose_detached(obs)
        if self.surrogates is not None:
            q_values = self.critic.q1(obs, proposals[:, :1])
            psi = self.surrogates(obs, anchors[:, :-1], proposals[:, 1:].transpose(0, 1).unsqueeze(2))
            objective = q_values.mean() + psi.mean(dim=(1, 2)).sum()
        elif self.surrogate == "exact" and self.n_actors > 1:
            q_values = self.critic.q1(obs, proposals[:, :1])
            thresholds = anchor_thresholds(self.min_q_values(obs, anchors).detach())
            psi = th.maximum(self.min_q_values(obs, proposals[:, 1:]), thresholds)
            objective = q_values.mean() + psi.mean(dim=0).sum()
        else:
            objective = self.critic.q1(obs, proposals).mean(dim=0).sum()
        self.record("actor_loss", -objective)
        return -objective

    def min_q_values(self, obs: Any, actions: th.Tensor) -> th.Tensor:
        """
        :param obs: Observations, (batch, ...)
        :param actions: Several actions per observation, (batch, n_actions, action_dim)
        :return: min(Q, Q_2), on which the surrogates are built ("twin critics for surrogates", §4.3); (batch, n_actions)
        """
        return self.critic.evaluate(obs, actions).amin(dim=0)

    def _update_learning_rates(self) -> None:
        super()._update_learning_rates()
        if self.surrogates is not None:
            update_learning_rate(self.surrogates.optimizer, self._current_qf_learning_rate())

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "surrogates"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        state_dicts, torch_variables = super()._get_torch_save_params()
        if self.surrogates is not None:
            state_dicts.append("surrogates.optimizer")
        return state_dicts, torch_variables


def anchor_thresholds(q_candidates: th.Tensor) -> th.Tensor:
    """
    :param q_candidates: Values of the candidates a_0 … a_{n-1}, (batch, n)
    :return: τ_i = max_{j<i} Q(s, a_j) for i = 1 … n - 1 (Eq. 7), (batch, n - 1)
    """
    return q_candidates.cummax(dim=1).values[:, :-1]
