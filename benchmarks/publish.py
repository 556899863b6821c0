"""
Write the tables of the README and of the documentation from stored results.

    python -m benchmarks.publish            # or make tables
    python -m benchmarks.publish --check    # writes nothing, and fails if a table is out of date

A document has a pair of lines for each table or list of sentences, ``<!-- table NAME -->`` and ``<!-- end -->``. What is
between them is written by this command, from the CSV files in ``benchmarks/results`` and ``benchmarks/reports``.
"""

import argparse
import functools
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from benchmarks.results import Q_EVALUATIONS, Group, load
from benchmarks.statistics import MIN_SEEDS, estimate, mean
from benchmarks.summary import Summary, order_of_methods, sentences, summarize
from benchmarks.words import markdown, number, with_interval

ROOT = Path(__file__).parent.parent
REPORTS, RESULTS = ROOT / "benchmarks" / "reports", ROOT / "benchmarks" / "results"
MAIN_METHODS = ("savo", "savo_1_actor", "ensemble", "greedyac", "wolpertinger_0.1", "cem")
LEARNED_METHODS = ("savo", "savo_1_actor")
FROZEN_METHODS = (*MAIN_METHODS, "savo_approximate")
NUMBERS_OF_ACTORS = ("savo_1_actor", "savo", "savo_10_actors")
FROZEN = "frozen critic, 2,500 updates"
TABLE = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def scores(path: Path) -> pd.DataFrame:
    """
    :param path: A report's table of final scores
    :return: Columns ``task``, ``method``, ``seeds``, and ``final`` and ``whole`` as texts with their intervals
    """
    table = pd.read_csv(path)
    for name in ("final", "whole"):
        table[name] = [with_interval(*row) for row in table[[name, f"{name}_low", f"{name}_high"]].to_numpy()]
    return table


def code(names: pd.Series) -> list[str]:
    """:return: Names in the type of code"""
    return [f"`{name}`" for name in names]


def breakthroughs(report: str, task: str) -> pd.DataFrame:
    """
    :param report: Folder of a report
    :param task: A task
    :return: When the runs of methods with enough seeds break through, and what they earn
    """
    found = pd.read_csv(REPORTS / report / "breakthroughs.csv")
    table = found[(found.task == task) & (found.seeds >= MIN_SEEDS)].merge(
        scores(REPORTS / report / "scores.csv"), on=["task", "method", "seeds"]
    )
    return pd.DataFrame(
        {
            "method": code(table.method),
            "seeds": table.seeds,
            "broke through": table.broke_through,
            "median step": [f"{step:,.0f}" for step in table.median_step],
            "stayed": table.stayed.map(number),
            "last tenth of the evaluations": table.final,
            "all evaluations": table.whole,
        }
    )


def common_tasks() -> pd.DataFrame:
    """:return: What the finished runs on the RL Zoo's common tasks earn at their last evaluation"""
    (group,) = load("common_tasks", "small", None)
    last = group.evaluations.sort_values("step").groupby(["task", "method", "seed"]).tail(1)
    table = last.groupby(["task", "method"]).agg(steps=("step", "max"), seeds=("seed", "nunique"), score=("score", "mean"))
    table = table.reset_index()
    return pd.DataFrame(
        {
            "task": code(table.task),
            "method": code(table.method),
            "steps": table.steps.map("{:,.0f}".format),
            "seeds": table.seeds,
            "return": table.score.map(number),
        }
    )


def returns(report: str) -> pd.DataFrame:
    """
    :param report: Folder of a report
    :return: What the runs of methods with enough seeds earn
    """
    table = scores(REPORTS / report / "scores.csv")
    table = table[table.seeds >= MIN_SEEDS]
    return pd.DataFrame(
        {
            "task": code(table.task),
            "method": code(table.method),
            "seeds": table.seeds,
            "last tenth of the evaluations": table.final,
            "all evaluations": table.whole,
        }
    )


def landscapes() -> pd.DataFrame:
    """:return: One row per method, one column per task"""
    table = scores(REPORTS / "landscapes" / "frozen-critic-2500-updates-scores.csv")
    table = table[table.seeds >= 5]
    wide = table.pivot(index="method", columns="task", values="final").reindex(table.method.unique())
    wide = wide.dropna().reset_index()
    return wide.assign(method=code(wide.method))


@functools.cache
def landscape_group(name: str, suite: str = "study_a") -> Group:
    """
    :param name: The kind of critic, and the number of updates
    :param suite: Name of a suite
    :return: Such runs of this suite
    """
    return next(group for group in load(suite, "small", None) if group.name == name)


def frozen_group() -> Group:
    """:return: The runs of study a with frozen critics and 2,500 updates"""
    return landscape_group(FROZEN)


@functools.cache
def frozen_summary() -> Summary | None:
    """:return: The tables with which the report of these runs begins"""
    return summarize(frozen_group(), order_of_methods(frozen_group()))


def study_best_others() -> pd.DataFrame:
    summary = frozen_summary()
    assert summary is not None
    table = summary.best_others
    titles = {"difference": "difference", "probability": "probability of improvement", "rliable": "of all pairs of runs"}
    columns = {
        title: [with_interval(*row) for row in table[[name, f"{name}_low", f"{name}_high"]].to_numpy()]
        for name, title in titles.items()
    }
    tasks = table.task.str.removesuffix("-frozen")
    return pd.DataFrame({"task": tasks, "best of the others": code(table.other), **columns, "verdict": table.verdict})


def study_means(group: Group, methods: Sequence[str], tasks: Sequence[str] = ()) -> pd.DataFrame:
    """
    :param group: Runs on landscapes
    :param methods: Methods to show
    :param tasks: Tasks to show; all if there are none
    :return: One row per method, one column per task: the mean over the landscapes that all these methods have finished, whose
        number is in parentheses, and from five landscapes on its interval
    """
    final = group.evaluations.groupby(["task", "method", "seed"]).score.last().unstack("method")
    missing = [method for method in methods if method not in final]
    if missing:
        raise ValueError(f"methods={missing}: the stored results of {group.name!r} have no run of these.")
    final = final[list(methods)].dropna()
    columns = {}
    for task, found in final.groupby("task"):
        name = str(task).rpartition("-")[0]
        if not tasks or name in tasks:
            means = [estimate(found[[method]].to_numpy(), mean) for method in found]
            columns[f"{name} ({len(found)})"] = [with_interval(*one) for one in means]
    return pd.DataFrame({"method": code(final.columns.to_series()), **columns})


def speed(name: str) -> pd.DataFrame:
    """:return: A table that ``benchmarks.speed`` has stored"""
    return pd.read_csv(RESULTS / "speed" / f"{name}-2.csv", comment="#")


def speed_update() -> pd.DataFrame:
    table = speed("update").dropna(subset="n_actors")
    kinds = {
        "eager": ("False", "highest"),
        "compiled": ("True", "highest"),
        'compiled, `precision="medium"`': ("True", "medium"),
    }
    rows = []
    for kind, (is_compiled, precision) in kinds.items():
        row = {"gradient step": kind}
        for shapes in ("Hopper", "RecSim"):
            found = table[
                (table.shapes == shapes) & (table.compile.astype(str) == is_compiled) & (table.precision == precision)
            ]
            for n_actors, ratio in zip(found.n_actors.astype(int), found.ratio, strict=True):
                row[f"{shapes}, {'1 actor' if n_actors == 1 else f'{n_actors} actors'}"] = f"{ratio:.2f}"
        rows.append(row)
    return pd.DataFrame(rows)


def speed_parts() -> pd.DataFrame:
    names = ("acting", "operations", "collection", "training", "memory")
    acting, operations, collection, training, memory = map(speed, names)
    parts = [
        ("`predict`, 1 observation", acting[acting.n_envs == 1], "SAVO {}"),
        ("`predict`, 16 observations", acting[acting.n_envs == 16], "SAVO {}"),
        ("`predict`, floating-point operations", operations, "SAVO {}"),
        ("collection, 1 environment", collection[collection.n_envs == 1], "SAVO {} highest"),
        ("collection, 16 environments", collection[collection.n_envs == 16], "SAVO {} highest"),
        ("step and gradient step, compiled", training, "SAVO {} highest"),
        ('step and gradient step, compiled, `precision="medium"`', training, "SAVO {} medium"),
        ("peak memory, eager", memory, "SAVO {}"),
        ("peak memory, compiled", memory, "SAVO {} compiled"),
    ]
    rows = []
    for part, table, name in parts:
        ratios = table.set_index("what").ratio
        row = {"part": part}
        for n_actors in (1, 3, 10):
            key = name.format(n_actors)
            row["1 actor" if n_actors == 1 else f"{n_actors} actors"] = f"{ratios[key]:.2f}" if key in ratios else ""
        rows.append(row)
    return pd.DataFrame(rows)


def agents() -> pd.DataFrame:
    table = pd.read_csv(RESULTS / "agents.csv")
    return pd.DataFrame(
        {
            "task": code(table.task),
            "steps": table.steps.map("{:,}".format),
            "updates": table.updates.map("{:,}".format),
            "episodes": table.episodes.map("{:,}".format),
            "return": [f"{number(mean)} ± {number(sd)}" for mean, sd in zip(table.return_mean, table.return_sd, strict=True)],
            "random actions": table.random_mean.map(number),
        }
    )


def items() -> pd.DataFrame:
    table = pd.read_csv(RESULTS / "items" / "items-1.csv", comment="#")
    seldom = 10_000 * (table.savo_act_ms + table.savo_update_ms / 20) / 60_000
    return pd.DataFrame(
        {
            "items": table.n_items.map("{:,}".format),
            "SAVO, minutes": table.savo_minutes.map("{:.1f}".format),
            "DQN, minutes": [f"{minutes:.1f}" if minutes > 0 else "not measured" for minutes in table.dqn_minutes],
            "SAVO / DQN": [f"{ratio:.1f}" if ratio > 0 else "" for ratio in table.ratio],
            "compiled SAVO / DQN": [f"{ratio:.1f}" if ratio > 0 else "" for ratio in table.compiled_ratio],
            "operations of an update, SAVO / DQN": [
                f"{ratio:.1f}" if ratio > 0 else "" for ratio in table.savo_update_mflop / table.dqn_update_mflop
            ],
            "SAVO with an update per 20 steps, minutes": seldom.map("{:.1f}".format),
        }
    )


def oracles() -> pd.DataFrame:
    table = pd.read_csv(RESULTS / "oracles.csv")
    return pd.DataFrame(
        {
            "environment": code(table.env),
            "policy": table.policy,
            "mean return": [
                f"{mean:.2f} ±{error:.2f}" for mean, error in zip(table.mean_return, table.standard_error, strict=True)
            ],
            "mean length": table.mean_length.map(number),
            "solved": table.solved.map(number),
        }
    )


def evaluations() -> pd.DataFrame:
    table = pd.read_csv(Q_EVALUATIONS)
    table = table[table.method.isin(FROZEN_METHODS)]
    columns = {}
    for task, title in (("Peaks2D-frozen", "continuous"), ("Items-frozen", "items")):
        found = table[table.task == task].set_index("method").loc[list(FROZEN_METHODS)]
        columns[f"per update, {title}"] = found.per_update.map("{:,.0f}".format)
        columns[f"per decision, {title}"] = found.per_decision.map("{:,.0f}".format)
    # All continuous tasks have equal counts
    assert table[table.task != "Items-frozen"].groupby("method").per_update.nunique().eq(1).all()
    return pd.DataFrame({"method": code(pd.Series(FROZEN_METHODS)), **{name: list(cells) for name, cells in columns.items()}})


TABLES: dict[str, Callable[[], pd.DataFrame | list[str]]] = {
    "agents": agents,
    "breakthroughs": lambda: breakthroughs("breakthrough", "InvertedPendulumRestricted-v4"),
    "common_tasks": common_tasks,
    "discrete": lambda: returns("discrete"),
    "evaluations": evaluations,
    "items": items,
    "landscapes_frozen": landscapes,
    "oracles": oracles,
    "speed_parts": speed_parts,
    "study_actors": lambda: study_means(landscape_group(FROZEN, "restricted_actors"), NUMBERS_OF_ACTORS),
    "study_best_others": study_best_others,
    "study_frozen": lambda: study_means(frozen_group(), FROZEN_METHODS),
    "study_learned": lambda: study_means(landscape_group("learned critic, 5,000 updates"), LEARNED_METHODS),
    "study_resolved": lambda: study_means(landscape_group("learned critic, 10,000 updates"), LEARNED_METHODS),
    "study_restricted": lambda: study_means(landscape_group(FROZEN, "restricted_landscapes"), FROZEN_METHODS),
    "study_in_short": lambda: sentences(frozen_group(), frozen_summary()),
    "study_discrete": lambda: returns("study_b"),
    "study_double_pendulum": lambda: breakthroughs("study_c", "InvertedDoublePendulumRestricted-v4"),
    "study_pendulum": lambda: breakthroughs("study_c", "InvertedPendulumRestricted-v4"),
    "study_held_out": lambda: study_means(landscape_group(FROZEN, "held_out_landscapes"), FROZEN_METHODS),
    "study_new": lambda: study_means(landscape_group(FROZEN, "new_landscapes"), FROZEN_METHODS),
    "study_main": lambda: study_means(frozen_group(), MAIN_METHODS, ("Items", "Peaks2D", "Peaks8D", "Rastrigin")),
    "speed_update": speed_update,
}


def documents() -> list[Path]:
    """:return: The files that may hold tables"""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def block(name: str) -> str:
    """
    :param name: Name of a table, or of a list of sentences
    :return: It in Markdown
    """
    content = TABLES[name]()
    return markdown(content) if isinstance(content, pd.DataFrame) else "\n".join(f"- {sentence}" for sentence in content)


def filled(text: str) -> str:
    """
    :param text: The text of a document
    :return: The same with its tables as the stored results have them
    """
    return TABLE.sub(lambda match: f"{match[1]}\n{block(match[2])}\n\n{match[3]}", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, and fail if a table is out of date")
    args = parser.parse_args()
    outdated = []
    for path in documents():
        text = path.read_text()
        if filled(text) != text:
            outdated.append(str(path.relative_to(ROOT)))
            if not args.check:
                path.write_text(filled(text))
    if args.check and outdated:
        sys.exit(f"Out of date: {', '.join(outdated)}. Run python -m benchmarks.publish (make tables).")
    print(f"Written: {', '.join(outdated)}" if outdated else "All tables are up to date.")


if __name__ == "__main__":
    main()
