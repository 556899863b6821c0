"""MultiStart: gradient ascent on Q from many points, the strong search to compare with where actions have few dimensions."""

from functools import partial
from typing import Any, ClassVar

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import CombinedExtractor, NatureCNN
from stable_baselines3.common.type_aliases import GymEnv, PyTorchObs, Schedule

from sb3_savo.actions.candidates import ascend, pick
from sb3_savo.arguments import check_integer, check_number
from sb3_savo.baselines.search import SearchAlgorithm, SearchPolicy
from sb3_savo.common.policies import MaximizerPolicy


class MultiStartPolicy(SearchPolicy):
    """
    Policy class (with the critics) for MultiStart.

    :param observation_space: Observation space
    :param action_space: Action space, a ``Box`` or an :class:`EmbeddedDiscrete`
    :param lr_schedule: Learning rate schedule (could be constant)
    :param n_starts: Number of points
    :param n_ascent_steps: Steps from each
    :param step_size: Length of the first of them
    :param kwargs: What all our policies take, see :class:`MaximizerPolicy`
    """

    starts: th.Tensor

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        n_starts: int = 32,
        n_ascent_steps: int = 5,
        step_size: float = 0.1,
        **kwargs: Any,
    ):
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)
        self.n_starts = n_starts
        self.n_ascent_steps = n_ascent_steps
        self.step_size = step_size
        # What stands in for the starts where they may not be random
        self.register_buffer("starts", th.empty(1, n_starts, self.action_dim).uniform_(-1, 1))
        self._build(lr_schedule)

    def search(self, obs: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        actions = self.starts.repeat(self.batch_size(obs), 1, 1)
        if not deterministic:
            actions.uniform_(-1, 1)
        q = partial(self.ascended_q, obs)
        ends = ascend(q, actions, self.n_ascent_steps, self.step_size)
        return pick(ends, q(ends).argmax(dim=1, keepdim=True))

    def _get_constructor_parameters(self) -> dict[str, Any]:
        own = {"n_starts": self.n_starts, "n_ascent_steps": self.n_ascent_steps, "step_size": self.step_size}
        return {**super()._get_constructor_parameters(), **own}


MlpPolicy = MultiStartPolicy


class CnnPolicy(MultiStartPolicy):
    """:class:`MultiStartPolicy` for image observations: features by ``NatureCNN``."""

    default_features_extractor_class = NatureCNN


class MultiInputPolicy(MultiStartPolicy):
    """:class:`MultiStartPolicy` for Dict observations: features by ``CombinedExtractor``."""

    default_features_extractor_class = CombinedExtractor


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
