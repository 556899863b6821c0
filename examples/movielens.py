"""
Recommend movies to users of MovieLens: ``python examples/movielens.py [STEPS]``. Needs ``pip install 'sb3-savo[movielens]'``.

The first run downloads ml-latest-small (1 MB) to your cache, unless MOVIELENS_DIR names a folder that has it.
"""

import sys

import gymnasium as gym
from sb3_contrib.common.maskable.evaluation import evaluate_policy
from stable_baselines3.common.env_util import make_vec_env

import sb3_savo  # noqa: F401 (registers RecSimData-v0, where Python was started without the import hook)
from sb3_savo import SAVO

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
n_episodes = 20 if steps >= 1_000 else 1
env = make_vec_env("RecSimData-v0", n_envs=4, seed=0)
model = SAVO(
    "MlpPolicy",
    env,
    learning_rate=3e-4,
    learning_starts=min(1_000, steps // 2),
    train_freq=5,  # one update per 20 movies
    selection_epsilon=(1.0, 0.05, steps // 2),
    policy_kwargs={"net_arch": [64, 32]},
    seed=0,
)
model.learn(steps)

# Other users than those of the training, with a click model of their own
unseen = make_vec_env(lambda: gym.make("RecSimData-v0", split="eval"), n_envs=1, seed=1)
for name, evaluated in (("training", env), ("unseen", unseen)):
    mean, std = evaluate_policy(model, evaluated, n_eval_episodes=n_episodes)
    print(f"Clicks of 80 recommendations, {name} users: {mean:.1f} ±{std:.1f}")
