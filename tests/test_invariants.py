"""The paper's invariants, as properties of the code that trains."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch as th
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sb3_savo import SAVO
from sb3_savo.common.policies import MaximizerPolicy
from sb3_savo.savo.savo import anchor_thresholds

LANDSCAPES = hnp.arrays(np.float32, st.integers(3, 60), elements=st.floats(-10, 10, width=16))


def trained_model(**kwargs):
    model = SAVO(
        "MlpPolicy", "Pendulum-v1", learning_starts=50, batch_size=16, seed=0, device="cpu", buffer_size=500, **kwargs
    )
    model.learn(100)
    for parameter in model.policy.parameters():
        parameter.data += 0.2 * th.randn_like(parameter)
    return model


@pytest.fixture(scope="module")
def model():
    return trained_model(n_actors=5, policy_kwargs={"net_arch": [16, 16]})


@settings(deadline=None, max_examples=50)
@given(obs=hnp.arrays(np.float32, (7, 3), elements=st.floats(-8, 8, width=16)))
def test_the_maximizer_is_no_worse_than_any_proposal(model, obs):
    """Q(s, μ_M(s)) ≥ Q(s, a_i) for every i (Eq. 5), and μ_M(s) is one of the a_i; that is what ``predict`` returns."""
    with th.no_grad():
        obs_tensor = th.as_tensor(obs)
        candidates = model.policy.propose(obs_tensor)
        chosen, picked, q_values = model.policy.maximize(obs_tensor, candidates)
        assert (candidates.abs() <= 1).all()
        for i in range(candidates.shape[1]):
            q_i = model.critic.q1_forward(obs_tensor, candidates[:, i])
            th.testing.assert_close(q_values[:, i : i + 1], q_i, rtol=1e-5, atol=1e-5)
        assert (q_values.gather(1, picked) >= q_values).all()
        assert (candidates == chosen[:, None]).all(dim=2).any(dim=1).all()
        # In NumPy, whose rounding may decide between two that are as good
        predicted = th.as_tensor(model.predict(obs, deterministic=True)[0] / 2)
        assert ((candidates - predicted[:, None]).abs() < 1e-4).all(dim=2).any(dim=1).all()
        th.testing.assert_close(model.critic.q1_forward(obs_tensor, predicted), q_values.amax(1, True), rtol=1e-4, atol=1e-4)


def surrogate_landscapes(q_values, anchors):
    """Q, Ψ_1, …, Ψ_k on a sampled landscape (Eq. 7), by the thresholds that the losses use."""
    q_candidates = th.as_tensor(q_values[anchors])[None]
    # One candidate more: its threshold is that of all the anchors
    thresholds = anchor_thresholds(th.cat([q_candidates, q_candidates[:, :1]], dim=1))[0].numpy()
    return [q_values] + [np.maximum(q_values, tau) for tau in thresholds]


def n_local_optima(values):
    """Maximal plateaus that are higher than what surrounds them; a landscape that is flat everywhere has none."""
    plateaus = values[np.concatenate([[True], values[1:] != values[:-1]])]
    if len(plateaus) == 1:
        return 0
    walled = np.concatenate([[-np.inf], plateaus, [-np.inf]])
    return int(((walled[1:-1] > walled[:-2]) & (walled[1:-1] > walled[2:])).sum())


@settings(deadline=None)
@given(q_values=LANDSCAPES, data=st.data())
def test_surrogates_never_have_more_local_optima(q_values, data):
    """Theorem 4.2; and Ψ_i ≥ Q, Ψ_i ≥ Ψ_{i-1} everywhere."""
    anchors = data.draw(st.lists(st.integers(0, len(q_values) - 1), min_size=1, max_size=6))
    landscapes = surrogate_landscapes(q_values, anchors)
    counts = [n_local_optima(landscape) for landscape in landscapes]
    assert counts == sorted(counts, reverse=True)
    for previous, landscape in pairwise(landscapes):
        assert (landscape >= q_values).all()
        assert (landscape >= previous).all()


class TabularCritic:
    """
    A critic of states and actions that have numbers.

    :param q_values: Q(s, a), (n_states, n_actions)
    """

    def __init__(self, q_values):
        self.q_values = th.as_tensor(q_values)

    def q1(self, states, actions):
        return self.q_values[states.unsqueeze(1), actions.squeeze(2)]


@settings(deadline=None, max_examples=50)
@given(
    rewards=hnp.arrays(np.float64, (4, 5), elements=st.floats(-1, 1)),
    seed=st.integers(0, 10_000),
    n_proposals=st.integers(1, 3),
)
def test_policy_iteration_with_the_maximizer_is_optimal(rewards, seed, n_proposals):
    """
    Theorem 4.1, tabular: each policy is what the maximizer picks among the previous policy's action and random proposals. No
    policy is worse than the one before it, and after enough proposals the policy is optimal.
    """
    rng = np.random.default_rng(seed)
    n_states, n_actions = rewards.shape
    transitions = rng.dirichlet(np.ones(n_states), size=(n_states, n_actions))
    gamma = 0.9

    def q_of(policy):
        states = np.arange(n_states)
        matrix = np.eye(n_states) - gamma * transitions[states, policy]
        values = np.linalg.solve(matrix, rewards[states, policy])
        return rewards + gamma * transitions @ values

    optimal = np.zeros_like(rewards)
    for _ in range(400):
        optimal = rewards + gamma * transitions @ optimal.max(axis=1)
    policy = rng.integers(n_actions, size=n_states)
    previous = q_of(policy)
    for _ in range(200):
        proposals = np.column_stack([policy, rng.integers(n_actions, size=(n_states, n_proposals))])
        maximizer = SimpleNamespace(critic=TabularCritic(previous))
        chosen, _, _ = MaximizerPolicy.maximize(maximizer, th.arange(n_states), th.as_tensor(proposals).unsqueeze(2))
        policy = chosen.squeeze(1).numpy()
        q_values = q_of(policy)
        assert (q_values >= previous - 1e-9).all()
        previous = q_values
        if np.allclose(previous, optimal, atol=1e-6):
            break
    np.testing.assert_allclose(previous, optimal, atol=1e-6)


def test_surrogate_error_is_logged_as_a_share_of_the_bellman_error():
    model = trained_model(n_actors=3, surrogate="approximate", policy_kwargs={"net_arch": [16, 16]})
    model.train(1, batch_size=16)
    values = dict(model.logger.name_to_value)  # a defaultdict would have a 0 for a metric that is missing
    share = 100 * values["train/surrogate_loss"] / (values["train/critic_loss"] / 2)
    assert values["train/surrogate_error_pct"] == pytest.approx(share, rel=1e-5)
    assert sum(values[f"train/candidate_share_{i}"] for i in range(3)) == pytest.approx(1)
    assert values["train/q_gain"] >= 0
