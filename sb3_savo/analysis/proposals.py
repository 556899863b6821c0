"""What a policy proposes in one state, and the values of Q and of its surrogates there."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch as th

from sb3_savo.common.policies import MaximizerPolicy
from sb3_savo.savo.savo import anchor_thresholds


@dataclass(frozen=True)
class Proposals:
    """
    The proposals a_0 … a_k of a policy in one state, where k is 0 for a policy with one candidate.

    :param candidates: The actors' outputs in [-1, 1], (k + 1, action_dim)
    :param actions: The actions that they stand for: the same in a continuous space, the embeddings of the nearest items in a
        discrete one; (k + 1, action_dim)
    :param items: These items, (k + 1,); None in a continuous space
    :param chosen: Which of the proposals the policy takes
    :param q1: Values under the first critic, by which most policies choose, (k + 1,)
    :param surrogate_q: Values under the Q that surrogates are made of: min(Q, Q_2), with a search memory the first critic,
        (k + 1,)
    :param thresholds: τ_1 … τ_k of Eq. 7 under this Q, (k,)
    """

    candidates: np.ndarray
    actions: np.ndarray
    items: np.ndarray | None
    chosen: int
    q1: np.ndarray
    surrogate_q: np.ndarray
    thresholds: np.ndarray

    @property
    def n_surrogates(self) -> int:
        """k, which is also the number of anchors' thresholds."""
        return len(self.thresholds)


@dataclass(frozen=True)
class Values:
    """
    Q and the surrogates of one state at some actions.

    :param q1: The first critic, (n,)
    :param surrogate_q: The Q that surrogates are made of: min(Q, Q_2), with a search memory the first critic, (n,)
    :param exact: Ψ_i of Eq. 7, i = 1 … k, (k, n)
    :param learned: Ψ̂_i, which imitates it, (k, n); None if the policy has no learned surrogates
    :param n_critics: Number of critics that ``surrogate_q`` is the smallest of
    """

    q1: np.ndarray
    surrogate_q: np.ndarray
    exact: np.ndarray
    learned: np.ndarray | None
    n_critics: int


@th.no_grad()
def propose_at(policy: MaximizerPolicy, observation: Any) -> Proposals:
    """
    :param policy: The policy of one of our algorithms; it is put into evaluation mode, as ``predict`` puts it
    :param observation: One observation, as the policy's ``predict`` takes it: an array, or a dict of arrays
    :return: What the policy proposes there without noise
    """
    obs = to_tensor(policy, observation)
    candidates = policy.propose(obs, deterministic=True)
    actions, items = policy.snap(candidates)
    _, picked, _ = policy.maximize(obs, actions)
    q_values = policy.critic.evaluate(obs, actions)
    surrogate_q = q_values[: policy.n_surrogate_critics].amin(dim=0)
    return Proposals(
        candidates=to_array(candidates[0]),
        actions=to_array(actions[0]),
        items=None if items is None else to_array(items[0]),
        chosen=int(picked.item()),
        q1=to_array(q_values[0, 0]),
        surrogate_q=to_array(surrogate_q[0]),
        thresholds=to_array(anchor_thresholds(surrogate_q)[0]),
    )


@th.no_grad()
def evaluate_at(policy: MaximizerPolicy, observation: Any, proposals: Proposals, actions: np.ndarray) -> Values:
    """
    :param policy: The policy of one of our algorithms
    :param observation: One observation, as in :func:`propose_at`
    :param proposals: What the policy proposes there
    :param actions: Actions scaled to [-1, 1], in a discrete space embeddings scaled to [-1, 1]; (n, action_dim)
    :return: The values of Q and of all surrogates
    """
    obs = to_tensor(policy, observation)
    points = th.as_tensor(np.asarray(actions, dtype=np.float32), device=policy.device)[None]
    q_values = policy.critic.evaluate(obs, points)[:, 0]
    surrogate_q = to_array(q_values[: policy.n_surrogate_critics].amin(dim=0))
    surrogates, learned = getattr(policy, "surrogates", None), None
    if surrogates is not None:
        k = proposals.n_surrogates
        anchors = th.as_tensor(proposals.candidates[:k], device=policy.device)[None]
        learned = to_array(surrogates(obs, anchors, points.unsqueeze(1).expand(-1, k, -1, -1))[0])
    return Values(
        q1=to_array(q_values[0]),
        surrogate_q=surrogate_q,
        exact=np.maximum(surrogate_q, proposals.thresholds[:, None]),
        learned=learned,
        n_critics=policy.n_surrogate_critics,
    )


def to_tensor(policy: MaximizerPolicy, observation: Any) -> Any:
    """
    :param policy: A policy, which is put into evaluation mode
    :param observation: One observation, or a batch of them
    :return: The observations as the policy's networks take them, (batch, ...)
    """
    policy.set_training_mode(False)
    return policy.obs_to_tensor(observation)[0]


def to_array(tensor: th.Tensor) -> np.ndarray:
    """:return: The tensor's values as an array"""
    return tensor.detach().cpu().numpy()
