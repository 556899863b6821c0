"""Wolpertinger: the baseline "1-Actor, k samples" (paper, §6.1)."""

from typing import Any, ClassVar

from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv

from sb3_savo.common.checks import check_integer, check_number
from sb3_savo.common.maximizer import MaximizerAlgorithm
from sb3_savo.common.policies import MaximizerPolicy
from sb3_savo.wolpertinger.policies import CnnPolicy, MlpPolicy, MultiInputPolicy, WolpertingerPolicy


class Wolpertinger(MaximizerAlgorithm):
    """
    One actor that ascends Q; the best of some candidates near its proposal is taken (Dulac-Arnold et al., 2015).

    Exploration noise moves the actor's proposal, not each of the candidates around it.

    :param policy: The policy model to use (MlpPolicy, CnnPolicy, MultiInputPolicy)
    :param env: The environment to learn from (if registered in Gym, can be str)
    :param k: Number of candidates, at least 1: the actor's proposal and samples around it; in a discrete space the k items
        nearest to it
    :param sample_std: Standard deviation of the samples, in units of the action space scaled to [-1, 1]; 0.01 as the
        authors ran it, 0.1 is stronger
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
    policy_class_required: ClassVar[type[MaximizerPolicy]] = WolpertingerPolicy
    policy: WolpertingerPolicy

    def __init__(
        self,
        policy: str | type[WolpertingerPolicy],
        env: GymEnv | str | None,
        *,
        k: int = 3,
        sample_std: float = 0.01,
        _init_setup_model: bool = True,
        **kwargs: Any,
    ):
        check_integer("k", k, low=1)
        check_number("sample_std", sample_std)
        super().__init__(policy, env, **kwargs)
        self.k = k
        self.sample_std = sample_std

        if _init_setup_model:
            self._setup_model()

    @property
    def n_candidates(self) -> int:
        return self.k

    @property
    def n_ascending_q(self) -> int:
        return 1

    def _own_policy_arguments(self) -> dict[str, Any]:
        return {**super()._own_policy_arguments(), "k": self.k, "sample_std": self.sample_std}
