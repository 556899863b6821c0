"""MultiStart: gradient ascent on Q from many points, the strong search to compare with where actions have few dimensions."""

from typing import Any, ClassVar

from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv

from sb3_savo.common.checks import check_integer, check_number
from sb3_savo.common.policies import MaximizerPolicy
from sb3_savo.common.search import SearchAlgorithm
from sb3_savo.multistart.policies import CnnPolicy, MlpPolicy, MultiInputPolicy, MultiStartPolicy


class MultiStart(SearchAlgorithm):
    """
    No actor: at every state some gradient steps on Q from uniformly random actions; the best of where they end is taken.

    Each step is of a given length, which falls linearly to zero, in the direction of the gradient.

    :param policy: The policy model to use (MlpPolicy, CnnPolicy, MultiInputPolicy)
    :param env: The environment to learn from (if registered in Gym, can be str)
    :param n_starts: Number of random actions, at least 1
    :param n_ascent_steps: Gradient steps from each, at least 0
    :param step_size: Length of the first of them, in units of the action space scaled to [-1, 1], above 0
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
    policy_class_required: ClassVar[type[MaximizerPolicy]] = MultiStartPolicy
    policy: MultiStartPolicy

    def __init__(
        self,
        policy: str | type[MultiStartPolicy],
        env: GymEnv | str | None,
        *,
        n_starts: int = 32,
        n_ascent_steps: int = 5,
        step_size: float = 0.1,
        _init_setup_model: bool = True,
        **kwargs: Any,
    ):
        check_integer("n_starts", n_starts, low=1)
        check_integer("n_ascent_steps", n_ascent_steps, low=0)
        check_number("step_size", step_size, above=True)
        super().__init__(policy, env, **kwargs)
        self.n_starts = n_starts
        self.n_ascent_steps = n_ascent_steps
        self.step_size = step_size

        if _init_setup_model:
            self._setup_model()

    def _own_policy_arguments(self) -> dict[str, Any]:
        own = {"n_starts": self.n_starts, "n_ascent_steps": self.n_ascent_steps, "step_size": self.step_size}
        return {**super()._own_policy_arguments(), **own}
