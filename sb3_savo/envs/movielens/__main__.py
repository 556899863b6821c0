"""Print what RecSim-Data is made of: ``python -m sb3_savo.envs.movielens``."""

import argparse
import logging

import numpy as np

from sb3_savo.envs.movielens.dataset import DATASETS
from sb3_savo.envs.movielens.env import RecSimData, load


def main() -> None:
    """Print what the two splits of a data set are made of, and the clicks that two policies get."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("dataset", nargs="?", default="ml-latest-small", choices=DATASETS)
    parser.add_argument("--data-dir", help="folder that holds the data set's files, or its parent")
    parser.add_argument("--episodes", type=int, default=100, help="number of episodes of each policy")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO)

    embeddings, splits = load(args.dataset, args.data_dir)
    print(f"{args.dataset}: {len(embeddings)} movies")
    for name, split in splits.items():
        print(f"{name}: {len(split.profiles)} users, {split.n_ratings} ratings, held-out AUC {split.click_model.auc:.3f}")
        env = RecSimData(args.dataset, args.data_dir, name)
        for greedy in (False, True):
            n_clicks = [_play(env, greedy, seed) for seed in range(args.episodes)]
            print(f"  {'the likeliest click' if greedy else 'a random movie'} each step: {np.mean(n_clicks):.1f} clicks of 80")


def _play(env: RecSimData, greedy: bool, seed: int) -> float:
    """Return of 80 steps of always the likeliest click, or of random movies."""
    obs, _ = env.reset(seed=seed)
    env.action_space.seed(seed)
    total = 0.0
    for _ in range(80):
        likelihood = env.click_model.probability(obs, env.action_space.embeddings) if greedy else None
        movie = env.action_space.sample() if likelihood is None else likelihood.argmax()
        obs, reward, _, _, _ = env.step(movie)
        total += reward
    return total


if __name__ == "__main__":
    main()
