"""
A run that survives anything: ``python examples/resume.py [STEPS]``. Kill it whenever you like, and give the command again.
"""

import sys

from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env

from sb3_savo import SAVO

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
# The seeds make a run that was killed equal, bit for bit, to one that was not
env = make_vec_env("LandscapePeaks2D-v0", seed=0)
model = SAVO("MlpPolicy", env, gamma=0.0, policy_kwargs={"net_arch": [64, 64]}, seed=0)
evaluation = EvalCallback(make_vec_env("LandscapePeaks2D-v0", seed=1), eval_freq=1_000, log_path="resume_logs", verbose=0)
model.learn(steps, callback=evaluation, checkpoints="resume_checkpoints")

print(f"{model.num_timesteps} steps; rewards of the evaluations:")
for step, rewards in zip(evaluation.evaluations_timesteps, evaluation.evaluations_results, strict=True):
    print(f"{step:7d} {sum(rewards) / len(rewards):.3f}")
print("Delete resume_checkpoints and resume_logs to begin anew.")
