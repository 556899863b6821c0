"""Discrete spaces with embeddings, and the search for the nearest items."""

import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3 import DQN
from stable_baselines3.common.env_checker import check_env

from sb3_savo import ActionEmbedding, EmbeddedDiscrete
from sb3_savo.actions.nearest import ApproximateNearestItems, NearestItems, scale
from sb3_savo.actions.spaces import proposal_space

RNG = np.random.default_rng(0)


def test_an_embedded_discrete_is_a_discrete():
    embeddings = RNG.normal(size=(7, 3))
    space = EmbeddedDiscrete(embeddings, seed=1)
    assert isinstance(space, spaces.Discrete)
    assert space.n == 7 and space.contains(6) and not space.contains(7)
    assert repr(space) == "EmbeddedDiscrete(7, dim=3)"
    assert space.embeddings.dtype == np.float32
    np.testing.assert_allclose(space.embeddings, embeddings, rtol=1e-6)
    assert set(space.sample() for _ in range(200)) == set(range(7))
    assert proposal_space(space) == spaces.Box(-1, 1, (3,), np.float32)
    assert spaces.flatdim(space) == 7


def test_embeddings_cannot_change():
    given_embeddings = RNG.normal(size=(7, 3)).astype(np.float32)
    space = EmbeddedDiscrete(given_embeddings)
    kept = space.embeddings.copy()
    given_embeddings[:] = 0
    np.testing.assert_array_equal(space.embeddings, kept)
    with pytest.raises(ValueError, match="read-only"):
        space.embeddings[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        pickle.loads(pickle.dumps(space)).embeddings[0] = 1
    assert EmbeddedDiscrete(space.embeddings).embeddings is space.embeddings  # shared, since nobody can write


def test_equality_is_that_of_the_embeddings():
    embeddings = RNG.normal(size=(7, 3))
    space = EmbeddedDiscrete(embeddings)
    assert space == EmbeddedDiscrete(embeddings) == pickle.loads(pickle.dumps(space))
    assert space != EmbeddedDiscrete(embeddings + 1)
    assert space != EmbeddedDiscrete(embeddings[:, :2])
    assert space != spaces.Discrete(7) and spaces.Discrete(7) != space


@pytest.mark.parametrize(
    "embeddings, error, message",
    [
        (np.zeros(5), ValueError, r"embeddings has the shape \(5,\): it must be \(N, D\)"),
        (np.zeros((1, 5)), ValueError, r"embeddings has the shape \(1, 5\)"),
        (np.zeros((5, 0)), ValueError, r"embeddings has the shape \(5, 0\)"),
        (np.ones((5, 2)), ValueError, r"embeddings: all 5 rows are the same"),
        (np.array([[0, 1], [2, np.nan]]), ValueError, r"embeddings: row 1 is not finite"),
        (np.array([[0, 1], [2, 3], [np.inf, 1]]), ValueError, r"embeddings: row 2 is not finite"),
        (np.array([[0, 1e300], [2, 3]]), ValueError, r"embeddings: row 0 is not finite \(in float32\)"),
        (np.array([["a", "b"], ["c", "d"]]), TypeError, r"embeddings are of the type <U1: they must be numbers"),
    ],
)
def test_bad_embeddings(embeddings, error, message):
    with pytest.raises(error, match=message):
        EmbeddedDiscrete(embeddings)


class Counting(gym.Env):
    """Actions start at 3; the reward is the action."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Discrete(4, start=3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action)
        return np.zeros(2, np.float32), float(action), False, False, {}


def test_action_embedding():
    env = ActionEmbedding(Counting(), np.eye(4))
    check_env(env)
    assert env.action_space == EmbeddedDiscrete(np.eye(4))
    env.reset()
    assert [env.step(item)[1] for item in range(4)] == [3.0, 4.0, 5.0, 6.0]


def test_action_embedding_errors():
    with pytest.raises(TypeError, match=r"action space Box.* is not Discrete"):
        ActionEmbedding(gym.make("Pendulum-v1"), np.eye(2))
    with pytest.raises(ValueError, match=r"embeddings has 3 rows, but the action space Discrete\(2\) has 2 actions"):
        ActionEmbedding(gym.make("CartPole-v1"), np.eye(3))


def test_dqn_trains_on_the_same_environment():
    env = ActionEmbedding(gym.make("CartPole-v1"), np.eye(2))
    model = DQN("MlpPolicy", env, learning_starts=50, buffer_size=200).learn(120)
    action, _ = model.predict(env.observation_space.sample())
    assert env.action_space.contains(action)


def test_scaling():
    scaled = scale(np.array([[0.0, 5.0, 7.0], [1.0, 5.0, 8.0], [4.0, 5.0, 11.0]], dtype=np.float32))
    np.testing.assert_allclose(scaled, [[-1, 0, -1], [-0.5, 0, -0.5], [1, 0, 1]])


def slow_nearest(embeddings, point, k, allowed):
    """The definition: sort all items by their distance."""
    distances = [np.linalg.norm(point - e) if a else np.inf for e, a in zip(embeddings.astype(float), allowed, strict=True)]
    return np.argsort(distances, kind="stable")[:k]


@settings(deadline=None, max_examples=60)
@given(
    n_items=st.integers(3, 100),
    dim=st.integers(1, 6),
    k=st.integers(1, 3),
    blocks=st.tuples(st.integers(1, 9), st.sampled_from([16, 32, 48])),
    seed=st.integers(0, 1000),
    masked=st.booleans(),
)
def test_exact_search_against_its_definition(n_items, dim, k, blocks, seed, masked):
    rng = np.random.default_rng(seed)
    search = NearestItems(rng.normal(size=(n_items, dim)).astype(np.float32))
    search.block_queries, search.block_items = blocks
    queries = rng.uniform(-1, 1, (4, 2, dim)).astype(np.float32)
    masks = rng.random((4, n_items)) < 0.5
    masks[:, :3] = True
    found = search.nearest(th.as_tensor(queries), k, th.as_tensor(masks) if masked else None)
    assert found.shape == (4, 2, k)
    embeddings = search.embeddings.numpy()
    for i in range(4):
        for j in range(2):
            expected = slow_nearest(embeddings, queries[i, j], k, masks[i] if masked else np.ones(n_items, bool))
            np.testing.assert_array_equal(found[i, j].numpy(), expected)


def test_every_item_is_nearest_to_itself():
    search = NearestItems(RNG.normal(size=(20_000, 45)).astype(np.float32))
    assert (search.embeddings.abs().amax(dim=0) == 1).all()
    found = search.nearest(search.embeddings.unsqueeze(1))
    assert th.equal(found.flatten(), th.arange(20_000))
    assert th.equal(search.embed(found), search.embeddings[:, None, None])


def test_every_item_of_a_fine_line_is_found():
    """Levels of a price, 50,000 of them: their squared distances are below the precision of float32."""
    search = NearestItems(np.linspace(1, 2, 50_000)[:, None])
    items = th.arange(0, 50_000, 37)
    assert search.embed(items).dtype == search.embeddings.dtype == th.float32
    assert th.equal(search.nearest(search.embed(items).unsqueeze(1)).flatten(), items)
    masks = th.ones(len(items), 50_000, dtype=th.bool)
    masks[th.arange(len(items)), items] = False
    neighbors = search.nearest(search.embed(items).unsqueeze(1), masks=masks).flatten()
    assert ((neighbors - items).abs() == 1).all()


def test_search_errors():
    search = NearestItems(RNG.normal(size=(5, 2)).astype(np.float32))
    with pytest.raises(ValueError, match="k=6 is too large: there are 5 items"):
        search.nearest(th.zeros(1, 1, 2), k=6)
    with pytest.raises(ValueError, match="action_masks: a row allows none of the 5 items"):
        search.nearest(th.zeros(2, 1, 2), masks=th.tensor([[True] * 5, [False] * 5]))


def test_approximate_search():
    faiss = pytest.importorskip("faiss")
    faiss.omp_set_num_threads(1)
    embeddings = RNG.normal(size=(20_000, 12)).astype(np.float32)
    exact, approximate = NearestItems(embeddings), ApproximateNearestItems(embeddings)
    queries = th.as_tensor(RNG.uniform(-1, 1, (100, 3, 12)).astype(np.float32))
    agreement = (exact.nearest(queries) == approximate.nearest(queries)).float().mean().item()
    assert 0.9 < approximate.recall <= 1 and agreement == pytest.approx(approximate.recall, abs=0.05)
    assert approximate.nearest(queries, k=3).shape == (100, 3, 3)
    masks = th.as_tensor(RNG.random((100, 20_000)) < 0.1)
    assert th.equal(approximate.nearest(queries, masks=masks), exact.nearest(queries, masks=masks))
    found = approximate.nearest(queries[:, :1], k=3_000)
    assert found.shape == (100, 1, 3_000) and found.min() >= 0
    with pytest.raises(ValueError, match="nearest='approximate' is for many items: use 'exact' for 999"):
        ApproximateNearestItems(embeddings[:999])


def test_an_index_that_finds_too_little(monkeypatch):
    """It scans more, up to everything; then every search is exact, with a warning."""
    pytest.importorskip("faiss").omp_set_num_threads(1)
    embeddings = RNG.normal(size=(5_000, 4)).astype(np.float32)
    recalls = iter([0.3, 0.7, 0.95])
    monkeypatch.setattr(ApproximateNearestItems, "_measure_recall", lambda *_: next(recalls))
    items = ApproximateNearestItems(embeddings)
    assert items.recall == 0.95 and items.index.k_factor == 4 * ApproximateNearestItems.n_ranked
    monkeypatch.setattr(ApproximateNearestItems, "_measure_recall", lambda *_: 0.5)
    with pytest.warns(UserWarning, match="finds the nearest of these 5000 items in 50% of the searches only"):
        items = ApproximateNearestItems(embeddings)
    queries = th.as_tensor(RNG.uniform(-1, 1, (10, 3, 4)).astype(np.float32))
    assert items.recall == 1.0 and th.equal(items.nearest(queries, k=2), NearestItems(embeddings).nearest(queries, k=2))


@pytest.mark.parametrize("kind", ["clusters", "outliers", "duplicates"])
def test_recall_of_embeddings_that_are_hard_to_index(kind):
    """Whatever the embeddings, at least nine of ten searches find an item at the smallest distance."""
    pytest.importorskip("faiss").omp_set_num_threads(1)
    embeddings = RNG.normal(size=(5_000, 8)).astype(np.float32)
    if kind == "clusters":
        embeddings = (embeddings * 1e-3 + RNG.integers(0, 3, (5_000, 1))).astype(np.float32)
    elif kind == "outliers":
        embeddings[:5] *= 1e4
    else:
        embeddings = np.repeat(embeddings[:500], 10, axis=0)
    items = ApproximateNearestItems(embeddings)
    queries = th.as_tensor(RNG.uniform(-1, 1, (300, 1, 8)).astype(np.float32))
    distances = [
        (each.embed(each.nearest(queries)[:, 0, 0]) - queries[:, 0]).norm(dim=1) for each in (items, NearestItems(embeddings))
    ]
    assert (distances[0] <= distances[1] * 1.001).float().mean() > 0.85
