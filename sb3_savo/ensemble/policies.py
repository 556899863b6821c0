"""The ensemble's policy: independent actors."""

from typing import Any

from gymnasium import spaces
from stable_baselines3.common.torch_layers import CombinedExtractor, NatureCNN
from stable_baselines3.common.type_aliases import Schedule

from sb3_savo.common.actors import ActorPolicy, Actors


class EnsemblePolicy(ActorPolicy):
    """
    Policy class (with the actors and the critics) for Ensemble.

    :param observation_space: Observation space
    :param action_space: Action space, a ``Box`` or an :class:`EmbeddedDiscrete`
    :param lr_schedule: Learning rate schedule (could be constant)
    :param n_actors: Number of actors
    :param kwargs: What all our policies with actors take, see :class:`ActorPolicy`
    """

    actor: Actors
    actor_target: Actors

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        n_actors: int = 3,
        **kwargs: Any,
    ):
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)
        self.n_actors = n_actors
        self._build(lr_schedule)

    def make_actor(self) -> Actors:
        return Actors(**self._actor_arguments(), n_actors=self.n_actors).to(self.device)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "n_actors": self.n_actors}


MlpPolicy = EnsemblePolicy


class CnnPolicy(EnsemblePolicy):
    """:class:`EnsemblePolicy` for image observations: features by ``NatureCNN``."""

    default_features_extractor_class = NatureCNN


class MultiInputPolicy(EnsemblePolicy):
    """:class:`EnsemblePolicy` for Dict observations: features by ``CombinedExtractor``."""

    default_features_extractor_class = CombinedExtractor
