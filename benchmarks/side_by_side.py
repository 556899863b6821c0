"""
Where do the actions of every method lie on one landscape? Trains the methods of a suite on it, and draws one state.

    python -m benchmarks.side_by_side            # trains, and writes benchmarks/results/side_by_side.csv and the picture
    python -m benchmarks.side_by_side --draw     # draws the picture from the stored actions

The landscape, Peaks2D with a frozen critic, the updates, networks and hyperparameters are those of study a. The picture shows
the first of the states on which the study assesses a run: what each actor proposes, and the action that the method takes. The
share in a panel's title is the value of this action as a share of the greatest value in this state.
"""

import argparse
import io
from pathlib import Path

import pandas as pd
import torch as th
from PIL import Image

from benchmarks.command_line import output_file
from benchmarks.landscape_tasks import make_model, steps_until
from benchmarks.landscapes import contexts
from benchmarks.recording import write_durably
from benchmarks.schema import load_suite
from benchmarks.suite import Run, list_runs
from sb3_savo.analysis.comparison import Actions, plot_actions_side_by_side
from sb3_savo.common.maximizer import MaximizerAlgorithm
from sb3_savo.envs.landscapes import Landscape, make_landscape

SUITE, TASK, UPDATES, SEED = "study_a", "Peaks2D-frozen", 2_500, 2
METHODS = ("savo", "savo_hybrid", "savo_approximate", "savo_1_actor", "ensemble", "wolpertinger_0.1", "greedyac", "cem")
ROOT = Path(__file__).parent.parent
RESULTS, PICTURE = ROOT / "benchmarks" / "results" / "side_by_side.csv", ROOT / "docs" / "images" / "side-by-side.png"


def actions_of(model: MaximizerAlgorithm, landscape: Landscape, state: th.Tensor) -> pd.DataFrame:
    """
    :param model: An agent
    :param landscape: The landscape, which is its Q
    :param state: One state, (CONTEXT_DIM,)
    :return: One row per candidate and one for the action that is taken: ``kind``, ``x``, ``y``, and its value as a ``share``
        of the greatest value in this state
    """
    states = state.unsqueeze(0)
    with th.no_grad():
        candidates = model.policy.propose(states, deterministic=True)
        taken, _, _ = model.policy.maximize(states, candidates)
        actions = th.cat([candidates, taken.unsqueeze(1)], dim=1)
        shares = landscape(states, actions) / landscape(states, landscape.best(states).unsqueeze(1))
    kinds = ["candidate"] * candidates.shape[1] + ["taken"]
    return pd.DataFrame({"kind": kinds, "x": actions[0, :, 0], "y": actions[0, :, 1], "share": shares[0]})


def train(run: Run, updates: int) -> tuple[MaximizerAlgorithm, Landscape]:
    """
    :param run: A run on a frozen landscape
    :param updates: Number of updates
    :return: The trained agent and its landscape
    """
    settings = run.settings
    model, landscape = make_model(
        settings["env"], settings["algorithm"], settings["arguments"], run.seed, run.steps, frozen=True
    )
    model.learn(steps_until(model, updates), log_interval=None)
    return model, landscape


def draw(table: pd.DataFrame, path: Path) -> None:
    """
    :param table: The stored actions of all methods
    :param path: The picture to write
    """
    labels = {name: method.get("label", name) for name, method in load_suite(SUITE).methods.items()}
    panels = []
    for method, rows in table.groupby("method", sort=False):
        points = {kind: those[["x", "y"]].to_numpy() for kind, those in rows.groupby("kind")}
        share = rows.share[rows.kind == "taken"].item()
        title = f"{labels[str(method)]}\nreaches {share:.3f}"
        panels.append(Actions(title, {"the method": points["taken"][0]}, {"proposals": points["candidate"]}))
    landscape = make_landscape(landscape_seed=SEED).landscape
    picture = io.BytesIO()
    plot_actions_side_by_side(landscape, contexts()[0], panels, columns=4).savefig(picture)
    # An octree keeps the colors of the markers, which are rare, and makes the file several times smaller
    Image.open(picture).convert("RGB").quantize(method=Image.Quantize.FASTOCTREE).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draw", action="store_true", help="train nothing, and draw the stored actions")
    parser.add_argument("-o", "--output", type=output_file, default=str(RESULTS), help="CSV to write, or to read with --draw")
    parser.add_argument("--picture", type=output_file, default=str(PICTURE), help="picture to write")
    args = parser.parse_args()
    if not args.draw:
        runs = {run.method: run for run in list_runs(SUITE) if (run.task, run.seed, run.steps) == (TASK, SEED, UPDATES)}
        tables = [actions_of(*train(runs[method], UPDATES), contexts()[0]).assign(method=method) for method in METHODS]
        table = pd.concat(tables)[["method", "kind", "x", "y", "share"]]
        write_durably(args.output, table.to_csv(index=False, float_format="%.6g"))
    table = pd.read_csv(args.output)
    print(table.to_string(index=False))
    draw(table, args.picture)
    print(f"Picture: {args.picture}")


if __name__ == "__main__":
    main()
