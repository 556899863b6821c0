"""The figures of a report. They take the tables, and are readable in print and by the color-blind: colors go with dashes and markers."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns

from benchmarks import statistics
from benchmarks.results import Group
from benchmarks.tables import learning_curve, matrix

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

WIDTH = 7.0
DPI = 150
# Without the yellow of the palette, which fades in print
COLORS = [color for i, color in enumerate(sns.color_palette("colorblind")) if i != 8]
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = "osD^vP*X<>p"
THRESHOLDS = np.linspace(0, 1.05, 106)

sns.set_theme("paper", "ticks", rc={"axes.grid": True, "grid.alpha": 0.3, "legend.frameon": False, "axes.titlesize": 9})


class Style:
    """
    Gives every method the same name, color, dashes and marker in all figures.

    :param group: The group of runs
    :param methods: The methods, the most important one first
    """

    def __init__(self, group: Group, methods: Sequence[str]):
        self.methods = list(methods)
        self.labels = {method: group.labels.get(method, method) for method in methods}

    def line(self, method: str) -> dict[str, object]:
        """
        :param method: A method
        :return: Arguments of matplotlib's ``plot``
        """
        index = self.methods.index(method)
        return {
            "color": COLORS[index % len(COLORS)],
            "linestyle": DASHES[index % len(DASHES)],
            "marker": MARKERS[index % len(MARKERS)],
            "markersize": 4,
            "linewidth": 2.2 if index == 0 else 1.3,
            "zorder": 4 if index == 0 else 3,
            "label": self.labels[method],
        }


def save(figure: Figure, path: Path) -> None:
    """
    :param figure: A figure, which is closed
    :param path: Its file
    """
    figure.savefig(path, dpi=DPI, bbox_inches="tight")
    plt.close(figure)


def panels(names: Sequence[str], height: float, columns: int = 4, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    """
    :param names: Titles of the panels
    :param height: Height of a row in inches
    :param columns: Greatest number of panels in a row
    :param sharey: Whether all panels have the same vertical axis
    :return: A figure of the width of a page, and its panels
    """
    columns = min(columns, len(names))
    n_rows = -(-len(names) // columns)
    width = WIDTH if columns > 1 else WIDTH * 0.65
    figure, axes = plt.subplots(
        n_rows, columns, figsize=(width, height * n_rows), squeeze=False, sharey=sharey, layout="constrained"
    )
    flat = list(axes.flat)
    for unused in flat[len(names) :]:
        unused.remove()
    for ax, name in zip(flat, names, strict=False):
        ax.set_title(name)
    return figure, flat[: len(names)]


def add_legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """
    :param figure: A figure; its legend goes below the panels
    :param axes: Its panels
    """
    handles: dict[str, object] = {}
    for ax in axes:
        handles |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    longest = max(map(len, handles), default=1)
    columns = max(1, min(len(handles), int(figure.get_figwidth() * 15 / (longest + 8))))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns, handlelength=3.5)  # type: ignore[arg-type]


def draw_curve(ax: Axes, curve: pd.DataFrame, line: Mapping[str, object]) -> None:
    """
    :param ax: A panel
    :param curve: Columns ``x``, ``mean``, ``low``, ``high``
    :param line: Arguments of matplotlib's ``plot``
    """
    ax.plot(curve.x, curve["mean"], markevery=max(1, len(curve) // 6), **line)  # type: ignore[arg-type]
    ax.fill_between(curve.x, curve.low, curve.high, color=line["color"], alpha=0.13, linewidth=0)  # type: ignore[arg-type]


def draw_curves(group: Group, style: Style, x: str, y: str, x_label: str, y_label: str, path: Path) -> None:
    """
    One panel per task, one curve per method with its pointwise 95 % interval.

    :param group: The runs
    :param style: The methods
    :param x: Column of the horizontal axis
    :param y: Column of the vertical axis
    :param x_label: Its label, with the unit
    :param y_label: Its label, with the unit
    :param path: File of the figure
    """
    rows = group.evaluations.dropna(subset=[x, y])
    tasks = sorted(rows.task.unique())
    figure, axes = panels(tasks, height=2.6, columns=2 if len(tasks) in (2, 4) else 3)
    for ax, task in zip(axes, tasks, strict=True):
        for method in style.methods:
            chosen = rows[(rows.task == task) & (rows.method == method)]
            if len(chosen):
                draw_curve(ax, learning_curve(chosen, x, y), style.line(method))
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.set_xlabel(x_label)
    axes[0].set_ylabel(y_label)
    add_legend(figure, axes)
    save(figure, path)


def draw_final(table: pd.DataFrame, runs: pd.DataFrame, style: Style, label: str, path: Path) -> None:
    """
    One panel per task: final score of every run as a small ring, their mean with its 95 % interval.

    :param table: The table per task
    :param runs: One row per run
    :param style: The methods
    :param label: What a score is
    :param path: File of the figure
    """
    tasks = sorted(table.task.unique())
    methods = [method for method in style.methods if method in set(table.method)]
    figure, axes = panels(tasks, height=0.6 + 0.2 * len(methods), sharey=True)
    place = {method: len(methods) - i for i, method in enumerate(methods)}
    for ax, task in zip(axes, tasks, strict=True):
        ours = runs[(runs.task == task) & runs.method.isin(methods)]
        ax.scatter(
            ours.final, ours.method.map(place) - 0.25, s=7, facecolors="none", edgecolors="0.45", linewidths=0.6, zorder=2
        )
        for row in table[table.task == task].itertuples():
            draw_interval(ax, place[row.method], row.final, row.final_low, row.final_high, style.line(row.method))
        ax.xaxis.set_major_locator(MaxNLocator(4))
        label_rows(ax, place, style)
    figure.supxlabel(label, fontsize=8)
    save(figure, path)


def draw_interval(ax: Axes, y: float, value: float, low: float, high: float, line: Mapping[str, object]) -> None:
    """
    :param ax: A panel
    :param y: Vertical position
    :param value: The figure
    :param low: Lower bound of its interval; NaN draws none
    :param high: Upper bound of its interval
    :param line: Style of the method
    """
    ax.plot([low, high], [y, y], color=line["color"], linewidth=2, solid_capstyle="butt", zorder=3)  # type: ignore[arg-type]
    ax.plot([value], [y], color=line["color"], marker=line["marker"], markersize=5, zorder=4)  # type: ignore[arg-type]


def label_rows(ax: Axes, place: Mapping[str, int], style: Style) -> None:
    """
    :param ax: A panel with one row per method
    :param place: Method → its vertical position
    :param style: The methods
    """
    ax.set_yticks(list(place.values()), [style.labels[method] for method in place])
    ax.set_ylim(0.3, len(place) + 0.7)


def draw_aggregates(table: pd.DataFrame, names: Sequence[str], style: Style, path: Path) -> None:
    """
    One panel per aggregate of the normalized scores, with 95 % intervals.

    :param table: The table of the aggregates
    :param names: Names of the aggregates
    :param style: The methods
    :param path: File of the figure
    """
    figure, axes = panels(names, height=0.6 + 0.2 * len(table), sharey=True)
    place = {method: len(table) - i for i, method in enumerate(table.method)}
    for ax, name in zip(axes, names, strict=True):
        for row in table.to_dict("records"):
            draw_interval(
                ax, place[row["method"]], row[name], row[f"{name}_low"], row[f"{name}_high"], style.line(row["method"])
            )
        ax.xaxis.set_major_locator(MaxNLocator(4))
        label_rows(ax, place, style)
    figure.supxlabel("normalized score", fontsize=8)
    save(figure, path)


def draw_profiles(runs: pd.DataFrame, style: Style, path: Path) -> None:
    """
    Share of the runs of all tasks above every score, with pointwise 95 % intervals; of methods with enough seeds on every task.

    :param runs: One row per run
    :param style: The methods
    :param path: File of the figure
    """
    tasks = sorted(runs.task.unique())
    low = min(0.0, float(runs.final_normalized.quantile(0.02)))
    # A strict profile at the best possible score is 0, so the axis ends above it
    thresholds = np.linspace(low, max(1.0, float(runs.final_normalized.max())) + 0.02, 150)
    figure, axes = panels([""], height=3.2)
    for method in style.methods:
        scores = matrix(runs, method, tasks, "final_normalized").to_numpy()
        if len(scores) >= statistics.MIN_SEEDS:
            bounds = statistics.bootstrap(scores, lambda scores: statistics.profile(scores, thresholds), n_resamples=1_000)
            curve = pd.DataFrame(
                {"x": thresholds, "mean": statistics.profile(scores, thresholds), "low": bounds[0], "high": bounds[1]}
            )
            draw_curve(axes[0], curve, style.line(method))
    axes[0].set_xlabel("normalized score τ")
    axes[0].set_ylabel("share of runs above τ")
    axes[0].set_ylim(-0.02, 1.02)
    add_legend(figure, axes)
    save(figure, path)


def draw_comparisons(table: pd.DataFrame, style: Style, path: Path) -> None:
    """
    For every task, how much higher a method scores than every other, with 95 % intervals; right of 0 it is ahead. The last panel
    shows the probability of improvement; right of ½ it is ahead.

    :param table: The table of the comparisons
    :param style: The methods
    :param path: File of the figure
    """
    table = table[table.seeds >= statistics.MIN_SEEDS]
    tasks = list(dict.fromkeys(table.task))
    last = tasks[0]
    title = "probability of\nimprovement" + (f", {last}" if len(tasks) > 1 else "")
    figure, axes = panels([*tasks, title], height=0.8 + 0.2 * table.other.nunique(), columns=3, sharey=True)
    others = [method for method in style.methods if method in set(table.other)]
    place = {method: len(others) - i for i, method in enumerate(others)}
    for ax, task in zip(axes, [*tasks, last], strict=True):
        name = "probability" if ax is axes[-1] else "difference"
        for row in table[table.task == task].to_dict("records"):
            draw_interval(
                ax, place[row["other"]], row[name], row[f"{name}_low"], row[f"{name}_high"], style.line(row["other"])
            )
        ax.axvline(0.5 if name == "probability" else 0, color="0.3", linewidth=0.8, zorder=1)
        ax.xaxis.set_major_locator(MaxNLocator(4))
        label_rows(ax, place, style)
    axes[-1].set_xlim(-0.03, 1.03)
    figure.supxlabel(f"{style.labels[table.method.iloc[0]]} minus the method of the row, normalized score", fontsize=8)
    save(figure, path)


def draw_scaling(group: Group, table: pd.DataFrame, label: str, path: Path) -> None:
    """
    One panel per task: final score against the number of actors, with 95 % intervals.

    :param group: The runs
    :param table: The table per task
    :param label: What a score is
    :param path: File of the figure
    """
    tasks = sorted(table.task.unique())
    families = sorted({family for family, _ in group.actors.values()})
    style = Style(group, families)
    figure, axes = panels(tasks, height=2.4, columns=3)
    for ax, task in zip(axes, tasks, strict=True):
        for family in families:
            numbers = {method: n for method, (name, n) in group.actors.items() if name == family}
            rows = table[(table.task == task) & table.method.isin(numbers)]
            rows = rows.assign(n=rows.method.map(numbers)).sort_values("n")
            ax.plot(rows.n, rows.final, **style.line(family))  # type: ignore[arg-type]
            color = style.line(family)["color"]
            ax.vlines(rows.n, rows.final_low, rows.final_high, color=color, linewidth=1.3)  # type: ignore[arg-type]
        ax.set_xticks(sorted({n for _, n in group.actors.values()}))
        ax.set_xlabel("number of actors")
    axes[0].set_ylabel(label)
    add_legend(figure, axes)
    save(figure, path)
