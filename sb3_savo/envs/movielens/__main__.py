"""Print statistics of RecSim-Data: ``python -m sb3_savo.envs.movielens``."""

import argparse
import logging

import numpy as np

from sb3_savo.envs.movielens.dataset import DATASETS
from sb3_savo.envs.movielens.env import RecSimData, load_splits

N_STEPS = 80  # the time limit of RecSimData-v0


def main() -> None:
    """Print the size and the click model's AUC of both splits of a data set, and the clicks that two policies get."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("dataset", nargs="?", default="ml-latest-small", choices=DATASETS)
    parser.add_argument("--data-dir", help="folder that holds the data set's files, or its parent")
    parser.add_argument("--episodes", type=int, default=100, help="number of episodes of each policy")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO)

    embeddings, splits = load_splits(args.dataset, args.data_dir)
    print(f"{args.dataset}: {len(embeddings)} movies")
    for name, split in splits.items():
        print(f"{name}: {len(split.profiles)} users, {split.n_ratings} ratings, held-out AUC {split.click_model.auc:.3f}")
        env = RecSimData(args.dataset, args.data_dir, name)
        for greedy in (False, True):
            n_clicks = [play_episode(env, greedy, seed) for seed in range(args.episodes)]
            policy = "the likeliest click" if greedy else "a random movie"
            print(f"  {policy} each step: {np.mean(n_clicks):.1f} clicks of {N_STEPS}")


def play_episode(env: RecSimData, greedy: bool, seed: int) -> float:
    """
    :param env: The environment
    :param greedy: Whether to recommend the movie of the likeliest click at every step (True), or a random movie (False)
    :param seed: Seed of the environment and of the random movies
    :return: Number of clicks in 80 steps
    """
    obs, _ = env.reset(seed=seed)
    env.action_space.seed(seed)
    n_clicks = 0.0
    for _ in range(N_STEPS):
        if greedy:
            movie = env.click_model.probability(obs, env.action_space.embeddings).argmax()
        else:
            movie = env.action_space.sample()
        obs, reward, _, _, _ = env.step(movie)
        n_clicks += reward
    return n_clicks


if __name__ == "__main__":
    main()
