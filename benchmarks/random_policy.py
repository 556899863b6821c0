"""The random policy, with which the experiments in discrete spaces compare."""

from typing import Any

import numpy as np
from gymnasium import spaces


class RandomPolicy:
    """
    Draws every action uniformly.

    :param action_space: Space of the actions
    :param seed: Seed of the actions
    """

    def __init__(self, action_space: spaces.Discrete, seed: int = 0):
        self.n_actions = int(action_space.n)
        self.rng = np.random.default_rng(seed)

    def predict(self, observation: Any, state: Any = None, *args: Any, **kwargs: Any) -> tuple[np.ndarray, Any]:
        return self.rng.integers(self.n_actions, size=len(observation)), state
