"""
How much memory does training with 500,000 items take?

    python -m benchmarks.memory
    python -m benchmarks.memory --env RecSim100k-v0 --nearest approximate

The command trains with the hyperparameters of ``hyperparams/savo.yml``, saves the model and loads it, and prints the peak
memory of the process after each of these. It writes to every page of the replay buffer first, so that the buffer takes as much
memory as a full one.
"""

import argparse
import resource
import tempfile
from pathlib import Path

import numpy as np
import torch as th
from stable_baselines3.common.env_util import make_vec_env

from benchmarks.command_line import at_least
from benchmarks.suite import load_hyperparameters
from sb3_savo import SAVO


def print_peak(stage: str) -> None:
    """
    :param stage: The stage of the command that ends here
    """
    print(f"{stage}: peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="RecSim500k-v0", choices=("RecSim-v0", "RecSim100k-v0", "RecSim500k-v0"))
    parser.add_argument("--nearest", default="exact", choices=("exact", "approximate"))
    parser.add_argument("--n-steps", type=at_least(1), default=4_000, help="environment steps")
    args = parser.parse_args()
    th.set_num_threads(1)

    hyperparameters = {**load_hyperparameters("savo", args.env), "learning_starts": 1_000, "nearest": args.nearest}
    del hyperparameters["n_timesteps"]
    env = make_vec_env(args.env, n_envs=hyperparameters.pop("n_envs"))
    print(f"{args.env}, {env.num_envs} environments, {env.action_space}")
    print_peak("environments made")
    model = SAVO(env=env, verbose=1, device="cpu", **hyperparameters)
    for array in vars(model.replay_buffer).values():
        if isinstance(array, np.ndarray):
            array.fill(0)
    print_peak("model made, replay buffer written to")
    model.learn(args.n_steps, log_interval=None)
    print_peak(f"{args.n_steps} steps and {model._n_updates} updates")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.zip"
        model.save(path)
        print_peak(f"saved ({path.stat().st_size / 2**20:.0f} MiB)")
        SAVO.load(path, buffer_size=1)
        print_peak("a second model loaded")


if __name__ == "__main__":
    main()
