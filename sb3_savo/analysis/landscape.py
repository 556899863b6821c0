"""The top of a Q-landscape by dense search, for the suboptimality of a policy (paper, Eq. 4)."""

from functools import partial
from typing import Any

import torch as th

from sb3_savo.actions.candidates import ascend
from sb3_savo.common.policies import MaximizerPolicy


@th.no_grad()
def highest_q(
    policy: MaximizerPolicy, obs: Any, n_actions: int = 4096, n_refined: int = 16, n_steps: int = 30, step_size: float = 0.1
) -> th.Tensor:
    """
    max_a Q(s, a) of the first critic, of which the suboptimality of a policy μ is max_a Q(s, a) - Q(s, μ(s)) (Eq. 4).

    In a discrete space that is over all items. In a continuous one, over uniformly random actions, the best of which are
    refined by gradient steps of a length that falls linearly to zero: a lower bound, close where the actions are dense.

    :param policy: The policy
    :param obs: Observations, (batch, ...)
    :param n_actions: Number of random actions, the same ones in every state
    :param n_refined: How many of them are refined, at least 1
    :param n_steps: Gradient steps of each
    :param step_size: Length of the first of them, in units of the action space scaled to [-1, 1]
    :return: (batch,)
    """
    batch = policy.batch_size(obs)
    if policy.items is not None:
        return policy.critic.q1(obs, policy.items.embeddings.expand(batch, -1, -1)).amax(dim=1)
    everywhere = th.empty(n_actions, policy.action_dim, device=policy.device).uniform_(-1, 1)
    best = policy.critic.q1(obs, everywhere.expand(batch, -1, -1)).topk(n_refined, dim=1).indices
    q = partial(policy.critic.q1, obs)
    refined = ascend(q, everywhere[best], n_steps, step_size)
    return th.maximum(q(refined), q(everywhere[best])).amax(dim=1)
