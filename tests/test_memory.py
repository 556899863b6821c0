"""The search memory against a slow reference, one state and one action at a time; what the replay buffers remember."""

from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_savo import SAVO
from sb3_savo.common.buffers import WITH_CANDIDATES, CandidateStorage
from sb3_savo.savo.memory import (
    MIN_GAIN,
    MIN_SQUARE,
    N_ASCENT_STEPS,
    N_NEAR,
    N_OTHERS,
    N_UNIFORM,
    NEAR_STD,
    NEAR_STEP_SIZE,
    UNIFORM_STEP_SIZE,
    first_objective,
    make_item_pool,
    make_pool,
)
from tests.models import BATCH, SMALL, PlainReplayBuffer, make_model, sample
from tests.reference import propose, q_min
from tests.test_buffers import BOX, GOALS, ITEMS, VECTOR, Board, Reach

N_POOL = 1 + N_OTHERS + N_NEAR + N_UNIFORM
KINDS = [ReplayBuffer, DictReplayBuffer, NStepReplayBuffer, HerReplayBuffer]


def memory_model(env="InvertedDoublePendulumRestricted-v5", **kwargs):
    return make_model(env=env, surrogate="memory", **kwargs)


def q_searched(model, s, a):
    """The first critic alone; with Q̂, which imitates it, min(Q, Q_2)."""
    return model.critic(s, a)[0] if model.smooth_critic is None else q_min(model, s, a)


def expected_objective(model, s, actions, known, i):
    """What actor i ascends at one state, and the gradient of it with respect to its action."""
    action = actions[i].detach().requires_grad_()
    q = q_searched(model, s, action) if model.smooth_critic is None else model.smooth_critic.q1_forward(s, action)
    anchors = [model.policy.snap(a[:, None])[0][:, 0] for a in actions[:i]]
    tau = max(q_searched(model, s, a).item() for a in anchors)
    level = max(tau, (tau + known.q_values.max().item()) / 2)
    if q.item() > level:
        return q.item(), th.autograd.grad(q.sum(), action)[0]
    return way_to_known(action, level, known)


def way_to_known(action, level, known):
    """The objective of an actor below a level, and its gradient: a paraboloid around the nearest known action above it."""
    nearest = None
    for b, q_b in zip(known.actions, known.q_values, strict=True):
        square = ((b - action[0]) ** 2).sum().item()
        if q_b.item() - level > MIN_GAIN * abs(q_b.item()) and (nearest is None or square < nearest[0]):
            nearest = square, b, q_b.item() - level
    if nearest is None:
        return level, th.zeros_like(action)
    square, b, gain = nearest
    slope = gain / max(square, MIN_SQUARE)
    return level - slope * square, -2 * slope * (action - b).detach()


def expected_first_objective(model, s, action, known):
    """What the first actor ascends at one state, and the gradient of it with respect to its action."""
    action = action.detach().requires_grad_()
    worst, best = known.q_values.min().item(), known.q_values.max().item()
    level = (worst + best) / 2
    if q_searched(model, s, model.policy.snap(action[:, None])[0][:, 0]).item() >= level:
        q = (model.critic if model.smooth_critic is None else model.smooth_critic).q1_forward(s, action)
        return q.item(), th.autograd.grad(q.sum(), action)[0]
    return way_to_known(action, level, known)


@pytest.mark.parametrize("settings", [{}, {"n_actors": 5}, {"q_smoothing": True}, {"env": "MiningExpedition-v0"}])
def test_actor_loss_and_its_gradient(settings):
    """
    Above the middle of τ_i and the best known Q an actor ascends Q (or Q̂), and the first one above the middle of the worst and
    the best of the pool; below, it goes to the nearest action above.
    """
    model = memory_model(**settings)
    for output in (model.actor.mu.output, model.actor.nu.net.output):
        output.weight.data *= 0.1  # no proposal at the end of the interval, where two may be the same
    batch = sample(model)
    known = model.search(batch)
    objective, n_led, n_first_led = 0.0, 0, 0
    proposals = model.actor(batch.observations).detach().requires_grad_()
    values = model.surrogate_values(batch.observations, proposals.detach(), proposals, known)
    gradient = th.autograd.grad(values.sum(), proposals)[0]
    assert (gradient[:, 0] == 0).all()
    first = proposals[:, :1]
    first_values = first_objective(model.policy.actor_objective(batch.observations, first), first, known)
    gradient += th.autograd.grad(first_values.sum(), proposals)[0]
    for k in range(BATCH):
        s = batch.observations[k : k + 1]
        actions = [a.detach() for a in propose(model.actor, s)]
        own = type(known)(*(part[k] for part in known))
        value, slope = expected_first_objective(model, s, actions[0], own)
        objective += value
        n_first_led += own.proposal_q_values[0] < (own.q_values.min() + own.q_values.max()) / 2
        th.testing.assert_close(gradient[k, 0], slope[0], rtol=1e-3, atol=1e-3)
        for i in range(1, model.n_actors):
            value, slope = expected_objective(model, s, actions, own, i)
            objective += value
            n_led += bool(slope.abs().sum() > 0)
            th.testing.assert_close(gradient[k, i], slope[0], rtol=1e-3, atol=1e-3)
    assert n_led > 0 and 0 < n_first_led < BATCH
    loss = model.actor_loss(batch, known)[0]
    assert loss.item() == pytest.approx(-objective / BATCH, rel=1e-3, abs=1e-3)


def test_what_is_searched():
    """The known action, those of others, raised near ones and uniform ones, then the proposals; the best is remembered."""
    model = memory_model()
    batch = sample(model)
    before = model.replay_buffer.recall(batch.rows)
    th.manual_seed(3)
    known = model.search(batch)
    th.manual_seed(3)
    th.testing.assert_close(known.actions, make_pool(before, partial(model.surrogate_q_values, batch.observations)))
    assert known.actions.shape == (BATCH, N_POOL, 1) and known.q_values.shape == (BATCH, N_POOL)
    assert known.actions.abs().max() <= 1 and not known.q_values.requires_grad
    th.testing.assert_close(known.actions[:, 0], before)
    for k in range(BATCH):
        for j in range(N_OTHERS):
            th.testing.assert_close(known.actions[k, 1 + j], before[k - 1 - j])
        s = batch.observations[k : k + 1]
        for j in range(N_POOL):
            th.testing.assert_close(known.q_values[k, j], q_searched(model, s, known.actions[k : k + 1, j])[0, 0])
        for i, action in enumerate(propose(model.actor, s)):
            th.testing.assert_close(known.proposal_q_values[k, i], q_searched(model, s, action)[0, 0])
    after = model.replay_buffer.recall(batch.rows)
    for k, row in enumerate(batch.rows.tolist()):
        rows = [m for m, other in enumerate(batch.rows.tolist()) if other == row]
        best = []
        for m in rows:
            s = batch.observations[m : m + 1]
            choices = [*known.actions[m], *[a[0] for a in propose(model.actor, s)]]
            best.append(max(choices, key=lambda a, s=s: q_searched(model, s, a[None]).item()))
        assert any(th.allclose(after[k], b, atol=1e-6) for b in best)
    assert (after != before).any()


def raised(model, s, action, step_size):
    """N_ASCENT_STEPS steps up Q, ever shorter, each as long as one of the step size in every dimension at first."""
    for i in range(N_ASCENT_STEPS):
        action.requires_grad_()
        slope = th.autograd.grad(q_searched(model, s, action).sum(), action)[0]
        length = step_size * slope.numel() ** 0.5 * (1 - i / N_ASCENT_STEPS)
        action = (action.detach() + length * slope / slope.norm()).clamp(-1, 1)
    return action


@pytest.mark.parametrize("settings", [{}, {"q_smoothing": True}, {"env": "HopperRestricted-v5"}])
def test_random_actions_of_the_pool_are_raised(settings):
    model = memory_model(**settings)
    batch = sample(model)
    gradients = [parameter.grad for parameter in model.policy.parameters()]
    th.manual_seed(3)
    pool = model.search(batch).actions
    th.manual_seed(3)
    dim = pool.shape[2]
    near = (pool[:, :1] + NEAR_STD * th.randn(BATCH, N_NEAR, dim)).clamp(-1, 1)
    starts = th.cat([near, th.rand(BATCH, N_UNIFORM, dim) * 2 - 1], dim=1)
    for k in range(BATCH):
        s = batch.observations[k : k + 1]
        for j in range(starts.shape[1]):
            expected = raised(model, s, starts[k : k + 1, j].clone(), NEAR_STEP_SIZE if j < N_NEAR else UNIFORM_STEP_SIZE)
            th.testing.assert_close(pool[k, 1 + N_OTHERS + j], expected[0], rtol=0, atol=1e-4)
    assert not pool.requires_grad
    assert all(parameter.grad is before for parameter, before in zip(model.policy.parameters(), gradients, strict=True))


def test_the_known_action_gets_better():
    model = memory_model(n_steps=200)
    batch = sample(model)
    values = []
    for _ in range(20):
        known = model.replay_buffer.recall(batch.rows)
        values.append(model.surrogate_q_values(batch.observations, known.unsqueeze(1)).mean().item())
        model.search(batch)
    assert values == sorted(values) and values[-1] > values[0]


def fill(kind, space, has_memory=True, n_adds=13, **kwargs):
    """:return: A small buffer of two environments, which is full after ten steps, and the actions taken"""
    observations = GOALS if kind in (DictReplayBuffer, HerReplayBuffer) else VECTOR
    if kind is HerReplayBuffer:
        kwargs["env"] = DummyVecEnv([lambda: Reach(space)] * 2)
    if kind is NStepReplayBuffer:
        kwargs |= {"n_steps": 3, "gamma": 0.9}
    buffer = WITH_CANDIDATES[kind](20, observations, space, n_envs=2, n_candidates=3, has_memory=has_memory, **kwargs)
    observations.seed(0)
    return buffer, add_steps(buffer, n_adds)


def add_steps(buffer, n_adds):
    space, rng, taken = buffer.observation_space, np.random.default_rng(n_adds), []
    for t in range(n_adds):
        many = [space.sample() for _ in range(2)]
        obs = {key: np.stack([o[key] for o in many]) for key in GOALS.spaces} if space is GOALS else np.stack(many)
        action = rng.integers(9, size=2) if buffer.n_items else rng.uniform(-1, 1, (2, 2)).astype(np.float32)
        buffer.add(obs, obs, action, np.zeros(2), np.full(2, t % 4 == 3), [{}, {}])
        taken.append(action)
    return taken


@pytest.mark.parametrize("space", [BOX, ITEMS], ids=["box", "items"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_buffer_says_where_a_transition_is_stored(kind, space):
    """At first the known action is the one taken; what is remembered is recalled, until the row is overwritten."""
    buffer, taken = fill(kind, space)
    samples = buffer.sample(64)
    assert samples.rows.shape == (64,) and samples.rows.dtype == th.long
    assert len(set(samples.rows.tolist())) > 10
    sampled = samples.actions.squeeze(1) if space is ITEMS else samples.actions
    assert th.equal(buffer.recall(samples.rows), sampled)
    # Row t * n_envs + i holds step t of environment i; the last steps have overwritten the first
    for t in range(13 - 10, 13):
        for i in range(2):
            assert np.allclose(buffer.recall(th.tensor([t % 10 * 2 + i]))[0].numpy(), taken[t][i])
    rows = th.tensor([3, 8])
    new = th.tensor([5, 0]) if space is ITEMS else th.tensor([[0.5, -0.25], [0.75, 0.125]])
    before = buffer.actions.copy()
    buffer.remember(rows, new)
    assert th.equal(buffer.recall(rows), new)
    changed = before != buffer.actions
    assert changed.any(axis=2).sum() == 2 and not changed[..., : -buffer.widths[-1]].any()


def test_a_row_is_exact_in_large_buffers():
    """float32 counts to 2^24; the row's bits are kept instead of its value."""
    buffer, _ = fill(ReplayBuffer, BOX)
    large = np.array([2**24 + 1, 2**31 - 1, 8_388_607], np.int32)
    buffer.actions[..., buffer.action_dim - 3] = np.resize(large, 20).reshape(10, 2).view(np.float32)
    assert set(buffer.sample(64).rows.tolist()) == set(large.tolist())


def test_without_a_memory_nothing_changes():
    with_memory, _ = fill(ReplayBuffer, BOX)
    without, _ = fill(ReplayBuffer, BOX, has_memory=False)
    assert without.action_dim == with_memory.action_dim - 3
    assert without.sample(5).rows is None


def test_items_of_the_pool():
    model = memory_model("MiningExpedition-v0")
    batch = sample(model)
    known = model.replay_buffer.recall(batch.rows)
    th.manual_seed(0)
    pool = make_item_pool(known, batch, model.policy.items.n_items)
    assert pool.shape == (BATCH, 1 + 3 + N_OTHERS + N_UNIFORM)
    assert th.equal(pool[:, 0], known) and th.equal(pool[:, 1:4], batch.candidate_items)
    assert all(pool[k, 4 + j] == known[k - 1 - j] for k in range(BATCH) for j in range(N_OTHERS))
    assert 0 <= pool.min() and pool.max() < model.policy.items.n_items
    th.manual_seed(0)
    found = model.search(batch)
    th.testing.assert_close(found.actions, model.policy.items.embed(pool))
    embedded = model.policy.snap(model.actor(batch.observations))[0]
    th.testing.assert_close(found.proposal_q_values, model.surrogate_q_values(batch.observations, embedded))
    after = model.replay_buffer.recall(batch.rows)
    proposed = model.policy.snap(model.actor(batch.observations))[1]
    for k in range(BATCH):
        s, best = batch.observations[k : k + 1], -np.inf
        for item in (*pool[k], *proposed[k]):
            best = max(best, q_searched(model, s, model.policy.items.embed(item)[None]).item())
        same = [m for m in range(BATCH) if batch.rows[m] == batch.rows[k]]
        if len(same) == 1:
            assert q_searched(model, s, model.policy.items.embed(after[k])[None]).item() == pytest.approx(best, rel=1e-5)


def test_masks_keep_the_search_to_what_was_allowed():
    """Where masks differ from state to state, only items that were allowed at the state itself are known."""
    model = SAVO("MlpPolicy", Board(), surrogate="memory", **SMALL).learn(150)
    buffer = model.replay_buffer
    assert isinstance(buffer, CandidateStorage)
    size = buffer.size()
    boards, known = buffer.observations[:size, 0], buffer.known_actions[:size, 0].astype(int)
    assert all(board[item] == 0 for board, item in zip(boards, known, strict=True))
    assert (known != buffer.actions[:size, 0, 0].astype(int)).any()


@pytest.mark.parametrize("env", ["Pendulum-v1", "MiningExpedition-v0"])
def test_a_buffer_of_the_users_own(env):
    """It keeps no known actions: the taken ones stand for them."""
    model = SAVO("MlpPolicy", env, surrogate="memory", q_smoothing=False, replay_buffer_class=PlainReplayBuffer, **SMALL)
    model.learn(80)
    batch = sample(model)
    known = model.search(batch)
    th.testing.assert_close(known.actions[:, 0], batch.actions)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"n_steps": 3},
        {"optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}},
        {"train_freq": 4, "gradient_steps": 4},
    ],
)
def test_learns_with_every_buffer(kwargs):
    model = SAVO("MlpPolicy", "Pendulum-v1", surrogate="memory", **{**SMALL, **kwargs}).learn(120)
    buffer = model.replay_buffer
    n = buffer.size()
    assert (buffer.known_actions[:n] != buffer.actions[:n, 0, :1]).any()


def test_learns_with_her():
    env = Reach()
    model = SAVO("MultiInputPolicy", env, surrogate="memory", replay_buffer_class=HerReplayBuffer, **SMALL).learn(120)
    assert (model.replay_buffer.known_actions[:100] != model.replay_buffer.actions[:100, 0, :2]).any()


def test_saved_and_loaded_with_its_memory(tmp_path):
    model = memory_model()
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    loaded = SAVO.load(tmp_path / "model", env=model.get_env())
    assert loaded.surrogate == "memory" and loaded.surrogates is None
    loaded.load_replay_buffer(tmp_path / "buffer")
    np.testing.assert_array_equal(loaded.replay_buffer.known_actions, model.replay_buffer.known_actions)
    loaded.learn(60, reset_num_timesteps=False)


def test_a_buffer_without_memory_is_refused(tmp_path):
    hybrid = make_model(surrogate="hybrid")
    hybrid.save_replay_buffer(tmp_path / "buffer")
    with pytest.raises(ValueError, match="no memory of known actions, which surrogate='memory' needs"):
        memory_model().load_replay_buffer(tmp_path / "buffer")


def test_one_actor_needs_no_memory():
    model = memory_model(n_actors=1)
    assert not model.has_memory and not isinstance(model.replay_buffer, CandidateStorage)


@pytest.mark.parametrize("low_height, first_ends_at", [(0.6, -0.5), (0.0, 0.6)], ids=["a low hill", "a flat part"])
def test_finds_the_higher_hill(low_height, first_ends_at):
    """
    Q has a low hill at -0.5, where the actors begin, and a higher one at 0.6. The later actors are led to it, and the first
    one too where there is no low hill, and Q is flat.
    """

    class Bandit(gym.Env):
        observation_space = gym.spaces.Box(-1, 1, (1,), np.float32)
        action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return np.zeros(1, np.float32), {}

        def step(self, action):
            return np.zeros(1, np.float32), 0.0, True, False, {}

    def hills(features, actions, nets=None):
        low, high = (th.exp(-(((actions - at) / 0.15) ** 2)) for at in (-0.5, 0.6))
        return (low_height * low + high).squeeze(2).expand(2 if nets is None else 1, -1, -1)

    model = SAVO("MlpPolicy", Bandit(), surrogate="memory", n_actors=3, seed=0, learning_starts=40, learning_rate=3e-3)
    model.critic._q_values = hills
    model.update_critics = lambda batch: th.zeros(())
    with th.no_grad():
        for output in (model.actor.mu.output, model.actor.nu.net.output):
            output.weight.zero_()
            output.bias.fill_(-0.55)
    found = []
    for n_steps in (600, 100, 100, 100, 100, 100, 100):
        model.learn(n_steps, reset_num_timesteps=False)
        first, *later = model.actor(th.zeros(1, 1))[0].flatten().tolist()
        found.append(min(abs(action - 0.6) for action in later))
    assert first == pytest.approx(first_ends_at, abs=0.05 if low_height > 0 else 0.1)
    # With such a learning rate they swing about the top. Nothing leads them back to it once the first actor is there.
    assert (found[-1] if low_height > 0 else min(found)) < 0.1
