"""
Items that are not always allowed: ``python examples/masks.py [STEPS]``.

``action_masks()`` of the environment says which items are allowed, as for sb3-contrib's maskable algorithms.
"""

import sys
from typing import Any

import gymnasium as gym
import numpy as np
from sb3_contrib.common.maskable.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from sb3_savo import SAVO, ActionEmbedding

N_ITEMS = 300
ITEMS = np.random.default_rng(0).uniform(-1, 1, (N_ITEMS, 2))


class Puzzle(gym.Env):
    """Take five different items, each as near as possible to a point that is shown."""

    action_space = gym.spaces.Discrete(N_ITEMS)
    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.allowed = np.ones(N_ITEMS, dtype=bool)
        self.point = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return self.point, {}

    def step(self, item: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        assert self.allowed[item], "a model that gets the masks never takes an item twice"
        self.allowed[item] = False
        reward = 1 - float(np.linalg.norm(ITEMS[item] - self.point))
        # The mask of the last state, since action_masks() describes the next episode after a reset
        return self.point, reward, (~self.allowed).sum() == 5, False, {"action_masks": self.allowed.copy()}

    def action_masks(self) -> np.ndarray:
        return self.allowed


steps = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
env = Monitor(ActionEmbedding(Puzzle(), ITEMS))
model = SAVO("MlpPolicy", env, 1e-3, train_freq=4, gamma=0.9, policy_kwargs={"net_arch": [64, 64]}, seed=0)
model.learn(steps)
mean, std = evaluate_policy(model, env, n_eval_episodes=50)  # of sb3_contrib, which passes the masks
print(f"Return over 50 episodes: {mean:.2f} ±{std:.2f} (at most 5)")
