"""The paper's ablations (§6.1, §14): each changes what it should, and nothing else."""

import numpy as np
import pytest
import torch as th

from sb3_savo import SAVO, Ensemble
from sb3_savo.common.exploration import GaussianCandidateNoise, OrnsteinUhlenbeckCandidateNoise
from tests.models import QUICK

ENV_ID = "HopperRestricted-v5"
OBS_DIM, DIM, HIDDEN, SUMMARY = 11, 3, 32, 16


def make_model(policy_kwargs=None, surrogate="approximate", **kwargs):
    policy_kwargs = {"net_arch": [HIDDEN, HIDDEN], **(policy_kwargs or {})}
    return SAVO("MlpPolicy", ENV_ID, surrogate=surrogate, policy_kwargs=policy_kwargs, **QUICK, **kwargs)


def shapes(model):
    return {name: tuple(parameter.shape) for name, parameter in model.policy.named_parameters()}


def difference(model):
    """Parameters that a default SAVO has and this one lacks; those that it has beyond; and those of another shape."""
    own, default = shapes(model), shapes(make_model())
    other = {name for name in own.keys() & default.keys() if own[name] != default[name]}
    return default.keys() - own.keys(), own.keys() - default.keys(), other


def of(names, *parts):
    return {name for name in names if any(part in name for part in parts)}


def test_no_learned_surrogates():
    """The paper's "- Approximation", actors that ascend Q, and the search memory, which has no networks."""
    for surrogate in ("exact", None, "memory"):
        missing, beyond, other = difference(make_model(surrogate=surrogate))
        assert missing == of(shapes(make_model()), "surrogates.") and not beyond and not other
    assert difference(make_model(surrogate="hybrid")) == (set(), set(), set())


def test_no_previous_actions():
    """The paper's "- Previous Actions": no summaries, and no later actor or surrogate sees what the earlier ones did."""
    model = make_model(condition_on_previous=False)
    missing, beyond, other = difference(model)
    assert missing == of(shapes(make_model()), ".summarizer.", ".film.") and not beyond and not other
    for conditioned in (model, make_model()):
        features, first, second = th.randn(5, OBS_DIM), th.randn(5, 2, DIM), th.randn(5, 2, DIM)
        conditioned.actor.nu.net.output.weight.data.normal_()
        conditioned.surrogates.psi.net.output.weight.data.normal_()
        with th.no_grad():
            actors = [conditioned.actor.nu(features.expand(2, -1, -1), features, earlier) for earlier in (first, second)]
            at = th.zeros(5, 2, 1, DIM)
            surrogates = [conditioned.surrogates(features, earlier, at) for earlier in (first, second)]
        assert th.equal(*actors) == th.equal(*surrogates) == (conditioned is model)


def test_joint_action():
    """The paper's "+ Joint Action": one actor whose outputs are all the actions."""
    missing, beyond, other = difference(make_model(joint_action=True))
    assert missing == of(shapes(make_model()), "actor.nu.", "actor_target.nu.") and not beyond
    assert other == {f"{actor}.mu.output.{kind}" for actor in ("actor", "actor_target") for kind in ("weight", "bias")}
    assert shapes(make_model(joint_action=True))["actor.mu.output.weight"] == (1, HIDDEN, 3 * DIM)


@pytest.mark.parametrize("summarizer", ["lstm", "transformer"])
def test_summarizer(summarizer):
    """What pools is another network; the LSTM's states of both directions widen what follows it."""
    missing, beyond, other = difference(make_model(summarizer=summarizer))
    assert not missing
    assert beyond == of(shapes(make_model(summarizer=summarizer)), ".summarizer.pool.")
    wider = of(shapes(make_model()), ".summarizer.head.hidden.0.weight") if summarizer == "lstm" else set()
    assert other == wider


def summarize_by_lstm(own, elements):
    """The last states of the directions forward and backward; elements: (n_elements, dim)."""
    dim = elements.shape[1]
    lstm = th.nn.LSTM(dim, dim, num_layers=2, bidirectional=True)
    lstm.load_state_dict(own.state_dict())
    states, _ = lstm(elements)
    return th.cat([states[-1, :dim], states[0, dim:]])


def summarize_by_transformer(own, elements):
    """The mean of the elements after self-attention and a feed-forward layer; elements: (n_elements, dim)."""
    dim = elements.shape[1]
    layer = th.nn.TransformerEncoderLayer(dim, nhead=4, dim_feedforward=dim, dropout=0.0)
    layer.load_state_dict(own.state_dict())
    return layer(elements).mean(dim=0)


@pytest.mark.parametrize("summarizer, reference", [("lstm", summarize_by_lstm), ("transformer", summarize_by_transformer)])
def test_summaries_of_sequences(summarizer, reference):
    """§13.3, one state and one network at a time: an MLP on every element, the sequence model, and another MLP."""
    own = make_model(summarizer=summarizer, n_actors=4).actor.nu.summarizer
    features, earlier = th.randn(5, OBS_DIM), th.randn(5, 3, DIM)
    summaries = own(features, earlier)
    assert summaries.shape == (3, 5, SUMMARY)

    def linear(layer, i, x):
        return x @ layer.weight[i] + layer.bias[i]

    for i, model in enumerate(own.pool.models):
        for k in range(5):
            hidden = (linear(own.state, i, features[k]) + linear(own.action, i, earlier[k, : i + 1])).relu()
            pooled = reference(model, linear(own.element, i, hidden).relu())
            expected = linear(own.head.output, i, linear(own.head.hidden[0], i, pooled).relu())
            th.testing.assert_close(summaries[i, k], expected, rtol=1e-4, atol=1e-4)
    gradients = th.autograd.grad((summaries[2] ** 2).sum(), list(own.pool.models[2].parameters()))
    # Of the attention queries, keys and values: three parts of one weight
    assert all(part.abs().sum() > 0 for gradient in gradients if gradient.dim() > 1 for part in gradient.chunk(3))


def test_modulation():
    """The summary enters by concatenation to the input: no generators of γ and β, and a wider first layer."""
    missing, beyond, other = difference(make_model(modulation="mlp"))
    assert missing == of(shapes(make_model()), ".film.") and not beyond
    assert other == {f"{net}.net.hidden.0.weight" for net in ("actor.nu", "actor_target.nu", "surrogates.psi")}
    assert shapes(make_model(modulation="mlp"))["actor.nu.net.hidden.0.weight"] == (2, OBS_DIM + SUMMARY, HIDDEN)


def test_pool():
    """The largest of the elements in place of their mean: another summary of two actions, the same of one."""
    models = [make_model({"pool": pool}) for pool in ("mean", "max")]
    assert shapes(models[0]) == shapes(models[1])
    models[1].policy.load_state_dict(models[0].policy.state_dict())
    features, earlier = th.randn(5, OBS_DIM), th.randn(5, 2, DIM)
    summaries = [model.actor.nu.summarizer(features, earlier) for model in models]
    (of_one, of_two), (of_one_by_max, of_two_by_max) = summaries
    th.testing.assert_close(of_one, of_one_by_max)
    assert not th.allclose(of_two, of_two_by_max)


def test_init():
    """Hidden and last layers of actors and surrogates by their scheme; the critics' are SB3's with each (§14.7)."""
    models = {init: make_model(init=init) for init in ("orthogonal", "xavier", "random", "add")}
    assert len({str(shapes(model)) for model in models.values()}) == 1
    hidden = {init: model.actor.nu.net.hidden[1].weight.data[0] for init, model in models.items()}
    th.testing.assert_close(hidden["orthogonal"].T @ hidden["orthogonal"], th.eye(HIDDEN), atol=1e-5, rtol=0)
    default = models["orthogonal"]
    ensemble = Ensemble("MlpPolicy", ENV_ID, **QUICK)
    for network in (default.actor.mu, default.actor.nu.net, default.surrogates.psi.net, ensemble.actor.mu):
        for weight in network.output.weight.data:
            gains = th.linalg.svdvals(weight)
            th.testing.assert_close(gains, th.full_like(gains, 1e-3), rtol=1e-3, atol=0)
    bound = np.sqrt(6 / (2 * HIDDEN))
    assert 0.95 * bound < hidden["xavier"].abs().max() <= bound
    assert hidden["random"].std().item() == pytest.approx(1, rel=0.1)
    assert hidden["add"].std().item() == pytest.approx(np.sqrt(bound**2 / 3 + 0.25), rel=0.1)
    for model in models.values():
        weight = model.critic.q_networks.hidden[1].weight
        assert 0.9 / np.sqrt(HIDDEN) < weight.abs().max() <= 1 / np.sqrt(HIDDEN)
        assert th.equal(model.actor.mu.output.weight, model.actor_target.mu.output.weight)


def test_only_actors_have_layer_norm():
    """After each of their hidden layers; no critic, no surrogate and no summarizer has it."""
    layers = [f"{actor}.{net}" for actor in ("actor", "actor_target") for net in ("mu", "nu.net")]
    expected = {f"{layer}.norms.{i}.{kind}" for layer in layers for i in (0, 1) for kind in ("weight", "bias")}
    assert of(shapes(make_model(q_smoothing=True)), ".norms.") == expected
    assert not of(shapes(make_model({"layer_norm": False})), ".norms.")


def test_q_smoothing():
    """A Q̂ beside what there is, which the first actor ascends in place of Q."""
    model = make_model(q_smoothing=True)
    missing, beyond, other = difference(model)
    assert not missing and beyond == of(shapes(model), "smooth_critic.") and not other
    obs, actions = th.randn(4, OBS_DIM), th.randn(4, 1, DIM)
    assert th.equal(model.policy.actor_objective(obs, actions), model.smooth_critic.q1(obs, actions))
    assert th.equal(make_model().policy.actor_objective(obs, actions), make_model().critic.q1(obs, actions))


@pytest.mark.parametrize("n_actors", [1, 2, 5, 10, 15])
def test_number_of_actors(n_actors):
    """Two stacks grow; with one actor there is neither a successor nor a surrogate."""
    own = shapes(make_model(n_actors=n_actors))
    if n_actors == 1:
        assert not of(own, "surrogates.", ".nu.")
    else:
        stacks = {own[name][0] for name in of(own, "surrogates.", ".nu.")}
        assert stacks == {n_actors - 1}
    assert make_model(n_actors=n_actors).policy.propose(th.randn(2, OBS_DIM)).shape == (2, n_actors, DIM)


def test_exploration_noise():
    for noise, noise_class, sigma in (
        ("ou", OrnsteinUhlenbeckCandidateNoise, 0.2),
        ("gaussian", GaussianCandidateNoise, 0.1),
        (None, type(None), None),
    ):
        model = make_model(exploration_noise=noise)
        assert difference(model) == (set(), set(), set())
        assert type(model.candidate_noise) is noise_class
        assert getattr(model.candidate_noise, "sigma", None) == sigma


def test_action_smoothing():
    """The paper's "+ Action Smoothing" moves the Bellman target, and no loss of actors or surrogates."""
    model = make_model().learn(40)
    for parameter in model.policy.parameters():
        parameter.data += 0.2 * th.randn_like(parameter)
    batch = model.replay_buffer.sample(16)
    batch = batch._replace(observations=batch.observations.float(), next_observations=batch.next_observations.float())
    before = [model.target_q_values(batch)[0], model.surrogate_loss(batch)[0], model.actor_loss(batch)[0]]
    model.target_policy_noise = 0.2
    after = [model.target_q_values(batch)[0], model.surrogate_loss(batch)[0], model.actor_loss(batch)[0]]
    assert [bool(th.equal(old, new)) for old, new in zip(before, after, strict=True)] == [False, True, True]
