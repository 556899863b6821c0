"""
How well can one do? Returns and lengths of episodes under policies that know an environment from the inside, and at random.

    python -m benchmarks.oracles
    python -m benchmarks.oracles --episodes 500 --items-seed 1

RecSim-v0 (the return is the number of clicks): items at random; the item that is the most likely to be clicked; and, knowing
the quality of the items too, the one with the most clicks per cost. MiningExpedition-v0: actions at random, and the shortest
way to the goal; ``solved`` is the share of episodes that reach it.
"""

import argparse
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pandas as pd
from gymnasium import spaces
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.type_aliases import PolicyPredictor
from stable_baselines3.common.vec_env import VecEnv

from sb3_savo.envs.recsim import RecSimVecEnv
from sb3_savo.envs.recsim.users import CLICK_COST, SKIP_COST, Users


class RandomPolicy:
    """
    :param action_space: What to draw actions from
    :param seed: Their seed
    """

    def __init__(self, action_space: spaces.Discrete, seed: int = 0):
        self.n_actions = int(action_space.n)
        self.rng = np.random.default_rng(seed)

    def predict(self, observation: Any, state: Any = None, *args: Any, **kwargs: Any) -> tuple[np.ndarray, Any]:
        return self.rng.integers(self.n_actions, size=len(observation)), state


class RecSimOracle:
    """
    Recommends the item of the highest value.

    :param users: Users of the model to act on, and their items
    :param value: Value of the items by their click probabilities, (n_users, n_items), and their quality, (n_items,)
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
    # A click gives back half of 4 q on average; what gives back more than it costs counts as all but free
    cost_of_click = np.maximum(CLICK_COST - CLICK_COST / 2 * quality, 0.05)
    return click_probability / (click_probability * cost_of_click + (1 - click_probability) * SKIP_COST)


def recsim(n_episodes: int, items_seed: int, n_envs: int = 200) -> list[dict[str, Any]]:
    """
    :param n_episodes: Episodes per policy
    :param items_seed: Seed of the items
    :param n_envs: Number of users at a time
    :return: The table's rows, one per policy
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
    :return: The table's rows, one per policy
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
    :return: Its return, its length, and whether it was a success
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
    :param policy: What acts
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
    :param returns: Returns of some episodes
    :param lengths: Their lengths
    :return: Mean return, its standard error, and mean length
    """
    error = float(returns.std() / np.sqrt(len(returns)))
    return {"mean_return": float(returns.mean()), "standard_error": error, "mean_length": float(lengths.mean())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=2_000, help="episodes per policy")
    parser.add_argument("--items-seed", type=int, default=0, help="seed of RecSim's items")
    args = parser.parse_args()

    rows = recsim(args.episodes, args.items_seed) + mining(args.episodes)
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.2f}".format, na_rep=""))


if __name__ == "__main__":
    main()
