"""
Is one method better than another? Several seeds, and intervals: ``python examples/compare_methods.py [STEPS] [SEEDS]``.

Both methods see the same landscape for the same seed, so the runs are compared in pairs. Needs rliable (extra ``plots``).
The full comparisons of this project are ``python -m benchmarks.run`` and ``python -m benchmarks.report``.
"""

import sys

import numpy as np
from rliable import library, metrics
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_savo import SAVO, Ensemble

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
n_seeds = int(sys.argv[2]) if len(sys.argv) > 2 else 5

scores: dict[str, list[float]] = {"SAVO": [], "Ensemble": []}
for seed in range(n_seeds):
    for method in (SAVO, Ensemble):
        env = make_vec_env("LandscapePeaks2D-v0", n_envs=16, seed=seed, env_kwargs={"landscape_seed": seed})
        model = method("MlpPolicy", env, 1e-3, gamma=0.0, gradient_steps=4, policy_kwargs={"net_arch": [64, 64]}, seed=seed)
        model.learn(steps)
        mean, _ = evaluate_policy(model, env, n_eval_episodes=500)
        scores[method.__name__].append(float(mean))
        print(f"seed {seed}, {method.__name__}: {mean:.3f} of 1")

# rliable's arrays have one row per run, and one column per task
runs = {name: np.array(values)[:, None] for name, values in scores.items()}
means, intervals = library.get_interval_estimates(runs, lambda x: np.array([metrics.aggregate_iqm(x)]), reps=2_000)
for name in runs:
    print(f"{name}: interquartile mean {means[name][0]:.3f}, 95 % interval {intervals[name].ravel().round(3)}")

differences = np.array(scores["SAVO"]) - np.array(scores["Ensemble"])
resampled = np.random.default_rng(0).choice(differences, (2_000, n_seeds)).mean(axis=1)
low, high = np.quantile(resampled, [0.025, 0.975])
verdict = "SAVO is better" if low > 0 else "Ensemble is better" if high < 0 else "no difference is shown"
print(f"SAVO minus Ensemble: {differences.mean():.3f} [{low:.3f}, {high:.3f}] over {n_seeds} seeds: {verdict}")
