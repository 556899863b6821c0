"""SAVO: Successive Actors for Value Optimization."""

from typing import Any, ClassVar

import torch as th
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv
from torch.nn import functional as F

from sb3_savo.arguments import check_choice, check_integer, check_number
from sb3_savo.common.maximizer import Batch, MaximizerAlgorithm
from sb3_savo.common.policies import MaximizerPolicy
from sb3_savo.networks.chain import ActorChain
from sb3_savo.networks.conditioning import MODULATIONS, SUMMARIZERS
from sb3_savo.networks.stacked import INITS
from sb3_savo.savo.policies import (
    LEARNED_SURROGATES,
    CnnPolicy,
    MlpPolicy,
    MultiInputPolicy,
    SAVOPolicy,
)
from sb3_savo.savo.surrogates import Surrogates

# tanh(2) is 0.96, and its slope there 0.07
LIVE_RANGE = 2.0

SURROGATES = ("approximate", "exact", "hybrid", None)


class SAVO(MaximizerAlgorithm):
    """
    Successive Actors for Value Optimization (SAVO) on TD3: a chain of actors, each of which ascends a surrogate of Q that
    is flat below the actions already found; the true Q picks the best of their proposals.

    Paper: Mitigating Suboptimality of Deterministic Policy Gradients in Complex Q-functions
    (the equations, sections and Algorithm 1 that the code cites are this paper's).

    :param policy: The policy model to use (MlpPolicy, CnnPolicy, MultiInputPolicy)
    :param env: The environment to learn from (if registered in Gym, can be str)
    :param n_actors: Number of actors, at least 1; ``1`` is TD3 without target smoothing
    :param surrogate: What the later actors ascend: ``"approximate"``: learned surrogates Ψ̂_i (Eq. 8 and 9);
        ``"exact"``: Ψ_i itself, which is flat below the anchors (Eq. 7; the paper's "- Approximation"); ``"hybrid"``: Ψ_i
        where it is above them, and Ψ̂_i where it is flat, the best in ``benchmarks.landscapes``; None: Q, like the first actor
    :param summarizer: How the earlier actions are summarized (§13.3): ``"deepset"``, ``"lstm"`` or ``"transformer"``
    :param modulation: How the summary enters a network (§13.4): ``"film"``, or ``"mlp"`` for concatenation to its input
    :param condition_on_previous: Whether actors and surrogates see the earlier actions (False: "- Previous Actions")
    :param joint_action: Let one actor propose all ``n_actors`` actions at once ("+ Joint Action")
    :param init: Initial weights of actors and surrogates (§14.7): ``"orthogonal"``, ``"xavier"``, ``"random"`` or ``"add"``
    :param saturation_penalty: Weight in the actors' loss of how far the later actors' outputs are beyond the live range of
        tanh, at least 0; 0 is the paper's. Where a surrogate is flat, nothing else holds an actor back from drifting into
        a corner of the action space, from which no gradient leads back.
    :param kwargs: What all our algorithms take, by name, see :class:`MaximizerAlgorithm`: SB3's ``learning_rate``,
        ``buffer_size``, ``learning_starts``, ``batch_size``, ``tau``, ``gamma``, ``train_freq``, ``gradient_steps``,
        ``action_noise``, ``replay_buffer_class``, ``replay_buffer_kwargs``, ``optimize_memory_usage``, ``n_steps``,
        ``policy_delay``, ``target_policy_noise`` ("+ Action Smoothing"), ``target_noise_clip``, ``stats_window_size``,
        ``tensorboard_log``, ``policy_kwargs`` (see :class:`SAVOPolicy`), ``verbose``, ``seed``, ``device``; and
        ``qf_learning_rate`` (of critics and surrogates), ``max_grad_norm``, ``exploration_noise``,
        ``exploration_noise_std``, ``exploration_noise_scale``, ``selection_epsilon``, ``q_smoothing``, ``nearest``
    :param _init_setup_model: Whether or not to build the network at the creation of the instance
    :raises TypeError: if an argument has the wrong type, or the policy or the action space is of the wrong kind
    :raises ValueError: if an argument is out of its range, or the action space is unbounded
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
    }
    policy_class_required: ClassVar[type[MaximizerPolicy]] = SAVOPolicy
    policy: SAVOPolicy
    actor: ActorChain
    actor_target: ActorChain
    surrogates: Surrogates | None

    def __init__(
        self,
        policy: str | type[SAVOPolicy],
        env: GymEnv | str | None,
        *,
        n_actors: int = 3,
        surrogate: str | None = "approximate",
        summarizer: str = "deepset",
        modulation: str = "film",
        condition_on_previous: bool = True,
        joint_action: bool = False,
        init: str = "orthogonal",
        saturation_penalty: float = 0.0,
        _init_setup_model: bool = True,
        **kwargs: Any,
    ):
        check_integer("n_actors", n_actors, low=1)
        check_choice("surrogate", surrogate, SURROGATES)
        check_choice("summarizer", summarizer, SUMMARIZERS)
        check_choice("modulation", modulation, MODULATIONS)
        check_choice("condition_on_previous", condition_on_previous, (True, False))
        check_choice("joint_action", joint_action, (True, False))
        check_choice("init", init, INITS)
        check_number("saturation_penalty", saturation_penalty)
        super().__init__(policy, env, **kwargs)
        self.n_actors = n_actors
        self.surrogate = surrogate
        self.summarizer = summarizer
        self.modulation = modulation
        self.condition_on_previous = condition_on_previous
        self.joint_action = joint_action
        self.init = init
        self.saturation_penalty = saturation_penalty

        if _init_setup_model:
            self._setup_model()

    @property
    def n_candidates(self) -> int:
        return self.n_actors

    @property
    def n_ascending_q(self) -> int:
        return 1 if self.surrogate == "approximate" else self.n_actors

    @property
    def learns_from_candidates(self) -> bool:
        return super().learns_from_candidates or (self.surrogate in LEARNED_SURROGATES and self.n_actors > 1)

    def _own_policy_arguments(self) -> dict[str, Any]:
        return {
            **super()._own_policy_arguments(),
            "n_actors": self.n_actors,
            "surrogate": self.surrogate,
            "summarizer": self.summarizer,
            "modulation": self.modulation,
            "condition_on_previous": self.condition_on_previous,
            "joint_action": self.joint_action,
            "init": self.init,
        }

    def train(self, gradient_steps: int, batch_size: int = 256) -> None:
        # Sample N transitions (s, a, {â_i}, r, s') from B
        for batch in self.batches(gradient_steps, batch_size):
            # Compute target action ã = μ_M(s'), update Q, Q_2 ← r + γ min{Q'(s', ã), Q_2'(s', ã)}
            critic_loss = self.update_critics(batch)

            # Update Ψ̂_i with Eq. 8
            if self.surrogates is not None:
                surrogate_loss = self.descend("surrogates", self.surrogate_loss, batch)
                # §14.5: the surrogates' error as a share of the mean Bellman error of a critic
                self.record("surrogate_error_pct", 100 * surrogate_loss / (critic_loss / self.critic.n_critics))

            # Delayed policy updates
            if self.policy_is_due:
                # Update actor μ with Eq. 3 and actors ν_i with Eq. 9
                self.descend("actor", self.actor_loss, batch)
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
            candidates, actions = self.proposed(batch)
            proposed = candidates[:, 1:].transpose(0, 1)
            at = th.stack([batch.actions.expand_as(proposed), proposed], dim=1)
            q_values = self.min_q_values(batch.observations, th.cat([batch.actions.unsqueeze(1), actions], dim=1))
            q_taken, q_candidates = q_values[:, :1], q_values[:, 1:]
            thresholds = anchor_thresholds(q_candidates)
            targets = th.stack([th.maximum(q_taken, thresholds).T, th.maximum(q_candidates[:, 1:], thresholds).T], dim=1)
        psi = self.surrogates(batch.observations, candidates[:, :-1], at)
        loss = F.mse_loss(psi, targets)
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
        anchors, pre_activations = self.actor.propose_detached(obs)
        proposals = pre_activations.tanh()
        if self.surrogate is None or self.n_actors == 1:
            ascended = self.policy.ascended_q(obs, proposals)
        else:
            q_values = self.policy.ascended_q(obs, proposals[:, :1])
            ascended = th.cat([q_values, self.ascended_surrogates(obs, anchors, proposals)], dim=1)
        loss = -ascended.mean(dim=0).sum()
        if self.saturation_penalty > 0 and self.n_actors > 1:
            loss += self.saturation_penalty * saturation(pre_activations[:, 1:])
        self.record("actor_loss", loss)
        self.record("saturated_share", (pre_activations.abs() > LIVE_RANGE).float().mean())
        return loss

    def ascended_surrogates(self, obs: Any, anchors: th.Tensor, proposals: th.Tensor) -> th.Tensor:
        """
        :param obs: Observations, (batch, ...)
        :param anchors: All actors' proposals as constants, (batch, n_actors, action_dim)
        :param proposals: The same with their gradients
        :return: What each later actor ascends at its proposal, (batch, n_actors - 1)
        """
        if self.surrogates is not None:
            learned = self.surrogates(obs, anchors[:, :-1], proposals[:, 1:].transpose(0, 1).unsqueeze(1)).squeeze(1).T
            if self.surrogate == "approximate":
                return learned
        if self.smooth_critic is None and self.policy.items is None:
            # One evaluation for both, so that a proposal equal to an anchor is not above it by rounding
            q_values = self.min_q_values(obs, proposals)
            thresholds = anchor_thresholds(q_values.detach())
        else:
            q_values = (self.min_q_values if self.smooth_critic is None else self.policy.ascended_q)(obs, proposals)
            thresholds = anchor_thresholds(self.min_q_values(obs, self.policy.snap(anchors)[0]).detach())
        flat = thresholds if self.surrogate == "exact" else learned
        return th.where(q_values[:, 1:] > thresholds, q_values[:, 1:], flat)


def anchor_thresholds(q_candidates: th.Tensor) -> th.Tensor:
    """
    :param q_candidates: Values of the candidates a_0 … a_{n-1}, (batch, n)
    :return: τ_i = max_{j<i} Q(s, a_j) for i = 1 … n - 1 (Eq. 7), (batch, n - 1)
    """
    return q_candidates.cummax(dim=1).values[:, :-1]


def saturation(pre_activations: th.Tensor) -> th.Tensor:
    """
    :param pre_activations: What proposals are the tanh of, (batch, n, action_dim)
    :return: Sum over actors and dimensions, averaged over states, of the square of what is beyond the live range
    """
    return (pre_activations.abs() - LIVE_RANGE).relu().square().sum(dim=(1, 2)).mean()
