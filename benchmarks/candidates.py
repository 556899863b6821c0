"""
How good are the candidates of a trained agent under its own Q?

    python -m benchmarks.candidates --env MiningExpedition-v0 benchmarks/results/runs/MiningExpedition-v0/savo/*/2/agent.zip

The agent visits some states, with some random actions on the way. The table has one row per candidate. ``saturated``: share of
its outputs in the flat part of tanh. ``picked``: share of states in which it is the best candidate. ``gap``: Q at the best of
all items (in a continuous space: of 1,000 uniformly random actions), minus Q at the candidate. The last row is the best of the
candidates. ``benchmarks.run`` saves the trained agents beside their results.
"""

import argparse
import math

import gymnasium as gym
import numpy as np
import pandas as pd
import torch as th

from benchmarks.command_line import at_least, input_file, share
from sb3_savo import SAVO
from sb3_savo.analysis import highest_q

# Beyond this output, 0.96, the slope of tanh is below 0.07; SAVO logs the share of such outputs as train/saturated_share
SATURATED = math.tanh(2.0)


def visit(model: SAVO, env_id: str, n_states: int, random_share: float) -> np.ndarray:
    """
    :param model: The agent
    :param env_id: Name of the environment
    :param n_states: Number of states
    :param random_share: Share of random actions
    :return: Observations, (n_states, ...)
    """
    env = gym.make(env_id)
    env.action_space.seed(0)
    rng = np.random.default_rng(0)
    obs, _ = env.reset(seed=0)
    visited: list[np.ndarray] = []
    while len(visited) < n_states:
        visited.append(obs)
        action = env.action_space.sample() if rng.random() < random_share else model.predict(obs)[0]
        obs, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            obs, _ = env.reset()
    return np.array(visited, dtype=np.float32)


def assess(model: SAVO, observations: np.ndarray) -> pd.DataFrame:
    """
    :param model: The agent
    :param observations: (n_states, ...)
    :return: One row per candidate, and one row for the best candidate
    """
    with th.no_grad():
        obs = th.as_tensor(observations)
        candidates = model.policy.propose(obs, deterministic=True)
        actions, _ = model.policy.snap(candidates)
        _, picked, _ = model.policy.maximize(obs, actions)
        # The maximizer does not evaluate a single candidate, so ask the critic
        q_values = model.critic.q1(obs, actions)
        best = th.cat([highest_q(model.policy, o, n_actions=1_000, n_refined=1, n_steps=0) for o in obs.split(1)])
        gaps = th.maximum(best, q_values.amax(dim=1))[:, None] - q_values
        rows = [
            {
                "candidate": i,
                "saturated": (candidates[:, i].abs() > SATURATED).float().mean().item(),
                "picked": (picked == i).float().mean().item(),
                "gap": gaps[:, i].mean().item(),
            }
            for i in range(model.n_actors)
        ]
        return pd.DataFrame([*rows, {"candidate": "best", "gap": gaps.amin(dim=1).mean().item()}])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("agents", nargs="+", type=input_file, help="saved agents")
    parser.add_argument("--env", required=True, help="environment of the training")
    parser.add_argument("--n-states", type=at_least(1), default=1_500, help="number of visited states")
    parser.add_argument("--random-share", type=share, default=0.3, help="share of random actions on the way")
    args = parser.parse_args()
    th.set_num_threads(1)
    for path in args.agents:
        model = SAVO.load(path, device="cpu")
        table = assess(model, visit(model, args.env, args.n_states, args.random_share))
        print(f"\n{path.name}\n{table.to_string(index=False, float_format='{:.3f}'.format, na_rep='')}")


if __name__ == "__main__":
    main()
