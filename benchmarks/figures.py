"""The figures of a report. Dashes and markers go with the colors, for print and for the color-blind."""

import io
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from PIL import Image

from benchmarks import statistics
from benchmarks.results import Group
from benchmarks.tables import learning_curve, matrix

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

WIDTH = 7.0
DPI = 150
# Without the palette's pink and yellow, which fade in print
COLORS = [color for i, color in enumerate(sns.color_palette("colorblind")) if i not in (6, 8)]
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = "osD^vP*X<>p"
LEGEND_ROW = 0.17
MAX_BANDS = 4

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

    def line(self, method: str) -> dict[str, Any]:
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
    Save a figure as PNG for the screen and as PDF for print.

    :param figure: A figure, which is closed
    :param path: Its PNG file; the PDF file is beside it
    """
    # Without the date, so that the same results give the same file
    save_as_pdf = partial(figure.savefig, path.with_suffix(".pdf"), bbox_inches="tight", metadata={"CreationDate": None})
    # How wide a panel is, is known once a figure has been drawn
    save_as_pdf()
    if shrink_titles(figure):
        save_as_pdf()
    picture = io.BytesIO()
    figure.savefig(picture, dpi=DPI, bbox_inches="tight")
    plt.close(figure)
    # 128 colors suffice, and make the file three times smaller
    Image.open(picture).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


def shrink_titles(figure: Figure) -> bool:
    """
    Make every title that is wider than its panel smaller, so that the titles of neighbors do not overlap.

    :param figure: A figure that has been drawn
    :return: Whether there is such a title
    """
    renderer = FigureCanvasAgg(figure).get_renderer()
    too_wide = False
    for ax in figure.axes:
        # A little of the gap between two panels is free
        width, room = ax.title.get_window_extent(renderer).width, 1.05 * ax.get_window_extent(renderer).width
        if width > room:
            ax.title.set_fontsize(float(ax.title.get_fontsize()) * room / width)
            too_wide = True
    return too_wide


def panels(names: Sequence[str], height: float, columns: int = 4, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    """
    :param names: Titles of the panels
    :param height: Height of a row in inches
    :param columns: Greatest number of panels in a row
    :param sharey: Whether all panels have the same vertical axis
    :return: A figure of the width of a page, and its panels
    """
    n_rows = -(-len(names) // columns)
    columns = -(-len(names) // n_rows)
    figure, axes = plt.subplots(
        n_rows, columns, figsize=(WIDTH, height * n_rows), squeeze=False, sharey=sharey, layout="constrained"
    )
    flat = list(axes.flat)
    for unused in flat[len(names) :]:
        unused.remove()
    for ax, name in zip(flat, names, strict=False):
        ax.set_title(name)
    return figure, flat[: len(names)]


def add_legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """
    :param figure: A figure; it grows by a legend below the panels
    :param axes: Its panels
    """
    handles: dict[str, Any] = {}
    for ax in axes:
        handles |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    longest = max(map(len, handles))
    # About 15 characters take an inch, and the sample of the line takes as much as 8
    columns = max(1, min(len(handles), int(figure.get_figwidth() * 15 / (longest + 8))))
    n_rows = -(-len(handles) // columns)
    columns = -(-len(handles) // n_rows)
    figure.set_figheight(figure.get_figheight() + LEGEND_ROW * n_rows)
    figure.legend(
        list(handles.values()), list(handles), loc="outside lower center", ncols=columns, handlelength=3.5, fontsize=8
    )


def draw_curve(ax: Axes, curve: pd.DataFrame, line: Mapping[str, Any], start: int | None = None) -> None:
    """
    :param ax: A panel
    :param curve: Columns ``x``, ``mean``, ``low``, ``high``
    :param line: Arguments of matplotlib's ``plot``
    :param start: Draw the interval as a bar at every marker, the first of which is at this row; None draws it as a band
    """
    every = max(1, len(curve) // 6)
    marked = slice(0 if start is None else start % every, None, every)
    ax.plot(curve.x, curve["mean"], markevery=marked, **line)
    if start is None:
        ax.fill_between(curve.x, curve.low, curve.high, color=line["color"], alpha=0.15, linewidth=0)
    else:
        bars = curve[marked]
        ax.vlines(bars.x, bars.low, bars.high, color=line["color"], linewidth=0.8, alpha=0.7)


def draw_curves(group: Group, style: Style, x: str, y: str, x_label: str, y_label: str, path: Path) -> None:
    """
    One panel per task, one curve per method with its pointwise 95 % interval: a band for the first method, and for every one
    if there are at most :data:`MAX_BANDS`; bars at the markers for the others. Below five seeds, thin lines show the runs.

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
    figure, axes = panels(tasks, height=2.6, columns=3)
    for ax, task in zip(axes, tasks, strict=True):
        for method in style.methods:
            chosen = rows[(rows.task == task) & (rows.method == method)]
            if chosen.empty:
                continue
            index = style.methods.index(method)
            has_band = index == 0 or len(style.methods) <= MAX_BANDS
            draw_curve(ax, learning_curve(chosen, x, y), style.line(method), None if has_band else index)
            if chosen.seed.nunique() < statistics.MIN_SEEDS:
                for _, run in chosen.sort_values(x).groupby("seed"):
                    ax.plot(run[x], run[y], color=style.line(method)["color"], linewidth=0.5, alpha=0.5, zorder=2)
        if x == "q_evaluations":
            ax.set_xscale("log")
        else:
            ax.xaxis.set_major_formatter(EngFormatter(sep=""))
            ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        ax.set_xlabel(x_label, fontsize=8)
    figure.supylabel(y_label, fontsize=8)
    add_legend(figure, axes)
    save(figure, path)


def draw_mean_curves(curves: pd.DataFrame, style: Style, step_unit: str, y_label: str, path: Path) -> None:
    """
    Mean score of all tasks against steps, and against the number of evaluations of Q on a logarithmic axis.

    :param curves: Columns ``method``, ``step``, ``q_evaluations``, ``mean``, ``low``, ``high``
    :param style: The methods
    :param step_unit: What a step is
    :param y_label: Label of the vertical axis, with the unit
    :param path: File of the figure
    """
    figure, axes = panels(["", ""], height=3.2, sharey=True)
    for ax, x in zip(axes, ("step", "q_evaluations"), strict=True):
        for method, curve in curves.groupby("method", sort=False):
            draw_curve(ax, curve.assign(x=curve[x]), style.line(str(method)))
    axes[0].set_xlabel(step_unit)
    axes[1].set_xscale("log")
    axes[1].set_xlabel("evaluations of Q in training")
    axes[0].set_ylabel(y_label, fontsize=8)
    add_legend(figure, axes[:1])
    save(figure, path)


def draw_candidates(curves: pd.DataFrame, style: Style, step_unit: str, path: Path) -> None:
    """
    One panel per method: the mean value of every candidate, and of the one that is chosen.

    :param curves: Columns ``method``, ``shown`` (``candidate_i`` or ``score``), ``step``, ``mean``, ``low``, ``high``
    :param style: The methods
    :param step_unit: What a step is
    :param path: File of the figure
    """
    methods = list(curves.method.unique())
    figure, axes = panels([style.labels[method] for method in methods], height=2.2, columns=3, sharey=True)
    shown = list(curves.shown.unique())
    # More candidates than colors: from the first, dark one to the last, light one
    colors = COLORS if len(shown) <= len(COLORS) else sns.color_palette("viridis", len(shown))
    lines = {name: {"color": colors[i], "marker": MARKERS[i % len(MARKERS)], "markersize": 4} for i, name in enumerate(shown)}
    lines["score"] = {"color": "black", "linestyle": "--"}
    for ax, method in zip(axes, methods, strict=True):
        for name, curve in curves[curves.method == method].groupby("shown"):
            label = "chosen" if name == "score" else str(name).replace("_", " ")
            draw_curve(ax, curve.assign(x=curve.step), {**lines[str(name)], "label": label})
        ax.set_xlabel(step_unit, fontsize=8)
    figure.supylabel("share of the optimum", fontsize=8)
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


def draw_interval(ax: Axes, y: float, value: float, low: float, high: float, line: Mapping[str, Any]) -> None:
    """
    :param ax: A panel
    :param y: Vertical position
    :param value: The figure
    :param low: Lower bound of its interval; NaN draws none
    :param high: Upper bound of its interval
    :param line: Style of the method
    """
    ax.plot([low, high], [y, y], color=line["color"], linewidth=2, solid_capstyle="butt", zorder=3)
    ax.plot([value], [y], color=line["color"], marker=line["marker"], markersize=5, zorder=4)


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
    Share of the runs of all tasks above every score, with pointwise 95 % intervals, of the methods with enough seeds.

    :param runs: One row per run
    :param style: The methods
    :param path: File of the figure
    """
    tasks = sorted(runs.task.unique())
    low = float(runs.final_normalized.min()) - 0.02
    # A strict profile at the best possible score is 0, so the axis ends above it
    thresholds = np.linspace(low, max(1.0, float(runs.final_normalized.max())) + 0.02, 150)
    figure, axes = panels([""], height=2.8)
    for method in style.methods:
        scores = matrix(runs, method, tasks, "final_normalized").to_numpy()
        if len(scores) >= statistics.MIN_SEEDS:
            bounds = statistics.bootstrap(scores, lambda scores: statistics.profile(scores, thresholds), n_resamples=1_000)
            curve = pd.DataFrame(
                {"x": thresholds, "mean": statistics.profile(scores, thresholds), "low": bounds[0], "high": bounds[1]}
            )
            index = style.methods.index(method)
            draw_curve(
                axes[0], curve, style.line(method), None if index == 0 or len(style.methods) <= MAX_BANDS else 4 * index
            )
    axes[0].set_xlabel("normalized score τ")
    axes[0].set_ylabel("share of runs above τ")
    axes[0].set_ylim(-0.02, 1.02)
    add_legend(figure, axes)
    save(figure, path)


def draw_comparisons(table: pd.DataFrame, name: str, titles: Mapping[str, str], style: Style, label: str, path: Path) -> None:
    """
    One panel per task: a figure of the comparison of a method with every other, with its 95 % interval.

    :param table: The comparisons, without those of too few seeds
    :param name: Column of the figure, ``difference`` or ``probability``
    :param titles: Task → title of its panel
    :param style: The methods
    :param label: What the figure is
    :param path: File of the figure
    """
    others = [method for method in style.methods if method in set(table.other)]
    figure, axes = panels(list(titles.values()), height=0.7 + 0.2 * len(others), sharey=True)
    place = {method: len(others) - i for i, method in enumerate(others)}
    for ax, task in zip(axes, titles, strict=True):
        for row in table[table.task == task].to_dict("records"):
            draw_interval(
                ax, place[row["other"]], row[name], row[f"{name}_low"], row[f"{name}_high"], style.line(row["other"])
            )
        ax.axvline(0.5 if name == "probability" else 0, color="0.3", linewidth=0.8, zorder=1)
        ax.xaxis.set_major_locator(MaxNLocator(4))
        label_rows(ax, place, style)
        if name == "probability":
            ax.set_xlim(-0.03, 1.03)
    figure.supxlabel(label, fontsize=8)
    save(figure, path)


def draw_scaling(group: Group, table: pd.DataFrame, label: str, path: Path) -> None:
    """
    One panel per task: final score against the number of actors, with 95 % intervals.

    :param group: The runs
    :param table: The table per task, with ``curve`` and ``n_actors``
    :param label: What a score is
    :param path: File of the figure
    """
    tasks = sorted(table.task.unique())
    style = Style(group, sorted(group.curves))
    figure, axes = panels(tasks, height=2.4, columns=3)
    for ax, task in zip(axes, tasks, strict=True):
        for curve in sorted(group.curves):
            rows = table[(table.task == task) & (table.curve == curve)].sort_values("n_actors")
            ax.plot(rows.n_actors, rows.final, **style.line(curve))
            color = style.line(curve)["color"]
            ax.vlines(rows.n_actors, rows.final_low, rows.final_high, color=color, linewidth=1.3)
        ax.set_xticks(sorted(table.n_actors.unique()))
        ax.set_xlabel("number of actors")
    figure.supylabel(label, fontsize=8)
    if len(group.curves) > 1:
        add_legend(figure, axes)
    save(figure, path)
