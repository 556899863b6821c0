"""
See the difference in two minutes: ``python -m sb3_savo.demo`` (or ``make demo``).

Trains SAVO and SB3's TD3 at the same time, by the RL Zoo, with the same networks, batches and number of updates, on a
landscape of 25 peaks that move with the observation. Then it says how high both get, and draws where their actions lie:

- ``demo/demo.png``: the landscape in one state, with TD3's action, the proposals of SAVO's actors, and the one that SAVO takes
- ``demo/demo.gif``: the same during training
- ``demo/demo.csv``: the scores

All files are in the folder ``demo``; ``--folder`` names another one.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import pandas as pd
import torch as th
from stable_baselines3 import TD3
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from sb3_savo.algorithms import SAVO
from sb3_savo.analysis.comparison import Actions, animate_actions, plot_actions
from sb3_savo.envs.landscapes import CONTEXT_DIM, Landscape
from sb3_savo.extras import needs_extra

ENV_ID = "LandscapePeaks2D-v0"
# A landscape on which TD3 stays on a low hill
LANDSCAPE_SEED = 4
N_STEPS = 20_480
N_CHECKPOINTS = 20
# What both methods share; SAVO's number of actors and its exploration are those of hyperparams/savo.yml. Many random actions
# come first, so that Q soon knows of all peaks
HYPERPARAMETERS = [
    "n_envs:16",
    "gamma:0.0",
    "learning_rate:0.001",
    "learning_starts:8192",
    "batch_size:256",
    "buffer_size:50000",
    "train_freq:1",
    "gradient_steps:4",
    "policy_kwargs:dict(net_arch=dict(pi=[64,64],qf=[128,128]))",
]
OWN_HYPERPARAMETERS: dict[str, list[str]] = {"savo": [], "td3": ["noise_type:'normal'", "noise_std:0.1"]}
CLASSES: dict[str, type[OffPolicyAlgorithm]] = {"td3": TD3, "savo": SAVO}


class Score(NamedTuple):
    """How well a model maximizes the landscape, over many states."""

    share: float
    """Mean height of the chosen action, as a share of the highest peak."""
    within_5: float
    """Share of the states in which it is within 5 % of the highest peak: no other peak is so high."""


def command(algo: str, folder: Path, n_steps: int, landscape_seed: int) -> list[str]:
    """
    :param algo: ``"savo"`` or ``"td3"``
    :param folder: Where the RL Zoo puts the run
    :param n_steps: Environment steps
    :param landscape_seed: Seed of the landscape
    :return: The command that trains
    """
    options = [
        "--env",
        ENV_ID,
        "--env-kwargs",
        f"landscape_seed:{landscape_seed}",
        "--n-timesteps",
        str(n_steps),
        "--seed",
        "0",
    ]
    # The RL Zoo divides by the number of environments
    saving = ["--save-freq", str(max(n_steps // N_CHECKPOINTS, 16)), "--eval-freq", "-1", "--log-folder", str(folder)]
    quiet = ["--verbose", "0", "--num-threads", "1"]
    hyperparameters = ["--hyperparams", *HYPERPARAMETERS, *OWN_HYPERPARAMETERS[algo]]
    return ["python", "-m", "rl_zoo3.train", "--algo", algo, *options, *saving, *quiet, *hyperparameters]


def train(folder: Path, n_steps: int, landscape_seed: int) -> None:
    """
    Train both methods at the same time, each in a process of its own.

    :param folder: Where the RL Zoo puts the runs
    :param n_steps: Environment steps of each
    :param landscape_seed: Seed of the landscape
    :raises RuntimeError: if a process fails
    """
    print(
        f"Training TD3 and SAVO side by side by the RL Zoo: {n_steps:,} steps each, one to two minutes on two cores",
        flush=True,
    )
    processes = {}
    for algo in CLASSES:
        words = command(algo, folder, n_steps, landscape_seed)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        processes[algo] = subprocess.Popen([sys.executable, *words[1:]], env=environment, stdout=subprocess.DEVNULL)
    for algo, process in processes.items():
        if process.wait() != 0:
            raise RuntimeError(f"The training of {algo} ended with exit code {process.returncode}.")


def load(algo: str, folder: Path) -> list[Any]:
    """
    :param algo: ``"savo"`` or ``"td3"``
    :param folder: The folder of the runs
    :return: The models of the newest run, in the order of training; the last one is the trained model
    """
    run = max((folder / algo).glob(f"{ENV_ID}_*"), key=lambda path: int(path.name.rpartition("_")[2]))
    checkpoints = sorted(run.glob("rl_model_*_steps.zip"), key=lambda path: int(path.stem.split("_")[2]))
    return [CLASSES[algo].load(path, device="cpu") for path in [*checkpoints, run / f"{ENV_ID}.zip"]]


def assess(model: Any, landscape: Landscape, states: th.Tensor) -> tuple[Score, th.Tensor]:
    """
    :param model: A trained model
    :param landscape: The landscape on which it was trained
    :param states: Observations, (n, CONTEXT_DIM)
    :return: Its score, and the height of its action in each state as a share of the highest peak, (n,)
    """
    actions = th.as_tensor(model.predict(states.numpy(), deterministic=True)[0])
    with th.no_grad():
        heights = landscape(states, actions.unsqueeze(1))[:, 0] / landscape(states, landscape.best(states).unsqueeze(1))[:, 0]
    return Score(heights.mean().item(), (heights > 0.95).float().mean().item()), heights


def actions_of(td3: TD3, savo: SAVO, state: th.Tensor, steps: int) -> Actions:
    """
    :param td3: A model of SB3
    :param savo: A model of ours
    :param state: One observation, (CONTEXT_DIM,)
    :param steps: Number of steps that both have been trained for
    :return: Where their actions lie
    """
    with th.no_grad():
        proposals = savo.policy.propose(state.unsqueeze(0), deterministic=True)[0].numpy()
    taken = {
        "TD3": td3.predict(state.numpy(), deterministic=True)[0],
        "SAVO": savo.predict(state.numpy(), deterministic=True)[0],
    }
    return Actions(f"After {steps:,} steps", taken, {"proposals of SAVO's actors": proposals})


def in_words(table: pd.DataFrame) -> str:
    """
    :param table: The scores, one row per method
    :return: The same in one line
    """
    texts = [f"{name} {row.share:.3f} (right peak in {row.within_5:.0%} of the states)" for name, row in table.iterrows()]
    return f"Height of the chosen action, of 1: {', '.join(texts)}"


def main(arguments: Sequence[str] | None = None) -> None:
    """
    :param arguments: The command line; None for that of this process
    :raises ImportError: if matplotlib or Pillow is not installed
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("demo"), help="folder of the runs and of the pictures")
    parser.add_argument("--n-timesteps", type=int, default=N_STEPS, help="environment steps of each method")
    parser.add_argument("--landscape-seed", type=int, default=LANDSCAPE_SEED, help="another number is another landscape")
    args = parser.parse_args(arguments)
    with needs_extra("plots", "The demo"):  # before it trains for minutes
        import matplotlib  # noqa: F401
        import PIL  # noqa: F401
    train(args.folder, args.n_timesteps, args.landscape_seed)

    models = {algo: load(algo, args.folder) for algo in CLASSES}
    landscape: Landscape = gym.make(ENV_ID, landscape_seed=args.landscape_seed).unwrapped.landscape  # type: ignore[attr-defined]
    states = th.rand(1_000, CONTEXT_DIM, generator=th.Generator().manual_seed(0)) * 2 - 1
    scores, heights = zip(*(assess(models[algo][-1], landscape, states) for algo in CLASSES), strict=True)
    table = pd.DataFrame(scores, index=pd.Index(["TD3", "SAVO"], name="method"))
    table.to_csv(args.folder / "demo.csv", float_format="%.6f")
    print(in_words(table))

    # The state in the middle of all, sorted by how much SAVO is ahead
    state = states[(heights[1] - heights[0]).argsort()[len(states) // 2]]
    pairs = zip(models["td3"], models["savo"], strict=True)
    learning = {savo.num_timesteps: (td3, savo) for td3, savo in pairs if savo.num_timesteps >= savo.learning_starts}
    frames = [actions_of(td3, savo, state, steps) for steps, (td3, savo) in learning.items()]
    plot_actions(landscape, state, frames[-1]).savefig(args.folder / "demo.png")
    animate_actions(landscape, state, frames, args.folder / "demo.gif")
    print(f"Pictures: {args.folder / 'demo.png'}, {args.folder / 'demo.gif'}")


if __name__ == "__main__":
    main()
