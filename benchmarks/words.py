"""Numbers, tables and verdicts of a report in plain words."""

from collections.abc import Iterable

import pandas as pd

from benchmarks.results import Group
from benchmarks.statistics import MIN_SEEDS
from benchmarks.tables import ALL_TASKS, TOO_FEW


def number(value: float) -> str:
    """
    :param value: A number
    :return: Three decimals, fewer for large numbers; empty for NaN
    """
    if pd.isna(value):
        return ""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 1_000 else f"{value:,.0f}"


def with_interval(value: float, low: float, high: float) -> str:
    """
    :param value: A figure
    :param low: Lower bound of its interval
    :param high: Upper bound of its interval
    :return: The figure and its interval, if it has one
    """
    return number(value) if pd.isna(low) else f"{number(value)} [{number(low)}, {number(high)}]"


def markdown(table: pd.DataFrame) -> str:
    """
    :param table: A table of texts
    :return: The same in Markdown
    """
    rows = [table.columns, ["---"] * len(table.columns), *table.to_numpy()]
    return "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)


def seeds_text(counts: pd.Series) -> str:
    """
    :param counts: Numbers of seeds
    :return: Their range in words
    """
    low, high = int(counts.min()), int(counts.max())
    return plural(low, "seed") if low == high else f"{low} to {high} seeds"


def seed_ranges(seeds: Iterable[int]) -> str:
    """
    :param seeds: Seeds, in any order
    :return: The same as single seeds and ranges, such as ``0-3, 7``
    """
    parts: list[list[int]] = []
    for seed in sorted(set(seeds)):
        if parts and parts[-1][-1] == seed - 1:
            parts[-1].append(seed)
        else:
            parts.append([seed])
    return ", ".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)


def missing_runs(group: Group) -> list[str]:
    """
    :param group: A group with missing runs
    :return: One line per method and set of seeds, with the tasks on which they are missing
    """
    seeds = group.missing.groupby(["method", "task"], sort=False).seed.agg(seed_ranges).reset_index()
    n_tasks = group.expected.task.nunique()
    return [
        f"{group.labels.get(method, method)}, seeds {text}: "
        + (", ".join(rows.task) if len(rows) < n_tasks or n_tasks == 1 else f"all {n_tasks} tasks")
        for (method, text), rows in seeds.groupby(["method", "seed"])
    ]


def plural(n: int, noun: str) -> str:
    """
    :param n: A number
    :param noun: What it counts
    :return: Both
    """
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def ranking(task: str, rows: pd.DataFrame, ours: str) -> str:
    """
    :param task: A task
    :param rows: Its rows in the table of final scores, with labels as methods
    :param ours: Label of the compared method
    :return: Which method has the highest mean, and where the compared method stands
    """
    rows = rows[rows.seeds >= MIN_SEEDS].sort_values("final", ascending=False)
    if len(rows) < 2:
        return f"{task}: {TOO_FEW} to rank the methods."
    best = number(rows.final.iloc[0])
    tied = rows.method[rows.final.map(number) == best].tolist()
    sentence = f"{task}: the highest mean is {best} ({', '.join(tied)})"
    mine = rows[rows.method == ours]
    if len(mine) and ours not in tied:
        place = int((rows.final > mine.final.iloc[0]).sum()) + 1
        sentence += f"; {ours} is number {place} of {len(rows)} with {number(mine.final.iloc[0])}"
    return f"{sentence}."


def highest_aggregate(table: pd.DataFrame, name: str) -> str:
    """
    :param table: The table of the aggregates, with labels as methods
    :param name: Name of an aggregate of which more is better
    :return: Which methods have the highest, and which are not clearly below them
    """
    top = table.sort_values(name, ascending=False).iloc[0]
    tied = table[table[name].map(number) == number(top[name])]
    rest = table[~table.method.isin(tied.method) & (table[f"{name}_high"] >= top[f"{name}_low"])]
    verb = "has" if len(tied) == 1 else "have"
    interval = with_interval(top[name], top[f"{name}_low"], top[f"{name}_high"])
    sentence = f"{', '.join(tied.method)} {verb} the highest {name}, {interval}."
    if len(rest):
        sentence += f" Of the others, these have an interval that overlaps with it: {', '.join(rest.method)}."
    return sentence


def best_of_figure(table: pd.DataFrame, name: str, less_is_better: bool) -> str:
    """
    :param table: One row per task and method, with labels as methods, and their number of ``seeds``
    :param name: Column of a figure
    :param less_is_better: Whether less is better
    :return: Which of the methods with enough seeds has the best figure on each task
    """
    table = table[table.seeds >= MIN_SEEDS]
    if table.empty:
        return f"`{name}`: {TOO_FEW} to rank the methods."
    places = []
    for task, rows in table.dropna(subset=[name]).groupby("task"):
        best = number(rows[name].min() if less_is_better else rows[name].max())
        places.append(f"{task} {', '.join(rows.method[rows[name].map(number) == best])} ({best})")
    return f"`{name}` is {'lowest' if less_is_better else 'highest'} for: {'; '.join(places)}."


def verdict(table: pd.DataFrame) -> str:
    """
    :param table: The table of the comparisons, with labels as methods
    :return: Its content in words, for and against the method
    """
    tested = table[table.verdict != TOO_FEW]
    if tested.empty:
        return f"Too few seeds: no comparison has {MIN_SEEDS} seeds of both methods, so nothing is claimed."
    ours, several = table.method.iloc[0], table.task.nunique() > 1
    meanings = {"better": "is better than", "worse": "is **worse** than", "no difference shown": "is not shown to differ from"}
    lines = []
    for kind, meaning in meanings.items():
        rows = tested[tested.verdict == kind]
        tasks = []
        for task, those in rows.groupby("task", sort=False):
            gains = ", ".join(f"{other} {gain:+.3f}" for other, gain in zip(those.other, those.difference, strict=True))
            tasks.append(f"on {task} {gains}" if several else gains)
        if tasks:
            lines.append(f"- {ours} {meaning}: {'; '.join(sorted(tasks, key=lambda text: ALL_TASKS not in text))}.")
    n = int((~tested.task.str.startswith(ALL_TASKS)).sum())
    lines.append(
        f"- The intervals are not corrected for the number of comparisons. Of {plural(n, 'comparison')} on single tasks "
        f"without any true difference, about {0.05 * n:.1f} would be called better or worse by chance."
    )
    if not tested.paired.all():
        lines.append("- Some comparisons are unpaired, since the methods did not run with the same seeds.")
    if len(tested) < len(table):
        lines.append(f"- {plural(len(table) - len(tested), 'comparison')} with {TOO_FEW} claim nothing.")
    return "\n".join(lines)
