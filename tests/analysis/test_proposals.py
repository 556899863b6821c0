"""Q and the surrogates of one state, compared with the definitions, one action at a time."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th

from sb3_savo import CEM, SAVO, SAVOSAC, Ensemble, GreedyAC
from sb3_savo.analysis import evaluate_at, propose_at
from sb3_savo.analysis.actions import spread_actions
from tests.analysis.models import OBSERVATION, untrained
from tests.reference import propose, q_min, surrogate

S = th.as_tensor(OBSERVATION)[None]


@th.no_grad()
@pytest.mark.parametrize("kind", ["approximate", "exact"])
def test_values_by_definition(kind):
    model = untrained(surrogate=kind, n_actors=4)
    proposals = propose_at(model.policy, OBSERVATION)
    expected = propose(model.actor, S)
    np.testing.assert_allclose(proposals.actions, th.cat(expected), atol=1e-5)
    actions = spread_actions(2, 20)
    values = evaluate_at(model.policy, OBSERVATION, proposals, actions)
    assert (values.learned is None) == (kind == "exact")
    q_anchors = [q_min(model, S, a).item() for a in expected]
    for n, action in enumerate(th.as_tensor(actions)[:, None]):
        q = [value.item() for value in model.critic(S, action)]
        assert values.q1[n] == pytest.approx(q[0], abs=1e-5)
        assert values.surrogate_q[n] == pytest.approx(min(q), abs=1e-5)
        for i in range(1, 4):
            assert values.exact[i - 1, n] == pytest.approx(max(min(q), *q_anchors[:i]), abs=1e-5)
            if values.learned is not None:
                psi = surrogate(model, i, S, action, expected[:i]).item()
                assert values.learned[i - 1, n] == pytest.approx(psi, rel=1e-4)


@pytest.mark.parametrize("algorithm, n", [(SAVO, 3), (SAVOSAC, 3), (Ensemble, 3), (CEM, 1), (GreedyAC, 1)])
def test_the_chosen_action_is_the_predicted_one(algorithm, n):
    model = untrained(2, algorithm)
    proposals = propose_at(model.policy, OBSERVATION)
    assert len(proposals.actions) == n and proposals.thresholds.shape == (n - 1,)
    predicted = model.predict(OBSERVATION, deterministic=True)[0]
    np.testing.assert_allclose(proposals.actions[proposals.chosen], predicted, atol=1e-5)
    assert evaluate_at(model.policy, OBSERVATION, proposals, spread_actions(2, 5)).exact.shape == (n - 1, 5)


def test_items():
    model = untrained(env=gym.make("LandscapeItems-v0", n_items=40, n_clusters=4, action_dim=3))
    proposals = propose_at(model.policy, OBSERVATION)
    embeddings = model.policy.items.embeddings.numpy()
    for candidate, action, item in zip(proposals.candidates, proposals.actions, proposals.items, strict=True):
        assert item == np.linalg.norm(embeddings - candidate, axis=1).argmin()
        np.testing.assert_array_equal(action, embeddings[item])
    assert proposals.items[proposals.chosen] == model.predict(OBSERVATION, deterministic=True)[0]
