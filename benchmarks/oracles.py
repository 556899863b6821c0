"""
Which return is possible? Returns and lengths of episodes under policies that know the inner workings of an environment, and
under the random policy.

    python -m benchmarks.oracles
    python -m benchmarks.oracles --episodes 500 --items-seed 1
    python -m benchmarks.oracles -o benchmarks/results/oracles.csv    # the file of the published table

RecSim-v0: the return is the number of clicks. ``random`` recommends random items. ``myopic`` recommends the item with the
highest click probability. ``quality-aware`` also knows the quality of the items and recommends the item with the most clicks
per cost. MiningExpedition-v0: ``random`` takes random actions, and ``shortest way`` takes the shortest way to the goal;
``solved`` is the share of episodes that reach the goal.
"""

import argparse
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pandas as pd
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.type_aliases import PolicyPredictor
from stable_baselines3.common.vec_env import VecEnv

from benchmarks.command_line import at_least, output_file
from benchmarks.random_policy import RandomPolicy
from benchmarks.recording import write_durably
from sb3_savo.envs.recsim import RecSimVecEnv
from sb3_savo.envs.recsim.users import CLICK_COST, SKIP_COST, Users


class RecSimOracle:
    """
    Recommends the item with the highest value.

    :param users: The users and their items
    :param value: Computes the value of every item from click probabilities, (n_users, n_items), and quality, (n_items,)
    """

    def __init__(self, users: Users, value: Callable[[np.ndarray, np.ndarray], np.ndarray]):
        self.users = users
        self.value = value

    def predict(self, observation: Any, state: Any = None, *args: Any, **kwargs: Any) -> tuple[np.ndarray, Any]:
        items = self.users.catalogue
        click_probability = self.users.click_probability(observation @ items.true_embeddings.T)
        return self.value(click_probability, items.quality).argmax(axis=1), state


def myopic(click_probability: np.ndarray, quality: np.ndarray) -> np.ndarray:
    return click_probability


def quality_aware(click_probability: np.ndarray, quality: np.ndarray) -> np.ndarray:
    # A click returns half of 4 q to the budget on average; items that return more than a click costs count as nearly free
    cost_of_click = np.maximum(CLICK_COST - CLICK_COST / 2 * quality, 0.05)
    return click_probability / (click_probability * cost_of_click + (1 - click_probability) * SKIP_COST)


def recsim(n_episodes: int, items_seed: int, n_envs: int = 200) -> list[dict[str, Any]]:
    """
    :param n_episodes: Episodes per policy
    :param items_seed: Seed of the items
    :param n_envs: Number of simultaneous users
    :return: Rows of the table, one per policy
    """
    env = RecSimVecEnv(n_envs, items_seed=items_seed)
    policies: dict[str, PolicyPredictor] = {
        "random": RandomPolicy(env.action_space),
        "myopic": RecSimOracle(env.users, myopic),
        "quality-aware": RecSimOracle(env.users, quality_aware),
    }
    return [{"env": "RecSim-v0", "policy": name, **evaluate(policy, env, n_episodes)} for name, policy in policies.items()]


def mining(n_episodes: int) -> list[dict[str, Any]]:
    """
    :param n_episodes: Episodes per policy
    :return: Rows of the table, one per policy
    """
    env = gym.make("MiningExpedition-v0")
    env.action_space.seed(0)
    policies: dict[str, Callable[[], int]] = {
        "random": env.action_space.sample,
        "shortest way": lambda: env.get_wrapper_attr("solution")()[0],
    }
    rows = []
    for name, act in policies.items():
        episodes = [play(env, act, seed) for seed in range(n_episodes)]
        returns, lengths, solved = np.array(episodes, dtype=float).T
        rows.append({"env": "MiningExpedition-v0", "policy": name, **summary(returns, lengths), "solved": solved.mean()})
    return rows


def play(env: gym.Env, act: Callable[[], int], seed: int) -> tuple[float, int, bool]:
    """
    :param env: The environment
    :param act: Chooses an action
    :param seed: Seed of the episode
    :return: Return and length of the episode, and whether it reached the goal
    """
    env.reset(seed=seed)
    rewards, done = [], False
    while not done:
        _, reward, terminated, truncated, info = env.step(act())
        rewards.append(float(reward))
        done = terminated or truncated
    return sum(rewards), len(rewards), bool(info["is_success"])


def evaluate(policy: PolicyPredictor, env: VecEnv, n_episodes: int, seed: int = 0) -> dict[str, float]:
    """
    :param policy: The policy
    :param env: Environments, unwrapped
    :param n_episodes: Number of episodes
    :param seed: Seed of the environments
    :return: Mean return, its standard error, and mean length of the episodes
    """
    env.seed(seed)
    returns, lengths = evaluate_policy(policy, env, n_episodes, return_episode_rewards=True, warn=False)
    return summary(np.array(returns), np.array(lengths))


def summary(returns: np.ndarray, lengths: np.ndarray) -> dict[str, float]:
    """
    :param returns: Returns of the episodes
    :param lengths: Lengths of the episodes
    :return: Mean return, its standard error, and mean length
    """
    error = float(returns.std() / np.sqrt(len(returns)))
    return {"mean_return": float(returns.mean()), "standard_error": error, "mean_length": float(lengths.mean())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=at_least(1), default=2_000, help="episodes per policy")
    parser.add_argument("--items-seed", type=at_least(0), default=0, help="seed of RecSim's items")
    parser.add_argument("-o", "--output", type=output_file, metavar="FILE", help="CSV file to write")
    args = parser.parse_args()

    table = pd.DataFrame(recsim(args.episodes, args.items_seed) + mining(args.episodes))
    print(table.to_string(index=False, float_format="{:.2f}".format, na_rep=""))
    if args.output is not None:
        write_durably(args.output, table.to_csv(index=False, float_format="%.6g"))


if __name__ == "__main__":
    main()
