"""
Draw the pictures of the environments for the documentation: ``python scripts/draw_environments.py`` (or ``make pictures``).

Each shows a state after some random steps, at fixed seeds. RecSimData is drawn only where its data set is (``MOVIELENS_DIR``).
"""

import os
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import imageio.v3 as imageio
import numpy as np

import sb3_savo  # noqa: F401 (registers the environments)

FOLDER = Path(__file__).parent.parent / "docs" / "images"
# Number of random steps before the picture
PICTURES = {"mining": ("MiningExpedition-v0", 40), "recsim": ("RecSim-v0", 5), "landscape": ("LandscapePeaks2D-v0", 1)}
if "MOVIELENS_DIR" in os.environ:
    PICTURES["movielens"] = ("RecSimData-v0", 12)


def draw(env_id: str, n_steps: int, path: Path) -> None:
    """
    :param env_id: Gymnasium's ID of the environment
    :param n_steps: Number of random steps
    :param path: The file to write
    """
    env = gym.make(env_id, render_mode="rgb_array")
    env.reset(seed=1)
    env.action_space.seed(1)
    for _ in range(n_steps):
        env.step(env.action_space.sample())
    imageio.imwrite(path, np.asarray(env.render()))


def main() -> None:
    for name, (env_id, n_steps) in PICTURES.items():
        draw(env_id, n_steps, FOLDER / f"{name}.png")
    valid_set = ["valid-set", "--env", "HopperRestricted-v5", "--dims", "0", "1", "-o", str(FOLDER / "valid-set.png")]
    subprocess.run([sys.executable, "-m", "sb3_savo.analysis", *valid_set], check=True)


if __name__ == "__main__":
    main()
