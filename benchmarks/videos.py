"""
Record three of the trained agents in the folder ``agents``, by the RL Zoo's recorder, for the documentation.

    MUJOCO_GL=egl python -m benchmarks.videos

Writes ``docs/images/TASK.gif``. On a machine with a screen, ``MUJOCO_GL=egl`` is not needed. Needs ``sb3-savo[video]``.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.command_line import output_folder

ROOT = Path(__file__).parent.parent
AGENTS, IMAGES = ROOT / "agents", ROOT / "docs" / "images"


class Video(NamedTuple):
    """What a video shows."""

    steps: int
    """Environment steps."""
    fps: int
    """Pictures per second."""
    speed: float = 1.0
    """Speed, relative to the environment's own."""


TASKS = {
    "InvertedPendulumRestricted-v4": Video(200, fps=15),
    "HopperRestricted-v4": Video(300, fps=15),
    "MiningExpedition-v0": Video(45, fps=4, speed=0.6),
}
WIDTH = 240


def record(task: str, agents: Path, images: Path) -> Path:
    """
    :param task: Name of a task
    :param agents: The folder of all agents
    :param images: Where to write the picture
    :return: The animated picture
    :raises subprocess.CalledProcessError: if the recorder fails
    """
    from moviepy import VideoFileClip

    video = TASKS[task]
    with tempfile.TemporaryDirectory() as work:
        options = ["--folder", str(agents), "--output-folder", work, "-n", str(video.steps), "--seed", "0", "--deterministic"]
        words = [sys.executable, "-m", "rl_zoo3.record_video", "--algo", "savo", "--env", task, *options]
        subprocess.run(words, stdout=subprocess.DEVNULL, check=True)
        (recording,) = Path(work).rglob("*.mp4")
        path = images / f"{task}.gif"
        with VideoFileClip(str(recording)) as clip:
            clip.with_speed_scaled(video.speed).resized(width=WIDTH).write_gif(str(path), fps=video.fps, logger=None)
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    """
    :param arguments: The command line; None for that of this process
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), metavar="TASK", help="a part of them")
    parser.add_argument("--agents", type=Path, default=AGENTS, help="folder of the agents")
    parser.add_argument("--images", type=output_folder, default=str(IMAGES), help="folder of the pictures")
    args = parser.parse_args(arguments)
    args.images.mkdir(parents=True, exist_ok=True)
    for task in args.tasks:
        print(record(task, args.agents, args.images), flush=True)


if __name__ == "__main__":
    main()
