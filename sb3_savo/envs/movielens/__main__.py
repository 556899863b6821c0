"""Print statistics of RecSim-Data: ``python -m sb3_savo.envs.movielens``."""

import argparse
import logging

import numpy as np

from sb3_savo.envs.movielens.dataset import DATASETS
from sb3_savo.envs.movielens.env import RecSimData, load_splits

POLICIES = ("random", "repeat", "greedy")
N_STEPS = 80  # the time limit of RecSimData-v0


def main() -> None:
    """Print the size and the click model's AUC of both splits of a data set, and the clicks that simple policies get."""
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
        for repeats in (False, True):
            env = RecSimData(args.dataset, args.data_dir, name, repeats=repeats)
            print(f"  repeats={repeats}")
            for policy in POLICIES:
                n_clicks = np.array([play_episode(env, policy, seed) for seed in range(args.episodes)])
                error = n_clicks.std() / np.sqrt(len(n_clicks))
                print(f"    {policy}: {n_clicks.mean():.1f} clicks of {N_STEPS} (standard error {error:.1f})")


def play_episode(env: RecSimData, policy: str, seed: int) -> float:
    """
    :param env: The environment
    :param policy: One of :data:`POLICIES`: a random movie at every step; the movie whose click is likeliest at the first step,
        at every step; or the movie whose click is likeliest at each step, among those that may be recommended
    :param seed: Seed of the environment and of the random movies
    :return: Number of clicks in 80 steps
    """
    obs, _ = env.reset(seed=seed)
    env.action_space.seed(seed)
    n_clicks = 0.0
    movies = env.action_space.embeddings
    first = env.click_model.probability(obs, movies).argmax()
    for _ in range(N_STEPS):
        if policy == "greedy":
            allowed = True if env.repeats else env.action_masks()
            movie = np.where(allowed, env.click_model.probability(obs, movies), -1.0).argmax()
        else:
            movie = first if policy == "repeat" else env.action_space.sample()
        obs, reward, _, _, _ = env.step(movie)
        n_clicks += reward
    return n_clicks


if __name__ == "__main__":
    main()
