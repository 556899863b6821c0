"""A network's parameters are one vector: for optimizers, targets, copies and saved models."""

import copy
import pickle

import pytest
import torch as th
from torch import nn

from sb3_savo import CEM, SAVO, SAVOSAC, Ensemble, GreedyTD3
from sb3_savo.networks.parameter_vector import ALIGNMENT, ParameterVector
from tests.models import SMALL, BatchNormExtractor

ENV_ID = "InvertedDoublePendulumRestricted-v5"


def is_one_vector(network):
    """Whether a network's own parameters are the parts of its vector, at cache lines."""
    base, width = network.parameter_vector.vector.data_ptr(), network.parameter_vector.vector.element_size()
    offsets = [(parameter.data_ptr() - base) // width for parameter in network.parameter_vector.parameters]
    return offsets == network.parameter_vector.starts and not any(offset % ALIGNMENT for offset in offsets)


@pytest.mark.parametrize("algorithm", [SAVO, SAVOSAC, Ensemble, CEM, GreedyTD3])
@pytest.mark.parametrize("share", [False, True])
def test_networks_are_vectors(algorithm, share, tmp_path):
    kwargs = {**SMALL, "policy_kwargs": {"net_arch": [8], "features_extractor_class": BatchNormExtractor}}
    if algorithm is CEM:
        if share:
            pytest.skip("CEM has no actor to share with")
    else:
        kwargs["policy_kwargs"]["share_features_extractor"] = share
    model = algorithm("MlpPolicy", ENV_ID, **kwargs).learn(60)
    model.save(tmp_path / "model")
    for each in (model, algorithm.load(tmp_path / "model")):
        networks = [getattr(each.policy, name) for name in each.policy.target_names] + list(each.policy.learners.values())
        assert len(networks) >= 2 and all(is_one_vector(network) for network in networks)
        own = [id(parameter) for learner in each.policy.learners.values() for parameter in learner.parameter_vector.parameters]
        assert len(own) == len(set(own))
        learned = {id(parameter) for learner in each.policy.learners.values() for parameter in learner.parameters()}
        assert set(own) == learned


def test_targets_of_a_shared_extractor_follow():
    """Also where the target's is its own, as SAVOSAC's is."""
    for algorithm in (SAVO, SAVOSAC):
        kwargs = {**SMALL, "policy_kwargs": {"net_arch": [8], "features_extractor_class": BatchNormExtractor}}
        kwargs["policy_kwargs"]["share_features_extractor"] = True
        model = algorithm("MlpPolicy", ENV_ID, tau=0.25, **kwargs)
        online, target = model.critic.features_extractor, model.critic_target.features_extractor
        before = [parameter.clone() for parameter in target.parameters()]
        for parameter in online.parameters():
            parameter.data += 1
        (model.sync_targets() if algorithm is SAVOSAC else model.updater.sync_targets(model.tau))
        for found, old, new in zip(target.parameters(), before, online.parameters(), strict=True):
            th.testing.assert_close(found, 0.75 * old + 0.25 * new)


def test_parameter_vector():
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))
    unused = nn.Parameter(th.ones(2))
    before = [parameter.clone() for parameter in net.parameters()]
    own = ParameterVector([*net.parameters(), unused])
    assert all(th.equal(*pair) for pair in zip(net.parameters(), before, strict=True))
    loss = net(th.ones(4, 3)).square().mean()
    expected = [*th.autograd.grad(loss, list(net.parameters()), retain_graph=True), th.zeros(2)]
    gradient = own.gradient(loss)
    assert gradient.shape == own.vector.shape
    assert all(th.equal(*pair) for pair in zip(own.views(gradient), expected, strict=True))
    norm = th.cat([part.flatten() for part in expected]).norm()
    for max_norm in (norm.item() / 3, 3 * norm.item()):
        clipped = own.gradient(net(th.ones(4, 3)).square().mean(), max_norm)
        assert clipped.norm().item() == pytest.approx(min(max_norm, norm.item()), rel=1e-4)
    with th.no_grad():
        own.vector.sub_(gradient)
    for parameter, old, part in zip(net.parameters(), before, expected, strict=False):
        assert th.equal(parameter, old - part)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda policy: pickle.loads(pickle.dumps(policy)), lambda policy: policy.double()]
)
def test_a_copied_or_converted_policy_still_learns(copied):
    model = Ensemble("MlpPolicy", ENV_ID, **SMALL).learn(60)
    policy = copied(model.policy)
    assert all(is_one_vector(network) for network in (policy.actor, policy.critic, policy.actor_target, policy.critic_target))
    before = policy.critic.q_networks.output.weight.clone()
    (vector,) = policy.critic.optimizer.param_groups[0]["params"]
    assert vector is policy.critic.parameter_vector.vector
    with th.no_grad():
        vector += 1
    assert th.equal(policy.critic.q_networks.output.weight, before + 1)


def test_any_optimizer():
    for kwargs in ({"optimizer_class": th.optim.RMSprop}, {"optimizer_kwargs": {"weight_decay": 0.1, "foreach": True}}):
        options = {**SMALL, "policy_kwargs": {"net_arch": [8], **kwargs}}
        model = SAVO("MlpPolicy", ENV_ID, **options)
        before = model.critic.parameter_vector.vector.clone()
        model.learn(60)
        assert not th.equal(before, model.critic.parameter_vector.vector)
        assert isinstance(model.critic.optimizer, kwargs.get("optimizer_class", th.optim.Adam))
