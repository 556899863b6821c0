"""SAVO's losses against slow references written straight from the paper's equations, one state at a time."""

from functools import partial
from itertools import combinations

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import TD3

from sb3_savo import SAVO
from sb3_savo.common.buffers import CandidateReplayBufferSamples
from sb3_savo.savo.savo import anchor_thresholds
from tests import models
from tests.algorithms import ALGORITHMS
from tests.models import BATCH, PlainReplayBuffer, sample
from tests.reference import critic_pairs, propose, q_min, surrogate

ENV_ID = "InvertedDoublePendulumRestricted-v5"

# With the paper's surrogates; tests/test_memory.py has the other ones
make_model = partial(models.make_model, surrogate="approximate")


def test_bellman_target_and_critic_loss():
    model = make_model()
    batch = sample(model)
    losses = []
    for k in range(BATCH):
        s, a, s_next = batch.observations[k : k + 1], batch.actions[k : k + 1], batch.next_observations[k : k + 1]
        with th.no_grad():
            candidates = propose(model.actor_target, s_next)
            picked = max(candidates, key=lambda action: model.critic.q1_forward(s_next, action).item())
            y = batch.rewards[k] + (1 - batch.dones[k]) * model.gamma * th.minimum(*model.critic_target(s_next, picked))
        losses.append(sum((q - y) ** 2 for q in model.critic(s, a)))
    th.testing.assert_close(model.critic_loss(batch)[0], th.cat(losses).mean(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_target_of_critics_drawn_at_random(algorithm):
    """REDQ's: the minimum of some of the target critics, the same ones in the whole batch, other ones in the next."""
    kwargs = {"policy_kwargs": {"net_arch": [16], "n_critics": 5}, "n_target_critics": 2}
    model = models.make_model(algorithm, **kwargs)
    batch = sample(model)
    values = th.randn(BATCH, 5)
    model.critic_target = lambda obs, actions: values.split(1, dim=1)
    pairs = set()
    for _ in range(20):
        found = model.min_target_q_values(batch.next_observations, batch.actions)
        assert found.shape == (BATCH, 1)
        drawn = [pair for pair in combinations(range(5), 2) if th.equal(values[:, pair].amin(dim=1), found[:, 0])]
        assert len(drawn) == 1
        pairs |= set(drawn)
    assert len(pairs) > 3
    # And the loss uses it
    asked = []
    model.min_target_q_values = lambda obs, actions: asked.append(actions) or th.zeros(BATCH, 1)
    model.target_q_values(batch)
    assert [actions.shape for actions in asked] == [(BATCH, model.action_dim)]


@pytest.mark.parametrize("n_actors", [2, 3, 5])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"summarizer": "lstm"},
        {"summarizer": "transformer"},
        {"modulation": "mlp"},
        {"condition_on_previous": False},
        {"policy_kwargs": {"net_arch": [32, 32], "pool": "max"}},
    ],
    ids=str,
)
def test_surrogate_loss(n_actors, options):
    model = make_model(n_actors=n_actors, **options)
    batch = sample(model)
    assert batch.candidates.shape == (BATCH, n_actors, 1)
    terms = []
    for k in range(BATCH):
        s, a = batch.observations[k : k + 1], batch.actions[k : k + 1]
        stored = [batch.candidates[k : k + 1, j] for j in range(n_actors)]
        for i in range(1, n_actors):
            with th.no_grad():
                tau = max(q_min(model, s, stored[j]) for j in range(i))
                target_taken = th.maximum(q_min(model, s, a), tau)
                target_proposed = th.maximum(q_min(model, s, stored[i]), tau)
            terms.append((surrogate(model, i, s, a, stored[:i]) - target_taken) ** 2)
            terms.append((surrogate(model, i, s, stored[i], stored[:i]) - target_proposed) ** 2)
    th.testing.assert_close(model.surrogate_loss(batch)[0], th.stack(terms).mean(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n_actors", [2, 3, 5])
@pytest.mark.parametrize("kind", ["approximate", "exact", "hybrid", None])
def test_actor_loss(n_actors, kind):
    model = make_model(n_actors=n_actors, surrogate=kind)
    for output in (model.actor.mu.output, model.actor.nu.net.output):
        output.weight.data *= 0.1  # no proposal at the end of the interval, where two may be the same
    batch = sample(model)
    objective, above = 0.0, 0
    for k in range(BATCH):
        s = batch.observations[k : k + 1]
        actions = propose(model.actor, s)
        objective += model.critic.q1_forward(s, actions[0])
        for i in range(1, n_actors):
            if kind == "approximate":
                objective += surrogate(model, i, s, actions[i], actions[:i])
            elif kind is not None:
                q, tau = q_min(model, s, actions[i]), max(q_min(model, s, a) for a in actions[:i])
                above += bool(q > tau)
                flat = tau if kind == "exact" else surrogate(model, i, s, actions[i], actions[:i])
                objective += q if q > tau else flat
            else:
                objective += model.critic.q1_forward(s, actions[i])
    # Terms of both signs in the hundreds: the rounding is theirs
    th.testing.assert_close(model.actor_loss(batch)[0], -(objective / BATCH).squeeze(), rtol=1e-4, atol=1e-4)
    assert kind not in ("exact", "hybrid") or 0 < above < BATCH * (n_actors - 1)


@pytest.mark.parametrize("kind", ["approximate", "exact", "hybrid", None])
@pytest.mark.parametrize("joint_action", [False, True])
def test_joint_and_successive_proposals(kind, joint_action):
    model = make_model(surrogate=kind, joint_action=joint_action)
    obs = sample(model).observations
    constants, pre_activations = model.actor.propose_detached(obs)
    proposals = pre_activations.tanh()
    th.testing.assert_close(constants, model.actor(obs))
    th.testing.assert_close(constants, proposals.detach())
    assert not constants.requires_grad
    assert proposals.shape == (BATCH, 3, 1)


def test_saturation_penalty():
    """The later actors' outputs beyond ±2 add their squares; the first actor is left alone."""
    model = make_model(n_actors=3)
    batch = sample(model)
    without = model.actor_loss(batch)[0]
    model.saturation_penalty = 0.5
    _, pre_activations = model.actor.propose_detached(batch.observations)
    beyond = [sum(max(abs(x.item()) - 2, 0) ** 2 for x in row[1:].flatten()) for row in pre_activations]
    assert 0 < np.count_nonzero(beyond) and max(beyond) > 1
    loss, metrics = model.actor_loss(batch)
    assert (loss - without).item() == pytest.approx(0.5 * np.mean(beyond), rel=1e-4)
    share = np.mean([abs(x.item()) > 2 for x in pre_activations.flatten()])
    assert metrics["saturated_share"].item() == pytest.approx(share)


def gradients(loss, parameters):
    grads = th.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
    return [grad is not None and bool(grad.abs().sum() > 0) for grad in grads]


def test_an_actor_has_gradient_through_its_own_action_only():
    model = make_model(n_actors=4)
    obs = sample(model).observations
    outputs = model.actor.propose_detached(obs)[1]  # before tanh, whose slope may be 0
    assert not any(gradients(outputs[:, 1:].sum(), list(model.actor.mu.parameters())))
    for i in range(3):
        for weight in model.actor.nu.parameters():
            grad = th.autograd.grad(outputs[:, 1 + i].sum(), weight, retain_graph=True)[0]
            own = th.arange(len(weight)) == i
            assert grad[own].abs().sum() > 0
            assert grad[~own].abs().sum() == 0
    assert not any(gradients(outputs[:, 0].sum(), list(model.actor.nu.parameters())))


def test_a_surrogate_guides_its_own_actor_only():
    model = make_model(n_actors=3)
    batch = sample(model)
    anchors, pre_activations = model.actor.propose_detached(batch.observations)
    proposals = pre_activations.tanh()
    psi = model.surrogates(batch.observations, anchors[:, :-1], proposals[:, 1:].unsqueeze(2))
    for i in range(2):
        grad = th.autograd.grad(psi[:, i].sum(), proposals, retain_graph=True)[0]
        assert grad[:, 1 + i].abs().sum() > 0
        grad[:, 1 + i] = 0
        assert grad.abs().sum() == 0


def assert_only_changes(model, module, losses, batch):
    """A step on a network's loss changes all parameters of the network, and none of the others."""
    names = (*losses, "critic_target", "actor_target")
    before = {name: [p.clone() for p in getattr(model, name).parameters()] for name in names}
    model.updater.step(module, losses[module], batch)
    for name in names:
        changed = [not th.equal(p, q) for p, q in zip(getattr(model, name).parameters(), before[name], strict=True)]
        assert all(changed) if name == module else not any(changed)


@pytest.mark.parametrize("module", ["critic", "surrogates", "actor"])
def test_each_loss_changes_its_own_networks_only(module):
    model = make_model()
    batch = sample(model)
    losses = {"critic": model.critic_loss, "surrogates": model.surrogate_loss, "actor": model.actor_loss}
    assert_only_changes(model, module, losses, batch)


def test_gradient_norm_is_clipped_per_network():
    model = make_model(max_grad_norm=0.01)
    batch = sample(model)
    losses = {"critic": model.critic_loss, "surrogates": model.surrogate_loss, "actor": model.actor_loss}
    for name, loss_function in losses.items():

        def large_loss(batch, loss_function=loss_function):
            loss, metrics = loss_function(batch)
            return 1e3 * loss, metrics

        model.updater.step(name, large_loss, batch)
        norm = getattr(model, name).parameter_vector.vector.grad.norm()
        assert norm == pytest.approx(0.01, rel=1e-3)


def test_target_policy_noise_is_clipped_noise_on_the_picked_action():
    model = make_model(n_actors=3, target_policy_noise=0.2, target_noise_clip=0.1)
    batch = sample(model)
    seen = []
    model.critic_target.register_forward_hook(lambda module, args, output: seen.append(args[1]))
    th.manual_seed(0)
    model.target_q_values(batch)
    with th.no_grad():
        picked = model.policy.maximize(batch.next_observations, model.actor_target(batch.next_observations))[0]
        th.manual_seed(0)
        noise = (th.randn_like(picked) * 0.2).clamp(-0.1, 0.1)
    th.testing.assert_close(seen[0], (picked + noise).clamp(-1, 1))
    assert noise.abs().max() == pytest.approx(0.1)


def test_anchor_thresholds():
    q_values = th.tensor([[1.0, 3.0, 2.0, 5.0], [4.0, 0.0, 1.0, 2.0]])
    assert anchor_thresholds(q_values).tolist() == [[1.0, 3.0, 3.0], [4.0, 4.0, 4.0]]


def test_without_stored_candidates_the_anchors_are_proposed_anew():
    model = make_model(replay_buffer_class=PlainReplayBuffer)
    batch = sample(model)
    assert not hasattr(batch, "candidates")
    with th.no_grad():
        candidates = model.actor(batch.observations)
    with_candidates = CandidateReplayBufferSamples(**batch._asdict(), candidates=candidates)
    th.testing.assert_close(model.surrogate_loss(batch)[0], model.surrogate_loss(with_candidates)[0])


@pytest.mark.parametrize("target_policy_noise", [0.0, 0.2])
def test_one_actor_is_td3_value_for_value(target_policy_noise):
    kwargs = {"learning_rate": 3e-4, "buffer_size": 1000, "batch_size": 32, "seed": 0, "device": "cpu", "learning_starts": 300}
    kwargs["target_policy_noise"] = target_policy_noise
    td3 = TD3("MlpPolicy", ENV_ID, policy_kwargs={"net_arch": [64, 64]}, **kwargs)
    savo = SAVO(
        "MlpPolicy",
        ENV_ID,
        n_actors=1,
        max_grad_norm=None,
        exploration_noise=None,
        policy_kwargs={"net_arch": [64, 64], "layer_norm": False},
        **kwargs,
    )
    for own, theirs in ((savo.actor, td3.actor), (savo.actor_target, td3.actor_target)):
        linear = [layer for layer in theirs.mu if isinstance(layer, th.nn.Linear)]
        for layer, reference in zip([*own.mu.hidden, own.mu.output], linear, strict=True):
            layer.weight.data.copy_(reference.weight.data.T[None])
            layer.bias.data.copy_(reference.bias.data[None])
    for own, theirs in ((savo.critic, td3.critic), (savo.critic_target, td3.critic_target)):
        for parameter, reference in critic_pairs(own, theirs):
            parameter.copy_(reference)

    for model in (td3, savo):
        model.set_random_seed(1)
        model.learn(300)
    np.testing.assert_array_equal(td3.replay_buffer.actions, savo.replay_buffer.actions)
    for model in (td3, savo):
        model.set_random_seed(2)
        model.train(200, batch_size=32)

    for name in ("critic", "critic_target"):
        for own, theirs in critic_pairs(getattr(savo, name), getattr(td3, name)):
            th.testing.assert_close(own, theirs, rtol=0, atol=1e-6)
    obs = td3.replay_buffer.sample(64).observations
    th.testing.assert_close(savo.actor(obs)[:, 0], td3.actor(obs), rtol=0, atol=1e-6)
    th.testing.assert_close(savo.actor_target(obs)[:, 0], td3.actor_target(obs), rtol=0, atol=1e-6)
    assert isinstance(savo.action_space, spaces.Box)
    keys = ("train/actor_loss", "train/critic_loss")
    for key in keys:
        assert savo.logger.name_to_value[key] == pytest.approx(td3.logger.name_to_value[key], rel=1e-6)
