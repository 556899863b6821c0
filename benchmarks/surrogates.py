"""
Why do learned surrogates guide their actors badly? On a frozen landscape the exact surrogates are known for comparison.

    python -m benchmarks.surrogates --task Peaks2D-frozen --seeds 3

The table shows for every surrogate, after training, as means over contexts and seeds: ``above``: share of uniformly random
actions with a higher value than all anchors; Ψ_i is flat at all other actions. ``spread`` and ``learned_spread``: standard
deviation of Ψ_i and of Ψ̂_i over random actions. ``correlation``: correlation of Ψ_i and Ψ̂_i over random actions. ``flat``:
share of contexts in which Ψ_i is flat at the actor's own proposal, so that only Ψ̂_i could guide the actor.
"""

import argparse

import pandas as pd
import torch as th

from benchmarks.command_line import at_least
from benchmarks.landscape_tasks import make_model, steps_until
from benchmarks.schema import load_tasks
from benchmarks.suite import list_runs
from sb3_savo import SAVO
from sb3_savo.envs.landscapes import CONTEXT_DIM, Landscape

SUITE = "study_a"
SUITE_UPDATES = 2_500
METHODS = ("savo_approximate", "savo_hybrid")
TASKS = [name for name in load_tasks() if name.endswith("-frozen") and not name.startswith("Items")]
N_CONTEXTS, N_ACTIONS = 500, 256


@th.no_grad()
def compare(model: SAVO, landscape: Landscape) -> pd.DataFrame:
    """
    :param model: A trained agent with learned surrogates
    :param landscape: The landscape that the agent maximized
    :return: One row per surrogate
    """
    assert model.surrogates is not None
    contexts = th.rand(N_CONTEXTS, CONTEXT_DIM) * 2 - 1
    actions = th.rand(N_CONTEXTS, N_ACTIONS, landscape.action_dim) * 2 - 1
    proposals = model.policy.propose(contexts)
    values, q_proposals = landscape(contexts, actions), landscape(contexts, proposals)
    thresholds = q_proposals.cummax(dim=1).values[:, :-1]
    same_actions = actions.unsqueeze(1).expand(-1, model.n_actors - 1, -1, -1)
    learned = model.surrogates(contexts, proposals[:, :-1], same_actions)
    rows = []
    for i, tau in enumerate(thresholds.T):
        exact = th.maximum(values, tau.unsqueeze(1))
        deviations = [surrogate - surrogate.mean(dim=1, keepdim=True) for surrogate in (exact, learned[:, i])]
        spreads = [deviation.square().mean(dim=1).sqrt() for deviation in deviations]
        rises = spreads[0] > 1e-6
        correlations = (deviations[0] * deviations[1]).mean(dim=1)[rises] / (spreads[0] * spreads[1])[rises]
        rows.append(
            {
                "surrogate": i + 1,
                "above": (values > tau.unsqueeze(1)).float().mean().item(),
                "spread": spreads[0].mean().item(),
                "learned_spread": spreads[1].mean().item(),
                "correlation": correlations.mean().item(),
                "flat": (q_proposals[:, i + 1] <= tau).float().mean().item(),
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=TASKS, default="Peaks2D-frozen")
    parser.add_argument("--seeds", type=at_least(1), default=3, help="runs per method")
    parser.add_argument("--n-updates", type=at_least(1), default=SUITE_UPDATES, help="updates per run")
    args = parser.parse_args()
    runs = [run for run in list_runs(SUITE) if (run.task, run.steps) == (args.task, SUITE_UPDATES) and run.method in METHODS]
    n_seeds = len({run.seed for run in runs})
    if args.seeds > n_seeds:
        parser.error(f"--seeds {args.seeds}: it must be at most {n_seeds}, the seeds of {args.task} in the suite {SUITE}")
    th.set_num_threads(1)
    tables = []
    for run in runs:
        if run.seed < args.seeds:
            settings = run.settings
            model, landscape = make_model(
                settings["env"], settings["algorithm"], settings["arguments"], run.seed, args.n_updates, frozen=True
            )
            model.learn(steps_until(model, args.n_updates), log_interval=None)
            assert isinstance(model, SAVO)
            tables.append(compare(model, landscape).assign(method=run.method))
    means = pd.concat(tables).groupby(["method", "surrogate"]).mean()
    print(means.to_string(float_format="{:.3f}".format))


if __name__ == "__main__":
    main()
