"""The top of a landscape by dense search."""

import numpy as np
import pytest
import torch as th
from torch import nn

from benchmarks.landscape_tasks import with_frozen_critic
from sb3_savo import SAVO
from sb3_savo.analysis import highest_q
from sb3_savo.envs.landscapes import CONTEXT_DIM
from tests.benchmarks.models import SMALL, landscape_model
from tests.envs.test_landscapes import embeddings_of, made, random_actions, random_contexts, reference


@pytest.mark.parametrize("task", ["Peaks1D", "Peaks2D", "Rastrigin"])
def test_highest_q(task):
    model, _ = landscape_model(task)
    found = highest_q(model.policy, random_contexts(50))
    assert found.shape == (50,) and not found.requires_grad
    assert found.min() > 0.99 and found.max() <= 1 + 1e-6


def test_highest_q_of_items():
    model, env = landscape_model("Items")
    contexts = random_contexts(4)
    expected = [max(reference(env.landscape, context, item) for item in embeddings_of(env)) for context in contexts]
    np.testing.assert_allclose(highest_q(model.policy, contexts), expected, atol=1e-5)


def test_highest_q_is_not_below_the_proposals_of_a_policy():
    model, _ = landscape_model("Peaks2D", with_frozen_critic(SAVO), n_actors=8, surrogate=None)
    contexts = random_contexts(40)
    model.learn(60)
    with th.no_grad():
        proposals = th.cat([model.policy.propose(contexts), random_actions(40, 2_000, 2)], dim=1)
    assert (highest_q(model.policy, contexts) >= model.critic.q1(contexts, proposals).amax(dim=1) - 5e-3).all()


def test_highest_q_by_refinement():
    """Without gradient steps the result is the best of the random actions. A step that is too long does not lower it."""
    model, _ = landscape_model("Peaks2D")
    contexts = random_contexts(40)

    def found(**kwargs):
        th.manual_seed(0)
        return highest_q(model.policy, contexts, n_actions=50, n_refined=50, **kwargs)

    th.manual_seed(0)
    sampled = th.empty(50, 2).uniform_(-1, 1).expand(40, -1, -1)
    start = found(n_steps=0)
    np.testing.assert_allclose(start, model.critic.q1(contexts, sampled).amax(dim=1), atol=1e-6)
    assert (found() >= start).all() and found().mean() > start.mean() + 0.1
    assert (found(n_steps=1, step_size=3.0) >= start).all()


class Uphill(nn.Module):
    def forward(self, inputs, nets):
        return inputs[..., CONTEXT_DIM:].sum(dim=-1, keepdim=True)


def test_highest_q_stays_in_the_action_space():
    model, _ = landscape_model("Peaks2D")
    model.critic.q_networks = Uphill()
    assert th.equal(highest_q(model.policy, random_contexts(3)), th.full((3,), 2.0))


class Ordinal(nn.Module):
    """The first critic returns the first number of the context, for all actions; the second critic is :class:`Uphill`."""

    def forward(self, inputs, nets):
        first = inputs[:1, ..., :1] + 0 * inputs[:1, ..., -1:]
        return th.cat([first, Uphill()(inputs[1:], nets)])


def test_highest_q_uses_the_own_state_and_the_first_critic():
    model, _ = landscape_model("Peaks2D")
    model.critic.q_networks = Ordinal()
    contexts = random_contexts(6)
    np.testing.assert_allclose(highest_q(model.policy, contexts, n_actions=32), contexts[:, 0])


@pytest.mark.parametrize("task", ["Peaks2D", "Items"])
def test_highest_q_leaves_the_policy_alone(task):
    """The networks are learnable, so the search could leave gradients in them."""
    model = SAVO("MlpPolicy", made(task), **SMALL)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    for grad_enabled in (True, False):
        with th.set_grad_enabled(grad_enabled):
            found = highest_q(model.policy, random_contexts(3), n_actions=64)
            assert th.is_grad_enabled() == grad_enabled
        assert not found.requires_grad
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.policy.parameters())
    assert all(th.equal(value, before[name]) for name, value in model.policy.state_dict().items())
