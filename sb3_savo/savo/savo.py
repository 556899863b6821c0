"""SAVO: Successive Actors for Value Optimization."""

from functools import partial
from typing import Any, ClassVar, Unpack

import torch as th
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from torch.autograd.profiler import record_function
from torch.nn import functional as F

from sb3_savo.arguments import Check, check_choice, check_number
from sb3_savo.common.arguments import MaximizerArguments, SearchRange
from sb3_savo.common.buffers import Batch, CandidateStorage
from sb3_savo.common.maximizer import LossAndMetrics, MaximizerAlgorithm
from sb3_savo.networks.chain import ActorChain
from sb3_savo.networks.conditioning import Modulation, Summarizer
from sb3_savo.networks.stacked import Init
from sb3_savo.savo.memory import Known, first_objective, make_item_pool, make_pool, raised_thresholds, tilted
from sb3_savo.savo.policies import (
    CHAIN_CHECKS,
    LEARNED_SURROGATES,
    CnnPolicy,
    MlpPolicy,
    MultiInputPolicy,
    SAVOPolicy,
    Surrogate,
)
from sb3_savo.savo.surrogates import Surrogates

# tanh(2) is 0.96, and its slope there 0.07
TANH_LINEAR_RANGE = 2.0


class SAVO(MaximizerAlgorithm):
    """
    Successive Actors for Value Optimization (SAVO) on TD3: a chain of actors, each of which ascends a surrogate of Q that
    is flat below the actions already found; the true Q picks the best of their proposals.

    Paper: Mitigating Suboptimality of Deterministic Policy Gradients in Complex Q-functions
    (the equations, sections and Algorithm 1 that the code cites are this paper's).

    :param policy: The policy model to use (MlpPolicy, CnnPolicy, MultiInputPolicy)
    :param env: The environment to learn from (if registered in Gym, can be str)
    :param learning_rate: Learning rate, above 0, or a function of the current progress remaining (from 1 to 0)
    :param n_actors: Number of actors, at least 1; ``1`` is TD3 without target smoothing
    :param surrogate: The objective of the later actors. ``"memory"``: Ψ_i, which is flat below the anchors (Eq. 7), and where
        it is flat, the way to the nearest better action that a search at the stored transitions has found (see
        :meth:`search`); a hill is better only if it is above the middle between the anchors and the best action found. The
        first actor goes this way too where its action is below the middle between the worst and the best of the pool.
        ``"approximate"``: learned surrogates Ψ̂_i (Eq. 8 and 9), as in the paper. ``"exact"``: Ψ_i alone (the
        paper's "- Approximation"). ``"hybrid"``: Ψ_i where it is above the anchors, and Ψ̂_i where it is flat. None: Q, like
        the first actor.
    :param summarizer: How the earlier actions are summarized (§13.3): ``"deepset"``, ``"lstm"`` or ``"transformer"``
    :param modulation: How the summary enters a network (§13.4): ``"film"``, or ``"mlp"`` for concatenation to its input
    :param condition_on_previous: Whether actors and surrogates see the earlier actions (False: "- Previous Actions")
    :param joint_action: Let one actor propose all ``n_actors`` actions at once ("+ Joint Action")
    :param init: Initial weights of actors and surrogates (§14.7): ``"orthogonal"``, ``"xavier"``, ``"random"`` or ``"add"``
    :param saturation_penalty: Weight of a penalty on outputs of the later actors in the flat part of tanh, at least 0; the
        paper has none (0). Where a surrogate is flat, nothing else keeps an actor from drifting into a corner of the action
        space, where tanh has no gradient that leads back.
    :param kwargs: The arguments of :class:`MaximizerAlgorithm`, by name
    :param _init_setup_model: Whether or not to build the network at the creation of the instance
    :raises TypeError: if an argument has the wrong type, or the policy or the action space is of the wrong kind
    :raises ValueError: if an argument is out of its range, or the action space is unbounded
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
    }
    argument_checks: ClassVar[dict[str, Check]] = {
        **CHAIN_CHECKS,
        "surrogate": partial(check_choice, choices=Surrogate),
        "init": partial(check_choice, choices=Init),
        "saturation_penalty": check_number,
    }
    search_space: ClassVar[dict[str, SearchRange]] = {"n_actors": (2, 10)}
    policy: SAVOPolicy
    actor: ActorChain
    actor_target: ActorChain
    surrogates: Surrogates | None

    def __init__(
        self,
        policy: str | type[SAVOPolicy],
        env: GymEnv | str | None,
        learning_rate: float | Schedule = 3e-4,
        *,
        n_actors: int = 3,
        surrogate: Surrogate = "memory",
        summarizer: Summarizer = "deepset",
        modulation: Modulation = "film",
        condition_on_previous: bool = True,
        joint_action: bool = False,
        init: Init = "orthogonal",
        saturation_penalty: float = 0.0,
        _init_setup_model: bool = True,
        **kwargs: Unpack[MaximizerArguments],
    ):
        super().__init__(policy, env, learning_rate, **kwargs)
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
    def n_q_actors(self) -> int:
        return 1 if self.surrogate == "approximate" else self.n_actors

    @property
    def stores_candidates(self) -> bool:
        return super().stores_candidates or (self.surrogate in LEARNED_SURROGATES and self.n_actors > 1) or self.has_memory

    @property
    def has_memory(self) -> bool:
        return self.surrogate == "memory" and self.n_actors > 1

    @property
    def memory(self) -> CandidateStorage:
        """The replay buffer, where it keeps the known actions."""
        assert isinstance(self.replay_buffer, CandidateStorage)
        return self.replay_buffer

    def train(self, gradient_steps: int, batch_size: int = 256) -> None:
        # Sample N transitions (s, a, {â_i}, r, s') from B
        for batch in self.batches(gradient_steps, batch_size):
            # Compute target action ã = μ_M(s'), update Q, Q_2 ← r + γ min{Q'(s', ã), Q_2'(s', ã)}
            critic_loss = self.update_critics(batch)

            # Update Ψ̂_i with Eq. 8
            if self.surrogates is not None:
                surrogate_loss = self.updater.step("surrogates", self.surrogate_loss, batch)
                # §14.5: the surrogates' error as a share of the mean Bellman error of a critic
                bellman_error = critic_loss / self.critic.n_critics
                self.updater.record("surrogate_error_pct", 100 * surrogate_loss / bellman_error)

            # Delayed policy updates
            if self.policy_is_due:
                # Find better actions than the actors propose, and keep the best in B
                known = (self.search(batch),) if self.has_memory else ()
                # Update actor μ with Eq. 3 and actors ν_i with Eq. 9
                self.updater.step("actor", self.actor_loss, batch, *known)
                self.updater.sync_targets(self.tau)

    def surrogate_q_values(self, obs: Any, actions: th.Tensor) -> th.Tensor:
        """
        :param obs: Observations, (batch, ...)
        :param actions: Several actions per observation, (batch, n_actions, action_dim)
        :return: The Q that Ψ_i is made of (Eq. 7), see :attr:`SAVOPolicy.n_surrogate_critics`; (batch, n_actions)
        """
        return (self.critic.q1 if self.policy.n_surrogate_critics == 1 else self.min_q_values)(obs, actions)

    def surrogate_loss(self, batch: Batch) -> LossAndMetrics:
        """
        The surrogates' imitation of Ψ_i at the taken action and at the i-th stored proposal (Eq. 8), averaged over
        states, surrogates and both actions.

        :param batch: Transitions; without stored candidates, the current actors propose some
        :return: A scalar, and no metrics
        """
        assert self.surrogates is not None
        taken = batch.actions.unsqueeze(1)
        with th.no_grad():
            candidates, actions = self.proposals(batch)
            q_values = self.surrogate_q_values(batch.observations, th.cat([taken, actions], dim=1))
            q_taken, q_candidates = q_values[:, :1], q_values[:, 1:]
            thresholds = anchor_thresholds(q_candidates)
            # Ψ_i(s, a) and Ψ_i(s, â_i), (batch, n_actors - 1, 2)
            targets = th.stack([th.maximum(q_taken, thresholds), th.maximum(q_candidates[:, 1:], thresholds)], dim=2)
        anchors, proposed = candidates[:, :-1], candidates[:, 1:]
        psi = self.surrogates(batch.observations, anchors, th.stack([taken.expand_as(proposed), proposed], dim=2))
        return F.mse_loss(psi, targets), {}

    @record_function("search")
    @th.no_grad()
    def search(self, batch: Batch) -> Known:
        """
        Evaluate a few actions at the states of a batch: the actors' proposals, the known action of each transition, known
        actions of other transitions, and the ends of a few steps up Q from actions near the known one and from random ones.
        The best of them is the known action from now on. A buffer of the user's own keeps no known actions: there the taken
        action stands for the known one.

        :param batch: Transitions
        :return: What was evaluated
        """
        items, rows = self.policy.items, getattr(batch, "rows", None)
        if rows is not None:
            known = self.memory.recall(rows)
        else:
            known = batch.actions if items is None else items.nearest(batch.actions.unsqueeze(1)).flatten()
        proposals, proposed_items = self.policy.snap(self.actor(batch.observations))
        if items is None:
            pool = make_pool(known, partial(self.surrogate_q_values, batch.observations))
            choices = actions = th.cat([pool, proposals], dim=1)
        else:
            assert proposed_items is not None
            pool = make_item_pool(known, batch, items.n_items)
            actions = th.cat([items.embed(pool), proposals], dim=1)
            # Which items are allowed in this state is not stored, so with masks no proposal becomes known
            has_masks = getattr(batch, "next_action_masks", None) is not None
            choices = pool if has_masks else th.cat([pool, proposed_items], dim=1)
        q_values = self.surrogate_q_values(batch.observations, actions)
        if rows is not None:
            best = q_values[:, : choices.shape[1]].argmax(dim=1)
            self.memory.remember(rows, choices[th.arange(len(best), device=best.device), best])
        n_pool = pool.shape[1]
        return Known(actions[:, :n_pool], q_values[:, :n_pool], q_values[:, n_pool:])

    def actor_loss(self, batch: Batch, known: Known | None = None) -> LossAndMetrics:
        """
        Minus the first actor's Q (Eq. 3; with a memory, see :func:`first_objective`) and minus the later actors' surrogates
        (Eq. 9), averaged over states. Every actor has a gradient through its own action only: the anchors are constants.

        :param batch: Transitions, of which the observations are used
        :param known: With a memory, the result of :meth:`search`
        :return: A scalar, and the share of actor outputs in the flat part of tanh
        """
        obs = batch.observations
        anchors, pre_activations = self.actor.propose_detached(obs)
        proposals = pre_activations.tanh()
        if self.surrogate is None or self.n_actors == 1:
            objectives = self.policy.actor_objective(obs, proposals)
        else:
            q_values = self.policy.actor_objective(obs, proposals[:, :1])
            if known is not None:
                q_values = first_objective(q_values, proposals[:, :1], known)
            objectives = th.cat([q_values, self.surrogate_values(obs, anchors, proposals, known)], dim=1)
        loss = -objectives.mean(dim=0).sum()
        if self.saturation_penalty > 0 and self.n_actors > 1:
            loss = loss + self.saturation_penalty * saturation(pre_activations[:, 1:])
        return loss, {"saturated_share": (pre_activations.abs() > TANH_LINEAR_RANGE).float().mean()}

    def surrogate_values(self, obs: Any, anchors: th.Tensor, proposals: th.Tensor, known: Known | None = None) -> th.Tensor:
        """
        :param obs: Observations, (batch, ...)
        :param anchors: All actors' proposals as constants, (batch, n_actors, action_dim)
        :param proposals: The proposals with their gradients, (batch, n_actors, action_dim)
        :param known: With a memory, the result of :meth:`search`
        :return: Each later actor's objective at its proposal, (batch, n_actors - 1)
        """
        if self.surrogates is not None:
            learned = self.surrogates(obs, anchors[:, :-1], proposals[:, 1:].unsqueeze(2)).squeeze(2)
            if self.surrogate == "approximate":
                return learned
        if self.smooth_critic is None and self.policy.items is None:
            # One evaluation for both, so that rounding cannot place a proposal above an anchor that it equals
            q_values = self.surrogate_q_values(obs, proposals)
            thresholds = anchor_thresholds(q_values.detach())
        else:
            q_values = (self.surrogate_q_values if self.smooth_critic is None else self.policy.actor_objective)(obs, proposals)
            if known is None:
                q_anchors = self.surrogate_q_values(obs, self.policy.snap(anchors)[0]).detach()
            else:
                q_anchors = known.proposal_q_values
            thresholds = anchor_thresholds(q_anchors)
        flat = thresholds
        if self.surrogate == "hybrid":
            flat = learned
        elif known is not None:
            thresholds = raised_thresholds(thresholds, known)
            flat = tilted(thresholds, proposals[:, 1:], known)
        q_values = q_values[:, 1:]
        return th.where(q_values > thresholds, q_values, flat)


def anchor_thresholds(q_candidates: th.Tensor) -> th.Tensor:
    """
    :param q_candidates: Values of the candidates a_0 … a_{n-1}, (batch, n)
    :return: τ_i = max_{j<i} Q(s, a_j) for i = 1 … n - 1 (Eq. 7), (batch, n - 1)
    """
    return q_candidates.cummax(dim=1).values[:, :-1]


def saturation(pre_activations: th.Tensor) -> th.Tensor:
    """
    :param pre_activations: Proposals before tanh, (batch, n, action_dim)
    :return: The squared excess over ``TANH_LINEAR_RANGE``, summed over actors and dimensions, averaged over states
    """
    return (pre_activations.abs() - TANH_LINEAR_RANGE).relu().square().sum(dim=(1, 2)).mean()
