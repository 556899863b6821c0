"""Reads the CSV files of a suite, for the report: this is the only file that knows their names and columns."""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.recording import EVALUATIONS, REPEAT, is_finished, read_record
from benchmarks.schema import load_suite
from benchmarks.suite import Run, list_runs

RESULTS = Path(__file__).parent / "results"
# How many evaluations of Q an update takes on landscapes; written by `python -m benchmarks.q_evaluations`
Q_EVALUATIONS = RESULTS / "q_evaluations.csv"

UNTRAINED = "untrained agents, or first evaluations"
# Greatest possible returns. Upright and at rest, the single one earns 1 in each of 1,000 steps, and the double one 9.36.
PENDULUMS = {"InvertedPendulumRestricted-v4": 1000.0, "InvertedDoublePendulumRestricted-v4": 9360.0}
# What a score of 0 and a score of 1 stand for, where it is known. `python -m benchmarks.oracles` measures the two
# discrete tasks.
KNOWN_RANGES: dict[str, tuple[float | None, float | None, str]] = {
    "MiningExpedition-v0": (0.26, 10.67, "random actions; shortest way to the goal"),
    "RecSim-v0": (2.71, 9.72, "random items; a recommender that knows users and items from the inside"),
    **{task: (None, highest, f"{UNTRAINED}; greatest possible return") for task, highest in PENDULUMS.items()},
}
FROM_THE_RUNS = f"{UNTRAINED}; highest final score of a method in this report"
# A run breaks through when it first evaluates above this return, 90 % of the greatest possible one
THRESHOLDS = {task: 0.9 * highest for task, highest in PENDULUMS.items()}
SHARE = "value of the chosen action, share of the optimum"
RETURN = "mean return of the evaluation episodes"
KEYS = ["task", "method", "seed"]
# What every evaluation of a run has; the other columns may be empty
COLUMNS = ["step", "return_mean", "wall_time", "updates"]
# Results from before the suites: one CSV file per run, with the task, the method and the seed in its name
OLD_SUITES = ("breakthrough", "discrete", "landscapes")
LANDSCAPE_RANGE = (0.0, 1.0, "a value of 0; the greatest value of the landscape, so scores are shares of the optimum")


@dataclass(frozen=True)
class Group:
    """
    Runs that can be compared, since they have the same budget.

    :param name: What distinguishes the group within its suite
    :param evaluations: One row per run and evaluation. Columns ``task``, ``method``, ``seed``, ``step``, ``score``, and where
        the runs recorded them ``seconds`` (wall time since the start), ``updates`` and other figures; on landscapes
        ``q_evaluations``
    :param expected: The planned runs; columns ``task``, ``method``, ``seed``
    :param step_unit: What a step is
    :param score_unit: What a score is
    :param ranges: Task → the scores that become 0 and 1, and what they are; None is estimated from the runs
    :param same_seed: What two runs of one task with the same seed have in common
    :param curves: Curve in the figure on the number of actors → its methods, and their numbers
    :param labels: Method → its name in figures and tables, where it is not the name of the method
    :param versions: What the runs recorded of the versions that they ran with
    :param commits: The commit of this repository that did each run, where it is recorded; columns ``task``, ``method``,
        ``seed``, ``commit``
    :param untrained: Task → the mean score of agents that have learned nothing yet, where runs evaluated them
    """

    name: str
    evaluations: pd.DataFrame
    expected: pd.DataFrame
    step_unit: str
    score_unit: str
    ranges: Mapping[str, tuple[float | None, float | None, str]] = field(default_factory=dict)
    same_seed: str = "seed"
    curves: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    versions: Sequence[str] = ()
    commits: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=[*KEYS, "commit"]))
    untrained: Mapping[str, float] = field(default_factory=dict)

    @property
    def missing(self) -> pd.DataFrame:
        """:return: The planned runs without results; columns ``task``, ``method``, ``seed``"""
        merged = self.expected.merge(self.evaluations[KEYS].drop_duplicates(), on=KEYS, how="left", indicator=True)
        return merged[merged["_merge"] == "left_only"][KEYS].sort_values(KEYS, ignore_index=True)


def load(suite: str, budget: str, folder: Path | None) -> list[Group]:
    """
    :param suite: Name of a suite, or path of its file
    :param budget: ``small`` or ``paper``
    :param folder: Folder of the results, or None for the one in which the runner puts them
    :return: The groups of comparable runs, also those of which no run is finished
    :raises FileNotFoundError: If the folder has no results
    :raises ValueError: If there is no such suite, its file is wrong, or the results of a run are damaged
    """
    if suite in OLD_SUITES:
        folder = folder or RESULTS / suite
        groups = landscape_groups(folder) if suite == "landscapes" else [return_group(folder)]
    else:
        folder = folder or RESULTS / "runs"
        labels = {name: method.get("label", name) for name, method in load_suite(suite).methods.items()}
        groups = suite_groups(list_runs(suite, budget), folder, labels)
    if all(group.evaluations.empty for group in groups):
        raise FileNotFoundError(f"There are no finished runs of suite={suite!r} in {folder}: do the runs first.")
    return groups


def suite_groups(runs: Iterable[Run], folder: Path, labels: Mapping[str, str]) -> list[Group]:
    """
    :param runs: The planned runs of a suite
    :param folder: Folder of the results
    :param labels: Method → its name in figures and tables
    :return: One group per kind and budget of landscape runs, and one for all other runs
    :raises ValueError: If two runs of a group have the same task, method and seed
    """
    planned: dict[str, list[Run]] = {}
    for run in runs:
        kind = run.task.rpartition("-")[2]
        is_landscape = run.settings["runner"].startswith("benchmarks.landscapes:")
        planned.setdefault(f"{kind} critic, {run.steps:,} updates" if is_landscape else "", []).append(run)
    return [suite_group(name, members, folder, labels) for name, members in planned.items()]


def suite_group(name: str, runs: Sequence[Run], folder: Path, labels: Mapping[str, str]) -> Group:
    """
    :param name: Name of the group
    :param runs: Its planned runs
    :param folder: Folder of the results
    :param labels: Method → its name in figures and tables
    :return: The group with the results of the finished runs
    :raises ValueError: If two runs have the same task, method and seed, or the results of a run are damaged
    """
    expected = pd.DataFrame([[run.task, run.method, run.seed] for run in runs], columns=KEYS)
    twice = expected[expected.duplicated()]
    if len(twice):
        task, method, seed = twice.iloc[0]
        raise ValueError(f"Two runs of {task}, {method}, seed {seed} differ in their settings: a report can not compare them.")
    tables, untrained, versions, commits = [], [], set(), []
    for run in runs:
        if is_finished(folder / run.name):
            key = {"task": run.task, "method": run.method, "seed": run.seed}
            record = read_record(folder / run.name, run)
            table = read_evaluations(folder / run.name / EVALUATIONS, COLUMNS, run.steps).assign(**key)
            is_untrained = table.step < run.steps // run.evaluations
            untrained.append(table[is_untrained])
            tables.append(table[~is_untrained])
            versions.add(", ".join(f"{package} {version}" for package, version in record["versions"].items()))
            if record.get("commit"):
                commits.append({**key, "commit": str(record["commit"])[:8]})
    empty = pd.DataFrame(columns=[*KEYS, "step", "return_mean"])
    evaluations = pd.concat(tables, ignore_index=True) if tables else empty
    if name and tables:
        evaluations = with_q_evaluations(evaluations)
    methods = list(dict.fromkeys(expected.method))
    return Group(
        name=name,
        evaluations=evaluations.rename(columns={"return_mean": "score", "wall_time": "seconds"}),
        expected=expected,
        step_unit="updates" if name else "environment steps",
        score_unit=SHARE if name else RETURN,
        ranges={
            task: LANDSCAPE_RANGE if name else KNOWN_RANGES[task]
            for task in set(expected.task)
            if name or task in KNOWN_RANGES
        },
        untrained=pd.concat(untrained).groupby("task").return_mean.mean().to_dict() if untrained else {},
        same_seed="seed and landscape" if name else "seed",
        curves=curves_over_actors(methods),
        labels={method: labels.get(method, method) for method in methods},
        versions=sorted(versions - {""}),
        commits=pd.DataFrame(commits, columns=[*KEYS, "commit"]),
    )


def read_evaluations(path: Path, columns: Sequence[str], steps: int) -> pd.DataFrame:
    """
    :param path: CSV file of a finished run
    :param columns: The columns that must have a finite number in every row; the first one is that of the steps
    :param steps: Steps of the run
    :return: Its table
    :raises ValueError: If the file is damaged; the message names it, and what is wrong
    """
    try:
        text = path.read_text()
        table = pd.read_csv(io.StringIO(text))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {str(error).strip()}. {REPEAT}") from error
    check_whole(path, damage(table, columns, steps) or ("" if text.endswith("\n") else "its last line is cut off"))
    return table


def check_whole(path: Path, wrong: str) -> None:
    """
    :param path: CSV file of a finished run
    :param wrong: What is wrong with it; nothing if it is whole
    :raises ValueError: If something is wrong
    """
    if wrong:
        raise ValueError(f"{path} is damaged: {wrong}. {REPEAT}")


def damage(table: pd.DataFrame, columns: Sequence[str], steps: int) -> str:
    """
    :param table: Evaluations of a finished run
    :param columns: As for :func:`read_evaluations`
    :param steps: Steps of the run
    :return: What is wrong with them; nothing if they are whole
    """
    absent = [name for name in columns if name not in table]
    if absent:
        return f"it has no column {', '.join(absent)}"
    if table.empty:
        return "it has no rows"
    if not isinstance(table.index, pd.RangeIndex):
        return "its rows are longer than its first line"
    for name, values in table.items():
        is_number = pd.api.types.is_numeric_dtype(values)
        if not is_number or np.isinf(values).any() or (name in columns and values.isna().any()):
            return f"its column {name} has a value that is not a finite number"
    step = table[columns[0]]
    if not step.is_monotonic_increasing or not step.is_unique:
        return f"its column {step.name} must rise from row to row"
    return f"it ends with {step.name} {step.max():,}, and the run has {steps:,}" if step.max() < steps else ""


def with_q_evaluations(evaluations: pd.DataFrame) -> pd.DataFrame:
    """
    :param evaluations: Evaluations on landscapes, with ``updates``
    :return: The same with ``q_evaluations``, how often Q was evaluated until then; NaN where that was not counted, and without
        this column where it was counted for no task
    """
    counts = pd.read_csv(Q_EVALUATIONS)[["task", "method", "per_update"]]
    if not evaluations.task.isin(counts.task).any():
        return evaluations
    merged = evaluations.merge(counts, on=["task", "method"], how="left")
    return merged.assign(q_evaluations=merged.updates * merged.per_update).drop(columns="per_update")


def landscape_groups(folder: Path) -> list[Group]:
    """
    :param folder: Folder with the folders ``frozen`` and ``learned`` of files ``TASK-METHOD-SEED-UPDATES.csv``
    :return: One group per kind and number of updates
    :raises ValueError: If a file is damaged
    """
    pattern = r"(?P<task>.+)-(?P<method>.+)-(?P<seed>\d+)-(?P<budget>\d+)"
    runs = []
    for path in sorted(folder.glob("*/*.csv")):
        key = file_key(path, pattern)
        table = read_evaluations(path, ["updates", "chosen"], int(key["budget"]))
        runs.append(table.assign(kind=path.parent.name, **key))
    if not runs:
        return []
    evaluations = pd.concat(runs, ignore_index=True).assign(step=lambda rows: rows.updates, score=lambda rows: rows.chosen)
    # The name of SAVO with one actor was that of TD3, from which it differs
    evaluations["method"] = evaluations.method.str.replace(r"^td3", "savo_1_actor", regex=True)
    groups = []
    for (kind, budget), rows in evaluations.groupby(["kind", "budget"]):
        groups.append(
            Group(
                name=f"{'frozen critic' if kind == 'frozen' else 'learned critic'}, {int(budget):,} updates",
                evaluations=rows.drop(columns=["kind", "budget", "chosen"]),
                expected=every_seed(rows),
                step_unit="updates",
                score_unit=SHARE,
                ranges=dict.fromkeys(rows.task.unique(), LANDSCAPE_RANGE),
                same_seed="seed and landscape",
                curves=curves_over_actors(rows.method.unique()),
            )
        )
    return groups


def return_group(folder: Path) -> Group:
    """
    :param folder: Folder of files ``TASK-METHOD-SEED.csv``, or ``METHOD-SEED.csv`` of the restricted pendulum
    :return: The runs, with mean returns as scores
    :raises ValueError: If a file is damaged
    """
    pattern = r"(?:(?P<task>.+-v\d+)-)?(?P<method>[^-]+)-(?P<seed>\d+)"
    columns = ["timestep", "mean_return"]
    keys = {path: file_key(path, pattern) for path in sorted(folder.glob("*.csv"))}
    runs = [read_evaluations(path, columns, 1).assign(**key) for path, key in keys.items()]
    # No file says how many steps its run has, but all runs of a task have equally many
    steps: dict[Any, int] = {}
    for table, key in zip(runs, keys.values(), strict=True):
        steps[key["task"]] = max(table.timestep.max(), steps.get(key["task"], 0))
    for table, (path, key) in zip(runs, keys.items(), strict=True):
        check_whole(path, damage(table[columns], columns, steps[key["task"]]))
    empty = pd.DataFrame(columns=["task", "method", "seed", "timestep", "mean_return"])
    evaluations = pd.concat(runs, ignore_index=True) if runs else empty
    evaluations = evaluations.rename(columns={"timestep": "step", "mean_return": "score"})
    return Group(
        name="",
        evaluations=evaluations,
        expected=every_seed(evaluations),
        step_unit="environment steps",
        score_unit=RETURN,
        ranges={task: KNOWN_RANGES[task] for task in evaluations.task.unique() if task in KNOWN_RANGES},
        curves=curves_over_actors(evaluations.method.unique()),
    )


def file_key(path: Path, pattern: str) -> dict[str, str | int]:
    """
    :param path: CSV file of a run
    :param pattern: Regular expression for its stem, with the groups ``task``, ``method``, ``seed`` and optionally ``budget``
    :return: The groups' values
    :raises ValueError: If the name does not match
    """
    match = re.fullmatch(pattern, path.stem)
    if match is None:
        raise ValueError(f"{path} is not named like a run: its stem must match {pattern}.")
    key: dict[str, str | int] = {
        name: int(v) if name in ("seed", "budget") else v for name, v in match.groupdict().items() if v
    }
    return {"task": "InvertedPendulumRestricted-v4", **key}


def every_seed(evaluations: pd.DataFrame) -> pd.DataFrame:
    """
    :param evaluations: Rows with ``task``, ``method`` and ``seed``
    :return: The planned runs where no suite states them: every method with any result on a task, with every seed of that task
    """
    pairs = evaluations[["task", "method"]].drop_duplicates()
    return pairs.merge(evaluations[["task", "seed"]].drop_duplicates(), on="task")


def curves_over_actors(methods: Iterable[str]) -> dict[str, dict[str, int]]:
    """
    :param methods: Names of methods, such as ``savo``, ``savo_1_actor`` and ``savo_10_actors``
    :return: Curve → its methods and their numbers of actors. A curve has the name of a method with three actors. One actor has
        no surrogate, so it begins the curve of every surrogate
    """
    methods = list(methods)
    curves: dict[str, dict[str, int]] = {}
    for method in methods:
        match = re.fullmatch(r"(.+)_(\d+)_actors?", method)
        if match and match[1] in methods:
            curves.setdefault(match[1], {match[1]: 3})[method] = int(match[2])
    for first in [method for method in methods if method.endswith("_1_actor")]:
        for curve, members in curves.items():
            if curve.startswith(first.removesuffix("1_actor")):
                members[first] = 1
    return curves
