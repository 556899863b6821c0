"""Ensemble: the baseline "k-Actors" (paper, §6.1)."""

from functools import partial
from typing import Any, ClassVar, Unpack

from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import CombinedExtractor, NatureCNN
from stable_baselines3.common.type_aliases import GymEnv, Schedule

from sb3_savo.arguments import MAX_NETWORKS, Check, check_integer
from sb3_savo.common.actor_policy import ActorPolicy
from sb3_savo.common.arguments import MaximizerArguments, SearchRange
from sb3_savo.common.maximizer import MaximizerAlgorithm
from sb3_savo.networks.actors import Actors

# Of the arguments that the policy and its algorithm share
ENSEMBLE_CHECKS: dict[str, Check] = {
    "n_actors": partial(check_integer, low=1, high=MAX_NETWORKS),
}


class EnsemblePolicy(ActorPolicy):
    """
    Policy class (with the actors and the critics) for Ensemble.

    :param observation_space: Observation space
    :param action_space: Action space, a ``Box`` or an :class:`EmbeddedDiscrete`
    :param lr_schedule: Learning rate schedule (could be constant)
    :param n_actors: Number of actors
    :param kwargs: The arguments of all our policies with actors, see :class:`ActorPolicy`
    """

    argument_checks: ClassVar[dict[str, Check]] = ENSEMBLE_CHECKS
    actor: Actors
    actor_target: Actors

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        *,
        n_actors: int = 3,
        **kwargs: Any,
    ):
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)
        self.n_actors = n_actors
        self._build(lr_schedule)

    def make_actor(self) -> Actors:
        return Actors(**self._actor_arguments(), n_actors=self.n_actors).to(self.device)


MlpPolicy = EnsemblePolicy


class CnnPolicy(EnsemblePolicy):
    """:class:`EnsemblePolicy` for image observations: features by ``NatureCNN``."""

    default_features_extractor_class = NatureCNN


class MultiInputPolicy(EnsemblePolicy):
    """:class:`EnsemblePolicy` for Dict observations: features by ``CombinedExtractor``."""

    default_features_extractor_class = CombinedExtractor


class Ensemble(MaximizerAlgorithm):
    """
    Several actors that do not see each other's actions and all ascend Q; the best of their proposals is taken.

    :param policy: The policy model to use (MlpPolicy, CnnPolicy, MultiInputPolicy)
    :param env: The environment to learn from (if registered in Gym, can be str)
    :param learning_rate: Learning rate, above 0, or a function of the current progress remaining (from 1 to 0)
    :param n_actors: Number of actors, at least 1
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
    argument_checks: ClassVar[dict[str, Check]] = ENSEMBLE_CHECKS
    search_space: ClassVar[dict[str, SearchRange]] = {"n_actors": (2, 10)}
    policy: EnsemblePolicy

    def __init__(
        self,
        policy: str | type[EnsemblePolicy],
        env: GymEnv | str | None,
        learning_rate: float | Schedule = 3e-4,
        *,
        n_actors: int = 3,
        _init_setup_model: bool = True,
        **kwargs: Unpack[MaximizerArguments],
    ):
        super().__init__(policy, env, learning_rate, **kwargs)
        self.n_actors = n_actors

        if _init_setup_model:
            self._setup_model()

    @property
    def n_candidates(self) -> int:
        return self.n_actors
