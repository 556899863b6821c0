"""Ensemble: the baseline "k-Actors" (paper, §6.1)."""

from typing import Any, ClassVar

from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv

from sb3_savo.common.checks import check_integer
from sb3_savo.common.maximizer import MaximizerAlgorithm
from sb3_savo.common.policies import MaximizerPolicy
from sb3_savo.ensemble.policies import CnnPolicy, EnsemblePolicy, MlpPolicy, MultiInputPolicy


class Ensemble(MaximizerAlgorithm):
    """
    Several actors that know nothing of one another and all ascend Q; the best of their proposals is taken.

    :param policy: The policy model to use (MlpPolicy, CnnPolicy, MultiInputPolicy)
    :param env: The environment to learn from (if registered in Gym, can be str)
    :param n_actors: Number of actors, at least 1
    :param kwargs: What all our algorithms take, by name, see :class:`MaximizerAlgorithm`
    :param _init_setup_model: Whether or not to build the network at the creation of the instance
    :raises TypeError: if an argument has the wrong type, or the policy or the action space is of the wrong kind
    :raises ValueError: if an argument is out of its range, or the action space is unbounded
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
    }
    policy_class_required: ClassVar[type[MaximizerPolicy]] = EnsemblePolicy
    policy: EnsemblePolicy

    def __init__(
        self,
        policy: str | type[EnsemblePolicy],
        env: GymEnv | str | None,
        *,
        n_actors: int = 3,
        _init_setup_model: bool = True,
        **kwargs: Any,
    ):
        check_integer("n_actors", n_actors, low=1)
        super().__init__(policy, env, **kwargs)
        self.n_actors = n_actors

        if _init_setup_model:
            self._setup_model()

    @property
    def n_candidates(self) -> int:
        return self.n_actors

    def _own_policy_arguments(self) -> dict[str, Any]:
        return {**super()._own_policy_arguments(), "n_actors": self.n_actors}
