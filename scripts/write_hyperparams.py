"""
Write every method's ``hyperparams/*.yml`` from SAVO's: ``python scripts/write_hyperparams.py`` (or ``make hyperparams``).

All methods are compared on equal terms, so a file is ``savo.yml`` with the method's own arguments in place of ``n_actors``,
and without what the method does not take. Edit ``savo.yml``, or the table below, and run this.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent.parent / "hyperparams"

HEADER = """\
# Written by scripts/write_hyperparams.py from savo.yml: edit that.
# Hyperparameters of {name}, for the RL Zoo: those of savo.yml but for the method's own. What is not named here is the
# constructor's default.

"""

# Tasks whose actions are items
ITEMS = r"MiningExpedition|RecSim|LandscapeItems"


# Arguments of what explores by noise
EXPLORATION = ("exploration_noise", "exploration_noise_std", "exploration_noise_scale", "noise_per_candidate")


class Method(NamedTuple):
    """How a method's file differs from ``savo.yml``."""

    name: str
    own: dict[str, Any]  # takes the place of n_actors
    leaves_out: tuple[str, ...] = ("summarizer", "summary_dim")  # arguments
    has_items: bool = True  # whether it takes discrete actions with embeddings


METHODS = {
    # Of the constructor's defaults, one is not the paper's
    "savo-paper": Method("the paper's SAVO", {"n_actors": 3, "surrogate": "approximate"}, leaves_out=()),
    "ensemble": Method("Ensemble", {"n_actors": 3}),
    "wolpertinger": Method("Wolpertinger", {"k": 3, "sample_std": 0.01}),
    "cem": Method("CEM", {"n_iterations": 3, "n_samples": 30, "n_elites": 3}),
    "multistart": Method("MultiStart", {"n_starts": 32, "n_ascent_steps": 5}),
    # Samples its actions, without exploration noise
    "greedyac": Method(
        "GreedyAC",
        {"n_samples": 30, "n_elites": 3, "entropy_coef": 0.01},
        leaves_out=("summarizer", "summary_dim", *EXPLORATION),
    ),
    "greedytd3": Method("GreedyTD3", {"n_samples": 30, "n_elites": 3, "entropy_coef": 0.01}),
    "q3c": Method("Q3C", {"n_points": 20, "n_nearest": 10}),
    # Samples its actions, without exploration noise; continuous actions only
    "savosac": Method("SAVOSAC", {"n_actors": 3}, leaves_out=EXPLORATION, has_items=False),
}


def write(method: Method, savo: str) -> str:
    """
    Works on lines, so that comments and anchors are kept: ``savo.yml`` has one argument a line.

    :param method: The method's differences
    :param savo: The text of ``savo.yml``
    :return: The text of the method's file
    """
    lines: list[str] = []
    _, _, sections = savo.partition("\n\n")  # without the comment at the head
    for line in sections.splitlines():
        key = re.match(r" *(\w+):", line)
        if line.startswith("  n_actors:"):
            lines += [f"  {name}: {value}" for name, value in method.own.items()]
        elif not line.startswith(" ") or key is None or key[1] not in method.leaves_out:
            lines.append(line)
    text = "\n".join(lines) + "\n"
    if not method.has_items:
        # A section with the comments before it, up to the next line that is not indented
        text = re.sub(rf"^(#.*\n)*({ITEMS}).*\n( .*\n)*", "", text, flags=re.MULTILINE)
        text = re.sub(r"\n{3,}", "\n\n", text)
    return HEADER.format(name=method.name) + text


def main() -> None:
    parser = argparse.ArgumentParser(description="Write every method's hyperparameters from SAVO's.")
    parser.add_argument("--check", action="store_true", help="write nothing, and fail if a file is out of date")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="folder that holds savo.yml")
    args = parser.parse_args()
    savo = (args.folder / "savo.yml").read_text()
    outdated = []
    for algo, method in METHODS.items():
        path, text = args.folder / f"{algo}.yml", write(method, savo)
        if not path.exists() or path.read_text() != text:
            outdated.append(path.name)
            if not args.check:
                path.write_text(text)
    if args.check and outdated:
        sys.exit(f"Out of date: {', '.join(outdated)}. Run python scripts/write_hyperparams.py (make hyperparams).")
    print(f"Written: {', '.join(outdated)}" if outdated else "All files are up to date.")


if __name__ == "__main__":
    main()
