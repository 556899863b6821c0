"""MultiStart: gradient ascent on Q from many points, a strong search to compare with where actions have few dimensions."""

from functools import partial
from typing import Any, ClassVar, Unpack

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import CombinedExtractor, NatureCNN
from stable_baselines3.common.type_aliases import GymEnv, PyTorchObs, Schedule

from sb3_savo.actions.candidates import ascend, nan_unless_finite, pick
from sb3_savo.arguments import MAX_SAMPLES, Check, check_integer, check_number
from sb3_savo.baselines.search import SearchAlgorithm, SearchPolicy
from sb3_savo.common.arguments import MaximizerArguments, SearchRange

# Of the arguments that the policy and its algorithm share
MULTISTART_CHECKS: dict[str, Check] = {
    "n_starts": partial(check_integer, low=1, high=MAX_SAMPLES),
    "n_ascent_steps": partial(check_integer, low=0, high=MAX_SAMPLES),
    "step_size": partial(check_number, above=True),
}


class MultiStartPolicy(SearchPolicy):
    """
    Policy class (with the critics) for MultiStart.

    :param observation_space: Observation space
    :param action_space: Action space, a ``Box`` or an :class:`EmbeddedDiscrete`
    :param lr_schedule: Learning rate schedule (could be constant)
    :param n_starts: Number of points
    :param n_ascent_steps: Steps from each
    :param step_size: Length of the first step
    :param kwargs: The arguments of all our policies, see :class:`MaximizerPolicy`
    """

    argument_checks: ClassVar[dict[str, Check]] = MULTISTART_CHECKS
    differentiates_to_act = True
    starts: th.Tensor

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        *,
        n_starts: int = 32,
        n_ascent_steps: int = 5,
        step_size: float = 0.1,
        **kwargs: Any,
    ):
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)
        self.n_starts = n_starts
        self.n_ascent_steps = n_ascent_steps
        self.step_size = step_size
        # The starts where proposals must not be random
        self.register_buffer("starts", th.empty(1, n_starts, self.action_dim).uniform_(-1, 1))
        self._build(lr_schedule)

    def find_action(self, obs: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        actions = self.starts.repeat(self.batch_size(obs), 1, 1)
        if not deterministic:
            actions.uniform_(-1, 1)
        q = partial(self.actor_objective, obs)
        ends = ascend(q, actions, self.n_ascent_steps, self.step_size)
        best_q_values, picked = q(ends).max(dim=1, keepdim=True)
        return nan_unless_finite(pick(ends, picked), best_q_values)


MlpPolicy = MultiStartPolicy


class CnnPolicy(MultiStartPolicy):
    """:class:`MultiStartPolicy` for image observations: features by ``NatureCNN``."""

    default_features_extractor_class = NatureCNN


class MultiInputPolicy(MultiStartPolicy):
    """:class:`MultiStartPolicy` for Dict observations: features by ``CombinedExtractor``."""

    default_features_extractor_class = CombinedExtractor


class MultiStart(SearchAlgorithm):
    """
    No actor: gradient ascent on Q from uniformly random actions, anew at every state; the best end point is taken.

    Steps are normalized, and their length falls linearly to zero.

    :param policy: The policy model to use (MlpPolicy, CnnPolicy, MultiInputPolicy)
    :param env: The environment to learn from (if registered in Gym, can be str)
    :param learning_rate: Learning rate, above 0, or a function of the current progress remaining (from 1 to 0)
    :param n_starts: Number of random actions, at least 1
    :param n_ascent_steps: Gradient steps from each, at least 0
    :param step_size: Length of the first step, in units of the action space scaled to [-1, 1], above 0
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
    argument_checks: ClassVar[dict[str, Check]] = MULTISTART_CHECKS
    search_space: ClassVar[dict[str, SearchRange]] = {
        "n_starts": (4, 64),
        "n_ascent_steps": (0, 10),
        "step_size": (0.01, 0.5, "log"),
    }
    policy: MultiStartPolicy

    def __init__(
        self,
        policy: str | type[MultiStartPolicy],
        env: GymEnv | str | None,
        learning_rate: float | Schedule = 3e-4,
        *,
        n_starts: int = 32,
        n_ascent_steps: int = 5,
        step_size: float = 0.1,
        _init_setup_model: bool = True,
        **kwargs: Unpack[MaximizerArguments],
    ):
        super().__init__(policy, env, learning_rate, **kwargs)
        self.n_starts = n_starts
        self.n_ascent_steps = n_ascent_steps
        self.step_size = step_size

        if _init_setup_model:
            self._setup_model()
