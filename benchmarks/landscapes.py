"""
How well does each method maximize? The tasks have one step and a known landscape. Networks, batches, updates and noise are
equal for all methods, except that GreedyAC explores by its own samples.

    python -m benchmarks.landscapes frozen             # the landscape replaces the critic: measures the maximization alone
    python -m benchmarks.landscapes learned            # the whole algorithm learns from interaction
    python -m benchmarks.landscapes frozen --report    # only print the tables

Every method and task is assessed on the same 1,000 contexts. ``chosen``: value of the chosen action, as a share of the
greatest value. ``candidate_i``: the value of candidate i alone, as such a share. ``within_1`` and ``within_10``: share of
contexts in which the chosen action is within 1 % or 10 % of the greatest value. ``gap``: suboptimality of Eq. 4 under the
landscape. ``q_gap``, in a learned run: suboptimality under the learned Q, by dense search.

The seed of a run is also the seed of its landscape. Finished runs are skipped, so the command can be stopped and run again.
"""

import argparse
from pathlib import Path

import pandas as pd
import torch as th
from scipy import stats

from benchmarks.landscape_tasks import CHECKPOINTS, FREQUENCIES, METHODS, SHARED, TASKS, make_model, steps_per_update
from benchmarks.runs import add_arguments, run_all, write_when_complete
from sb3_savo.analysis import highest_q
from sb3_savo.common.maximizer import MaximizerAlgorithm
from sb3_savo.envs.landscapes import CONTEXT_DIM, Landscape

BEST = "savo_hybrid"
N_CONTEXTS = 1_000


def assess(model: MaximizerAlgorithm, landscape: Landscape, learned: bool) -> dict[str, float]:
    """
    :param model: The agent
    :param landscape: The landscape that the agent maximized
    :param learned: Whether the critic was learned
    :return: The figures of this benchmark, by name
    """
    generator = th.Generator().manual_seed(0)
    contexts = th.rand(N_CONTEXTS, CONTEXT_DIM, generator=generator) * 2 - 1
    with th.no_grad():
        proposals = model.policy.propose(contexts, deterministic=True)
        actions, _ = model.policy.snap(proposals)
        chosen, _, _ = model.policy.maximize(contexts, actions)
        # The maximizer does not evaluate a single candidate, so ask the critic
        q_values = model.critic.q1(contexts, actions)
        greatest = landscape(contexts, landscape.best(contexts).unsqueeze(1))
        values = landscape(contexts, th.cat([chosen.unsqueeze(1), actions], dim=1))
    shares = values / greatest
    figures = {
        "chosen": shares[:, 0].mean().item(),
        "within_1": (shares[:, 0] > 0.99).float().mean().item(),
        "within_10": (shares[:, 0] > 0.9).float().mean().item(),
        "gap": (greatest[:, 0] - values[:, 0]).mean().item(),
    }
    if learned:
        top = th.cat([highest_q(model.policy, part) for part in contexts.split(100)])
        figures["q_gap"] = (top - q_values.amax(dim=1)).clamp(min=0).mean().item()
    return figures | {f"candidate_{i}": share.mean().item() for i, share in enumerate(shares[:, 1:].T)}


def run(kind: str, task: str, method: str, seed: int, n_updates: int, folder: Path) -> None:
    """
    :param kind: ``frozen`` or ``learned``
    :param task: One of :data:`TASKS`
    :param method: One of :data:`METHODS`
    :param seed: Seed of the run and of the landscape
    :param n_updates: Number of updates
    :param folder: Results folder
    """
    path = folder / f"{task}-{method}-{seed}-{n_updates}.csv"
    if path.exists():
        return
    th.set_num_threads(1)
    model, landscape = make_model(kind, task, method, seed, n_updates)
    rows = []
    for checkpoint in [c for c in CHECKPOINTS if c < n_updates] + [n_updates]:
        n_steps = SHARED["learning_starts"] + checkpoint * steps_per_update(kind) - model.num_timesteps
        model.learn(n_steps, reset_num_timesteps=False, log_interval=None)
        rows.append({"updates": checkpoint, **assess(model, landscape, kind == "learned")})
    write_when_complete(path, pd.DataFrame(rows).to_csv(index=False, float_format="%.5f"))


def collect(folder: Path) -> pd.DataFrame:
    """
    :param folder: Results folder
    :return: One row per run and checkpoint
    """
    paths = sorted(folder.glob("*.csv"))
    if not paths:
        raise SystemExit(f"There are no results in {folder}.")
    tables = []
    for path in paths:
        task, method, seed, n_updates = path.stem.split("-")
        key = {"task": task, "method": method, "seed": int(seed), "budget": int(n_updates)}
        tables.append(pd.read_csv(path).assign(**key))
    return pd.concat(tables)


def with_interval(values: pd.Series) -> str:
    """
    :param values: One value per seed
    :return: The mean, and the half width of its 95 % interval by Student's t
    """
    if len(values) < 2:
        return f"{values.mean():.3f}"
    return f"{values.mean():.3f} ±{stats.t.ppf(0.975, len(values) - 1) * values.sem():.3f}"


def gains_over(results: pd.DataFrame, methods: list[str], tasks: list[str]) -> pd.DataFrame:
    """
    :param results: One row per run
    :param methods: Rows of the table
    :param tasks: Columns of the table
    :return: ``chosen`` of :data:`BEST` minus ``chosen`` of each method, paired by landscape: for every task, and for the mean
        over the tasks that both methods finished with a seed
    """
    chosen = results.set_index(["task", "seed", "method"]).chosen.unstack()
    if BEST not in chosen:
        return pd.DataFrame()
    columns = {}
    for method in methods:
        gain = (chosen[BEST] - chosen[method]).dropna()
        if method != BEST and not gain.empty:
            per_task = gain.groupby("task").agg(with_interval)
            columns[method] = {**per_task, "all": with_interval(gain.groupby("seed").mean())}
    return pd.DataFrame(columns).T.reindex(columns=[*tasks, "all"])


def report(folder: Path) -> None:
    """
    Print three tables per number of updates: ``chosen`` for every task and method, its difference from ``chosen`` of SAVO with
    the hybrid surrogate on the same landscapes, and the other figures.

    :param folder: Results folder
    """
    everything = collect(folder)
    for (budget, updates), results in everything.groupby(["budget", "updates"]):
        methods = [method for method in METHODS if method in set(results.method)]
        tasks = [task for task in TASKS if task in set(results.task)]
        counts = results.groupby(["task", "method"]).seed.count()
        print(f"\n{updates} updates of {budget}; {counts.min()} to {counts.max()} runs per cell; 95 % intervals of the mean")
        chosen = results.pivot_table("chosen", ["method", "task"], aggfunc=with_interval).chosen.unstack()
        print(f"\nchosen action: share of the greatest value\n{chosen.loc[methods, tasks].to_string(na_rep='')}")
        gains = gains_over(results, methods, tasks)
        if not gains.empty:
            print(f"\n{BEST} minus each method, in pairs on the same landscape\n{gains.to_string(na_rep='')}")
        figures = [name for name in results if name not in ("task", "method", "seed", "budget", "updates", "chosen")]
        means = results.groupby(["task", "method"])[figures].mean().reindex(pd.MultiIndex.from_product([tasks, methods]))
        print(f"\n{means.dropna(how='all').to_string(float_format='{:.3f}'.format, na_rep='')}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "kind", choices=FREQUENCIES, help="frozen: the landscape replaces the critic; learned: the critic learns"
    )
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    add_arguments(parser, "landscapes", seeds=5, n_steps=CHECKPOINTS[0], methods=tuple(METHODS), unit="updates")
    args = parser.parse_args()

    folder = args.folder / args.kind
    folder.mkdir(parents=True, exist_ok=True)
    if not args.report:
        runs = [
            (args.kind, task, method, seed, args.n_steps, folder)
            for task in args.tasks
            for seed in range(args.seeds)
            for method in args.methods
            if task == "Items" or not method.endswith("_raw_q")
        ]
        run_all(run, runs, args.jobs)
    report(folder)


if __name__ == "__main__":
    main()
