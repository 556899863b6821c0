"""Q3C against a slow reference, one state and one control point at a time."""

import itertools

import numpy as np
import pytest
import torch as th

from sb3_savo import Q3C
from tests.models import BATCH, SMALL, make_model, sample

ENV_ID = "HopperRestricted-v5"
ITEMS_ENV_ID = "MiningExpedition-v0"


def control_points(critic, i, s):
    """The control points and values of critic i at one state, (1, obs_dim)."""
    net = slice(i, i + 1)
    points = critic.generators(s[None], net)[0, 0].tanh().reshape(critic.n_points, -1)
    return points, [critic.q_networks(th.cat([s[0], u])[None, None], net)[0, 0, 0] for u in points]


def interpolated(critic, i, s, a):
    """Q_i(s, a) of one state and one action, (action_dim,)."""
    points, values = control_points(critic, i, s)
    spread = max(values) - min(values) + 1e-5
    weights = [
        1 / (((a - u) ** 2).sum() + 1e-5 + critic.smoothing * (max(values) - y) / spread)
        for u, y in zip(points, values, strict=True)
    ]
    nearest = sorted(range(len(weights)), key=lambda j: -weights[j].item())[: critic.n_nearest]
    return sum(weights[j] * values[j] for j in nearest) / sum(weights[j] for j in nearest)


def best_point(critic, s):
    points, values = control_points(critic, 0, s)
    return points[max(range(len(values)), key=lambda j: values[j].item())]


@pytest.fixture(scope="module", params=[(6, 3), (4, 4), (5, 1)], ids=str)
def model(request):
    n_points, n_nearest = request.param
    model = make_model(Q3C, ENV_ID, n_points=n_points, n_nearest=n_nearest, separation_coef=0.2)
    for critic in (model.critic, model.critic_target):
        critic.smoothing.fill_(0.3)
    return model


def test_q_interpolates_the_control_points(model):
    batch = sample(model)
    actions = th.rand(BATCH, 5, model.action_dim) * 2 - 1
    q_values = model.critic.evaluate(batch.observations, actions)
    assert q_values.shape == (2, BATCH, 5)
    for i, k, j in itertools.product(range(2), range(BATCH), range(5)):
        expected = interpolated(model.critic, i, batch.observations[k : k + 1], actions[k, j])
        th.testing.assert_close(q_values[i, k, j], expected, rtol=1e-4, atol=1e-4)
    th.testing.assert_close(model.critic.q1(batch.observations, actions), q_values[0])
    taken = model.critic(batch.observations, actions[:, 0])
    th.testing.assert_close(th.cat(taken, dim=1), q_values[:, :, 0].T)


def test_the_loss_and_its_gradient(model):
    batch = sample(model)
    loss, metrics = model.critic_loss(batch)
    error, crowding = 0.0, 0.0
    for k in range(BATCH):
        s, next_s = batch.observations[k : k + 1], batch.next_observations[k : k + 1]
        with th.no_grad():
            action = best_point(model.critic_target, next_s)
            next_q = min(interpolated(model.critic_target, i, next_s, action) for i in range(2))
            target = batch.rewards[k] + (1 - batch.dones[k]) * model.gamma * next_q
        for i in range(2):
            error += 0.5 * (interpolated(model.critic, i, s, batch.actions[k]) - target).square().sum() / BATCH
            pairs = list(itertools.combinations(control_points(model.critic, i, s)[0], 2))
            crowding += sum(1 / ((u - v).square().sum() + 1e-5).sqrt() for u, v in pairs) / len(pairs) / BATCH
    th.testing.assert_close(loss, error + 0.2 * crowding, rtol=1e-4, atol=1e-4)
    th.testing.assert_close(metrics["crowding"], crowding.detach(), rtol=1e-4, atol=1e-4)
    parameters = list(model.critic.parameters())
    gradients = th.autograd.grad(loss, parameters)
    for gradient, reference in zip(gradients, th.autograd.grad(error + 0.2 * crowding, parameters), strict=True):
        assert gradient.abs().sum() > 0
        th.testing.assert_close(gradient, reference, rtol=1e-3, atol=1e-4)


def test_no_action_is_above_the_best_control_point(model):
    batch = sample(model)
    points, values = model.critic.control_points(batch.observations)
    assert points.shape == (1, BATCH, model.n_points, model.action_dim) and points.abs().max() <= 1
    actions = th.cat([th.rand(BATCH, 500, model.action_dim) * 2 - 1, points[0]], dim=1)
    with th.no_grad():
        assert (model.critic.q1(batch.observations, actions).amax(dim=1) <= values[0].amax(dim=1) + 1e-4).all()


def test_it_acts_by_the_best_control_point_of_the_first_critic(model):
    obs = sample(model).observations
    actions = model.policy.propose(obs)
    targets = model.policy.propose_targets(obs)
    assert actions.shape == targets.shape == (BATCH, 1, model.action_dim)
    for k in range(BATCH):
        th.testing.assert_close(actions[k, 0], best_point(model.critic, obs[k : k + 1]))
        th.testing.assert_close(targets[k, 0], best_point(model.critic_target, obs[k : k + 1]))


def test_the_smoothing_falls_with_the_square_of_the_progress_remaining():
    model = Q3C("MlpPolicy", "Pendulum-v1", smoothing=0.8, **SMALL)
    seen = []
    model.learn(
        200, callback=lambda *_: seen.append((model._current_progress_remaining, model.critic.smoothing.item())) or True
    )
    # An update precedes every step but the first ones, and has the progress of the step before
    for (_, smoothing), (progress, _) in zip(seen[101:], seen[100:], strict=False):
        assert smoothing == pytest.approx(0.8 * progress**2, abs=0.01)
    assert seen[-1][1] < 0.001 < 0.1 < seen[60][1]
    assert model.critic_target.smoothing == model.critic.smoothing


def test_the_smoothing_is_saved(tmp_path):
    model = make_model(Q3C, "Pendulum-v1")
    model.critic.smoothing.fill_(0.4)
    model.save(tmp_path / "model")
    assert Q3C.load(tmp_path / "model").critic.smoothing == 0.4
    model.policy.save(tmp_path / "policy.pt")
    assert type(model.policy).load(tmp_path / "policy.pt", device="cpu").critic.smoothing == 0.4


def test_items():
    model = make_model(Q3C, ITEMS_ENV_ID)
    obs = sample(model).observations
    items, _ = model.predict(obs.numpy())
    points = model.policy.propose(obs)[:, 0]
    distances = (points[:, None] - model.policy.items.embeddings[None]).square().sum(dim=2)
    np.testing.assert_array_equal(items, distances.argmin(dim=1))
    assert model.smooth_critic is None


def test_the_control_points_find_the_higher_hill():
    """Two bumps in one state; the higher one is narrow and away from the middle."""
    model = Q3C("MlpPolicy", "Pendulum-v1", n_nearest=20, **SMALL).learn(60)
    for critic in (model.critic, model.critic_target):
        critic.smoothing.fill_(0.1)
    state = sample(model).observations[:1].expand(256, -1)
    optimizer = th.optim.Adam(model.critic.parameters(), lr=1e-2)
    for _ in range(600):
        actions = th.rand(256, 1) * 2 - 1
        values = 0.6 * th.exp(-(((actions + 0.5) / 0.3) ** 2)) + th.exp(-(((actions - 0.7) / 0.1) ** 2))
        loss = sum((q - values).square().mean() for q in model.critic(state, actions)) + 0.01 * model.critic.crowding(state)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert model.policy.propose(state[:1]).item() == pytest.approx(0.7, abs=0.1)


@pytest.mark.parametrize(
    "options, error, words",
    [
        ({"n_points": 3, "n_nearest": 4}, ValueError, "n_points=3 is too small"),
        ({"n_points": 1, "n_nearest": 1}, ValueError, "n_points=1 is too small"),
        ({"smoothing": -1}, ValueError, "smoothing=-1"),
        ({"separation_coef": "x"}, TypeError, "separation_coef='x'"),
        ({"q_smoothing": True}, TypeError, "q_smoothing=True is not an argument of Q3C"),
    ],
)
def test_wrong_arguments(options, error, words):
    with pytest.raises(error, match=words):
        Q3C("MlpPolicy", "Pendulum-v1", **options)
