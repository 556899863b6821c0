"""
The search memory: better actions than the actors propose, found by a little search at every visit of a stored transition.

A landscape with many hills has no gradient that leads from one hill to a higher one. Search finds the higher hill, but takes
hundreds of evaluations per state. The memory spreads them over the many visits of a stored transition: each visit evaluates
a small pool, and the replay buffer keeps the best action of it for the next visit. Random actions of the pool, near the known
one or anywhere, first take a few steps up Q, since a random action meets the foot of a higher hill more often than its top.
So the known action also moves from its hill to a higher one beside it. The known actions of other transitions are in the
pool, since what is good in one state is often good in another: a discovery spreads over all states.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch as th

from sb3_savo.actions.candidates import ascend
from sb3_savo.common.buffers import Batch, CandidateReplayBufferSamples

# Size of the pool, beside the actors' proposals and the known action of the transition itself
N_OTHERS = 4
N_NEAR = 2
N_UNIFORM = 2
# Standard deviation of the actions near the known one, in an action space scaled to [-1, 1]
NEAR_STD = 0.1
# Steps up Q from every near and every uniform action, and the lengths of the first ones per dimension (root mean square)
N_ASCENT_STEPS = 3
NEAR_STEP_SIZE = 0.03
UNIFORM_STEP_SIZE = 0.1

# How far thresholds are raised, as a share of the way to the best known action
RAISE = 0.5
# What counts as a gain, as a share of |Q|: more than the rounding of float32
MIN_GAIN = 1e-5
# Square of the distance below which the slope toward a known action no longer grows
MIN_SQUARE = 1e-4


class Known(NamedTuple):
    """
    Actions that search knows of, which may be better than the actors' own.

    :param actions: In [-1, 1], (batch, n, action_dim)
    :param q_values: The Q there that surrogates are made of, (batch, n)
    :param proposal_q_values: The same Q at the actors' own proposals, in a discrete space at their items, (batch, n_actors)
    """

    actions: th.Tensor
    q_values: th.Tensor
    proposal_q_values: th.Tensor


def others(known: th.Tensor, n: int) -> th.Tensor:
    """
    :param known: The known action of every transition of a batch, (batch, ...)
    :param n: How many
    :return: Those of n other transitions of the batch, which was drawn at random, (batch, n, ...)
    """
    return th.stack([known.roll(i + 1, dims=0) for i in range(n)], dim=1)


def make_pool(known: th.Tensor, q: Callable[[th.Tensor], th.Tensor]) -> th.Tensor:
    """
    :param known: The known action of every transition of a batch, in [-1, 1], (batch, action_dim)
    :param q: Values of several actions per transition, (batch, n)
    :return: The actions to evaluate beside the proposals: the known action first, known actions of other transitions, and the
        ends of a few steps up Q from actions near the known one and from uniformly random ones;
        (batch, 1 + N_OTHERS + N_NEAR + N_UNIFORM, action_dim)
    """
    own = known.unsqueeze(1)
    near = own + NEAR_STD * th.randn(len(known), N_NEAR, known.shape[1], device=known.device)
    uniform = th.rand(len(known), N_UNIFORM, known.shape[1], device=known.device) * 2 - 1
    starts = th.cat([near.clamp(-1, 1), uniform], dim=1)
    steps = th.cat([near.new_full((N_NEAR, 1), NEAR_STEP_SIZE), near.new_full((N_UNIFORM, 1), UNIFORM_STEP_SIZE)])
    raised = ascend(q, starts, N_ASCENT_STEPS, steps * known.shape[1] ** 0.5)
    return th.cat([own, others(known, N_OTHERS), raised], dim=1)


def make_item_pool(known: th.Tensor, batch: Batch, n_items: int) -> th.Tensor:
    """
    :param known: The known item of every transition of a batch, (batch,)
    :param batch: The transitions
    :param n_items: Number of all items
    :return: The items to evaluate beside the proposals: the known one first, then the candidates at the time of the
        transition, then known items of other transitions and uniformly random ones, (batch, n). With action masks only the
        first two, which were allowed in this state.
    """
    pool = known.unsqueeze(1)
    if isinstance(batch, CandidateReplayBufferSamples) and batch.candidate_items is not None:
        pool = th.cat([pool, batch.candidate_items], dim=1)
        if batch.next_action_masks is not None:
            return pool
    uniform = th.randint(n_items, (len(known), N_UNIFORM), device=known.device)
    return th.cat([pool, others(known, N_OTHERS), uniform], dim=1)


def raised_thresholds(thresholds: th.Tensor, known: Known) -> th.Tensor:
    """
    Where search knows of better actions, Ψ_i is flat up to the middle between τ_i and the best of them. Otherwise an actor on
    a hill that is hardly higher than the anchors would climb this hill, and stay there.

    :param thresholds: τ_i of the later actors (Eq. 7), or other values, (batch, n)
    :param known: The known actions
    :return: The thresholds with the memory, at least as high, (batch, n)
    """
    best = known.q_values.amax(dim=1, keepdim=True)
    return thresholds + RAISE * (best - thresholds).relu()


def first_objective(q_values: th.Tensor, proposals: th.Tensor, known: Known) -> th.Tensor:
    """
    What the first actor ascends with a memory: Q (Eq. 3), but the way to the nearest better known action where its own
    action is below the middle between the worst and the best action of the pool. Where actions have no effect, Q is flat, and
    its gradient leads nowhere.

    :param q_values: Q at the first actor's proposals, with its gradients, (batch, 1)
    :param proposals: The first actor's proposals with their gradients, (batch, 1, action_dim)
    :param known: The known actions
    :return: The objective, (batch, 1)
    """
    levels = raised_thresholds(known.q_values.amin(dim=1, keepdim=True), known)
    is_good = known.proposal_q_values[:, :1] >= levels
    return th.where(is_good, q_values, tilted(levels, proposals, known))


def tilted(levels: th.Tensor, proposals: th.Tensor, known: Known) -> th.Tensor:
    """
    What an actor ascends where its surrogate is flat: a paraboloid whose top is the nearest known action b above the flat
    part, at the distance d = |a - b| of its present proposal. It is as high as the gain of Q over the flat part, so that it is
    as steep as Q itself would be on average from there to b. Of several better actions the nearest is taken, since the best
    ones of neighboring states lie on different hills, and an actor would learn their mean.

    :param levels: The heights of the flat parts, as constants, (batch, n)
    :param proposals: With their gradients, (batch, n, action_dim)
    :param known: The known actions
    :return: Values without a meaning of their own, whose gradients lead to the known actions; the levels where none is better;
        (batch, n)
    """
    gains = known.q_values.unsqueeze(1) - levels.unsqueeze(2)  # (batch, n, n_known)
    is_better = gains > MIN_GAIN * known.q_values.abs().unsqueeze(1)
    squares = (proposals.detach().unsqueeze(2) - known.actions.unsqueeze(1)).square().sum(dim=3)
    nearest = squares.masked_fill(~is_better, th.inf).argmin(dim=2, keepdim=True)
    gain = gains.gather(2, nearest).squeeze(2) * is_better.any(dim=2)
    square = squares.gather(2, nearest).squeeze(2).clamp(min=MIN_SQUARE)
    tops = known.actions.gather(1, nearest.expand(-1, -1, proposals.shape[2]))
    return levels - gain * (proposals - tops).square().sum(dim=2) / square
