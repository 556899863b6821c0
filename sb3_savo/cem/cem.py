"""CEM: the baseline "Evolutionary actor" (paper, §6.1)."""

from typing import Any, ClassVar

from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv

from sb3_savo.cem.policies import CEMPolicy, CnnPolicy, MlpPolicy, MultiInputPolicy
from sb3_savo.common.checks import check_integer
from sb3_savo.common.policies import MaximizerPolicy
from sb3_savo.common.search import SearchAlgorithm


class CEM(SearchAlgorithm):
    """
    No actor: the cross-entropy method maximizes Q anew at every state.

    The first iteration samples N(0, 1), every other N(mean, variance) of the best samples of the one before, which are
    weighted by log((n_elites + 1) / rank); tanh takes samples to actions. The best sample of the last iteration is taken.

    :param policy: The policy model to use (MlpPolicy, CnnPolicy, MultiInputPolicy)
    :param env: The environment to learn from (if registered in Gym, can be str)
    :param n_iterations: Number of iterations, at least 1
    :param n_samples: Samples per iteration, at least ``n_elites``
    :param n_elites: How many of them, the best, the next iteration samples around, at least 1
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
    policy_class_required: ClassVar[type[MaximizerPolicy]] = CEMPolicy
    policy: CEMPolicy

    def __init__(
        self,
        policy: str | type[CEMPolicy],
        env: GymEnv | str | None,
        *,
        n_iterations: int = 3,
        n_samples: int = 30,
        n_elites: int = 3,
        _init_setup_model: bool = True,
        **kwargs: Any,
    ):
        check_integer("n_iterations", n_iterations, low=1)
        check_integer("n_elites", n_elites, low=1)
        check_integer("n_samples", n_samples, low=n_elites)
        super().__init__(policy, env, **kwargs)
        self.n_iterations = n_iterations
        self.n_samples = n_samples
        self.n_elites = n_elites

        if _init_setup_model:
            self._setup_model()

    def _own_policy_arguments(self) -> dict[str, Any]:
        own = {"n_iterations": self.n_iterations, "n_samples": self.n_samples, "n_elites": self.n_elites}
        return {**super()._own_policy_arguments(), **own}
