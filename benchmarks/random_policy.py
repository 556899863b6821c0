"""The random policy, with which experiments compare."""

from typing import Any

import numpy as np
from gymnasium import spaces


class RandomPolicy:
    """
    Draws every action uniformly.

    :param action_space: Space of the actions: a ``Discrete``, or a bounded ``Box``
    :param seed: Seed of the actions
    """

    def __init__(self, action_space: spaces.Space, seed: int = 0):
        assert isinstance(action_space, (spaces.Discrete, spaces.Box))
        self.action_space = action_space
        self.rng = np.random.default_rng(seed)

    def predict(self, observation: Any, state: Any = None, *args: Any, **kwargs: Any) -> tuple[np.ndarray, Any]:
        space, n = self.action_space, len(observation)
        if isinstance(space, spaces.Discrete):
            return self.rng.integers(space.n, size=n), state
        return self.rng.uniform(space.low, space.high, (n, *space.shape)).astype(space.dtype), state
