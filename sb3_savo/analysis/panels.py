"""What the panels of a picture show: Q, the surrogates, and which proposals are marked on them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from sb3_savo.analysis.state_landscape import StateLandscape


@dataclass(frozen=True)
class Panel:
    """
    One panel of a picture.

    :param title: Title
    :param values: Values at the evaluated actions, (n,)
    :param heights: Values at the proposals, (k + 1,), where these are drawn in a landscape of one dimension
    :param shown: Which proposals are marked
    :param anchors: Which of these are anchors
    :param dashed: Values to compare with, (n,), and their name; in a landscape of one dimension only
    :param name: The name of ``values`` in the legend
    :param thresholds: The i of the τ_i that are drawn
    :param is_learned: Whether the values have a color scale of their own, that of learned surrogates
    """

    title: str
    values: np.ndarray
    heights: np.ndarray
    shown: Sequence[int]
    anchors: Sequence[int] = ()
    dashed: tuple[str, np.ndarray] | None = None
    name: str = "Q"
    thresholds: Sequence[int] = ()
    is_learned: bool = False


@dataclass(frozen=True)
class Limits:
    """
    Lowest and highest value that a picture shows.

    :param exact: Those of Q and Ψ_i
    :param learned: Those of Ψ̂_i; None without learned surrogates
    """

    exact: tuple[float, float]
    learned: tuple[float, float] | None

    @classmethod
    def of(cls, landscapes: Iterable[StateLandscape]) -> "Limits":
        """
        :param landscapes: At least one landscape
        :return: Limits that hold the values of them all
        """
        exact, learned = [], []
        for landscape in landscapes:
            values, proposals = landscape.values, landscape.proposals
            exact += [values.q1, values.surrogate_q, proposals.q1, proposals.surrogate_q]
            learned += [] if values.learned is None else [values.learned]
        return cls(span(exact), span(learned) if learned else None)


# Row by row; None for an empty place
Rows = list[list["Panel | None"]]


def span(arrays: Sequence[np.ndarray]) -> tuple[float, float]:
    """:return: The lowest and the highest value, a little apart if they are equal"""
    low, high = min(array.min() for array in arrays), max(array.max() for array in arrays)
    width = max(high - low, 1e-6 * max(abs(low), abs(high), 1e-6))
    return float(low), float(low + width)


def curve_panels(landscape: StateLandscape) -> Rows:
    """:return: For a landscape of one dimension: Q and min(Q, Q_2) in one panel, and each Ψ_i with Ψ̂_i in one"""
    values, proposals = landscape.values, landscape.proposals
    everything = range(len(landscape.marks))
    taus = range(1, proposals.n_surrogates + 1)
    panels: list[Panel | None] = [
        Panel("Q (first critic)", values.q1, proposals.q1, everything, dashed=lower_critic(landscape), thresholds=taus)
    ]
    for i in taus:
        panels.append(
            Panel(
                f"surrogate $\\Psi_{{{i}}}$",
                values.exact[i - 1],
                np.maximum(proposals.surrogate_q, proposals.thresholds[i - 1]),
                everything,
                dashed=learned_curve(landscape, i),
                name="exact Ψ",
                thresholds=[i],
            )
        )
    return [panels]


def surface_panels(landscape: StateLandscape) -> Rows:
    """:return: For a landscape of two dimensions: Q, min(Q, Q_2), each Ψ_i, and each Ψ̂_i in a row below"""
    values, proposals = landscape.values, landscape.proposals
    everything = range(len(landscape.marks))
    taus = range(1, proposals.n_surrogates + 1)
    first: list[Panel | None] = [Panel("Q (first critic)", values.q1, proposals.q1, everything)]
    if lower_critic(landscape) is not None:
        first.append(Panel("min(Q, $Q_2$)", values.surrogate_q, proposals.surrogate_q, everything, thresholds=taus))
    exact: list[Panel | None] = [
        Panel(exact_title(landscape, i), values.exact[i - 1], proposals.surrogate_q, everything, thresholds=[i]) for i in taus
    ]
    rows = [first + exact]
    if values.learned is not None:
        learned: list[Panel | None] = [
            Panel(learned_title(i), values.learned[i - 1], proposals.surrogate_q, everything, is_learned=True) for i in taus
        ]
        rows.append([*(None for _ in first), *learned])
    return rows


def strip_panels(landscape: StateLandscape) -> Rows:
    """:return: min(Q, Q_2), each Ψ_i with its anchors, and Q; in two dimensions, each Ψ̂_i in a row below"""
    values, proposals = landscape.values, landscape.proposals
    is_curve = landscape.places.shape[1] == 1
    taus = range(1, proposals.n_surrogates + 1)
    panels: list[Panel | None] = [
        Panel("min(Q, $Q_2$)" if lower_critic(landscape) else "Q", values.surrogate_q, proposals.surrogate_q, [0])
    ]
    for i in taus:
        panels.append(
            Panel(
                exact_title(landscape, i),
                values.exact[i - 1],
                np.maximum(proposals.surrogate_q, proposals.thresholds[i - 1]),
                range(i + 1),
                range(i),
                dashed=learned_curve(landscape, i),
                name="exact Ψ",
                thresholds=[i],
            )
        )
    panels.append(Panel("Q (first critic): the choice", values.q1, proposals.q1, range(len(landscape.marks))))
    rows = [panels]
    if values.learned is not None and not is_curve:
        learned: list[Panel | None] = [
            Panel(learned_title(i), values.learned[i - 1], proposals.surrogate_q, range(i + 1), range(i), is_learned=True)
            for i in taus
        ]
        rows.append([None, *learned, None])
    return rows


def exact_title(landscape: StateLandscape, i: int) -> str:
    tau = landscape.proposals.thresholds[i - 1]
    return f"$\\Psi_{{{i}}}$, flat below $\\tau_{{{i}}}$ = {tau:.3g}"


def learned_title(i: int) -> str:
    return f"learned $\\hat\\Psi_{{{i}}}$"


def lower_critic(landscape: StateLandscape) -> tuple[str, np.ndarray] | None:
    """:return: min(Q, Q_2) and its name; None if surrogates are made of the first critic alone"""
    values = landscape.values
    return None if values.n_critics == 1 else ("min(Q, $Q_2$)", values.surrogate_q)


def learned_curve(landscape: StateLandscape, i: int) -> tuple[str, np.ndarray] | None:
    """:return: Ψ̂_i and its name; None without learned surrogates"""
    learned = landscape.values.learned
    return None if learned is None else ("learned $\\hat\\Psi$", learned[i - 1])
