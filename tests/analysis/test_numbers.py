"""Number of local maxima and suboptimality, on functions whose maxima are known."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th

from sb3_savo import CEM, SAVOSAC, Ensemble
from sb3_savo.analysis import landscape_numbers
from sb3_savo.analysis.numbers import split_states
from tests.analysis.models import OBSERVATION, Hills, untrained, with_function

STATES = np.stack([OBSERVATION, -OBSERVATION])


def waves(actions):
    """Maxima near -2/3, 0 and 2/3 along each dimension, the higher the further right; minima at both ends."""
    return (th.cos(3 * th.pi * actions) - 0.05 * (actions - 1).square()).sum(dim=-1)


HIGHEST_WAVE = float(waves(th.linspace(-1, 1, 1_000_001, dtype=th.float64)[:, None]).max())


@pytest.mark.parametrize("dim", [1, 2])
def test_waves(dim):
    model = with_function(waves, dim)
    numbers = landscape_numbers(model.policy, STATES)
    assert (numbers.n_optima == 3**dim).all()
    np.testing.assert_allclose(numbers.highest, dim * HIGHEST_WAVE, atol=1e-4)
    chosen = th.as_tensor(model.predict(STATES, deterministic=True)[0])
    np.testing.assert_allclose(numbers.suboptimality, numbers.highest - waves(chosen).numpy(), atol=1e-4)
    first = model.policy.propose(th.as_tensor(STATES))[:, 0].detach()
    np.testing.assert_allclose(numbers.suboptimality_of_first, numbers.highest - waves(first).numpy(), atol=1e-4)


def test_hills_in_four_dimensions():
    places = th.tensor([[0.5] * 4, [-0.5] * 4, [0.5, 0.5, -0.5, -0.5]])
    model = with_function(Hills(places, th.tensor([1.0, 0.7, 0.4]), width=0.3), 4)
    numbers = landscape_numbers(model.policy, STATES)
    assert (numbers.n_optima == 3).all()
    np.testing.assert_allclose(numbers.highest, 1, atol=0.02)


def test_surrogates_keep_the_maxima_above_their_threshold():
    model = with_function(waves, 1)
    heights = [float(waves(th.tensor([[a]]))[0]) for a in (-2 / 3, 0.0, 2 / 3)]
    # a_0 between the lowest two maxima in value, a_1 worse, a_2 the best
    proposals = th.tensor([[[0.03], [0.3], [0.667]]])
    model.policy.propose = lambda obs, deterministic=False: proposals
    q_first = float(waves(proposals[0, :1])[0])
    numbers = landscape_numbers(model.policy, OBSERVATION[None])
    expected = sum(height > q_first for height in heights)
    assert numbers.n_surrogate_optima.tolist() == [[expected, expected]]
    assert expected < numbers.n_optima[0] == 3
    assert numbers.suboptimality[0] < 1e-3 < numbers.suboptimality_of_first[0]


@pytest.mark.parametrize("algorithm", [CEM, SAVOSAC, Ensemble])
def test_numbers_of_other_algorithms(algorithm):
    numbers = landscape_numbers(untrained(2, algorithm).policy, STATES, n_points=400)
    n_surrogates = 0 if algorithm is CEM else 2
    assert numbers.n_surrogate_optima.shape == (2, n_surrogates)
    assert (numbers.n_optima >= 1).all() and (numbers.suboptimality >= 0).all()
    assert (np.diff(np.column_stack([numbers.n_optima, numbers.n_surrogate_optima])) <= 0).all()


def test_items_by_brute_force():
    env = gym.make("LandscapeItems-v0", n_items=60, n_clusters=5, action_dim=3)
    model = untrained(env=env)
    numbers = landscape_numbers(model.policy, STATES, n_neighbors=4)
    embeddings = model.policy.items.embeddings.numpy()
    with th.no_grad():
        q = model.critic.q1(th.as_tensor(STATES), model.policy.items.embeddings.expand(2, -1, -1)).numpy()
    order = np.argsort(np.linalg.norm(embeddings[:, None] - embeddings[None], axis=2), axis=1)
    for state in range(2):
        expected = sum(q[state, item] >= q[state, order[item, 1:5]].max() for item in range(60))
        assert numbers.n_optima[state] == expected > 1
    np.testing.assert_allclose(numbers.highest, q.max(axis=1), atol=1e-5)
    chosen = model.predict(STATES, deterministic=True)[0]
    np.testing.assert_allclose(numbers.suboptimality, q.max(axis=1) - q[np.arange(2), chosen], atol=1e-5)


def test_states_of_several_parts():
    states = split_states({"a": th.arange(4).view(2, 2), "b": th.arange(2)})
    assert [state["a"].tolist() for state in states] == [[[0, 1]], [[2, 3]]]
    assert [state["b"].tolist() for state in states] == [[0], [1]]


@pytest.mark.parametrize("name, value, error", [("n_points", 8, ValueError), ("n_starts", 0.5, TypeError)])
def test_wrong_numbers_are_named(name, value, error):
    with pytest.raises(error, match=f"{name}={value}"):
        landscape_numbers(untrained().policy, STATES, **{name: value})
