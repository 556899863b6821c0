"""A picture of the valid set of a restricted task (paper, Fig. 6)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import gymnasium as gym
import numpy as np

from sb3_savo.analysis.actions import slice_through, to_environment
from sb3_savo.analysis.figures import new_figure
from sb3_savo.analysis.state_landscape import check_dims
from sb3_savo.analysis.validity import balls, intervals, restriction_of, validity_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

N_LINE, N_PLANE = 2001, 301
VALID_COLOR, VALID_EDGE = "#56B4E9", "#0B3C5D"


def plot_valid_set(env: gym.Env, dims: Sequence[int] | None, title: str) -> "Figure":
    """
    The valid actions: intervals on a line, an area of a plane, or balls in space.

    :param env: A restricted environment
    :param dims: One or two dimensions to draw, where the others are in the middle of their range; None for all dimensions of
        an action of at most three
    :param title: Title of the picture
    :return: The figure
    :raises TypeError: if a dimension is not an integer
    :raises ValueError: if no wrapper restricts the actions, or the dimensions do not fit the action
    :raises ImportError: if matplotlib is not installed
    """
    restriction = restriction_of(env)
    if restriction is None:
        raise ValueError(f"env: no wrapper restricts the actions of {env}: it must hold a RestrictedAction.")
    action_dim = restriction.low.size
    check_dims_of_set(dims, action_dim)
    share = f"{restriction.coverage():.0%} of the action space is valid"
    if dims is None and action_dim == 3:
        return plot_balls(env, f"{title}\n{share}")
    drawn = list(range(action_dim) if dims is None else dims)
    if len(drawn) < action_dim:
        share += "\nslice with the other dimensions in the middle of their range"
    return plot_slice(env, drawn, f"{title}\n{share}")


def check_dims_of_set(dims: Sequence[int] | None, action_dim: int) -> None:
    """
    :param dims: See :func:`plot_valid_set`
    :param action_dim: Number of dimensions of the action
    :raises TypeError: if a dimension is not an integer
    :raises ValueError: if the dimensions do not fit the action
    """
    if dims is not None:
        check_dims(dims, action_dim)
    elif action_dim > 3:
        raise ValueError(f"dims=None needs an action of at most 3 dimensions, and this one has {action_dim}: name one or two.")


def valid_slice(env: gym.Env, dims: Sequence[int], n: int) -> tuple[np.ndarray, np.ndarray]:
    """
    :param env: A restricted environment
    :param dims: The dimensions of the slice; the others are in the middle of their range
    :param n: Number of actions along each of them
    :return: The actions' coordinates along ``dims`` in the environment's units, (n, …, len(dims)), and whether each is valid,
        (n, …)
    """
    are_valid = validity_of(env)
    assert are_valid is not None and env.action_space.shape is not None
    action_dim = int(np.prod(env.action_space.shape))
    actions = to_environment(slice_through(np.zeros(action_dim), dims, n), env.action_space)
    return actions[..., list(dims)], are_valid(actions.reshape(-1, action_dim)).reshape(actions.shape[:-1])


def plot_slice(env: gym.Env, dims: Sequence[int], title: str) -> "Figure":
    """:return: The figure of :func:`plot_valid_set` along one or two dimensions"""
    is_line = len(dims) == 1
    figure = new_figure(6.5, 1.7) if is_line else new_figure(5.2, 5.2)
    ax = figure.subplots()
    places, valid = valid_slice(env, dims, N_LINE if is_line else N_PLANE)
    if is_line:
        x = places[:, 0]
        for low, high in intervals(x, valid):
            ax.axvspan(low, high, facecolor=VALID_COLOR, edgecolor=VALID_EDGE)
        ax.set_xlim(x[0], x[-1])
        ax.set_yticks([])
    else:
        x, y = places[..., 0], places[..., 1]
        ax.contourf(x, y, valid.astype(float), levels=[0.5, 1.5], colors=[VALID_COLOR])
        ax.contour(x, y, valid.astype(float), levels=[0.5], colors=[VALID_EDGE], linewidths=0.8)
        ax.set_aspect("equal")
        ax.set_ylabel(axis_label(dims[1]))
    ax.set_xlabel(axis_label(dims[0]))
    ax.set_title(f"{title} (shaded)", fontsize=9)
    return figure


def plot_balls(env: gym.Env, title: str, n: int = 24) -> "Figure":
    """
    :param env: A restricted environment with an action of three dimensions
    :param title: Title of the picture
    :param n: Number of points around a ball
    :return: The figure of its balls, as far as they lie in the action space
    """
    restriction = restriction_of(env)
    assert restriction is not None
    figure = new_figure(5.5, 5.6)
    from matplotlib.colors import LightSource

    ax = figure.add_subplot(projection="3d")
    low, high = restriction.low, restriction.low + restriction.width
    around, up = np.meshgrid(np.linspace(0, 2 * np.pi, n), np.linspace(0, np.pi, n // 2 + 1))
    sphere = np.stack([np.cos(around) * np.sin(up), np.sin(around) * np.sin(up), np.cos(up)], axis=-1)
    light = LightSource(azdeg=240, altdeg=50)
    for center, radii in zip(*balls(restriction), strict=True):
        # A part that leaves the action space is pressed to its border
        surface = (center + radii * sphere).clip(low, high)
        ax.plot_surface(
            *np.moveaxis(surface, -1, 0), color=VALID_COLOR, edgecolor=VALID_EDGE, linewidth=0.1, lightsource=light
        )
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), zlim=(low[2], high[2]))
    ax.set_box_aspect((1, 1, 1), zoom=0.8)
    for dim, set_label in enumerate((ax.set_xlabel, ax.set_ylabel, ax.set_zlabel)):
        set_label(axis_label(dim).replace(" (", "\n("), fontsize=8, labelpad=10)
    ax.locator_params(nbins=5)
    ax.tick_params(labelsize=7)
    figure.suptitle(title, fontsize=9)
    return figure


def axis_label(dim: int) -> str:
    return f"action, dimension {dim} (environment's units)"
