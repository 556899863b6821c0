"""
A machine whose actions work only in some places: ``python examples/valid_set.py [STEPS]``.

Draws the valid set to valid.png, which needs matplotlib (``pip install 'sb3-savo[plots]'``).
"""

import sys

import gymnasium as gym
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from sb3_savo import SAVO
from sb3_savo.analysis import plot_valid_set
from sb3_savo.envs import RestrictedAction

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000

# Three intervals of torques; in the unit cube 0 is the lowest torque, and 1 the highest. Other torques become 0.
env = RestrictedAction(gym.make("Pendulum-v1"), centers=[[0.05], [0.5], [0.95]], radii=[0.06, 0.05, 0.06])
print(f"{env.coverage():.0%} of the torques are valid")
plot_valid_set(env, None, "Valid torques of the pendulum").savefig("valid.png")

model = SAVO(
    "MlpPolicy", Monitor(env), 1e-3, learning_starts=min(500, steps // 2), policy_kwargs={"net_arch": [64, 64]}, seed=0
)
model.learn(steps)
mean, std = evaluate_policy(model, model.get_env(), n_eval_episodes=10)
print(f"Return over 10 episodes: {mean:.0f} ±{std:.0f}")

observation, _ = env.reset(seed=0)
valid = []
for _ in range(200):
    action, _ = model.predict(observation, deterministic=True)
    observation, _, _, _, info = env.step(action)
    valid.append(info["valid_action"])
print(f"The agent's torque is valid in {sum(valid) / len(valid):.0%} of the steps")
