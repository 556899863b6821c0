"""MultiStart's policy: gradient ascent from many points in place of an actor."""

from functools import partial
from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import CombinedExtractor, NatureCNN
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule

from sb3_savo.common.policies import pick
from sb3_savo.common.search import SearchPolicy, ascend


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
