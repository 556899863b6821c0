"""Greedy-AC and Greedy TD3: baselines (paper, §6.1) that imitate the best samples of a proposal policy."""

from functools import partial
from typing import Any, ClassVar, Unpack

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import CombinedExtractor, NatureCNN
from stable_baselines3.common.type_aliases import GymEnv, PyTorchObs, Schedule

from sb3_savo.actions.candidates import perturb, take
from sb3_savo.arguments import MAX_SAMPLES, Check, check_flag, check_integer, check_number
from sb3_savo.common.actor_policy import ActorPolicy
from sb3_savo.common.arguments import MaximizerArguments, SearchRange
from sb3_savo.common.buffers import Batch
from sb3_savo.common.maximizer import LossAndMetrics, MaximizerAlgorithm
from sb3_savo.networks.squashed_gaussian import GaussianActors, log_prob, sample


class GreedyPolicy(ActorPolicy):
    """
    Policy class (with the actor, the proposal policy and the critics) for GreedyAC and GreedyTD3.

    :param observation_space: Observation space
    :param action_space: Action space, a ``Box`` or an :class:`EmbeddedDiscrete`
    :param lr_schedule: Learning rate schedule (could be constant)
    :param samples_actor: Whether to act by, and bootstrap from, samples of the actor's distribution, or its means
    :param kwargs: The arguments of all our policies with actors, see :class:`ActorPolicy`
    """

    argument_checks: ClassVar[dict[str, Check]] = {"samples_actor": check_flag}
    learner_names = (*ActorPolicy.learner_names, "proposal")
    actor_names = (*ActorPolicy.actor_names, "proposal")
    actor: GaussianActors
    actor_target: GaussianActors
    proposal: GaussianActors

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        *,
        samples_actor: bool = True,
        **kwargs: Any,
    ):
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)
        self.samples_actor = samples_actor
        self._build(lr_schedule)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        self.proposal = self.make_actor()
        self.proposal.optimizer = self.make_optimizer(self.proposal, lr_schedule)

    def make_actor(self) -> GaussianActors:
        return GaussianActors(**self._actor_arguments()).to(self.device)

    def propose(
        self,
        obs: PyTorchObs,
        deterministic: bool = False,
        noise: th.Tensor | None = None,
        masks: th.Tensor | None = None,
    ) -> th.Tensor:
        return perturb(self.act(self.actor, obs, deterministic), noise)

    def propose_targets(self, obs: PyTorchObs, masks: th.Tensor | None = None) -> th.Tensor:
        return self.act(self.actor_target, obs)

    def act(self, actor: GaussianActors, obs: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        """
        :param actor: The actor, or its target copy
        :param obs: Observations, (batch, ...)
        :param deterministic: Whether to take the mean in any case
        :return: Its action, (batch, 1, action_dim)
        """
        return sample(*actor.distribution(obs)).tanh() if self.samples_actor and not deterministic else actor(obs)


MlpPolicy = GreedyPolicy


class CnnPolicy(GreedyPolicy):
    """:class:`GreedyPolicy` for image observations: features by ``NatureCNN``."""

    default_features_extractor_class = NatureCNN


class MultiInputPolicy(GreedyPolicy):
    """:class:`GreedyPolicy` for Dict observations: features by ``CombinedExtractor``."""

    default_features_extractor_class = CombinedExtractor


class GreedyAC(MaximizerAlgorithm):
    """
    Greedy Actor-Critic (Neumann et al.): a proposal policy of high entropy samples actions. The actor and the proposal policy
    learn to make the samples with the highest Q more likely. It acts by, and bootstraps from, samples of the actor.

    Like the authors' code it has one critic (``policy_kwargs={"n_critics": …}`` for more) and no noise besides its samples.

    :param policy: The policy model to use (MlpPolicy, CnnPolicy, MultiInputPolicy)
    :param env: The environment to learn from (if registered in Gym, can be str)
    :param learning_rate: Learning rate, above 0, or a function of the current progress remaining (from 1 to 0)
    :param n_samples: Samples of the proposal policy per state, at least ``n_elites``
    :param n_elites: Number of best samples that are made more likely, at least 1; 3 of 30 are the top ρ = 0.1
    :param entropy_coef: Weight of the proposal policy's entropy, at least 0
    :param kwargs: The arguments of :class:`MaximizerAlgorithm`, by name
    :param _init_setup_model: Whether or not to build the network at the creation of the instance
    :raises TypeError: if an argument has the wrong type, or the policy or the action space is of the wrong kind
    :raises ValueError: if an argument is out of its range, or the action space is unbounded
    """

    explores_by_noise = False
    default_n_critics: ClassVar[int] = 1
    """Number of critics where ``policy_kwargs`` does not give one."""
    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
    }
    argument_checks: ClassVar[dict[str, Check]] = {
        "n_samples": partial(check_integer, low=1, high=MAX_SAMPLES),
        "n_elites": partial(check_integer, low=1, high=MAX_SAMPLES),
        "entropy_coef": check_number,
    }
    search_space: ClassVar[dict[str, SearchRange]] = {
        "n_samples": (10, 100),
        "n_elites": (1, 10),
        "entropy_coef": (1e-4, 0.1, "log"),
    }
    policy: GreedyPolicy

    def __init__(
        self,
        policy: str | type[GreedyPolicy],
        env: GymEnv | str | None,
        learning_rate: float | Schedule = 3e-4,
        *,
        n_samples: int = 30,
        n_elites: int = 3,
        entropy_coef: float = 0.01,
        _init_setup_model: bool = True,
        **kwargs: Unpack[MaximizerArguments],
    ):
        if not self.explores_by_noise:
            kwargs.setdefault("exploration_noise", None)
        super().__init__(policy, env, learning_rate, **kwargs)
        self.n_samples = n_samples
        self.n_elites = n_elites
        self.entropy_coef = entropy_coef

        if _init_setup_model:
            self._setup_model()

    @property
    def n_candidates(self) -> int:
        return 1

    def _setup_model(self) -> None:
        check_integer("n_samples", self.n_samples, low=self.n_elites)
        super()._setup_model()

    def _policy_arguments(self) -> dict[str, Any]:
        own = {"samples_actor": not self.explores_by_noise, "n_critics": self.default_n_critics}
        return {**own, **super()._policy_arguments()}

    def update_actors(self, batch: Batch) -> None:
        shape = (len(batch.rewards), self.n_samples, self.action_dim)
        draws = th.randn(shape, device=self.device)
        elites = self.best_samples(batch, draws)
        self.updater.step("actor", self.actor_loss, batch, elites)
        self.updater.step("proposal", self.proposal_loss, batch, draws, elites)

    @th.no_grad()
    def best_samples(self, batch: Batch, draws: th.Tensor) -> th.Tensor:
        """
        :param batch: Transitions, of which the observations are used
        :param draws: Standard normal draws, (batch, n_samples, action_dim)
        :return: The proposal policy's samples with the highest Q, or Q̂, before tanh; (batch, n_elites, action_dim)
        """
        mean, std = self.policy.proposal.distribution(batch.observations)
        samples = mean + std * draws
        q_values = self.policy.actor_objective(batch.observations, samples.tanh())
        return take(samples, q_values.topk(self.n_elites, dim=1).indices)

    def actor_loss(self, batch: Batch, elites: th.Tensor) -> LossAndMetrics:  # type: ignore[override]
        """
        Minus the actor's log-likelihood of the best samples, averaged over states and samples.

        :param batch: Transitions, of which the observations are used
        :param elites: The best samples before tanh, (batch, n_elites, action_dim)
        :return: A scalar, and no metrics
        """
        return -log_prob(*self.policy.actor.distribution(batch.observations), elites).mean(), {}

    def proposal_loss(self, batch: Batch, draws: th.Tensor, elites: th.Tensor) -> LossAndMetrics:
        """
        Minus the proposal policy's log-likelihood of the best samples, minus its entropy, as its samples estimate it.

        :param batch: Transitions, of which the observations are used
        :param draws: Standard normal draws, (batch, n_samples, action_dim)
        :param elites: The best samples before tanh, (batch, n_elites, action_dim)
        :return: A scalar, and the entropy
        """
        mean, std = self.policy.proposal.distribution(batch.observations)
        entropy = -log_prob(mean, std, mean + std * draws).mean()
        loss = -log_prob(mean, std, elites).mean() - self.entropy_coef * entropy
        return loss, {"proposal_entropy": entropy}


class GreedyTD3(GreedyAC):
    """
    Greedy-AC with TD3's exploration and update (paper, §6.1): it acts by, and bootstraps from, the actor's mean, with noise
    while collecting, and takes the minimum of twin critics.

    Its arguments are those of :class:`GreedyAC`.
    """

    explores_by_noise = True
    default_n_critics = 2
