"""Where the actions of several methods lie on a known landscape of two dimensions, as a picture and as a GIF."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch as th

from sb3_savo.analysis.figures import new_figure
from sb3_savo.extras import needs_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from torch import nn

N_CELLS = 151  # along one side
FRAME_MS, LAST_FRAME_MS = 600, 2_400  # the eye rests on the last one
DPI = 100
# These differ in brightness and in shape, for readers who do not see all colors
TAKEN_STYLES = (("o", "#D55E00"), ("D", "#FFFFFF"))
PROPOSED_COLOR, BEST_COLOR = "#9FE3FF", "#F0E442"
N_COLORS = 24  # of the map: a GIF has 256 in all, of which the markers need some
TICKS = (-1, -0.5, 0, 0.5, 1)


@dataclass(frozen=True)
class Actions:
    """
    The actions of several methods in one state.

    :param title: What distinguishes them from those of other frames
    :param taken: Name of a method → the action that it takes, (2,)
    :param proposed: Name in the legend → actions that are only proposed, (n, 2)
    """

    title: str
    taken: dict[str, np.ndarray]
    proposed: dict[str, np.ndarray] = field(default_factory=dict)


def plot_actions(landscape: "nn.Module", state: th.Tensor, actions: Actions) -> "Figure":
    """
    :param landscape: A landscape of two dimensions, see :mod:`sb3_savo.envs.landscapes`
    :param state: One observation, (CONTEXT_DIM,)
    :param actions: The actions
    :return: The figure
    :raises ImportError: if matplotlib is not installed
    """
    figure = new_figure(5.6, 5.6)
    ax: Axes = figure.add_subplot()
    surface = draw_actions(ax, landscape, state, actions)
    ax.set(xlabel="action, dimension 0", ylabel="action, dimension 1")
    figure.colorbar(surface, ax=ax, label="reward", shrink=0.85)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9, markerscale=0.6)
    return figure


def plot_actions_side_by_side(
    landscape: "nn.Module", state: th.Tensor, panels: Sequence[Actions], columns: int = 3
) -> "Figure":
    """
    :param landscape: A landscape of two dimensions
    :param state: One observation, (CONTEXT_DIM,)
    :param panels: The actions of each panel, at least one; the legend explains those of all
    :param columns: Number of panels in a row
    :return: The figure
    :raises ValueError: if there is no panel
    :raises ImportError: if matplotlib is not installed
    """
    if not panels:
        raise ValueError("panels is empty: it must hold the actions of at least one panel.")
    n_rows = -(-len(panels) // columns)
    figure = new_figure(2.5 * columns + 0.8, 2.75 * n_rows + 0.6)
    axes = figure.subplots(n_rows, columns, sharex=True, sharey=True, squeeze=False)
    for ax in axes[-1]:
        ax.set_xlabel("action, dimension 0")
    for ax in axes[:, 0]:
        ax.set_ylabel("action, dimension 1")
    handles: dict[str, Any] = {}
    for ax, actions in zip(axes.flat, panels, strict=False):
        surface = draw_actions(ax, landscape, state, actions, scale=0.65)
        ax.title.set_fontsize(10)
        handles |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    for unused in axes.flat[len(panels) :]:
        unused.remove()
    figure.colorbar(surface, ax=list(axes.flat[: len(panels)]), label="reward", shrink=0.7)
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=len(handles), fontsize=9)
    return figure


def draw_actions(ax: "Axes", landscape: "nn.Module", state: th.Tensor, actions: Actions, scale: float = 1.0) -> "AxesImage":
    """
    :param ax: Where to draw
    :param landscape: A landscape of two dimensions
    :param state: One observation, (CONTEXT_DIM,)
    :param actions: The actions
    :param scale: Size of the markers, relative to those of a picture with one panel
    :return: The map below the markers
    """
    from matplotlib import colormaps

    line = np.linspace(-1, 1, N_CELLS, dtype=np.float32)
    grid = th.cartesian_prod(th.from_numpy(line), th.from_numpy(line))
    with th.no_grad():
        heights = landscape(state.unsqueeze(0), grid.unsqueeze(0)).reshape(N_CELLS, N_CELLS).T.numpy()
        best = landscape.best(state.unsqueeze(0))[0].numpy()  # type: ignore[operator]
    surface = ax.imshow(
        heights, origin="lower", extent=(-1, 1, -1, 1), cmap=colormaps["viridis"].resampled(N_COLORS), vmin=0, vmax=1
    )
    ax.contour(line, line, heights, levels=8, colors="white", linewidths=0.3, alpha=0.6)
    # Markers on the border are drawn whole, above the frame
    whole: dict[str, Any] = {"linestyle": "", "clip_on": False, "zorder": 3}
    ax.plot(*best, "*", markersize=26 * scale, color=BEST_COLOR, markeredgecolor="black", label="highest peak", **whole)
    ring: dict[str, Any] = {"color": "none", "markeredgecolor": PROPOSED_COLOR, "markeredgewidth": 2 * scale}
    for name, points in actions.proposed.items():
        ax.plot(*points.T, "o", markersize=15 * scale, label=name, **ring, **whole)
    for (marker, color), (name, action) in zip(TAKEN_STYLES, actions.taken.items(), strict=False):
        ax.plot(*action, marker, markersize=8 * scale, color=color, markeredgecolor="black", label=f"{name}'s action", **whole)
    ax.set(xlim=(-1, 1), ylim=(-1, 1), xticks=TICKS, yticks=TICKS, title=actions.title)
    return surface


def animate_actions(landscape: "nn.Module", state: th.Tensor, frames: Sequence[Actions], path: str | Path) -> None:
    """
    :param landscape: A landscape of two dimensions
    :param state: One observation, (CONTEXT_DIM,)
    :param frames: The actions of each frame, at least one
    :param path: The GIF to write
    :raises ValueError: if there is no frame
    :raises ImportError: if matplotlib is not installed
    """
    if not frames:
        raise ValueError("frames is empty: it must hold the actions of at least one frame.")
    with needs_extra("plots", "An animation"):
        from PIL import Image

    images = []
    for actions in frames:
        figure = plot_actions(landscape, state, actions)
        figure.set_dpi(DPI)
        figure.canvas.draw()
        picture = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")  # type: ignore[attr-defined]
        # An octree keeps the colors of the markers, which are rare
        images.append(picture.quantize(method=Image.Quantize.FASTOCTREE))
    durations = [FRAME_MS] * (len(images) - 1) + [LAST_FRAME_MS]
    images[0].save(path, save_all=True, append_images=images[1:], duration=durations, loop=0)
