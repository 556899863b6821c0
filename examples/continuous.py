"""
Train SAVO on a continuous task, evaluate it, save it, and load it again: ``python examples/continuous.py [STEPS]``.

With the default number of steps this takes some minutes on one core.
"""

import sys

import gymnasium as gym
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from sb3_savo import SAVO

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 8_000
env = Monitor(gym.make("Pendulum-v1"))
model = SAVO(
    "MlpPolicy", env, 1e-3, learning_starts=min(500, steps // 2), gamma=0.98, policy_kwargs={"net_arch": [64, 64]}, seed=0
)
model.learn(steps)

mean, std = evaluate_policy(model, env, n_eval_episodes=10)
print(f"Return over 10 episodes: {mean:.0f} ±{std:.0f}")

model.save("pendulum")
model = SAVO.load("pendulum")
observation, _ = env.reset(seed=0)
action, _ = model.predict(observation, deterministic=True)
print(f"The loaded agent's first action: {action}")
