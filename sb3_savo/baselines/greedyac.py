"""Greedy-AC and Greedy TD3: baselines (paper, §6.1) that imitate the best samples of a proposal policy."""

from typing import Any, ClassVar

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import CombinedExtractor, NatureCNN
from stable_baselines3.common.type_aliases import GymEnv, PyTorchObs, Schedule

from sb3_savo.actions.candidates import perturb, take
from sb3_savo.arguments import check_integer, check_number
from sb3_savo.common.maximizer import Batch, MaximizerAlgorithm
from sb3_savo.common.policies import ActorPolicy, MaximizerPolicy
from sb3_savo.networks.squashed_gaussian import GaussianActors, log_prob, sample


class GreedyPolicy(ActorPolicy):
    """
    Policy class (with the actor, the proposal policy and the critics) for GreedyAC and GreedyTD3.

    :param observation_space: Observation space
    :param action_space: Action space, a ``Box`` or an :class:`EmbeddedDiscrete`
    :param lr_schedule: Learning rate schedule (could be constant)
    :param samples_actor: Whether to act by, and bootstrap from, a sample of the actor's distribution, or its mean
    :param kwargs: What all our policies with actors take, see :class:`ActorPolicy`
    """

    learner_names = (*ActorPolicy.learner_names, "proposal")
    actor: GaussianActors
    actor_target: GaussianActors
    proposal: GaussianActors

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
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

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "samples_actor": self.samples_actor}


MlpPolicy = GreedyPolicy


class CnnPolicy(GreedyPolicy):
    """:class:`GreedyPolicy` for image observations: features by ``NatureCNN``."""

    default_features_extractor_class = NatureCNN


class MultiInputPolicy(GreedyPolicy):
    """:class:`GreedyPolicy` for Dict observations: features by ``CombinedExtractor``."""

    default_features_extractor_class = CombinedExtractor


class GreedyAC(MaximizerAlgorithm):
    """
    Greedy Actor-Critic (Neumann et al.): a proposal policy of high entropy samples actions; the actor, and the proposal
    policy itself, learn to make the best of them by Q more likely. It acts by, and bootstraps from, samples of the actor.

    Like its authors' it has one critic (``policy_kwargs={"n_critics": …}`` for more) and no noise besides its samples.

    :param policy: The policy model to use (MlpPolicy, CnnPolicy, MultiInputPolicy)
    :param env: The environment to learn from (if registered in Gym, can be str)
    :param n_samples: Samples of the proposal policy per state, at least ``n_elites``
    :param n_elites: How many of them, the best, are made more likely, at least 1 (3 of 30 are the top ρ = 0.1)
    :param entropy_coef: Weight of the proposal policy's entropy, at least 0
    :param kwargs: What all our algorithms take, by name, see :class:`MaximizerAlgorithm`
    :param _init_setup_model: Whether or not to build the network at the creation of the instance
    :raises TypeError: if an argument has the wrong type, or the policy or the action space is of the wrong kind
    :raises ValueError: if an argument is out of its range, or the action space is unbounded
    """

    samples_actor: ClassVar[bool] = True
    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
    }
    policy_class_required: ClassVar[type[MaximizerPolicy]] = GreedyPolicy
    policy: GreedyPolicy

    def __init__(
        self,
        policy: str | type[GreedyPolicy],
        env: GymEnv | str | None,
        *,
        n_samples: int = 30,
        n_elites: int = 3,
        entropy_coef: float = 0.01,
        _init_setup_model: bool = True,
        **kwargs: Any,
    ):
        check_integer("n_elites", n_elites, low=1)
        check_integer("n_samples", n_samples, low=n_elites)
        check_number("entropy_coef", entropy_coef)
        if self.samples_actor:
            kwargs.setdefault("exploration_noise", None)
        super().__init__(policy, env, **kwargs)
        self.n_samples = n_samples
        self.n_elites = n_elites
        self.entropy_coef = entropy_coef

        if _init_setup_model:
            self._setup_model()

    @property
    def n_candidates(self) -> int:
        return 1

    def _own_policy_arguments(self) -> dict[str, Any]:
        return {**super()._own_policy_arguments(), "samples_actor": self.samples_actor}

    def _policy_arguments(self) -> dict[str, Any]:
        return {"n_critics": 1 if self.samples_actor else 2, **super()._policy_arguments()}

    def update_actors(self, batch: Batch) -> None:
        obs = batch.observations
        proposed = self.policy.proposal.distribution(obs)
        samples = sample(*(parameter.expand(-1, self.n_samples, -1) for parameter in proposed))
        elites = self.best_of(obs, samples.detach())
        self.minimize(self.policy.actor, self.actor_loss(batch, elites))
        self.minimize(self.policy.proposal, self.proposal_loss(proposed, samples, elites))

    def best_of(self, obs: Any, samples: th.Tensor) -> th.Tensor:
        """
        :param obs: Observations, (batch, ...)
        :param samples: Before tanh, (batch, n_samples, action_dim)
        :return: Those of the highest Q, or Q̂; (batch, n_elites, action_dim)
        """
        with th.no_grad():
            ranking = self.policy.ascended_q(obs, samples.tanh()).topk(self.n_elites, dim=1).indices
        return take(samples, ranking)

    def actor_loss(self, batch: Batch, elites: th.Tensor) -> th.Tensor:  # type: ignore[override]
        """
        Minus the actor's log-likelihood of the best samples, averaged over states and samples.

        :param batch: Transitions, of which the observations are used
        :param elites: Before tanh, (batch, n_elites, action_dim)
        :return: A scalar
        """
        loss = -log_prob(*self.policy.actor.distribution(batch.observations), elites).mean()
        self.record("actor_loss", loss)
        return loss

    def proposal_loss(self, proposed: tuple[th.Tensor, th.Tensor], samples: th.Tensor, elites: th.Tensor) -> th.Tensor:
        """
        The same for the proposal policy, minus its entropy, as its samples estimate it.

        :param proposed: The proposal policy's means and standard deviations, (batch, 1, action_dim) each
        :param samples: Its samples before tanh, with their gradient, (batch, n_samples, action_dim)
        :param elites: The best of them, (batch, n_elites, action_dim)
        :return: A scalar
        """
        entropy = -log_prob(*proposed, samples).mean()
        loss = -log_prob(*proposed, elites).mean() - self.entropy_coef * entropy
        self.record("proposal_loss", loss)
        self.record("proposal_entropy", entropy)
        return loss


class GreedyTD3(GreedyAC):
    """
    Greedy-AC with TD3's exploration and update (paper, §6.1): it acts by, and bootstraps from, the actor's mean, with noise
    while collecting, and takes the minimum of twin critics.

    Its arguments are those of :class:`GreedyAC`.
    """

    samples_actor = False
