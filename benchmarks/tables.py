"""The tables of a report: scores of the runs, their aggregates, and the comparisons of one method with every other."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from benchmarks import statistics
from benchmarks.results import FROM_THE_RUNS, Group
from benchmarks.statistics import MIN_SEEDS

ALL_TASKS = "all tasks"
AGGREGATES = {
    "IQM": statistics.interquartile_mean,
    "mean": statistics.mean,
    "median of tasks": statistics.median_of_tasks,
    "optimality gap": statistics.optimality_gap,
}
TOO_FEW = "too few seeds"


def score_runs(group: Group) -> pd.DataFrame:
    """
    :param group: A group
    :return: One row per run: ``final``, the mean score of the last tenth of its evaluations and at least of the last one;
        ``whole``, the mean score of all evaluations, which rewards learning early; and both normalized, as
        ``final_normalized`` and ``whole_normalized``
    """
    ordered = group.evaluations.sort_values("step").groupby(["task", "method", "seed"]).score
    runs = ordered.agg(final=lambda scores: scores.tail(max(len(scores) // 10, 1)).mean(), whole="mean").reset_index()
    scale = normalization(group, runs).set_index("task")
    for name in ("final", "whole"):
        low, high = runs.task.map(scale.low), runs.task.map(scale.high)
        runs[f"{name}_normalized"] = (runs[name] - low) / (high - low)
    return runs


def normalization(group: Group, runs: pd.DataFrame) -> pd.DataFrame:
    """
    :param group: A group
    :param runs: One row per run, with ``task``, ``method`` and ``final``
    :return: For every task the scores ``low`` and ``high`` that become 0 and 1, and their ``meaning``
    """
    first = group.evaluations.sort_values("step").groupby(["task", "method", "seed"]).score.first().groupby("task").mean()
    best = runs.groupby(["task", "method"]).final.mean().groupby("task").max()
    rows = []
    for task in sorted(runs.task.unique()):
        low, high, meaning = group.ranges.get(task, (None, None, FROM_THE_RUNS))
        low = group.untrained.get(task, first[task]) if low is None else low
        high = best[task] if high is None else high
        # Runs that never improved have no range
        rows.append({"task": task, "low": low, "high": high if high > low else low + 1, "meaning": meaning})
    return pd.DataFrame(rows)


def breakthroughs(evaluations: pd.DataFrame, methods: Sequence[str], thresholds: Mapping[str, float]) -> pd.DataFrame:
    """
    :param evaluations: One row per run and evaluation
    :param methods: The methods in the order of the table
    :param thresholds: Task → the return above which a run has broken through
    :return: One row per task with a threshold and method: number of ``seeds``, how many ``broke_through``, the
        ``median_step`` of their first evaluation above the threshold, infinite if at most half did; and ``stayed``: the share
        of their later evaluations that are above it, as a mean of the runs that have later evaluations
    """
    rows = []
    for task, threshold in thresholds.items():
        for method in methods:
            runs = [run for _, run in evaluations[(evaluations.task == task) & (evaluations.method == method)].groupby("seed")]
            # NaN for a run that did not break through
            first = pd.Series([run.step[run.score > threshold].min() for run in runs], dtype=float)
            above = [(run.score[run.step > step] > threshold).mean() for run, step in zip(runs, first, strict=True)]
            if runs:
                row = {"task": task, "method": method, "seeds": len(runs), "broke_through": int(first.notna().sum())}
                rows.append({**row, "median_step": first.fillna(np.inf).median(), "stayed": pd.Series(above).mean()})
    return pd.DataFrame(rows)


def matrix(runs: pd.DataFrame, method: str, tasks: Sequence[str], column: str) -> pd.DataFrame:
    """
    :param runs: One row per run
    :param method: A method
    :param tasks: Some tasks
    :param column: Name of a score
    :return: The scores, one row per seed that the method finished on all these tasks, one column per task
    """
    rows = runs[runs.method == method]
    return rows.pivot(index="seed", columns="task", values=column).reindex(columns=list(tasks)).dropna()


def per_task(runs: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """
    :param runs: One row per run
    :param methods: The methods in the order of the table
    :return: One row per task and method: number of seeds, and mean, ``low`` and ``high`` of ``final`` and of ``whole``
    """
    rows = []
    for task in sorted(runs.task.unique()):
        for method in methods:
            row: dict[str, str | float] = {"task": task, "method": method}
            for column in ("final", "whole"):
                scores = matrix(runs, method, [task], column).to_numpy()
                if len(scores):
                    value, low, high = statistics.estimate(scores, statistics.mean)
                    row |= {"seeds": len(scores), column: value, f"{column}_low": low, f"{column}_high": high}
            if "seeds" in row:
                rows.append(row)
    return pd.DataFrame(rows)


def aggregate(runs: pd.DataFrame, methods: Sequence[str], column: str = "final_normalized") -> pd.DataFrame:
    """
    :param runs: One row per run
    :param methods: The methods in the order of the table
    :param column: Name of a normalized score
    :return: One row per method that finished every task with at least one seed: number of such seeds, and every aggregate of
        :data:`AGGREGATES` with its bounds
    """
    rows = []
    tasks = sorted(runs.task.unique())
    for method in methods:
        scores = matrix(runs, method, tasks, column).to_numpy()
        if len(scores):
            row: dict[str, str | float] = {"method": method, "seeds": len(scores)}
            for name, statistic in AGGREGATES.items():
                value, low, high = statistics.estimate(scores, statistic)
                row |= {name: value, f"{name}_low": low, f"{name}_high": high}
            rows.append(row)
    columns = [f"{name}{bound}" for name in AGGREGATES for bound in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=["method", "seeds", *columns])


def compare(runs: pd.DataFrame, ours: str, others: Sequence[str], column: str) -> pd.DataFrame:
    """
    :param runs: One row per run
    :param ours: The method to compare with every other
    :param others: The other methods
    :param column: Name of a normalized score
    :return: One row per other method and task, and one for all tasks that both finished if these are several: number of seeds,
        whether they are paired, mean difference and probability of improvement with bounds, the probability of improvement of
        all pairs of runs as ``rliable``, and the verdict
    """
    rows = []
    for other in others:
        tasks = sorted({*runs[runs.method == ours].task} & {*runs[runs.method == other].task})
        for where in [*([tasks] if len(tasks) > 1 else []), *([task] for task in tasks)]:
            name = f"{ALL_TASKS} ({len(where)})" if len(where) > 1 else where[0]
            mine, theirs = matrix(runs, ours, where, column), matrix(runs, other, where, column)
            rows.append({"task": name, "method": ours, "other": other, **compare_scores(mine, theirs)})
    return pd.DataFrame(rows)


def compare_scores(ours: pd.DataFrame, theirs: pd.DataFrame) -> dict[str, object]:
    """
    Compare in pairs if enough seeds have run with both methods, else compare all runs of the one with all of the other.

    :param ours: Scores of one method, one row per seed, one column per task
    :param theirs: Scores of another method, likewise
    :return: The columns of :func:`compare` after the names
    """
    common = ours.index.intersection(theirs.index)
    paired = len(common) >= MIN_SEEDS or len(common) == min(len(ours), len(theirs))
    a, b = (ours.loc[common], theirs.loc[common]) if paired else (ours, theirs)
    n = min(len(a), len(b))
    if n == 0:
        difference = probability = rliable = statistics.Estimate(np.nan, np.nan, np.nan)
    else:
        a, b = a.to_numpy(), b.to_numpy()
        difference = statistics.mean_difference(a, b, paired)
        probability = statistics.probability_of_improvement(a, b, paired)
        rliable = statistics.probability_of_improvement(ours.to_numpy(), theirs.to_numpy(), paired=False)
    verdict = "no difference shown"
    if n < MIN_SEEDS:
        verdict = TOO_FEW
    elif difference.low > 0:
        verdict = "better"
    elif difference.high < 0:
        verdict = "worse"
    return {
        "seeds": n,
        "paired": paired,
        "difference": difference.value,
        "difference_low": difference.low,
        "difference_high": difference.high,
        "probability": probability.value,
        "probability_low": probability.low,
        "probability_high": probability.high,
        "rliable": rliable.value,
        "rliable_low": rliable.low,
        "rliable_high": rliable.high,
        "verdict": verdict,
    }


def mean_curves(evaluations: pd.DataFrame, methods: Sequence[str], column: str = "score") -> pd.DataFrame:
    """
    :param evaluations: One row per run and evaluation; all runs were evaluated at equal steps
    :param methods: Methods with enough seeds on every task
    :param column: What to average; methods that have not recorded it get no row
    :return: One row per method and ``step``: mean of the column over all tasks with bounds, as ``mean``, ``low``, ``high``, of
        the seeds that finished every task, and, where they are known, the mean number of ``q_evaluations`` until then
    """
    n_tasks = evaluations.task.nunique()
    rows = []
    for method in methods:
        for step, now in evaluations[evaluations.method == method].groupby("step"):
            scores = now.pivot(index="seed", columns="task", values=column).dropna()
            if len(scores) and scores.shape[1] == n_tasks:
                value, low, high = statistics.estimate(scores.to_numpy(), statistics.mean)
                row = {"method": method, "step": step}
                if "q_evaluations" in now:
                    row["q_evaluations"] = now.groupby("task").q_evaluations.mean().mean(skipna=False)
                rows.append({**row, "seeds": len(scores), "mean": value, "low": low, "high": high})
    return pd.DataFrame(rows)


def candidate_curves(evaluations: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """
    :param evaluations: As for :func:`mean_curves`; ``candidate_0``, ``candidate_1``, …: what each candidate alone is worth
    :param methods: Methods with enough seeds on every task
    :return: The rows of :func:`mean_curves` for each candidate of the methods that have several, and for the ``score``, which
        is that of the chosen candidate; ``shown`` says which
    """
    if "candidate_1" not in evaluations:
        return pd.DataFrame()
    several = [method for method in methods if evaluations.candidate_1[evaluations.method == method].notna().all()]
    names = [name for name in evaluations if re.fullmatch(r"candidate_\d+|score", name)]
    return pd.concat([mean_curves(evaluations, several, name).assign(shown=name) for name in names], ignore_index=True)


def learning_curve(evaluations: pd.DataFrame, x: str, y: str, n_points: int = 50) -> pd.DataFrame:
    """
    :param evaluations: Evaluations of one method on one task, of all seeds
    :param x: Column of the horizontal axis
    :param y: Column of the figure
    :param n_points: Number of points where the runs were evaluated at different ``x``
    :return: Mean over the runs with bounds, columns ``x``, ``mean``, ``low``, ``high``; at the evaluations, if all runs were
        evaluated at the same ``x``, else interpolated over the range that all runs cover
    """
    wide = [run.sort_values(x)[[x, y]].dropna().to_numpy(float) for _, run in evaluations.groupby("seed")]
    wide = [run for run in wide if len(run)]
    if not wide:
        return pd.DataFrame(columns=["x", "mean", "low", "high"])
    grid = wide[0][:, 0]
    if any(len(run) != len(grid) or not np.array_equal(run[:, 0], grid) for run in wide):
        start, end = max(run[0, 0] for run in wide), min(run[-1, 0] for run in wide)
        grid = np.linspace(start, max(start, end), n_points)
    curves = np.stack([np.interp(grid, run[:, 0], run[:, 1]) for run in wide])
    low, high = statistics.bootstrap_of_curve(curves)
    return pd.DataFrame({"x": grid, "mean": curves.mean(axis=0), "low": low, "high": high})
