"""
Recommend one of 2,000 items of your own, in an environment of your own: ``python examples/own_items.py [STEPS]``.

A random policy earns about 3.7, and the item nearest to the customer's taste 15.7.
"""

import sys
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from sb3_savo import SAVO, ActionEmbedding

ITEMS = np.random.default_rng(0).normal(size=(2_000, 8)).astype(np.float32)


class Shop(gym.Env):
    """Twenty offers to a customer whose taste moves toward what was offered; the reward is high near the taste."""

    action_space = gym.spaces.Discrete(len(ITEMS))
    observation_space = gym.spaces.Box(-5, 5, (8,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.taste = self.np_random.normal(size=8).astype(np.float32).clip(-5, 5)
        self.n_offers = 0
        return self.taste, {}

    def step(self, item: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        reward = float(np.exp(-((ITEMS[item] - self.taste) ** 2).mean()))
        self.taste = (0.95 * self.taste + 0.05 * ITEMS[item]).clip(-5, 5)
        self.n_offers += 1
        return self.taste, reward, False, self.n_offers == 20, {}


steps = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
env = Monitor(ActionEmbedding(Shop(), ITEMS))  # one row of numbers per item
model = SAVO(
    "MlpPolicy",
    env,
    learning_rate=1e-3,
    learning_starts=min(500, steps // 2),
    train_freq=4,
    gamma=0.9,
    policy_kwargs={"net_arch": [64, 64]},
    seed=0,
)
model.learn(steps)
mean, std = evaluate_policy(model, env, n_eval_episodes=20)
print(f"Return over 20 episodes: {mean:.1f} ±{std:.1f}")
observation, _ = env.reset(seed=0)
print("Recommended item:", model.predict(observation, deterministic=True)[0])
