"""
Which method is better, by how much, and how sure is that: tables, figures and plain words from the results of a suite.

    python -m benchmarks.report discrete                   # writes benchmarks/reports/discrete/report.md and its files
    python -m benchmarks.report discrete --method savo     # compares savo with every other method
    python -m benchmarks.report landscapes -o out          # writes out/report.md

The report reads the CSV files of the finished runs and trains nothing. It lists missing runs, also on the screen. It compares no
methods below five seeds. The same files give the same report.
"""

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from benchmarks.results import RESULTS, Group, load
from benchmarks.statistics import MIN_SEEDS
from benchmarks.tables import AGGREGATES, ALL_TASKS, TOO_FEW, aggregate, compare, normalization, per_task, score_runs

PACKAGES = ("sb3_savo", "stable_baselines3", "numpy", "scipy", "pandas", "matplotlib", "seaborn")
# Figures beside the score, where the runs recorded them: column → what it is, with its unit
MORE_FIGURES = {
    "surrogate_error_pct": "surrogate error (surrogate loss, % of the critic's Bellman error)",
    "gap": "suboptimality under the landscape (Eq. 4, units of the landscape)",
    "q_gap": "suboptimality under the learned Q (units of Q)",
    "within_1": "share of contexts in which the action is within 1 % of the optimum",
    "success_rate": "share of successful episodes",
}


def number(value: float) -> str:
    """
    :param value: A number
    :return: Four significant digits, without an exponent; empty for NaN
    """
    return "" if pd.isna(value) else f"{value:.4g}" if abs(value) < 1_000 else f"{value:,.0f}"


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
    return f"{low} seeds" if low == high else f"{low} to {high} seeds"


class GroupReport:
    """
    The tables, figures and words of one group of runs.

    :param group: The runs
    :param method: The method to compare with every other, or None for SAVO with the hybrid surrogate, if it has run, or SAVO
    :param folder: Folder of the report
    :raises ValueError: If the method has no run
    """

    def __init__(self, group: Group, method: str | None, folder: Path):
        found = list(dict.fromkeys(m for m in group.expected.method if m in set(group.evaluations.method)))
        if method is not None and method not in found:
            raise ValueError(f"--method: {method!r} has no finished run; the methods are {', '.join(found)}.")
        default = next((name for name in ("savo_hybrid", "savo") if name in found), found[0])
        self.method = method or default
        self.methods = [self.method, *(name for name in found if name != self.method)]
        self.group = group
        self.folder = folder
        self.prefix = re.sub(r"[^a-z0-9]+", "-", group.name.lower()).strip("-")
        self.prefix += "-" if self.prefix else ""
        self.runs = score_runs(group)
        self.parts: list[str] = []

    def label(self, method: str) -> str:
        """
        :param method: A method
        :return: Its name in tables
        """
        return self.group.labels.get(method, method)

    def write_table(self, name: str, table: pd.DataFrame) -> None:
        """
        :param name: Name of the CSV file, without its ending
        :param table: The table
        """
        table.to_csv(self.folder / f"{self.prefix}{name}.csv", index=False, float_format="%.6g")

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
        """:return: The section of the group in Markdown; the CSV files and figures are written beside it"""
        group = self.group
        n_runs = len(self.runs)
        self.parts.append(f"## {group.name.capitalize()}" if group.name else "## Results")
        self.parts.append(
            f"{n_runs} finished runs of {len(group.expected)} planned ones: {self.runs.task.nunique()} tasks, "
            f"{len(self.methods)} methods. A score is the {group.score_unit}; a step is one of the {group.step_unit}. "
            f"`final` is the mean of the last tenth of a run's evaluations, and at least the last one."
        )
        self.missing()
        self.scores()
        self.curves()
        self.aggregates()
        self.comparisons()
        self.more_figures()
        self.compute()
        self.scaling()
        return "\n\n".join(self.parts) + "\n"

    def missing(self) -> None:
        """List the missing runs, one line per task and method."""
        missing = self.group.missing
        self.write_table("missing", missing)
        if missing.empty:
            self.parts.append("No run is missing.")
            return
        lines = [
            f"- {task}, {self.label(method)}: seeds {', '.join(map(str, rows.seed))}"
            for (task, method), rows in missing.groupby(["task", "method"])
        ]
        self.parts.append(f"**{len(missing)} runs are missing:**\n\n" + "\n".join(lines))

    def scores(self) -> None:
        """The table of the final scores, and its figure."""
        from benchmarks import figures

        table = per_task(self.runs, self.methods)
        self.write_table("scores", table)
        several = self.has_curves()
        shown = pd.DataFrame(
            {
                "task": table.task,
                "method": table.method.map(self.label),
                "seeds": table.seeds,
                "final": [with_interval(*row) for row in table[["final", "final_low", "final_high"]].to_numpy()],
            }
        )
        if several:
            shown["mean of all evaluations"] = [
                with_interval(*row) for row in table[["whole", "whole_low", "whole_high"]].to_numpy()
            ]
        self.parts.append("### Final scores")
        self.parts.append(" ".join(self.best_sentence(task, rows) for task, rows in table.groupby("task")))
        self.parts.append(markdown(shown))
        self.parts.append(
            f"*Unit: {self.group.score_unit}. Mean over {seeds_text(table.seeds)} and its 95 % interval; no interval below "
            f"{MIN_SEEDS} seeds.*"
        )
        caption = (
            f"Final scores, {seeds_text(table.seeds)} ({self.group.score_unit}). Rings: single runs. Filled markers: mean and 95 % "
            f"interval; no interval below {MIN_SEEDS} seeds."
        )
        path = self.add_figure("final", caption)
        figures.draw_final(table, self.runs, figures.Style(self.group, self.methods), self.group.score_unit, path)

    def best_sentence(self, task: str, rows: pd.DataFrame) -> str:
        """
        :param task: A task
        :param rows: Its rows in the table of final scores
        :return: Which method has the highest mean, and where the compared method stands
        """
        rows = rows[rows.seeds >= MIN_SEEDS]
        if len(rows) < 2:
            return f"On {task}, too few seeds rank the methods."
        ranked = rows.sort_values("final", ascending=False)
        best = ranked.iloc[0]
        tied = [self.label(row.method) for row in ranked.itertuples() if number(row.final) == number(best.final)]
        sentence = f"On {task}, the highest mean is {number(best.final)} ({', '.join(tied)})"
        ours = ranked[ranked.method == self.method]
        if not ours.empty and self.label(self.method) not in tied:
            place = int((ranked.final > ours.final.iloc[0]).sum()) + 1
            sentence += f"; {self.label(self.method)} is number {place} of {len(ranked)} with {number(ours.final.iloc[0])}"
        return sentence + "."

    def has_curves(self) -> bool:
        """:return: Whether the runs were evaluated more than twice"""
        return bool(self.group.evaluations.groupby(["task", "method", "seed"]).size().max() > 2)

    def add_curves(self, name: str, title: str, x: str, y: str, x_label: str, y_label: str) -> None:
        """
        :param name: Name of the figure
        :param title: Begin of its caption
        :param x: Column of the horizontal axis
        :param y: Column of the vertical axis
        :param x_label: Its label, with the unit
        :param y_label: Its label, with the unit
        """
        from benchmarks import figures

        counts = self.runs.groupby(["task", "method"]).seed.nunique()
        caption = (
            f"{title}, {seeds_text(counts)}. Vertical: {y_label}. Horizontal: {x_label}. Line: mean over the seeds. Band: pointwise "
            f"95 % interval; no band below {MIN_SEEDS} seeds."
        )
        path = self.add_figure(name, caption)
        figures.draw_curves(self.group, figures.Style(self.group, self.methods), x, y, x_label, y_label, path)

    def curves(self) -> None:
        """The learning curves, if there are any."""
        if self.has_curves():
            self.parts.append("### Learning curves")
            self.add_curves("curves", "Learning curves", "step", "score", self.group.step_unit, self.group.score_unit)

    def aggregates(self) -> None:
        """The normalization, the aggregates over the tasks, and the performance profiles."""
        from benchmarks import figures

        scale = normalization(self.group, self.runs)
        self.write_table("normalization", scale)
        self.parts.append("### All tasks together")
        self.parts.append(
            "Scores are normalized per task: the first number becomes 0, the second becomes 1.\n\n"
            + markdown(
                scale.assign(low=scale.low.map(number), high=scale.high.map(number)).rename(
                    columns={"meaning": "what they are"}
                )
            )
        )
        table = aggregate(self.runs, self.methods)
        self.write_table("aggregates", table)
        n_tasks = self.runs.task.nunique()
        incomplete = (
            [self.label(name) for name in self.methods if name not in set(table.method)] if len(table) else self.methods
        )
        if incomplete and n_tasks > 1:
            self.parts.append(f"Not in the aggregates, since they did not finish every task: {', '.join(incomplete)}.")
        enough = table[table.seeds >= MIN_SEEDS].reset_index(drop=True) if len(table) else table
        if enough.empty:
            self.parts.append(f"**Too few seeds:** no method has {MIN_SEEDS} seeds on every task, so nothing is aggregated.")
            return
        top = enough.sort_values("IQM", ascending=False).iloc[0]
        within = enough[(enough["IQM_high"] >= top["IQM_low"]) & (enough.method != top.method)]
        sentence = f"{self.label(top.method)} has the highest interquartile mean, {with_interval(top['IQM'], top['IQM_low'], top['IQM_high'])}."
        if len(within):
            sentence += f" The intervals of {', '.join(map(self.label, within.method))} overlap with its interval."
        self.parts.append(sentence)
        shown = pd.DataFrame({"method": enough.method.map(self.label), "seeds": enough.seeds})
        for name in AGGREGATES:
            shown[name] = [with_interval(*row) for row in enough[[name, f"{name}_low", f"{name}_high"]].to_numpy()]
        self.parts.append(markdown(shown))
        self.parts.append(
            f"*Normalized final scores over {n_tasks} tasks and {seeds_text(enough.seeds)}, with 95 % stratified bootstrap intervals. IQM: "
            "mean of the middle half of all runs. Optimality gap: how far the runs stay below 1 on average, so less is better.*"
        )
        style = figures.Style(self.group, self.methods)
        caption = (
            f"Aggregates of the normalized final scores over {n_tasks} tasks, {seeds_text(enough.seeds)}, with 95 % intervals. For the "
            "optimality gap less is better."
        )
        figures.draw_aggregates(enough, list(AGGREGATES), style, self.add_figure("aggregates", caption))
        caption = (
            f"Performance profiles over {n_tasks} tasks, {seeds_text(enough.seeds)}: share of the runs with a normalized final score above "
            "τ, with pointwise 95 % intervals. A higher curve is better."
        )
        figures.draw_profiles(self.runs, style, self.add_figure("profiles", caption))

    def comparisons(self) -> None:
        """The comparisons of one method with every other."""
        from benchmarks import figures

        self.parts.append(f"### {self.label(self.method)} against every other method")
        measures = {"final": "final score", "whole": "mean of all evaluations, which rewards learning early"}
        for name, meaning in list(measures.items())[: 2 if self.has_curves() else 1]:
            table = compare(self.runs, self.method, self.methods[1:], f"{name}_normalized")
            if table.empty:
                self.parts.append("No other method has run on the same tasks.")
                return
            self.write_table(f"comparisons-{name}", table)
            self.parts.append(f"**By the {meaning}.** " + self.verdict(table))
            if (table.seeds >= MIN_SEEDS).any():
                self.parts.append(markdown(self.shown_comparisons(table)))
                seeds = seeds_text(table.seeds[table.seeds >= MIN_SEEDS])
                caption = (
                    f"{self.label(self.method)} against the method of each row, {meaning}, {seeds}. Difference of the mean normalized scores "
                    "with 95 % interval: right of 0, it is ahead. Last panel: probability of improvement with 95 % interval."
                )
                path = self.add_figure(f"comparisons-{name}", caption)
                figures.draw_comparisons(table, figures.Style(self.group, self.methods), path)
        self.parts.append(
            f"*Unit: normalized score. `paired`: differences within runs of the same {self.group.same_seed}, else differences of independent "
            "runs. The verdict is `better` or `worse` if the 95 % interval of the difference excludes 0. The probability of improvement is "
            "the share of pairs of runs in which the method scores higher, a tie counting half; its interval is Wilson's.*"
        )

    def shown_comparisons(self, table: pd.DataFrame) -> pd.DataFrame:
        """
        :param table: The table of the comparisons
        :return: The same as texts, without the figures of comparisons of too few seeds
        """
        rows = []
        for row in table.to_dict("records"):
            few = row["verdict"] == TOO_FEW
            triples = {name: [row[name], row[f"{name}_low"], row[f"{name}_high"]] for name in ("difference", "probability")}
            rows.append(
                {
                    "task": row["task"],
                    "against": self.label(row["other"]),
                    "seeds": row["seeds"],
                    "paired": "" if few else "yes" if row["paired"] else "no",
                    "difference": "" if few else with_interval(*triples["difference"]),
                    "probability of improvement": "" if few else with_interval(*triples["probability"]),
                    "verdict": row["verdict"],
                }
            )
        return pd.DataFrame(rows)

    def verdict(self, table: pd.DataFrame) -> str:
        """
        :param table: The table of the comparisons
        :return: Its content in words, for and against the method
        """
        tested = table[table.verdict != TOO_FEW]
        skipped = len(table) - len(tested)
        parts = []
        if tested.empty:
            return f"Too few seeds: no comparison has {MIN_SEEDS} seeds of both methods, so nothing is claimed."
        for verdict, words in (
            ("better", "is better than"),
            ("worse", "is **worse** than"),
            ("no difference shown", "is not shown to differ from"),
        ):
            rows = tested[tested.verdict == verdict]
            places = [
                f"{self.label(other)} ({', '.join(f'{t} {d:+.3f}' for t, d in zip(r.task, r.difference, strict=True))})"
                for other, r in rows.groupby("other", sort=False)
            ]
            if places:
                parts.append(f"{self.label(self.method)} {words} " + "; ".join(places) + ".")
        n = int((~tested.task.str.startswith(ALL_TASKS)).sum())
        parts.append(
            f"The intervals are not corrected for the number of comparisons: of {n} comparisons on single tasks without any true "
            f"difference, about {0.05 * n:.1f} would be called better or worse by chance."
        )
        if not tested.paired.all():
            parts.append("Some comparisons are unpaired, since the methods did not run with the same seeds.")
        if skipped:
            parts.append(f"{skipped} comparisons have too few seeds, and claim nothing.")
        return " ".join(parts)

    def more_figures(self) -> None:
        """What the runs recorded beside the score."""
        evaluations = self.group.evaluations
        found = {
            name: meaning for name, meaning in MORE_FIGURES.items() if name in evaluations and evaluations[name].notna().any()
        }
        if not found:
            return
        self.parts.append("### Other figures")
        last = evaluations.sort_values("step").groupby(["task", "method", "seed"]).last(skipna=False)[list(found)]
        table = last.groupby(["task", "method"]).mean().reset_index()
        order = {method: i for i, method in enumerate(self.methods)}
        table = table.sort_values(
            ["task", "method"], key=lambda column: column.map(order) if column.name == "method" else column
        )
        self.write_table("figures", table)
        shown = table.assign(method=table.method.map(self.label), **{name: table[name].map(number) for name in found})
        self.parts.append(markdown(shown))
        counts = self.runs.groupby(["task", "method"]).seed.nunique()
        legend = "; ".join(f"`{name}`: {meaning}" for name, meaning in found.items())
        self.parts.append(f"*At the last evaluation, mean over {seeds_text(counts)}. {legend}.*")
        if self.has_curves() and "surrogate_error_pct" in found:
            label = found["surrogate_error_pct"]
            self.add_curves("surrogate-error", "Surrogate error", "step", "surrogate_error_pct", self.group.step_unit, label)

    def compute(self) -> None:
        """Return against compute, by wall time and by updates as far as they were recorded."""
        evaluations = self.group.evaluations
        self.parts.append("### Return against compute")
        axes = {"seconds": "wall time in seconds", "updates": "gradient steps"}
        if self.group.step_unit == "updates":
            axes.pop("updates")
        found = {name: label for name, label in axes.items() if name in evaluations and evaluations[name].notna().any()}
        if not found or not self.has_curves():
            self.parts.append("These runs did not record their wall time at several evaluations, so there is no such figure.")
            return
        if "seconds" in found:
            seconds = evaluations.groupby(["task", "method", "seed"]).seconds.max().groupby(["task", "method"]).median()
            table = seconds.rename("median_minutes").div(60).reset_index()
            self.write_table("compute", table)
            wide = table.assign(method=table.method.map(self.label), median_minutes=table.median_minutes.map(number))
            self.parts.append(markdown(wide.rename(columns={"median_minutes": "median minutes per run"})))
            self.parts.append("*Wall time depends on the machine and on what else it does.*")
        for name, label in found.items():
            self.add_curves(f"compute-{name}", f"Score against {label}", name, "score", label, self.group.score_unit)

    def scaling(self) -> None:
        """Score against the number of actors, if methods differ in it."""
        from benchmarks import figures

        if len({n for method, (_, n) in self.group.actors.items() if method in self.methods}) < 2:
            return
        table = per_task(self.runs, [method for method in self.methods if method in self.group.actors])
        self.parts.append("### Number of actors")
        caption = (
            f"Final score ({self.group.score_unit}) against the number of actors, {seeds_text(table.seeds)}, mean and 95 % interval; no "
            f"interval below {MIN_SEEDS} seeds."
        )
        figures.draw_scaling(self.group, table, self.group.score_unit, self.add_figure("actors", caption))


def write(suite: str, budget: str, folder: Path | None, method: str | None, out: Path, command: str) -> str:
    """
    :param suite: Name of a suite
    :param budget: ``small`` or ``paper``
    :param folder: Folder of the results, or None for the runner's
    :param method: The method to compare with every other, or None
    :param out: Folder of the report
    :param command: The command that writes this report
    :return: The missing runs, for the screen
    :raises ValueError: If the method has no run
    :raises FileNotFoundError: If there is no finished run
    """
    groups = load(suite, budget, folder)
    out.mkdir(parents=True, exist_ok=True)
    sections = [GroupReport(group, method, out).text() for group in groups]
    n_runs = sum(len(group.evaluations.drop_duplicates(["task", "method", "seed"])) for group in groups)
    recorded = sorted({text for group in groups for text in group.versions})
    head = [
        f"# Report of the suite `{suite}`",
        f"{n_runs} finished runs. This report is written by\n\n    {command}\n",
        f"Versions: {', '.join(f'{name} {version(name)}' for name in PACKAGES)}."
        + (f" The runs recorded: {'; '.join(recorded)}." if recorded else ""),
    ]
    (out / "report.md").write_text("\n\n".join([*head, *sections]))
    missing = pd.concat([group.missing.assign(group=group.name) for group in groups])
    if missing.empty:
        return "No run is missing."
    return f"{len(missing)} runs are missing:\n{missing.to_string(index=False)}"


def main(arguments: Sequence[str] | None = None) -> None:
    """
    :param arguments: The command line; None for that of this process
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", help="name of a suite; or breakthrough, discrete, landscapes")
    parser.add_argument("--budget", choices=("small", "paper"), default="small")
    parser.add_argument("--folder", type=Path, help="results folder")
    parser.add_argument("--method", help="compare this method with every other; savo_hybrid or savo if not given")
    parser.add_argument("-o", "--out", type=Path, help="folder of the report; benchmarks/reports/SUITE if not given")
    options = parser.parse_args(arguments)
    name = Path(options.suite).stem + ("" if options.budget == "small" else f"-{options.budget}")
    out = options.out or RESULTS.parent / "reports" / name
    command = shlex.join(["python", "-m", "benchmarks.report", *(sys.argv[1:] if arguments is None else arguments)])
    try:
        print(write(options.suite, options.budget, options.folder, options.method, out, command))
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    print(f"Report: {out / 'report.md'}")


if __name__ == "__main__":
    main()
