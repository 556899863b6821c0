"""The sections of a report: each writes its tables as CSV, its figures, and what they say."""

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmarks import figures, words
from benchmarks.results import KEYS, THRESHOLDS, Group
from benchmarks.statistics import MIN_SEEDS
from benchmarks.summary import order_of_methods, sentences, summarize, with_enough_seeds
from benchmarks.tables import (
    AGGREGATES,
    ALL_TASKS,
    TOO_FEW,
    aggregate,
    breakthroughs,
    candidate_curves,
    compare,
    mean_curves,
    normalization,
    per_task,
    score_runs,
)
from benchmarks.words import markdown, number, plural, seed_ranges, seeds_text, with_interval

# Figures beside the score, where the runs recorded them: column → what it is with its unit, and whether less is better
MORE_FIGURES = {
    "surrogate_error_pct": ("surrogate error, % of the critic's Bellman error", True),
    "gap": ("suboptimality under the landscape (Eq. 4), units of the landscape", True),
    "q_gap": ("suboptimality under the learned Q, units of Q", True),
    "within_1": ("share of contexts in which the action is within 1 % of the optimum", False),
    "success_rate": ("share of successful episodes", False),
}
# Significant digits of the tables that the documentation rounds again, which can change the last digit; the others have six
DIGITS = {"scores": 12, "breakthroughs": 12}
NO_INTERVAL = f"no interval below {MIN_SEEDS} seeds"


class GroupReport:
    """
    The tables, figures and words of one group of runs.

    :param group: The runs
    :param method: The method to compare with every other, or None for SAVO, if it has run, or SAVO with the hybrid surrogate
    :param folder: Folder of the report
    :raises ValueError: If the method has no run
    """

    def __init__(self, group: Group, method: str | None, folder: Path):
        self.methods = order_of_methods(group, method)
        self.method = self.methods[0]
        self.group = group
        self.folder = folder
        self.prefix = re.sub(r"[^a-z0-9]+", "-", f"{group.name.lower().replace(',', '')} ").lstrip("-")
        self.runs = score_runs(group)
        self.style = figures.Style(group, self.methods)
        self.parts: list[str] = []
        self.sentences: list[str] = []

    def label(self, method: str) -> str:
        """
        :param method: A method
        :return: Its name in tables
        """
        return self.style.labels[method]

    def labeled(self, table: pd.DataFrame) -> pd.DataFrame:
        """
        :param table: A table with names of methods
        :return: The same with their labels
        """
        names = [name for name in ("method", "other") if name in table]
        return table.assign(**{name: table[name].map(self.label) for name in names})

    def write_table(self, name: str, table: pd.DataFrame) -> None:
        """
        :param name: Name of the CSV file, without its ending
        :param table: The table
        """
        table.to_csv(self.folder / f"{self.prefix}{name}.csv", index=False, float_format=f"%.{DIGITS.get(name, 6)}g")

    def add_figure(self, name: str, caption: str) -> Path:
        """
        :param name: Name of the figure
        :param caption: Its caption
        :return: The path on which to draw it
        """
        file = f"{self.prefix}{name}.png"
        self.parts.append(f"![{name}]({file})\n\n*{caption}*")
        return self.folder / file

    def text(self) -> str:
        """:return: The section of the group in Markdown; its tables and figures are written beside it"""
        group = self.group
        self.parts = [
            f"## {group.name.capitalize() or 'Results'}",
            f"{len(self.runs)} finished runs of {len(group.expected)} planned ones: "
            f"{plural(self.runs.task.nunique(), 'task')}, {plural(len(self.methods), 'method')}. Score: "
            f"{group.score_unit}. Steps: {group.step_unit}. The final score of a run is the mean of the last tenth of its "
            "evaluations, and at least of the last one.",
        ]
        self.missing()
        self.commits()
        self.summary()
        self.scores()
        self.curves()
        self.breakthroughs()
        self.aggregates()
        self.comparisons()
        self.more_figures()
        self.candidates()
        self.compute()
        self.scaling()
        return "\n\n".join(self.parts) + "\n"

    def seeds(self) -> pd.DataFrame:
        """:return: Number of ``seeds`` of every ``task`` and ``method``"""
        return self.runs.groupby(["task", "method"]).seed.nunique().rename("seeds").reset_index()

    def has_curves(self) -> bool:
        """:return: Whether some runs were evaluated more than twice"""
        return bool(self.group.evaluations.groupby(KEYS).size().max() > 2)

    def missing(self) -> None:
        """List the missing runs, one line per method and set of seeds."""
        missing = self.group.missing
        self.write_table("missing", missing)
        if missing.empty:
            self.parts.append("No run is missing.")
            return
        lines = "\n".join(f"- {line}" for line in words.missing_runs(self.group))
        self.parts.append(f"**Missing runs: {len(missing)}**\n\n{lines}")

    def commits(self) -> None:
        """Say which commits have done the runs, in a table of its own, and of which methods there are runs of several."""
        commits = self.group.commits
        if commits.empty:
            return
        seeds = commits.groupby(["task", "method", "commit"]).seed.agg(seed_ranges).rename("seeds").reset_index()
        self.write_table("commits", seeds)
        text = (
            f"The runs are of {plural(commits.commit.nunique(), 'commit')} of this repository, see `{self.prefix}commits.csv`."
        )
        counts = seeds.groupby(["task", "method"]).size()
        mixed = [f"{self.group.labels.get(method, method)} on {task}" for task, method in counts[counts > 1].index]
        if mixed:
            text += f" Several commits have done the runs of: {', '.join(mixed)}."
        self.parts.append(text)

    def summary(self) -> None:
        """What the report says first; the sentences are kept for the screen."""
        summary = summarize(self.group, self.methods)
        self.sentences = sentences(self.group, summary)
        if summary is not None:
            if "landscape" in self.group.same_seed:
                self.write_table("first-places", summary.places)
            self.write_table("best-others", summary.best_others)
        self.parts += ["### In short", "\n".join(f"- {sentence}" for sentence in self.sentences)]
        if summary is not None:
            self.parts.append(markdown(self.shown_comparisons(summary.best_others)))
            if "q_evaluations" in self.group.evaluations:
                self.mean_curves(summary.methods)

    def mean_curves(self, methods: Sequence[str]) -> None:
        """
        The score of all tasks against steps and against evaluations of Q.

        :param methods: The methods with enough seeds on every task
        """
        curves = mean_curves(self.group.evaluations, methods)
        self.write_table("mean-curves", curves)
        n_tasks = self.group.evaluations.task.nunique()
        caption = (
            f"Mean of {plural(n_tasks, 'task')}, {seeds_text(curves.seeds)} each, after so many {self.group.step_unit} (left) "
            "and after so many evaluations of Q (right; one evaluation is one action in one state). "
            f"Vertical: {self.group.score_unit}. Bands: pointwise 95 % intervals."
        )
        path = self.add_figure("mean-curves", caption)
        figures.draw_mean_curves(curves, self.style, self.group.step_unit, self.group.score_unit, path)

    def scores(self) -> None:
        """The table of the final scores, and its figure."""
        table = per_task(self.runs, self.methods)
        self.write_table("scores", table)
        shown = self.labeled(table)[["task", "method", "seeds"]]
        columns = {"final": "final score", "whole": "mean of all evaluations"}
        for name, title in list(columns.items())[: 2 if self.has_curves() else 1]:
            shown[title] = [with_interval(*row) for row in table[[name, f"{name}_low", f"{name}_high"]].to_numpy()]
        ours = self.label(self.method)
        seeds = seeds_text(table.seeds)
        self.parts += [
            "### Final scores",
            "\n".join(f"- {words.ranking(task, rows, ours)}" for task, rows in self.labeled(table).groupby("task")),
            markdown(shown),
            f"*Unit: {self.group.score_unit}. Mean over {seeds} with its 95 % interval; {NO_INTERVAL}.*",
        ]
        caption = (
            f"Final scores, {seeds}, by task ({self.group.score_unit}). Rings: single runs. Markers: mean with 95 % interval; "
            f"{NO_INTERVAL}."
        )
        figures.draw_final(table, self.runs, self.style, self.group.score_unit, self.add_figure("final", caption))

    def add_curves(self, name: str, title: str, x: str, y: str, x_label: str, y_label: str) -> None:
        """
        :param name: Name of the figure
        :param title: Begin of its caption
        :param x: Column of the horizontal axis
        :param y: Column of the vertical axis
        :param x_label: Its label, with the unit
        :param y_label: Its label, with the unit
        """
        caption = (
            f"{title}, {seeds_text(self.seeds().seeds)}. Vertical: {y_label}. Horizontal: {x_label}. Line: mean over the "
            f"seeds. Bands, and bars at the markers: pointwise 95 % intervals. Below {MIN_SEEDS} seeds, thin lines show "
            "the runs instead."
        )
        figures.draw_curves(self.group, self.style, x, y, x_label, y_label, self.add_figure(name, caption))

    def curves(self) -> None:
        """The learning curves, if there are any."""
        if self.has_curves():
            self.parts.append("### Learning curves")
            self.add_curves("curves", "Learning curves", "step", "score", self.group.step_unit, self.group.score_unit)

    def breakthroughs(self) -> None:
        """When the runs break through, on tasks where they do so at one point."""
        table = breakthroughs(self.group.evaluations, self.methods, THRESHOLDS)
        if table.empty:
            return
        self.write_table("breakthroughs", table)
        thresholds = "; ".join(f"{number(THRESHOLDS[task])} on {task}" for task in table.task.unique())
        shown = self.labeled(table).assign(
            median_step=[f"{step:,.0f}" for step in table.median_step], stayed=table.stayed.map(number)
        )
        self.parts += [
            "### When a run breaks through",
            markdown(shown.rename(columns={"broke_through": "broke through", "median_step": "median step"})),
            f"*A run breaks through when it first evaluates above {thresholds}. Median step over {seeds_text(table.seeds)}, "
            f"in {self.group.step_unit}; inf where at most half of the runs broke through. Stayed: share of the later "
            "evaluations that are above the threshold too, empty where no run has later evaluations.*",
        ]

    def aggregates(self) -> None:
        """The normalization, the aggregates over the tasks, and the performance profiles."""
        scale = normalization(self.group, self.runs)
        self.write_table("normalization", scale)
        shown = scale.assign(low=scale.low.map(number), high=scale.high.map(number))
        self.parts += [
            "### All tasks together",
            "Scores are normalized per task: the score `low` becomes 0, the score `high` becomes 1.",
            markdown(shown.rename(columns={"meaning": "what low and high are"})),
        ]
        table = aggregate(self.runs, self.methods)
        self.write_table("aggregates", table)
        n_tasks = scale.task.nunique()
        incomplete = [self.label(name) for name in self.methods if name not in set(table.method)]
        if incomplete:
            self.parts.append(f"Not in the aggregates, since no seed finished every task: {', '.join(incomplete)}.")
        table = table[table.seeds >= MIN_SEEDS].reset_index(drop=True)
        if table.empty:
            self.parts.append(f"**Too few seeds:** no method has {MIN_SEEDS} seeds on every task, so nothing is aggregated.")
            return
        # The mean and the median of one task are in the table of final scores
        names = list(AGGREGATES) if n_tasks > 1 else ["IQM", "optimality gap"]
        shown = self.labeled(table)[["method", "seeds"]]
        for name in names:
            shown[name] = [with_interval(*row) for row in table[[name, f"{name}_low", f"{name}_high"]].to_numpy()]
        where = f"{plural(n_tasks, 'task')}, {seeds_text(table.seeds)}"
        self.parts += [
            words.highest_aggregate(self.labeled(table), "IQM"),
            markdown(shown),
            f"*Normalized final scores of {where}, with 95 % stratified bootstrap intervals. IQM: interquartile mean, the "
            "mean of the middle half of all runs. Optimality gap: how far the runs stay below 1 on average, so less is "
            "better.*",
        ]
        caption = f"Aggregates of the normalized final scores of {where}, with 95 % intervals. Less optimality gap is better."
        figures.draw_aggregates(table, names, self.style, self.add_figure("aggregates", caption))
        caption = (
            f"Performance profiles of {where}: share of the runs with a normalized final score above τ. Bands and bars: "
            "pointwise 95 % intervals. A higher curve is better."
        )
        figures.draw_profiles(self.runs, self.style, self.add_figure("profiles", caption))

    def comparisons(self) -> None:
        """The comparisons of one method with every other."""
        ours = self.label(self.method)
        self.parts.append(f"### {ours} against every other method")
        measures = {"final": "final score", "whole": "mean of all evaluations, which rewards learning early"}
        for name, meaning in list(measures.items())[: 2 if self.has_curves() else 1]:
            table = compare(self.runs, self.method, self.methods[1:], f"{name}_normalized")
            if table.empty:
                self.parts.append("No other method has run on the same tasks.")
                return
            self.write_table(f"comparisons-{name}", table)
            self.parts += [f"By the {meaning}:", words.verdict(self.labeled(table))]
            enough = table[table.verdict != TOO_FEW]
            if len(enough):
                self.parts.append(markdown(self.shown_comparisons(enough)))
                self.comparison_figures(enough, name, meaning)
        self.parts.append(
            f"*Unit: normalized score. Paired: differences within runs of the same {self.group.same_seed}; else "
            "differences of independent runs. Better or worse: the 95 % interval of the difference excludes 0. "
            "Probability of improvement: share of the pairs of runs in which the method scores higher, where a tie counts "
            "half; its interval is Wilson's. rliable compares every run with every run, also of other seeds.*"
        )

    def comparison_figures(self, table: pd.DataFrame, measure: str, meaning: str) -> None:
        """
        The differences on all tasks and on each, and the probability of improvement on all tasks.

        :param table: The comparisons, without those of too few seeds
        :param measure: ``final`` or ``whole``
        :param meaning: What it is
        """
        ours = self.label(self.method)
        table = table.assign(task=table.task.where(~table.task.str.startswith(ALL_TASKS), ALL_TASKS))
        tasks = sorted(table.task.unique(), key=lambda task: (task != ALL_TASKS, task))
        label = f"{ours} minus the method of the row, normalized score"
        caption = (
            f"{ours} against the method of each row by the {meaning}, {seeds_text(table.seeds)}: difference of the mean "
            f"normalized scores with 95 % interval. Right of 0, {ours} is ahead."
        )
        path = self.add_figure(f"differences-{measure}", caption)
        figures.draw_comparisons(table, "difference", {task: task for task in tasks}, self.style, label, path)
        rows = table[table.task == tasks[0]]
        caption = (
            f"Probability that a run of {ours} scores higher than a run of the method of each row by the {meaning}, on "
            f"{tasks[0]}, {seeds_text(rows.seeds)}, with 95 % interval. Right of ½, {ours} is ahead."
        )
        path = self.add_figure(f"improvement-{measure}", caption)
        figures.draw_comparisons(rows, "probability", {tasks[0]: tasks[0]}, self.style, "probability of improvement", path)

    def shown_comparisons(self, table: pd.DataFrame) -> pd.DataFrame:
        """
        :param table: The comparisons, without those of too few seeds
        :return: The same as texts
        """
        rows = []
        titles = {
            "difference": "difference",
            "probability": "probability of improvement",
            "rliable": "of all pairs of runs (rliable)",
        }
        for row in self.labeled(table).to_dict("records"):
            cells = {"task": row["task"], "against": row["other"], "seeds": row["seeds"]}
            cells["paired"] = "yes" if row["paired"] else "no"
            for name, title in titles.items():
                cells[title] = with_interval(row[name], row[f"{name}_low"], row[f"{name}_high"])
            rows.append({**cells, "verdict": row["verdict"]})
        return pd.DataFrame(rows)

    def more_figures(self) -> None:
        """What the runs recorded beside the score."""
        evaluations = self.group.evaluations
        found = [name for name in MORE_FIGURES if name in evaluations and evaluations[name].notna().any()]
        if not found:
            return
        table = evaluations.sort_values("step").groupby(KEYS).tail(1).groupby(["task", "method"])[found].mean().reset_index()
        order = {name: place for place, name in enumerate(self.methods)}
        table = table.sort_values(
            ["task", "method"], key=lambda column: column.map(order) if column.name == "method" else column
        )
        table = table.merge(self.seeds(), on=["task", "method"])
        self.write_table("figures", table)
        legend = "; ".join(f"`{name}`: {MORE_FIGURES[name][0]}" for name in found)
        shown = self.labeled(table)
        self.parts += [
            "### Other figures",
            "\n".join(f"- {words.best_of_figure(shown, name, MORE_FIGURES[name][1])}" for name in found),
            markdown(shown.assign(**{name: shown[name].map(number) for name in found})),
            f"*At the last evaluation, mean over {seeds_text(table.seeds)}. {legend}.*",
        ]
        name = "surrogate_error_pct"
        if self.has_curves() and name in found:
            self.add_curves("surrogate-error", "Surrogate error", "step", name, self.group.step_unit, MORE_FIGURES[name][0])

    def candidates(self) -> None:
        """What every candidate alone is worth over training, where methods with several candidates recorded it."""
        curves = candidate_curves(self.group.evaluations, with_enough_seeds(self.runs, self.methods))
        if curves.empty:
            return
        self.write_table("candidates", curves)
        last = curves.sort_values("step").groupby(["method", "shown"], sort=False).tail(1)
        table = self.labeled(last.assign(text=[with_interval(*row) for row in last[["mean", "low", "high"]].to_numpy()]))
        table = table.replace({"shown": {"score": "chosen"}}).pivot(index="method", columns="shown", values="text")
        order = [self.label(method) for method in curves.method.unique()]
        n_tasks = self.group.evaluations.task.nunique()
        where = f"mean of {plural(n_tasks, 'task')}, {seeds_text(curves.seeds)} each"
        self.parts += [
            "### The candidates",
            markdown(table.loc[order].fillna("").reset_index()),
            f"*At the last evaluation, share of the optimum, {where}.*",
        ]
        if self.has_curves():
            caption = (
                f"What each candidate alone is worth, {where}. Vertical: its value, share of the optimum. Horizontal: "
                f"{self.group.step_unit}. Dashed: the candidate that the critic picks in each state. Candidate 0 is the first "
                "actor's. Bands: pointwise 95 % intervals."
            )
            figures.draw_candidates(curves, self.style, self.group.step_unit, self.add_figure("candidates", caption))

    def compute(self) -> None:
        """Score against compute, by wall time and by updates as far as they were recorded."""
        evaluations = self.group.evaluations
        labels = {
            "seconds": "wall time in seconds",
            "updates": "gradient steps",
            "q_evaluations": "evaluations of Q in training",
        }
        # Where steps are updates, the learning curves show the same
        names = [name for name in labels if name in evaluations and name != self.group.step_unit and self.has_curves()]
        names = [name for name in names if evaluations[name].notna().any()]
        self.parts.append("### Score against compute")
        if not names:
            self.parts.append("These runs recorded neither wall time nor gradient steps at several evaluations: no figure.")
        if "seconds" in names:
            seconds = evaluations.groupby(KEYS).seconds.max().groupby(["task", "method"]).median()
            table = seconds.div(60).rename("median_minutes").reset_index().merge(self.seeds(), on=["task", "method"])
            self.write_table("compute", table)
            table = self.labeled(table)
            self.parts += [
                f"- {words.best_of_figure(table, 'median_minutes', less_is_better=True)}",
                markdown(table.assign(median_minutes=table.median_minutes.map(number))),
                "*Median wall time of a run in minutes. It depends on the machine and on what else it does.*",
            ]
        for name in names:
            self.add_curves(
                f"compute-{name}", f"Score against {labels[name]}", name, "score", labels[name], self.group.score_unit
            )

    def scaling(self) -> None:
        """Score against the number of actors, if methods differ in it."""
        table = per_task(self.runs, self.methods)
        if table.empty:
            return
        numbers = [(curve, method, n) for curve, members in self.group.curves.items() for method, n in members.items()]
        table = pd.DataFrame(numbers, columns=["curve", "method", "n_actors"]).merge(table, on="method")
        if table.n_actors.nunique() < 2:
            return
        self.write_table("actors", table[["task", "curve", "method", "n_actors", "seeds", "final", "final_low", "final_high"]])
        caption = (
            f"Final score against the number of actors, {seeds_text(table.seeds)}, by task ({self.group.score_unit}). Mean "
            f"with 95 % interval; {NO_INTERVAL}."
        )
        self.parts.append("### Number of actors")
        figures.draw_scaling(self.group, table, self.group.score_unit, self.add_figure("actors", caption))
