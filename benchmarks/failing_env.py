"""A small environment that fails once, in a way and at a time that are given."""

import math
import os
import signal
import time
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from sb3_savo import EmbeddedDiscrete

EPISODE_STEPS = 25
OBSERVATION_DIM = 3
N_ITEMS = 20
# Far beyond every timeout
HANG_SECONDS = 3600

# How the environment fails, and what the error says of it; {worker} is the number of the environment
KINDS = {
    "raise_in_step": r"The environment in worker {worker} raised an error:(.|\n)*RuntimeError: the step is broken",
    "raise_in_reset": r"The environment in worker {worker} raised an error:(.|\n)*RuntimeError: the reset is broken",
    "nan_observation": r"^observation .*is nan in environment {worker} at step \d+",
    "inf_observation": r"^observation .*is inf in environment {worker} at step \d+",
    "nan_last_observation": r"^terminal observation of environment {worker} at step \d+.* is nan",
    "nan_reset": r"^observation .*is nan in environment {worker} at step \d+",
    "nan_reward": r"^reward is nan in environment {worker} at step \d+",
    "inf_reward": r"^reward is -inf in environment {worker} at step \d+",
    "wrong_shape": r"The environment in worker {worker} has returned an observation that does not fit its space: its shape is",
    "wrong_mask": r"^action_masks of environment {worker} at step \d+ has the shape",
    "empty_mask": r"^action_masks of environment {worker} at step \d+ allows none",
    "killed": r"The environment in worker {worker} has ended by signal SIGKILL",
    "exited": r"The environment in worker {worker} has ended with exit code 3",
    "hung": r"The environment in worker {worker} has not answered for .* seconds(.|\n)*in step",
}


class Failure(NamedTuple):
    """How and when an environment fails: one of :data:`KINDS`, and after how many steps at the earliest."""

    kind: str
    after: int


class FailingEnv(gym.Env):
    """
    Choose the item, or the point, that is near the observation; the item chosen last is not allowed.

    :param has_items: Whether the actions are items, with action masks, or continuous
    :param failure: How and when to fail; None to never fail
    """

    observation_space = gym.spaces.Box(-1, 1, (OBSERVATION_DIM,), np.float32)

    def __init__(self, has_items: bool, failure: Failure | None = None):
        embeddings = np.random.default_rng(0).uniform(-1, 1, (N_ITEMS, OBSERVATION_DIM))
        self.points = embeddings.astype(np.float32)
        self.action_space = EmbeddedDiscrete(embeddings) if has_items else self.observation_space
        self.failure = failure
        self.n_steps = 0
        self.last: int | None = None
        if has_items:
            self.action_masks = self._action_masks

    def fails(self, kind: str) -> bool:
        """:return: Whether it is time to fail in this way"""
        return self.failure is not None and self.failure.kind == kind and self.n_steps > self.failure.after

    def _action_masks(self) -> np.ndarray:
        if self.fails("wrong_mask"):
            return np.ones(N_ITEMS - 1, bool)
        if self.fails("empty_mask"):
            return np.zeros(N_ITEMS, bool)
        mask = np.ones(N_ITEMS, bool)
        if self.last is not None:
            mask[self.last] = False
        return mask

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        if self.fails("raise_in_reset"):
            raise RuntimeError("the reset is broken")
        self.last, self.time = None, 0
        self.observation = self.np_random.uniform(-1, 1, OBSERVATION_DIM).astype(np.float32)
        return np.full_like(self.observation, math.nan) if self.fails("nan_reset") else self.observation, {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.n_steps += 1
        self.time += 1
        if isinstance(self.action_space, EmbeddedDiscrete):
            if action == self.last:
                raise ValueError(f"The item {action} is not allowed.")
            self.last = int(action)
            action = self.points[self.last]
        reward = -float(np.square(action - self.observation).sum())
        self.observation = self.np_random.uniform(-1, 1, OBSERVATION_DIM).astype(np.float32)
        is_over = self.time == EPISODE_STEPS
        return self._break(self.observation, is_over), self._break_reward(reward), False, is_over, {}

    def _break(self, observation: np.ndarray, is_over: bool) -> np.ndarray:
        if self.fails("raise_in_step"):
            raise RuntimeError("the step is broken")
        if self.fails("killed"):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fails("exited"):
            os._exit(3)
        if self.fails("hung"):
            time.sleep(HANG_SECONDS)
        if self.fails("wrong_shape"):
            return observation[:1]
        broken = observation.copy()
        if self.fails("nan_last_observation" if is_over else "nan_observation"):
            broken[1] = math.nan
        if self.fails("inf_observation") and not is_over:
            broken[1] = math.inf
        return broken

    def _break_reward(self, reward: float) -> float:
        if self.fails("nan_reward"):
            return math.nan
        return -math.inf if self.fails("inf_reward") else reward
