"""How hard the landscapes of some states are, and how far a policy is below their tops, as numbers."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch as th

from sb3_savo.actions.candidates import ascend
from sb3_savo.actions.nearest import NearestItems
from sb3_savo.analysis.actions import slice_through, spread_actions
from sb3_savo.analysis.optima import grid_neighbors, grid_size, maxima_by_ascent, maxima_on_graph
from sb3_savo.analysis.proposals import to_array, to_tensor
from sb3_savo.arguments import check_integer
from sb3_savo.common.policies import MaximizerPolicy
from sb3_savo.savo.savo import anchor_thresholds

REFINEMENT_STEPS = 20


@dataclass(frozen=True)
class LandscapeNumbers:
    """
    Numbers of a batch of states. Q is the first critic's, by which the policy chooses.

    :param n_optima: Number of local maxima of Q(s, ·), (batch,)
    :param n_surrogate_optima: Number of local maxima of Ψ_i(s, ·), i = 1 … k, that are above its flat part: those of Q above
        τ_i (Theorem 4.2: never more than those of the one before), (batch, k)
    :param highest: max_a Q(s, a), as far as it was found, (batch,)
    :param suboptimality: Eq. 4 of the policy: max_a Q(s, a) - Q(s, μ_M(s)), (batch,)
    :param suboptimality_of_first: Eq. 4 of its first candidate alone: max_a Q(s, a) - Q(s, a_0), (batch,)
    """

    n_optima: np.ndarray
    n_surrogate_optima: np.ndarray
    highest: np.ndarray
    suboptimality: np.ndarray
    suboptimality_of_first: np.ndarray


def landscape_numbers(
    policy: MaximizerPolicy, observations: Any, n_points: int = 10_000, n_starts: int = 256, n_neighbors: int = 10
) -> LandscapeNumbers:
    """
    Number of local maxima, and suboptimality, of each state.

    In a space of one or two dimensions, a maximum is a point of a dense regular grid without a higher neighbor, and gradient
    steps refine it. In one of more dimensions, maxima are the ends of gradient ascents from points that cover the space
    evenly and from the policy's candidates, see :func:`maxima_by_ascent`; both numbers are then estimates from below. In a
    discrete space, all items are evaluated: the highest value is exact, and a maximum is an item of which no nearest neighbor
    has a higher value.

    :param policy: The policy of one of our algorithms
    :param observations: A batch of observations, (batch, ...)
    :param n_points: Number of points of the grid, at least 9
    :param n_starts: Number of ascents, at least 1
    :param n_neighbors: Number of nearest neighbors of an item, at least 1
    :return: The numbers
    :raises TypeError: if a number is not an integer
    :raises ValueError: if a number is too small
    """
    check_integer("n_points", n_points, low=9)
    check_integer("n_starts", n_starts, low=1)
    check_integer("n_neighbors", n_neighbors, low=1)
    obs = to_tensor(policy, observations)
    with th.no_grad():
        actions, _ = policy.snap(policy.propose(obs, deterministic=True))
        _, picked, _ = policy.maximize(obs, actions)
        q_candidates = policy.critic.q1(obs, actions)
    thresholds = anchor_thresholds(q_candidates)
    if policy.items is not None:
        maxima = item_maxima(policy, obs, n_neighbors)
    elif policy.action_dim <= 2:
        maxima = [grid_maxima(policy, state, n_points) for state in split_states(obs)]
    else:
        spread = th.as_tensor(spread_actions(policy.action_dim, n_starts), device=policy.device)
        maxima = [
            maxima_by_ascent(partial(policy.critic.q1, state), th.cat([spread, candidates]))[1]
            for state, candidates in zip(split_states(obs), actions, strict=True)
        ]
    highest = th.stack([values.max() for values in maxima]).maximum(q_candidates.amax(dim=1))
    above = [(values.unsqueeze(1) > tau).sum(dim=0) for values, tau in zip(maxima, thresholds, strict=True)]
    return LandscapeNumbers(
        n_optima=np.array([len(values) for values in maxima]),
        n_surrogate_optima=to_array(th.stack(above)),
        highest=to_array(highest),
        suboptimality=to_array(highest - q_candidates.gather(1, picked).squeeze(1)),
        suboptimality_of_first=to_array(highest - q_candidates[:, 0]),
    )


@th.no_grad()
def grid_maxima(policy: MaximizerPolicy, obs: Any, n_points: int) -> th.Tensor:
    """
    :param policy: A policy of a continuous space of one or two dimensions
    :param obs: One observation, (1, ...)
    :param n_points: Number of points of the grid
    :return: Q of each local maximum, (n,), the highest first
    """
    n = grid_size(policy.action_dim, n_points)
    dims = range(policy.action_dim)
    grid = slice_through(np.zeros(policy.action_dim), dims, n).reshape(-1, policy.action_dim)
    points = th.as_tensor(grid, device=policy.device)
    q = partial(policy.critic.q1, obs)
    values = q(points[None])[0]
    found = maxima_on_graph(to_array(values), grid_neighbors((n,) * policy.action_dim))
    found_on_grid = values[th.as_tensor(found, device=values.device)]
    refined = q(ascend(q, points[found][None], REFINEMENT_STEPS, step_size=2 / (n - 1)))[0]
    return th.maximum(found_on_grid, refined).sort(descending=True).values


@th.no_grad()
def item_maxima(policy: MaximizerPolicy, obs: Any, n_neighbors: int) -> list[th.Tensor]:
    """
    :param policy: A policy of a discrete space
    :param obs: Observations, (batch, ...)
    :param n_neighbors: Number of nearest neighbors of an item
    :return: For each state, Q of each item that is a local maximum, (n,), the highest first
    """
    items = policy.items
    assert items is not None
    neighbors = item_neighbors(items, n_neighbors)
    maxima = []
    for state in split_states(obs):
        values = policy.critic.q1(state, items.embeddings[None])[0]
        maxima.append(values[th.as_tensor(maxima_on_graph(to_array(values), neighbors), device=values.device)])
    return maxima


def item_neighbors(items: NearestItems, n_neighbors: int) -> np.ndarray:
    """
    :param items: The items
    :param n_neighbors: Number of neighbors, at most the number of the other items
    :return: The nearest items of each item, (n_items, n_neighbors + 1), with the item itself among them
    """
    k = min(n_neighbors + 1, items.n_items)
    return to_array(items.nearest(items.embeddings[:, None], k).squeeze(1))


def split_states(obs: Any) -> list[Any]:
    """
    :param obs: Observations, (batch, ...), or a dict of them
    :return: One observation each, (1, ...)
    """
    if isinstance(obs, dict):
        parts = {name: part.split(1) for name, part in obs.items()}
        return [dict(zip(parts, state, strict=True)) for state in zip(*parts.values(), strict=True)]
    return list(obs.split(1))
