"""
What a report says first: how often the compared method is first, by how much it is ahead, and how sure that is.

Only methods with enough seeds on every task take part. :func:`summarize` computes the tables, and :func:`sentences` says them
in words. The command prints these sentences, the report begins with them, and the documentation quotes them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from benchmarks.results import Group
from benchmarks.statistics import MIN_SEEDS
from benchmarks.tables import ALL_TASKS, aggregate, compare, score_runs
from benchmarks.words import number, plural, seed_ranges, with_interval

SINGLE_ACTORS = ("td3", "savo_1_actor")
VERDICTS = {"better": "better", "no difference shown": "not shown to differ", "worse": "worse"}


class Summary(NamedTuple):
    """
    The tables of the summary.

    :param methods: The methods that take part, the compared one first
    :param places: One row per task and seed that all of them finished: the ``first`` and ``second`` method, and the ``lead``
    :param aggregates: The aggregates of each of them
    :param comparisons: The compared method with every other on every task, by final score
    :param best_others: The rows of ``comparisons`` with the best of the others on each task, and on all tasks
    """

    methods: list[str]
    places: pd.DataFrame
    aggregates: pd.DataFrame
    comparisons: pd.DataFrame
    best_others: pd.DataFrame


def order_of_methods(group: Group, method: str | None = None) -> list[str]:
    """
    :param group: The runs
    :param method: The method to compare with every other, or None for SAVO, if it has run, or SAVO with the hybrid surrogate
    :return: The methods with a finished run, the compared one first
    :raises ValueError: If the method has no finished run
    """
    found = [name for name in dict.fromkeys(group.expected.method) if name in set(group.evaluations.method)]
    if method is not None and method not in found:
        raise ValueError(f"--method={method} has no finished run; the methods are {', '.join(found)}.")
    ours = method or next((name for name in ("savo", "savo_hybrid") if name in found), found[0])
    return [ours, *(name for name in found if name != ours)]


def with_enough_seeds(runs: pd.DataFrame, methods: Sequence[str]) -> list[str]:
    """
    :param runs: One row per run
    :param methods: Some methods
    :return: Those of them that have finished every task with at least :data:`MIN_SEEDS` seeds of the first method, in the
        same order
    """
    n_tasks = runs.groupby(["method", "seed"]).task.nunique()
    complete = n_tasks[n_tasks == runs.task.nunique()].reset_index()
    seeds = {method: set(complete.seed[complete.method == method]) for method in methods}
    return [method for method in methods if len(seeds[method] & seeds[methods[0]]) >= MIN_SEEDS]


def first_places(runs: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """
    :param runs: One row per run, with ``final``
    :param methods: Some methods, the compared one first; where two are equal, the other is called first
    :return: One row per task and seed that all of them finished: the ``first`` and ``second`` method, and the ``lead`` of the
        first in units of the score
    """
    wide = runs.pivot(index=["task", "seed"], columns="method", values="final")[list(reversed(methods))].dropna()
    rows = []
    for (task, seed), scores in wide.iterrows():
        ranked = scores.sort_values(ascending=False, kind="stable")
        rows.append([task, seed, *ranked.index[:2], ranked.iloc[0] - ranked.iloc[1]])
    return pd.DataFrame(rows, columns=["task", "seed", "first", "second", "lead"])


def best_others(comparisons: pd.DataFrame) -> pd.DataFrame:
    """
    :param comparisons: One method with every other on the same tasks
    :return: The rows in which the other method has the highest mean of the others
    """
    return comparisons.loc[comparisons.groupby("task", sort=False).difference.idxmin()].reset_index(drop=True)


def summarize(group: Group, methods: Sequence[str]) -> Summary | None:
    """
    :param group: The runs
    :param methods: The methods, the compared one first
    :return: The tables, or None if the compared method and another do not have enough seeds
    """
    runs = score_runs(group)
    complete = with_enough_seeds(runs, methods)
    if len(complete) < 2 or complete[0] != methods[0]:
        return None
    comparisons = compare(runs, complete[0], complete[1:], "final_normalized")
    return Summary(complete, first_places(runs, complete), aggregate(runs, complete), comparisons, best_others(comparisons))


def sentences(group: Group, summary: Summary | None) -> list[str]:
    """
    :param group: The runs
    :param summary: Their tables, or None
    :return: What the tables say, each a sentence or two
    """
    if summary is None:
        return [f"Too few seeds: no comparison has {MIN_SEEDS} seeds of both methods on every task, so nothing is claimed."]
    label = {method: group.labels.get(method, method) for method in summary.methods}
    ours = summary.methods[0]
    n_tasks = summary.comparisons.task[~summary.comparisons.task.str.startswith(ALL_TASKS)].nunique()
    said = [f"With {MIN_SEEDS} or more seeds on every task: {', '.join(label.values())}."]
    if "landscape" in group.same_seed:
        said.append(say_places(summary.places, ours, label, n_tasks))
    table = summary.aggregates.sort_values("IQM", ascending=False, kind="stable")
    ranked = "; ".join(
        f"{label[row['method']]} {with_interval(row['IQM'], row['IQM_low'], row['IQM_high'])}"
        for row in table.to_dict("records")
    )
    said.append(f"Interquartile mean of the normalized final scores of {plural(n_tasks, 'task')}: {ranked}.")
    tasks = summary.comparisons.groupby("other", sort=False)
    best = summary.best_others.other.iloc[0]
    for other in dict.fromkeys([*(name for name in SINGLE_ACTORS if name in label), best]):
        if other != ours:
            title = f"{label[ours]} against {label[other]}{', the best of the others on all tasks' * (other == best)}"
            said.append(f"{title}: {say_comparisons(tasks.get_group(other))}.")
    if n_tasks > 1:
        said.append(f"{label[ours]} against the best of the others on each task: {say_verdicts(summary.best_others[1:])}.")
    return said


def say_places(places: pd.DataFrame, ours: str, label: dict[str, str], n_tasks: int) -> str:
    """
    :param places: The table of first places
    :param ours: The compared method
    :param label: Method → its name in words
    :param n_tasks: Number of tasks
    :return: How often each method is first, and the smallest lead of the compared one
    """
    if places.empty:
        return "No landscape was finished by all of them."
    counts = places["first"].value_counts()
    text = f"{label[ours]} is first on {counts.get(ours, 0)} of {plural(len(places), 'landscape')} that all of them finished "
    text += f"({plural(n_tasks, 'task')}, seeds {seed_ranges(places.seed)})."
    others = [f"{label[name]} {n}" for name, n in counts.items() if name != ours]
    ties = int(((places.lead == 0) & (places.second == ours)).sum())
    if others:
        text += f" The others are first on: {', '.join(others)}{f' (ties, which count for them: {ties})' * (ties > 0)}."
    if ours in counts:
        least = places[places["first"] == ours].nsmallest(1, "lead").iloc[0]
        text += (
            f" Its smallest lead is {least.lead:.2g}, ahead of {label[least.second]} on {least.task}, seed {least.seed}; its "
            f"median lead over the second is {places[places['first'] == ours].lead.median():.2g}."
        )
    return text


def say_verdicts(table: pd.DataFrame) -> str:
    """
    :param table: Comparisons on single tasks
    :return: On how many tasks the compared method is better, worse, or neither is shown
    """
    tasks = {
        kind: [task.removesuffix("-frozen").removesuffix("-learned") for task in table.task[table.verdict == kind]]
        for kind in VERDICTS
    }
    return ", ".join(
        f"{word} on {len(tasks[kind])}" + f" ({', '.join(tasks[kind])})" * (0 < len(tasks[kind]) < len(table))
        for kind, word in VERDICTS.items()
    )


def say_comparisons(table: pd.DataFrame) -> str:
    """
    :param table: The comparisons of two methods on all tasks, if these are several, and on each
    :return: The difference and the probability of improvement, in pairs and of all pairs of runs
    """
    together, single = table.iloc[0], table[~table.task.str.startswith(ALL_TASKS)]
    text = "difference of the normalized scores " + with_interval(
        together.difference, together.difference_low, together.difference_high
    )
    if len(single) > 1:
        text += f", on single tasks {say_verdicts(single)}"
    names = {"probability": "in runs of the same seed" if together.paired else "of independent runs"}
    if together.paired:
        names["rliable"] = "of all pairs of runs (rliable)"
    for name, words in names.items():
        text += f"; probability of improvement {words} "
        text += with_interval(together[name], together[f"{name}_low"], together[f"{name}_high"])
        if len(single) > 1:
            least = single.loc[single[name].idxmin()]
            text += f", on single tasks at least {number(least[name])} ({least.task})" if least[name] < 1 else " on every task"
    return text
