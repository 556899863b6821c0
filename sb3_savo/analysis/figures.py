"""Pictures of one state's landscape: all values side by side, or the chain of surrogates as a strip."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sb3_savo.analysis.panels import Limits, Panel, Rows, curve_panels, lower_critic, strip_panels, surface_panels
from sb3_savo.analysis.state_landscape import StateLandscape
from sb3_savo.analysis.validity import intervals
from sb3_savo.extras import needs_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# These differ in brightness too, for print and for readers who do not see all colors
SOLID_COLOR, DASHED_COLOR, THRESHOLD_COLOR = "#111111", "#D55E00", "#0072B2"
COLOR_MAP = "cividis"
N_LEVELS = 20
PANEL_WIDTH, PANEL_HEIGHT, MIN_WIDTH = 3.1, 2.9, 6.5  # in inches
# Labels that are closer than this share of the panel are written as one
MERGE_DISTANCE = 0.1


def plot_landscape(landscape: StateLandscape, title: str) -> "Figure":
    """
    Q of the first critic, min(Q, Q_2) if surrogates are made of it, and every surrogate, each with all proposals.

    :param landscape: The landscape of one state
    :param title: Title of the picture: model, state and seeds
    :return: The figure
    :raises ImportError: if matplotlib is not installed
    """
    rows = curve_panels(landscape) if landscape.places.shape[1] == 1 else surface_panels(landscape)
    return plot_panels(landscape, rows, title)


def plot_strip(
    landscape: StateLandscape, title: str, limits: "Limits | None" = None, figure: "Figure | None" = None
) -> "Figure":
    """
    The chain of one state: the Q that surrogates are made of with a_0, then each Ψ_i with its anchors and a_i, which ascends
    it, and at the end the first critic with all proposals, of which the policy chooses one.

    :param landscape: The landscape of one state
    :param title: Title of the picture: model, state and seeds
    :param limits: Range of the values; None for that of the landscape
    :param figure: Figure to draw in; None for a new one
    :return: The figure
    :raises ImportError: if matplotlib is not installed
    """
    return plot_panels(landscape, strip_panels(landscape), title, limits, figure)


def plot_panels(
    landscape: StateLandscape,
    rows: Rows,
    title: str,
    limits: Limits | None = None,
    figure: "Figure | None" = None,
) -> "Figure":
    """
    :param landscape: The landscape of one state
    :param rows: Its panels, row by row; None for an empty place
    :param title: Title of the picture
    :param limits: Range of the values; None for that of the landscape
    :param figure: Figure to draw in; None for a new one
    :return: The figure
    """
    limits = limits or Limits.of([landscape])
    if figure is None:
        figure = new_figure(*picture_size(rows))
    is_curve = landscape.places.shape[1] == 1
    axes = figure.subplots(len(rows), len(rows[0]), squeeze=False, sharex=True, sharey=True)
    for row, row_axes in zip(rows, axes, strict=True):
        surface = None
        for panel, ax in zip(row, row_axes, strict=True):
            if panel is None:
                ax.set_axis_off()
                continue
            if is_curve:
                draw_curves(ax, landscape, panel, limits)
            else:
                surface = draw_surface(ax, landscape, panel, limits)
            draw_marks(ax, landscape, panel)
            ax.set_title(panel.title, fontsize=10)
        if surface is not None:
            is_learned = any(panel is not None and panel.is_learned for panel in row)
            # Beside the empty places too, so that the columns of all rows stay aligned
            bar = figure.colorbar(surface, ax=list(row_axes), pad=0.02, ticks=inner_ticks(limits, is_learned))
            bar.set_label("learned surrogate" if is_learned else "value (discounted return)", fontsize=8)
            bar.ax.tick_params(labelsize=8)
    label_axes(axes, rows, landscape, is_curve)
    figure.suptitle(title, fontsize=10)
    add_legend(figure, landscape, rows)
    return figure


def new_figure(width: float, height: float) -> "Figure":
    """
    :param width: In inches
    :param height: In inches
    :return: An empty figure, which belongs to no window
    :raises ImportError: if matplotlib is not installed
    """
    with needs_extra("plots", "A picture of a landscape"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    figure = Figure((width, height), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    return figure


def inner_ticks(limits: Limits, is_learned: bool) -> list[float]:
    """:return: Round numbers between the limits, for a color bar"""
    from matplotlib.ticker import MaxNLocator

    low, high = limits.learned if is_learned and limits.learned is not None else limits.exact
    return [tick for tick in MaxNLocator(5).tick_values(low, high) if low <= tick <= high]


def picture_size(rows: Rows) -> tuple[float, float]:
    """:return: Width and height of a picture with these panels, in inches; at least as wide as its title and legend"""
    return max(len(rows[0]) * PANEL_WIDTH + 0.9, MIN_WIDTH), len(rows) * PANEL_HEIGHT + 0.9


def label_axes(axes: np.ndarray, rows: Rows, landscape: StateLandscape, is_curve: bool) -> None:
    """Label the lowest axes of each column and the leftmost ones of each row, where there is a panel."""
    y_label = "value (discounted return)" if is_curve else landscape.axes[1]
    for column in range(axes.shape[1]):
        lowest = max(i for i, row in enumerate(rows) if row[column] is not None)
        axes[lowest, column].tick_params(labelbottom=True)
        axes[lowest, column].set_xlabel(landscape.axes[0].replace(" (", "\n("), fontsize=8)
    for i, row in enumerate(rows):
        leftmost = min(column for column, panel in enumerate(row) if panel is not None)
        axes[i, leftmost].tick_params(labelleft=True)
        axes[i, leftmost].set_ylabel(y_label.replace(" (", "\n("), fontsize=8)
    for ax in axes.flat:
        ax.tick_params(labelsize=8)
        ax.locator_params(axis="x", nbins=5)  # more numbers would touch each other


def draw_curves(ax: "Axes", landscape: StateLandscape, panel: Panel, limits: Limits) -> None:
    """Draw a landscape of one dimension: values over the action, thresholds, and what is invalid."""
    x = landscape.places[:, 0]
    for low, high in [] if landscape.valid is None else intervals(x, ~landscape.valid):
        ax.axvspan(low, high, facecolor="0.9", edgecolor="0.7", hatch="////", linewidth=0, zorder=0)
    if panel.dashed is not None:
        name, values = panel.dashed
        ax.plot(x, values, color=DASHED_COLOR, linewidth=1.2, label=name, **curve_style(landscape, "--", 2))
    ax.plot(x, panel.values, color=SOLID_COLOR, linewidth=1.5, label=panel.name, **curve_style(landscape, "-", 2))
    for i in panel.thresholds:
        tau = landscape.proposals.thresholds[i - 1]
        ax.axhline(tau, color=THRESHOLD_COLOR, linestyle=":", linewidth=1.3)
    if panel.thresholds:
        label_thresholds(ax, landscape, panel, limits)
    low, high = limits.exact
    margin = 0.12 * (high - low)
    bottom, top = low - margin, high + 2 * margin
    if limits.learned is not None:  # but not so far that it hides the shape of Q
        bottom = min(bottom, max(limits.learned[0] - margin, low - 0.5 * (high - low)))
        top = max(top, min(limits.learned[1] + margin, high + 0.5 * (high - low)))
    ax.set_ylim(bottom, top)
    ax.set_xlim(x[0], x[-1])


def curve_style(landscape: StateLandscape, line: str, size: float) -> dict[str, Any]:
    """
    :param landscape: A landscape of one dimension
    :param line: Style of a line
    :param size: Size of a point
    :return: Arguments for matplotlib: a line, or points of a ranking of items, since neighbors there have nothing to do with
        each other
    """
    return {"linestyle": line} if landscape.grid is not None else {"linestyle": "", "marker": ".", "markersize": size}


def label_thresholds(ax: "Axes", landscape: StateLandscape, panel: Panel, limits: Limits) -> None:
    """Write the names of the thresholds at the right border, those of close ones as one."""
    heights = landscape.proposals.thresholds[np.array(panel.thresholds) - 1]
    close = MERGE_DISTANCE * (limits.exact[1] - limits.exact[0])
    for members in merged(heights[:, None], np.array([close])):
        names = ", ".join(f"\\tau_{{{panel.thresholds[j]}}}" for j in members)
        ax.annotate(
            f"${names}$",
            (1, heights[members[-1]]),
            xycoords=("axes fraction", "data"),
            xytext=(-3, 2),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=9,
            color=THRESHOLD_COLOR,
        )


def draw_surface(ax: "Axes", landscape: StateLandscape, panel: Panel, limits: Limits) -> Any:
    """
    Draw a landscape of two dimensions: filled contours of a grid, points otherwise.

    :return: What the color bar is for
    """
    low, high = limits.exact if limits.learned is None or not panel.is_learned else limits.learned
    levels = np.linspace(low, high, N_LEVELS + 1)
    x, y = landscape.places.T
    if landscape.grid is None:
        valid = np.ones(len(x), dtype=bool) if landscape.valid is None else landscape.valid
        # The highest last, so that peaks are not covered
        order = np.argsort(panel.values, kind="stable")
        shown, hidden = order[valid[order]], order[~valid[order]]
        style: dict[str, Any] = {"cmap": COLOR_MAP, "vmin": low, "vmax": high, "rasterized": True}
        ax.scatter(x[hidden], y[hidden], c=panel.values[hidden], s=9, marker="x", linewidths=0.5, alpha=0.8, **style)
        return ax.scatter(x[shown], y[shown], c=panel.values[shown], s=7, linewidths=0, **style)
    grid = [part.reshape(landscape.grid) for part in (x, y, panel.values)]
    surface = ax.contourf(*grid, levels=levels, cmap=COLOR_MAP, extend="both")
    if landscape.valid is not None:
        swallowed = np.where(landscape.valid, 0.0, 1.0).reshape(landscape.grid)
        veil = ax.contourf(grid[0], grid[1], swallowed, levels=[0.5, 1.5], colors=["white"], alpha=0.35)
        veil.set_rasterized(True)
        hatched = ax.contourf(grid[0], grid[1], swallowed, levels=[0.5, 1.5], colors="none", hatches=["////"])
        hatched.set_edgecolor("0.25")
        hatched.set_linewidth(0)
    draw_threshold_contours(ax, landscape, panel, grid)
    return surface


def threshold_levels(landscape: StateLandscape, panel: Panel) -> list[float]:
    """:return: The thresholds τ_i that a panel shows, in rising order, of those that Q crosses on the grid"""
    surrogate_q = landscape.values.surrogate_q
    taus = {float(landscape.proposals.thresholds[i - 1]) for i in panel.thresholds}
    return sorted(tau for tau in taus if surrogate_q.min() < tau < surrogate_q.max())


def draw_threshold_contours(ax: "Axes", landscape: StateLandscape, panel: Panel, grid: Sequence[np.ndarray]) -> None:
    """Draw where the Q that Ψ_i is made of is τ_i."""
    from matplotlib.patheffects import withStroke

    surrogate_q = landscape.values.surrogate_q
    if levels := threshold_levels(landscape, panel):
        lines = ax.contour(grid[0], grid[1], surrogate_q.reshape(grid[0].shape), levels=levels, colors="white", linewidths=1.2)
        lines.set_linestyle("--")
        lines.set_path_effects([withStroke(linewidth=2.4, foreground="black")])


def draw_marks(ax: "Axes", landscape: StateLandscape, panel: Panel) -> None:
    """Mark the proposals, with their numbers beside them; those that are close share a label."""
    shown = list(panel.shown)
    points = landscape.marks[shown]
    if points.shape[1] == 1:
        points = np.column_stack([points[:, 0], panel.heights[shown]])
    chosen = landscape.proposals.chosen
    for i, (x, y) in zip(shown, points, strict=True):
        is_chosen = i == chosen
        ax.plot(
            x,
            y,
            marker="*" if is_chosen else "s" if i in panel.anchors else "o",
            markersize=13 if is_chosen else 6,
            markerfacecolor="0.55" if landscape.is_off_slice[i] else "white",
            markeredgecolor="black",
            markeredgewidth=1.1,
            linestyle="",
            zorder=6 if is_chosen else 5,
            clip_on=False,
        )
    size = np.abs(np.array([np.diff(ax.get_xlim())[0], np.diff(ax.get_ylim())[0]]))
    middle = np.array([np.mean(ax.get_xlim()), np.mean(ax.get_ylim())])
    for members in merged(points, MERGE_DISTANCE * size):
        numbers = [shown[j] for j in members]
        place = points[members[0]]
        # Toward the middle, so that the label stays inside the panel
        left, low = place[0] <= middle[0], place[1] <= middle[1] or points.shape[1] == 1
        is_chosen = chosen in numbers
        ax.annotate(
            ", ".join(map(str, numbers)),
            place,
            xytext=(7 if left else -7, 7 if low else -7),
            textcoords="offset points",
            ha="left" if left else "right",
            va="bottom" if low else "top",
            fontsize=8,
            fontweight="bold" if is_chosen else "normal",
            color="white" if is_chosen else "black",
            bbox={"boxstyle": "round,pad=0.2", "facecolor": "black" if is_chosen else "white", "linewidth": 0.6},
            zorder=7,
        )


def merged(points: np.ndarray, close: np.ndarray) -> list[list[int]]:
    """
    :param points: (n, dims)
    :param close: How far two points of one group may be apart along each dimension, (dims,)
    :return: Groups of the points' indices: each point joins the first group whose first point is close
    """
    groups: list[list[int]] = []
    for i, point in enumerate(points):
        near = (group for group in groups if (np.abs(points[group[0]] - point) <= close).all())
        group = next(near, None)
        if group is None:
            groups.append([i])
        else:
            group.append(i)
    return groups


def add_legend(figure: "Figure", landscape: StateLandscape, rows: Rows) -> None:
    """Explain the marks below the panels."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from matplotlib.patheffects import withStroke

    panels = [panel for row in rows for panel in row if panel is not None]
    style: dict[str, Any] = {"linestyle": "", "markerfacecolor": "white", "markeredgecolor": "black"}
    handles: list[Any] = [
        Line2D([], [], marker="*", markersize=11, label=f"$a_{{{landscape.proposals.chosen}}}$, chosen", **style)
    ]
    if len(landscape.marks) > 1:
        handles.append(Line2D([], [], marker="o", markersize=6, label="proposed $a_i$", **style))
    if any(panel.anchors for panel in panels):
        handles.append(Line2D([], [], marker="s", markersize=6, label="anchor of $\\Psi_i$", **style))
    if landscape.is_off_slice.any():
        gray = {**style, "markerfacecolor": "0.55"}
        handles.append(Line2D([], [], marker="o", markersize=6, label="gray: off this slice", **gray))
    if landscape.places.shape[1] == 1:
        dashed = [panel.dashed[0] for panel in panels if panel.dashed is not None]
        names = list(dict.fromkeys(panel.name for panel in panels))
        handles.append(Line2D([], [], color=SOLID_COLOR, label=" or ".join(names), **curve_style(landscape, "-", 5)))
        if dashed:
            label = " or ".join(dict.fromkeys(dashed))
            handles.append(Line2D([], [], color=DASHED_COLOR, label=label, **curve_style(landscape, "--", 5)))
        if any(panel.thresholds for panel in panels):
            handles.append(Line2D([], [], color=THRESHOLD_COLOR, linestyle=":", label="threshold $\\tau_i$"))
    elif landscape.grid is not None and any(threshold_levels(landscape, panel) for panel in panels):
        line = Line2D([], [], color="white", linestyle="--", path_effects=[withStroke(linewidth=2.4, foreground="black")])
        line.set_label(f"{'min(Q, $Q_2$)' if lower_critic(landscape) else 'Q'} = $\\tau_i$")
        handles.append(line)
    if landscape.valid is not None:
        if landscape.places.shape[1] == 2 and landscape.grid is None:
            handles.append(Line2D([], [], marker="x", markersize=5, linestyle="", color="0.4", label="invalid action"))
        else:
            handles.append(Patch(facecolor="0.92", edgecolor="0.4", hatch="////", linewidth=0, label="invalid actions"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8, frameon=False)
