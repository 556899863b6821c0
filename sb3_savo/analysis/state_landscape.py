"""The landscape of one state as arrays: where each action is drawn, its values, and where the proposals lie."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from sb3_savo.analysis.actions import Projection, project, slice_through, spread_actions, to_environment
from sb3_savo.analysis.proposals import Proposals, Values, evaluate_at, propose_at
from sb3_savo.analysis.validity import Validity
from sb3_savo.arguments import check_integer
from sb3_savo.common.policies import MaximizerPolicy


@dataclass(frozen=True)
class StateLandscape:
    """
    What a picture of one state shows.

    :param places: Where each evaluated action is drawn, (n, 1) or (n, 2)
    :param values: Q and the surrogates at these actions
    :param proposals: What the policy proposes
    :param marks: Where each proposal is drawn, (k + 1, 1) or (k + 1, 2)
    :param valid: Whether the environment carries out each evaluated action, (n,); None if it carries out all
    :param axes: What each axis shows
    :param grid: Shape of the regular grid that the actions form, (n_x,) or (n_x, n_y); None if they form none
    :param is_off_slice: Whether each proposal differs from the slice in a dimension that is not drawn, (k + 1,)
    """

    places: np.ndarray
    values: Values
    proposals: Proposals
    marks: np.ndarray
    valid: np.ndarray | None
    axes: tuple[str, ...]
    grid: tuple[int, ...] | None
    is_off_slice: np.ndarray


def landscape_along(
    policy: MaximizerPolicy, observation: Any, dims: Sequence[int], n: int = 101, validity: Validity | None = None
) -> StateLandscape:
    """
    The landscape along one or two dimensions of the action, through the chosen action.

    :param policy: The policy of one of our algorithms
    :param observation: One observation
    :param dims: The dimensions, one or two different ones
    :param n: Number of actions along each of them, at least 2
    :param validity: Which actions are valid, see :func:`validity_of`; None if all are
    :return: The landscape, (n,) or (n, n) actions
    :raises TypeError: if a number is not an integer
    :raises ValueError: if there are not one or two different dimensions that the action has, or ``n`` is too small
    """
    check_dims(dims, policy.action_dim)
    check_integer("n", n, low=2)
    drawn = list(dims)
    proposals = propose_at(policy, observation)
    chosen = proposals.actions[proposals.chosen]
    actions = slice_through(chosen, drawn, n).reshape(-1, policy.action_dim)
    space = policy.action_space
    is_box = isinstance(space, spaces.Box)
    name, unit = ("action", "environment's units") if is_box else ("embedding", "scaled to [-1, 1]")
    others = np.delete(proposals.actions - chosen, drawn, axis=1)
    return StateLandscape(
        places=to_environment(actions, space)[:, drawn],
        values=evaluate_at(policy, observation, proposals, actions),
        proposals=proposals,
        marks=to_environment(proposals.actions, space)[:, drawn],
        valid=None if validity is None else validity(to_environment(actions, space)),
        axes=tuple(f"{name}, dimension {dim} ({unit})" for dim in drawn),
        grid=(n,) * len(drawn),
        is_off_slice=(np.abs(others) > 1e-3).any(axis=1),
    )


def landscape_projected(
    policy: MaximizerPolicy,
    observation: Any,
    projection: Projection,
    n: int = 10_000,
    seed: int = 0,
    validity: Validity | None = None,
) -> StateLandscape:
    """
    The landscape over actions of any number of dimensions, placed in a plane: over actions that cover the space evenly, or in
    a discrete space over the items' embeddings.

    :param policy: The policy of one of our algorithms
    :param observation: One observation
    :param projection: ``"pca"`` or ``"umap"``, see :func:`project`
    :param n: Number of actions, at least 3; in a discrete space with more items, as many random ones
    :param seed: Seed of the actions, or of the choice of items, and of UMAP
    :param validity: Which actions are valid, see :func:`validity_of`; None if all are
    :return: The landscape; the proposals, which take part in the projection, are its last actions
    :raises TypeError: if a number is not an integer
    :raises ValueError: if ``n`` is too small, or the projection is unknown
    :raises ImportError: if it is ``"umap"``, and umap-learn is not installed
    """
    check_integer("n", n, low=3)
    proposals = propose_at(policy, observation)
    if policy.items is None:
        sample = spread_actions(policy.action_dim, n, seed)
    else:
        sample = policy.items.embeddings.cpu().numpy()
        if len(sample) > n:
            sample = sample[np.random.default_rng(seed).choice(len(sample), n, replace=False)]
    actions = np.concatenate([sample, proposals.actions])
    places = project(actions, projection, seed)
    name = {"pca": "principal axis", "umap": "UMAP axis"}[projection]
    what = "actions" if policy.items is None else "items' embeddings"
    return StateLandscape(
        places=places,
        values=evaluate_at(policy, observation, proposals, actions),
        proposals=proposals,
        marks=places[len(sample) :],
        valid=None if validity is None else validity(to_environment(actions, policy.action_space)),
        axes=tuple(f"{name} {i} of the {what} (no unit)" for i in (1, 2)),
        grid=None,
        is_off_slice=np.zeros(len(proposals.actions), dtype=bool),
    )


def landscape_of_items(policy: MaximizerPolicy, observation: Any) -> StateLandscape:
    """
    The landscape over all items, sorted by the first critic, the highest first.

    :param policy: The policy of one of our algorithms in a discrete space
    :param observation: One observation
    :return: The landscape; an action's place is its rank
    :raises ValueError: if the action space is continuous
    """
    if policy.items is None:
        raise ValueError(f"policy: its action space {policy.action_space} has no items: it must be an EmbeddedDiscrete.")
    proposals = propose_at(policy, observation)
    embeddings = policy.items.embeddings.cpu().numpy()
    order = np.argsort(-evaluate_at(policy, observation, proposals, embeddings).q1, kind="stable")
    rank = np.argsort(order)
    return StateLandscape(
        places=np.arange(len(order), dtype=float)[:, None],
        values=evaluate_at(policy, observation, proposals, embeddings[order]),
        proposals=proposals,
        marks=rank[proposals.items].astype(float)[:, None],
        valid=None,
        axes=("rank of the item by Q (0 is the highest)",),
        grid=None,
        is_off_slice=np.zeros(len(proposals.actions), dtype=bool),
    )


def check_dims(dims: Sequence[int], action_dim: int) -> None:
    """
    :param dims: Dimensions to draw
    :param action_dim: Number of dimensions of the action
    :raises TypeError: if one is not an integer
    :raises ValueError: if they are not one or two different numbers from 0 to ``action_dim`` - 1
    """
    for dim in dims:
        check_integer("dims", dim, low=0)
    if len(dims) not in (1, 2) or len(set(dims)) < len(dims) or max(dims) >= action_dim:
        raise ValueError(f"dims={list(dims)} must be one or two different dimensions, from 0 to {action_dim - 1}.")
