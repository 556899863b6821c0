"""SAVO on Soft Actor-Critic (paper, §17)."""

import math
from functools import partial
from typing import Any, ClassVar, Unpack

import torch as th
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from stable_baselines3.common.utils import polyak_update

from sb3_savo.arguments import Check, check_integer, check_number
from sb3_savo.common.arguments import MaximizerArguments, OffPolicyArguments, SearchRange
from sb3_savo.common.buffers import Batch
from sb3_savo.common.maximizer import LossAndMetrics, MaximizerAlgorithm, choice_metrics
from sb3_savo.networks.conditioning import Modulation, Summarizer
from sb3_savo.networks.squashed_gaussian import gaussian, log_prob
from sb3_savo.savo.policies import CHAIN_CHECKS
from sb3_savo.savosac.policies import CnnPolicy, MlpPolicy, MultiInputPolicy, SAVOSACPolicy


def check_ent_coef(name: str, value: Any) -> None:
    """
    :param name: The argument
    :param value: A number of at least 0, ``"auto"``, or e.g. ``"auto_0.1"``
    :raises TypeError: if it is neither a number nor a string
    :raises ValueError: if it is negative, or a string of another form
    """
    if not isinstance(value, str):
        check_number(name, value)
        return
    try:
        initial = 1.0 if value == "auto" else float(value.removeprefix("auto_"))
    except ValueError:
        initial = 0.0
    if not value.startswith("auto") or not 0 < initial < math.inf:
        raise ValueError(f"{name}={value!r} is not known: it must be a number, 'auto', or e.g. 'auto_0.1' (above 0).")


def check_target_entropy(name: str, value: Any) -> None:
    """
    :param name: The argument
    :param value: A number, or ``"auto"``
    :raises TypeError: if it is neither
    """
    if value != "auto":
        check_number(name, value, low=-math.inf)


def check_no_sde(name: str, value: Any) -> None:
    """
    :param name: The argument
    :param value: SB3's switch of state-dependent exploration
    :raises ValueError: if it is not False
    """
    if value is not False:
        raise ValueError(f"{name}={value!r} is not supported by SAVOSAC: it must be False.")


def initial_ent_coef(ent_coef: str | float) -> float:
    """
    :param ent_coef: The argument of SAVOSAC
    :return: The initial α
    """
    return 1.0 if ent_coef == "auto" else float(str(ent_coef).removeprefix("auto_"))


class SAVOSAC(MaximizerAlgorithm):
    """
    Soft Actor-Critic with successive stochastic actors (paper, §17). Each actor is conditioned on the earlier actions and
    maximizes the soft objective; the proposal with the highest soft Q is taken. There are no surrogates.

    Everything else is SB3's SAC; with ``n_actors=1`` the two agree value for value.

    :param policy: The policy model to use (MlpPolicy, CnnPolicy, MultiInputPolicy)
    :param env: The environment to learn from (if registered in Gym, can be str)
    :param learning_rate: Learning rate, above 0, or a function of the current progress remaining (from 1 to 0)
    :param n_actors: Number of actors, at least 1
    :param summarizer: How the earlier actions are summarized (§13.3): ``"deepset"``, ``"lstm"`` or ``"transformer"``
    :param modulation: How the summary enters a network (§13.4): ``"film"``, or ``"mlp"`` for concatenation to its input
    :param condition_on_previous: Whether actors see the earlier actions
    :param buffer_size: Size of the replay buffer, in transitions; at least ``batch_size`` if that is given
    :param learning_starts: How many steps to collect transitions for, with uniformly random actions, before learning
    :param ent_coef: Entropy regularization coefficient α, at least 0, or ``"auto"`` to learn it from 1 on, or e.g.
        ``"auto_0.1"`` from 0.1 on
    :param target_update_interval: Number of gradient steps per update of the target network
    :param target_entropy: The entropy that a learned α aims at; ``"auto"`` for minus the number of dimensions of the action
    :param max_grad_norm: Largest gradient norm of the actors, of the critics; None for no limit
    :param use_sde: Not supported: must be False
    :param kwargs: The arguments of :class:`MaximizerAlgorithm`, by name, without those that shape a deterministic actor's
        exploration and target, and without compilation
    :param _init_setup_model: Whether or not to build the network at the creation of the instance
    :raises TypeError: if an argument has the wrong type, or the policy or the action space is of the wrong kind
    :raises ValueError: if an argument is out of its range, or the action space is unbounded
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
    }
    takes_items: ClassVar[bool] = False
    argument_checks: ClassVar[dict[str, Check]] = {
        **{name: check for name, check in CHAIN_CHECKS.items() if name != "joint_action"},
        "ent_coef": check_ent_coef,
        "target_update_interval": partial(check_integer, low=1),
        "target_entropy": check_target_entropy,
        "use_sde": check_no_sde,
    }
    search_space: ClassVar[dict[str, SearchRange]] = {"n_actors": (2, 10)}
    # SAC explores and smooths by sampling its actors
    excluded_arguments = tuple(MaximizerArguments.__annotations__.keys() - OffPolicyArguments.__annotations__.keys())
    explores_by_noise = False
    critic_loss_scale = 0.5
    policy: SAVOSACPolicy

    def __init__(
        self,
        policy: str | type[SAVOSACPolicy],
        env: GymEnv | str | None,
        learning_rate: float | Schedule = 3e-4,
        *,
        n_actors: int = 3,
        summarizer: Summarizer = "deepset",
        modulation: Modulation = "film",
        condition_on_previous: bool = True,
        buffer_size: int = 1_000_000,
        learning_starts: int = 100,
        ent_coef: str | float = "auto",
        target_update_interval: int = 1,
        target_entropy: str | float = "auto",
        max_grad_norm: float | None = None,
        use_sde: bool = False,
        _init_setup_model: bool = True,
        **kwargs: Unpack[OffPolicyArguments],
    ):
        super().__init__(
            policy,
            env,
            learning_rate,
            buffer_size=buffer_size,
            learning_starts=learning_starts,
            max_grad_norm=max_grad_norm,
            exploration_noise=None,
            compile=False,
            **kwargs,  # type: ignore[misc]
        )
        self.n_actors = n_actors
        self.summarizer = summarizer
        self.modulation = modulation
        self.condition_on_previous = condition_on_previous
        self.ent_coef = ent_coef
        self.target_update_interval = target_update_interval
        self.target_entropy = target_entropy

        if _init_setup_model:
            self._setup_model()

    @property
    def n_candidates(self) -> int:
        return self.n_actors

    def _policy_arguments(self) -> dict[str, Any]:
        return {**super()._policy_arguments(), "ent_coef": initial_ent_coef(self.ent_coef)}

    def _setup_model(self) -> None:
        super()._setup_model()
        self.wanted_entropy = -float(self.action_dim) if self.target_entropy == "auto" else float(self.target_entropy)
        self.ent_coef_optimizer: th.optim.Adam | None = None
        if isinstance(self.ent_coef, str):
            # The log of the coefficient is optimized, as in SB3
            self.log_ent_coef = self.policy.ent_coef.log().requires_grad_(True)
            self.ent_coef_optimizer = th.optim.Adam([self.log_ent_coef], lr=self.lr_schedule(1))

    def train(self, gradient_steps: int, batch_size: int = 256) -> None:
        if self.ent_coef_optimizer is None:
            self.policy.ent_coef.fill_(initial_ent_coef(self.ent_coef))
        for batch in self.batches(gradient_steps, batch_size):
            # Actions of the current actors at the sampled states
            actions, log_probs = self.sample_actions(batch.observations)
            # Update α, before it is used below
            if self.ent_coef_optimizer is not None:
                self.update_ent_coef(log_probs.detach())
            # Update Q, Q_2 toward the soft value of the maximizer's choice at the next states
            self.update_critics(batch)
            # Update μ and the ν_i, which all maximize the soft objective
            self.updater.step("actor", self.actor_loss, batch, actions, log_probs)
            if (self._n_updates - 1) % self.target_update_interval == 0:
                self.sync_targets()
            self.updater.record("ent_coef", self.policy.ent_coef.mean())

    def sample_actions(self, obs: Any) -> tuple[th.Tensor, th.Tensor]:
        """
        :param obs: Observations, (batch, ...)
        :return: The actors' actions, each with a gradient to its own actor only, (batch, n_actors, action_dim), and the
            logarithms of their densities, (batch, n_actors)
        """
        draws = self.policy.draw(self.policy.batch_size(obs))
        mean, std = gaussian(self.policy.actor.propose_detached(obs, draws)[1])
        samples = mean + std * draws
        return samples.tanh(), log_prob(mean, std, samples)

    def sync_targets(self) -> None:
        """Move the target critics toward the online ones (Polyak)."""
        self.updater.sync_targets(self.tau)
        if self.policy.share_features_extractor:
            # The critic shares the actors' features extractor, but its target copy has an extractor of its own
            online, target = self.critic.features_extractor, self.critic_target.features_extractor
            polyak_update(online.parameters(), target.parameters(), self.tau)

    def update_ent_coef(self, log_probs: th.Tensor) -> None:
        """
        One step of α toward the target entropy of every actor.

        :param log_probs: Log densities of the actors' actions, without gradient, (batch, n_actors)
        """
        assert self.ent_coef_optimizer is not None
        # As in SB3, the coefficient of this gradient step is the one before its update
        self.policy.ent_coef.copy_(self.log_ent_coef.detach().exp())
        loss = -(self.log_ent_coef * (log_probs + self.wanted_entropy)).mean()
        self.ent_coef_optimizer.zero_grad()
        loss.backward()
        self.ent_coef_optimizer.step()
        self.updater.record("ent_coef_loss", loss)

    def target_q_values(self, batch: Batch) -> LossAndMetrics:
        """
        The soft Bellman target y = r + γ (min(Q', Q_2')(s', a') - α log π_i(a' | s'; a'_<i)), where the maximizer picks a', an
        action of actor i.

        :param batch: Transitions
        :return: Targets without gradient, (batch, 1), and metrics of the choice
        """
        discounts = batch.discounts if batch.discounts is not None else self.gamma
        next_obs = batch.next_observations
        with th.no_grad():
            actions, log_probs = self.sample_actions(next_obs)
            next_actions, picked, soft_values = self.policy.maximize(next_obs, actions)
            next_q_values = self.min_target_q_values(next_obs, next_actions)
            soft_next_q_values = next_q_values - self.policy.ent_coef * log_probs.gather(1, picked)
            targets = batch.rewards + (1 - batch.dones) * discounts * soft_next_q_values
            return targets, choice_metrics(picked, soft_values)

    def actor_loss(self, batch: Batch, actions: th.Tensor, log_probs: th.Tensor) -> LossAndMetrics:  # type: ignore[override]
        """
        α log π_i(a_i | s; a_<i) - min(Q, Q_2)(s, a_i), averaged over states and summed over actors.

        :param batch: Transitions, of which the observations are used
        :param actions: The actors' actions, (batch, n_actors, action_dim)
        :param log_probs: The logarithms of their densities, (batch, n_actors)
        :return: A scalar, and no metrics
        """
        return -self.policy.soft_values(batch.observations, actions, -log_probs).mean(dim=0).sum(), {}

    def _update_learning_rates(self) -> None:
        super()._update_learning_rates()
        if self.ent_coef_optimizer is not None:
            self._update_learning_rate(self.ent_coef_optimizer)

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        state_dicts, variables = super()._get_torch_save_params()
        if self.ent_coef_optimizer is None:
            return state_dicts, variables
        return [*state_dicts, "ent_coef_optimizer"], [*variables, "log_ent_coef"]
