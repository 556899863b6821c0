"""What users of SB3 do to a model's parameters works as in TD3, or raises an error before the next gradient step."""

import copy

import numpy as np
import pytest
import torch as th
from stable_baselines3 import TD3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from sb3_savo import CEM, SAVO, SAVOSAC, Ensemble, GreedyTD3, Wolpertinger
from sb3_savo.networks.parameter_vector import ParameterVector
from tests.models import SMALL

ENV_ID = "Pendulum-v1"
OBS = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
ALGORITHMS = [SAVO, SAVOSAC, Ensemble, Wolpertinger, CEM, GreedyTD3]


def make(algorithm=SAVO, seed=0, **kwargs):
    return algorithm("MlpPolicy", ENV_ID, **{**SMALL, "seed": seed, **kwargs})


def values(model):
    return [parameter.detach().clone() for parameter in model.policy.parameters()]


def equal(first, second):
    return all(th.equal(*pair) for pair in zip(first, second, strict=True))


def go_on(model, n_steps=60):
    return model.learn(n_steps, reset_num_timesteps=False)


class AtTheEnd(BaseCallback):
    """Calls a function at every step, after the gradient steps of the last one."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def _on_step(self):
        self.function(self.model)
        return True


def by_vector(model, vector):
    model.policy.load_from_vector(vector)


def by_data(model, vector):
    for parameter, part in zip(model.policy.parameters(), parts(model, vector), strict=True):
        parameter.data = part.clone()


def by_torch(model, vector):
    nn.utils.vector_to_parameters(th.as_tensor(vector), model.policy.parameters())


def parts(model, vector):
    sizes = [parameter.numel() for parameter in model.policy.parameters()]
    split = th.as_tensor(vector).split(sizes)
    return [part.view(parameter.shape) for part, parameter in zip(split, model.policy.parameters(), strict=True)]


@pytest.mark.parametrize("give", [by_vector, by_data, by_torch])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_new_weights(algorithm, give):
    """Predictions use them at once, and learning goes on from them, exactly as from weights that were copied in place."""
    models = [make(algorithm).learn(60) for _ in range(2)]
    vector = make(algorithm, seed=1).learn(60).policy.parameters_to_vector()
    models[0].predict(OBS)
    give(models[0], vector)
    with th.no_grad():
        for parameter, part in zip(models[1].policy.parameters(), parts(models[1], vector), strict=True):
            parameter.copy_(part)
    assert np.array_equal(*(model.predict(OBS, deterministic=True)[0] for model in models))
    before = values(models[0])
    for model in models:
        model.set_random_seed(0)
        go_on(model)
    assert equal(values(models[0]), values(models[1])) and not equal(values(models[0]), before)
    assert np.array_equal(*(model.predict(OBS, deterministic=True)[0] for model in models))


def test_a_vector_of_another_size():
    with pytest.raises(ValueError, match=r"vector has the shape \(3,\): it must be \(\d+,\)"):
        make().policy.load_from_vector(np.zeros(3))


@pytest.mark.parametrize("algorithm", [SAVO, SAVOSAC, Ensemble])
def test_two_models_share_weights(algorithm):
    """Both act by them, and what one learns the other one knows."""
    first, second = make(algorithm), make(algorithm, seed=1)
    for mine, theirs in zip(first.policy.parameters(), second.policy.parameters(), strict=True):
        mine.data = theirs.data
    before = values(second)
    first.learn(60)
    assert equal(values(first), values(second)) and not equal(values(second), before)
    assert np.array_equal(first.predict(OBS, deterministic=True)[0], second.predict(OBS, deterministic=True)[0])
    before = values(first)
    second.learn(60)
    assert equal(values(first), values(second)) and not equal(values(first), before)


@pytest.mark.parametrize("name, data", [("shape", th.zeros(2)), ("dtype", th.zeros(2, 1).double())])
def test_data_of_another_kind(name, data):
    model = make(Ensemble).learn(60)
    model.critic.q_networks.output.bias.data = data
    with pytest.raises(ValueError, match=f"data of the {name}"):
        model.train(1, 16)


def test_weights_given_while_learning():
    """As in an average over the course of learning, whose weights are given back now and then."""

    def halve(model):
        for parameter in model.actor.parameters():
            parameter.data = parameter.data / 2

    changed, plain = make(), make()
    changed.learn(60, AtTheEnd(halve))
    plain.learn(60)
    norms = [sum(parameter.norm() for parameter in model.actor.parameters()) for model in (changed, plain)]
    assert norms[0] < norms[1] / 4


# Optimizers


def two_groups(network):
    first, *others = network.parameters()
    return th.optim.Adam([{"params": [first]}, {"params": others, "weight_decay": 0.01}], lr=1e-3)


@pytest.mark.parametrize("make_optimizer", [lambda network: th.optim.AdamW(network.parameters(), lr=1e-3), two_groups])
@pytest.mark.parametrize("algorithm", [TD3, *ALGORITHMS])
def test_an_optimizer_of_the_users(algorithm, make_optimizer):
    model = make(algorithm)
    networks = [model.critic] if algorithm is CEM else [model.actor, model.critic]
    for network in networks:
        network.optimizer = make_optimizer(network)
    before = [parameter.clone() for network in networks for parameter in network.parameters()]
    model.learn(60)
    after = [parameter for network in networks for parameter in network.parameters()]
    assert not any(th.equal(*pair) for pair in zip(before, after, strict=True))


def test_the_users_adam_does_what_ours_does():
    ours, theirs = make(), make()
    for network in theirs.policy.learners.values():
        network.optimizer = th.optim.Adam(network.parameters(), lr=3e-4, fused=True)
    for model in (ours, theirs):
        model.set_random_seed(0)
        model.learn(60)
    for mine, other in zip(values(ours), values(theirs), strict=True):
        th.testing.assert_close(mine, other)


def test_the_users_optimizer_is_saved_and_loaded(tmp_path):
    """The loaded model has an optimizer of ours, with the moments of the user's."""
    model = make(Ensemble)
    model.critic.optimizer = th.optim.Adam(model.critic.parameters(), lr=1e-3)
    model.learn(60).save(tmp_path / "model")
    loaded = Ensemble.load(tmp_path / "model", device="cpu")
    state = loaded.critic.optimizer.state[loaded.critic.parameter_vector.vector]
    own = loaded.critic.parameter_vector
    for parameter, moments in zip(model.critic.parameters(), own.views(state["exp_avg"]), strict=True):
        assert th.equal(model.critic.optimizer.state[parameter]["exp_avg"], moments)
    assert state["step"] == 20


def test_an_optimizer_of_other_parameters():
    model = make()
    model.critic.optimizer = th.optim.Adam(copy.deepcopy(model.critic).parameters())
    with pytest.raises(ValueError, match=r"policy.critic.optimizer holds none of the network's parameters"):
        model.learn(60)


# Gradients


@pytest.mark.parametrize("algorithm", [TD3, *ALGORITHMS])
def test_gradients_can_be_logged(algorithm):
    norms = []

    def log(model):
        norms.append([parameter.grad.norm() for parameter in model.critic.parameters() if parameter.grad is not None])

    model = make(algorithm).learn(60, AtTheEnd(log))
    assert not norms[0] and len(norms[-1]) == len(list(model.critic.parameters())) and sum(norms[-1]) > 0


def test_gradients_are_those_of_the_vector():
    model = make().learn(60)
    for network in model.policy.learners.values():
        own = network.parameter_vector
        for parameter, part in zip(own.parameters, own.views(own.vector.grad), strict=True):
            assert th.equal(parameter.grad, part)


@pytest.mark.parametrize("how", ["optimizer", "tensor"])
def test_gradients_can_be_changed_by_hooks(how):
    def forget(*_):
        for parameter in model.critic.parameters():
            parameter.grad.zero_()

    model = make(Ensemble)
    if how == "optimizer":
        model.critic.optimizer.register_step_pre_hook(forget)
    else:
        for parameter in model.critic.parameters():
            parameter.register_hook(th.zeros_like)
    critic, actor = ([parameter.clone() for parameter in net.parameters()] for net in (model.critic, model.actor))
    model.learn(60)
    assert equal(critic, list(model.critic.parameters())) and not equal(actor, list(model.actor.parameters()))


def test_hooks_after_accumulation_are_refused():
    model = make()
    next(model.critic.parameters()).register_post_accumulate_grad_hook(lambda parameter: None)
    with pytest.raises(ValueError, match="register_post_accumulate_grad_hook"):
        model.learn(60)


# Frozen parameters


@pytest.mark.parametrize("optimizer_kwargs", [{}, {"weight_decay": 0.1}])
@pytest.mark.parametrize("algorithm", [SAVO, SAVOSAC, Ensemble])
def test_frozen_layers(algorithm, optimizer_kwargs):
    """A layer that is frozen after some learning keeps its values, the others learn; unfrozen, it learns again."""
    model = make(algorithm, policy_kwargs={"net_arch": [16], "optimizer_kwargs": optimizer_kwargs}).learn(60)
    layer = model.critic.q_networks.hidden[0].requires_grad_(False)
    frozen = [parameter.clone() for parameter in layer.parameters()]
    others = model.critic.q_networks.output.weight.clone()
    go_on(model)
    assert equal(frozen, list(layer.parameters())) and not th.equal(others, model.critic.q_networks.output.weight)
    layer.requires_grad_(True)
    go_on(model)
    assert not any(th.equal(*pair) for pair in zip(frozen, layer.parameters(), strict=True))


class FrozenExtractor(BaseFeaturesExtractor):
    def __init__(self, observation_space):
        super().__init__(observation_space, features_dim=4)
        self.net = nn.Linear(3, 4).requires_grad_(False)

    def forward(self, observations):
        return self.net(observations)


def test_layers_frozen_from_the_start():
    """They cost the optimizer nothing; so unfreezing them is an error, not silently nothing."""
    model = make(policy_kwargs={"net_arch": [16], "features_extractor_class": FrozenExtractor})
    frozen = model.critic.features_extractor.net.weight.clone()
    model.learn(60)
    assert th.equal(frozen, model.critic.features_extractor.net.weight)
    model.critic.features_extractor.requires_grad_(True)
    with pytest.raises(ValueError, match=r"policy.critic: a parameter that was frozen when the model was made"):
        go_on(model)


def test_replaced_parameters():
    for replace in (
        lambda model: setattr(model.critic.q_networks.output, "bias", nn.Parameter(th.zeros(2, 1))),
        lambda model: model.critic.add_module("head", nn.Linear(2, 2)),
    ):
        model = make()
        replace(model)
        with pytest.raises(ValueError, match=r"policy.critic: parameters or layers were replaced or added"):
            model.learn(60)


def test_a_network_replaced_while_learning():
    def replace(model):
        model.policy.critic = copy.deepcopy(model.policy.critic)

    with pytest.raises(ValueError, match=r"policy.critic was replaced during learn"):
        make().learn(60, AtTheEnd(replace))


# Conversions and copies


@pytest.mark.parametrize("convert", [lambda module: module.double().float(), lambda module: module.to("cpu"), copy.deepcopy])
@pytest.mark.parametrize("given", [False, True])
def test_converted_policies_act_and_learn(convert, given):
    model = make().learn(60)
    if given:
        by_data(model, make(seed=1).policy.parameters_to_vector())
    expected = model.predict(OBS, deterministic=True)[0]
    model.policy = convert(model.policy)
    model._create_aliases()
    np.testing.assert_allclose(model.predict(OBS, deterministic=True)[0], expected, atol=1e-5)
    before = values(model)
    go_on(model)
    assert not equal(before, values(model))


@pytest.mark.parametrize("given", [False, True])
def test_shared_memory(given):
    """Another process sees what is learned, in the same memory."""
    model = make()
    if given:
        by_data(model, make(seed=1).policy.parameters_to_vector())
    model.policy.share_memory()
    assert all(parameter.is_shared() for parameter in model.policy.parameters())
    seen = [parameter.data for parameter in model.policy.parameters()]
    before = values(model)
    model.learn(60)
    assert all(parameter.is_shared() for parameter in model.policy.parameters())
    assert equal(seen, values(model)) and not equal(seen, before)


class LazyExtractor(BaseFeaturesExtractor):
    def __init__(self, observation_space):
        super().__init__(observation_space, features_dim=8)
        self.net = nn.Sequential(nn.Flatten(), nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.ReLU())

    def forward(self, observations):
        return self.net(observations)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_lazy_layers(algorithm, tmp_path):
    model = make(algorithm, policy_kwargs={"net_arch": [16], "features_extractor_class": LazyExtractor})
    assert all(module.training for module in model.critic.features_extractor.modules())
    before = model.critic.features_extractor.net[1].weight.clone()
    model.learn(60).save(tmp_path / "model")
    assert not th.equal(before, model.critic.features_extractor.net[1].weight)
    loaded = algorithm.load(tmp_path / "model", device="cpu")
    assert np.array_equal(*(each.predict(OBS, deterministic=True)[0] for each in (model, loaded)))


def test_hooks_of_layers_are_called_by_predict():
    """Also where the policy would act in NumPy."""
    model = make().learn(60)
    plain = model.predict(OBS)[0]
    calls = []
    handle = model.actor.mu.register_forward_hook(lambda *args: calls.append(args))
    np.testing.assert_allclose(model.predict(OBS)[0], plain, atol=1e-5)
    assert calls
    handle.remove()
    assert np.array_equal(model.predict(OBS)[0], plain)


def test_bound_gives_memory_back_after_an_error():
    parameter = nn.Parameter(th.zeros(3))
    own = ParameterVector([parameter])
    parameter.data = given = th.ones(3)
    with pytest.raises(RuntimeError, match="stop"), own.bound():
        assert all(own.are_views())
        own.vector.data += 1
        raise RuntimeError("stop")
    assert parameter.data_ptr() == given.data_ptr() and th.equal(given, th.full((3,), 2.0))
