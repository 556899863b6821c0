"""SAVO on SAC: equal to SB3's SAC with one actor, and its losses against slow references."""

import numpy as np
import pytest
import torch as th
from stable_baselines3 import SAC
from torch.distributions import Normal

from sb3_savo import SAVOSAC
from sb3_savo.networks.squashed_gaussian import entropy, log_prob
from tests.models import BATCH, make_model, sample
from tests.reference import critic_pairs

ENV_ID = "InvertedDoublePendulumRestricted-v5"


def make_model_and_batch(**kwargs):
    model = make_model(SAVOSAC, "HopperRestricted-v5", **kwargs)
    for output in [model.actor.mu.output] + ([model.actor.nu.net.output] if model.actor.nu else []):
        output.weight.data *= 0.1  # far from where tanh has no slope, and its inverse is inexact
    return model, sample(model)


def copy_weights(savosac, sac):
    layers = [layer for layer in sac.actor.latent_pi if isinstance(layer, th.nn.Linear)]
    for own, theirs in zip(savosac.actor.mu.hidden, layers, strict=True):
        own.weight.data.copy_(theirs.weight.data.T[None])
        own.bias.data.copy_(theirs.bias.data[None])
    heads = (sac.actor.mu, sac.actor.log_std)
    savosac.actor.mu.output.weight.data.copy_(th.cat([head.weight.data for head in heads]).T[None])
    savosac.actor.mu.output.bias.data.copy_(th.cat([head.bias.data for head in heads])[None])
    for name in ("critic", "critic_target"):
        for own, theirs in critic_pairs(getattr(savosac, name), getattr(sac, name)):
            own.copy_(theirs)


@pytest.mark.parametrize("ent_coef", ["auto", "auto_0.3", 0.2])
def test_one_actor_is_sac_value_for_value(ent_coef):
    kwargs = {"buffer_size": 1000, "batch_size": 32, "seed": 0, "device": "cpu", "ent_coef": ent_coef, "learning_starts": 100}
    sac = SAC("MlpPolicy", ENV_ID, policy_kwargs={"net_arch": [64, 64]}, **kwargs)
    savosac = SAVOSAC("MlpPolicy", ENV_ID, n_actors=1, policy_kwargs={"net_arch": [64, 64]}, **kwargs)
    copy_weights(savosac, sac)
    for model in (sac, savosac):
        model.gradient_steps = 0
        model.set_random_seed(1)
        model.learn(300)
    # Collected by samples of the actors, after the warm-up
    np.testing.assert_allclose(sac.replay_buffer.actions, savosac.replay_buffer.actions, rtol=0, atol=1e-6)
    for model in (sac, savosac):
        model.set_random_seed(2)
        model.train(200, batch_size=32)
    for name in ("critic", "critic_target"):
        for own, theirs in critic_pairs(getattr(savosac, name), getattr(sac, name)):
            th.testing.assert_close(own, theirs, rtol=0, atol=2e-6)
    obs = sac.replay_buffer.sample(64).observations
    th.testing.assert_close(savosac.actor(obs)[:, 0], sac.actor(obs, deterministic=True), rtol=0, atol=2e-6)
    for key in ("train/actor_loss", "train/critic_loss", "train/ent_coef"):
        assert savosac.logger.name_to_value[key] == pytest.approx(sac.logger.name_to_value[key], rel=1e-5)
    numbers = np.random.default_rng(0).normal(size=(5, 9)).astype(np.float32)
    np.testing.assert_allclose(
        savosac.predict(numbers, deterministic=True)[0], sac.predict(numbers, deterministic=True)[0], atol=1e-5
    )


def chain(actor, s, draws):
    """Actions a_i = tanh(mean_i + std_i ε_i) and their log densities, one actor after the other, of one state."""
    actions, log_probs = [], []
    for i in range(actor.n_actors):
        if i == 0:
            out = actor.mu(s[None])[0]
        else:
            out = actor.nu(s[None], s, th.stack(actions, dim=1).detach(), slice(i - 1, i))[0]
        mean, log_std = out[:, :3], out[:, 3:].clamp(-20, 2)
        x = mean + log_std.exp() * draws[i]
        density = Normal(mean, log_std.exp()).log_prob(x) - th.log(1 - th.tanh(x) ** 2 + 1e-6)
        actions.append(th.tanh(x))
        log_probs.append(density.sum())
    return actions, log_probs


def soft_values(model, s, actions):
    """min(Q, Q_2) + α H of every actor's action: the Gaussian's entropy by torch, corrected for tanh at the action."""
    values = []
    for i, action in enumerate(actions):
        if i == 0:
            out = model.actor.mu(s[None])[0]
        else:
            out = model.actor.nu(s[None], s, th.stack(actions[:i], dim=1), slice(i - 1, i))[0]
        std = out[:, 3:].clamp(-20, 2).exp()
        entropy = (Normal(0, std).entropy() + th.log(1 - action**2 + 1e-6)).sum()
        values.append(th.minimum(*model.critic(s, action)) + model.policy.ent_coef * entropy)
    return values


def draws_of(model, seed):
    th.manual_seed(seed)
    return th.randn(BATCH, model.n_actors, 3)


@pytest.mark.parametrize("n_actors", [1, 2, 4])
@pytest.mark.parametrize(
    "options", [{}, {"summarizer": "lstm", "modulation": "mlp"}, {"condition_on_previous": False}], ids=str
)
def test_losses(n_actors, options):
    model, batch = make_model_and_batch(n_actors=n_actors, ent_coef=0.37, **options)
    draws, errors, objective = draws_of(model, 0), 0.0, 0.0
    next_draws = draws_of(model, 1)
    for k in range(BATCH):
        s, s_next = batch.observations[k : k + 1], batch.next_observations[k : k + 1]
        actions, log_probs = chain(model.actor, s_next, next_draws[k])
        soft = soft_values(model, s_next, actions)
        best = max(range(n_actors), key=lambda i: soft[i].item())
        value = th.minimum(*model.critic_target(s_next, actions[best])) - 0.37 * log_probs[best]
        y = (batch.rewards[k] + (1 - batch.dones[k]) * model.gamma * value).detach()
        errors += sum(0.5 * (q - y) ** 2 for q in model.critic(s, batch.actions[k : k + 1]))
        actions, log_probs = chain(model.actor, s, draws[k])
        objective += sum(th.minimum(*model.critic(s, a)) - 0.37 * p for a, p in zip(actions, log_probs, strict=True))
    th.manual_seed(1)
    th.testing.assert_close(model.critic_loss(batch)[0], (errors / BATCH).squeeze(), rtol=1e-4, atol=1e-4)
    th.manual_seed(0)
    actions, log_probs = model.sample_actions(batch.observations)
    assert actions.shape == (BATCH, n_actors, 3) and log_probs.shape == (BATCH, n_actors)
    th.testing.assert_close(
        model.actor_loss(batch, actions, log_probs)[0], -(objective / BATCH).squeeze(), rtol=1e-4, atol=1e-4
    )


def test_the_maximizer_picks_by_the_soft_value():
    model, batch = make_model_and_batch(n_actors=3, ent_coef=0.01)
    obs = batch.observations
    with th.no_grad():
        candidates = model.actor(obs, draws_of(model, 0))
        chosen, picked, values = model.policy.maximize(obs, candidates)
        for k in range(BATCH):
            expected = soft_values(model, obs[k : k + 1], list(candidates[k][:, None]))
            th.testing.assert_close(values[k], th.cat(expected).flatten(), rtol=1e-4, atol=1e-4)
    assert (values.gather(1, picked) >= values).all()
    assert (candidates == chosen[:, None]).all(dim=2).any(dim=1).all()
    assert len(set(picked.flatten().tolist())) > 1


def test_the_entropy_estimate_is_unbiased():
    """Its mean over samples is that of minus the log density."""
    th.manual_seed(0)
    mean, std = th.tensor([0.3, -1.0]), th.tensor([0.5, 0.8])
    samples = mean + std * th.randn(20_000, 2)
    estimates, reference = entropy(std, samples.tanh()), -log_prob(mean, std, samples)
    assert estimates.mean().item() == pytest.approx(reference.mean().item(), abs=0.03)


def test_an_actor_has_gradient_through_its_own_action_only():
    model, batch = make_model_and_batch(n_actors=3)
    actions, log_probs = model.sample_actions(batch.observations)
    for i in range(3):
        for value in (actions[:, i].sum(), log_probs[:, i].sum()):
            for j, weight in enumerate([model.actor.mu.output.weight, *[model.actor.nu.net.output.weight] * 2]):
                grad = th.autograd.grad(value, weight, retain_graph=True, allow_unused=True)[0]
                of_actor_j = None if grad is None else grad[0 if j == 0 else j - 1]
                assert (of_actor_j is not None and bool(of_actor_j.abs().sum() > 0)) == (i == j)


def test_the_entropy_coefficient_goes_where_it_should():
    model, _ = make_model_and_batch(n_actors=2, ent_coef="auto", learning_rate=1e-2)
    for value, direction in ((50.0, 1), (-50.0, -1)):
        before = model.log_ent_coef.item()
        for _ in range(3):
            model.update_ent_coef(th.full((BATCH, 2), value))
        assert np.sign(model.log_ent_coef.item() - before) == direction
    assert model.wanted_entropy == -3


def test_sampled_and_deterministic_predictions():
    model, batch = make_model_and_batch(n_actors=3)
    obs = batch.observations.numpy()
    once, again = (model.predict(obs, deterministic=True)[0] for _ in range(2))
    np.testing.assert_array_equal(once, again)
    assert not np.array_equal(model.predict(obs)[0], model.predict(obs)[0])
    means = model.policy.unscale_action(model.actor(batch.observations).detach().numpy())
    assert (once[:, None] == means).all(axis=2).any(axis=1).all()


@pytest.mark.parametrize("interval", [1, 3])
def test_target_update_interval(interval):
    model, _ = make_model_and_batch(target_update_interval=interval)
    changes = []
    for _ in range(6):
        before = [parameter.clone() for parameter in model.critic_target.parameters()]
        model.train(1, BATCH)
        changes.append(any(not th.equal(p, q) for p, q in zip(before, model.critic_target.parameters(), strict=True)))
    assert sum(changes) == 6 // interval


def test_learned_and_fixed_coefficients_are_saved(tmp_path):
    for ent_coef in ("auto_0.5", 0.25):
        model, _ = make_model_and_batch(ent_coef=ent_coef)
        model.save(tmp_path / "model")
        loaded = SAVOSAC.load(tmp_path / "model")
        assert loaded.policy.ent_coef.item() == model.policy.ent_coef.item()
        if ent_coef == 0.25:
            assert loaded.policy.ent_coef.item() == 0.25 and loaded.ent_coef_optimizer is None
        else:
            assert loaded.log_ent_coef.item() == model.log_ent_coef.item() != np.log(0.5)
            assert loaded.ent_coef_optimizer.state_dict()["state"]


def test_what_load_changes_is_used(tmp_path):
    model, _ = make_model_and_batch(ent_coef=0.25)
    model.save(tmp_path / "model")
    loaded = SAVOSAC.load(tmp_path / "model", env=model.env, ent_coef=0.5, target_entropy=-5.0)
    assert loaded.wanted_entropy == -5.0
    loaded.learn(loaded.learning_starts + 1)
    assert loaded.policy.ent_coef.item() == 0.5
    with pytest.raises(ValueError, match=r"ent_coef_optimizer\.pth is missing"):
        SAVOSAC.load(tmp_path / "model", ent_coef="auto")


@pytest.mark.parametrize(
    "kwargs, error, message",
    [
        ({"use_sde": True}, ValueError, r"use_sde=True is not supported by SAVOSAC: it must be False"),
        ({"exploration_noise": "ou"}, TypeError, r"exploration_noise='ou' is not an argument of SAVOSAC"),
        ({"policy_delay": 2}, TypeError, r"policy_delay=2 is not an argument of SAVOSAC"),
        ({"ent_coef": "automatic"}, ValueError, r"ent_coef='automatic' is not known"),
        ({"ent_coef": "auto_-1"}, ValueError, r"ent_coef='auto_-1' is not known"),
        ({"ent_coef": -0.1}, ValueError, r"ent_coef=-0.1 is out of range"),
        ({"target_entropy": "low"}, TypeError, r"target_entropy='low' is a str"),
        ({"target_update_interval": 0}, ValueError, r"target_update_interval=0 is too small"),
        ({"surrogate": "exact"}, TypeError, r"^surrogate='exact' is not an argument of SAVOSAC"),
        ({"env": "MiningExpedition-v0"}, TypeError, r"is not continuous: SAVOSAC needs a Box"),
        ({"env": "CartPole-v1"}, TypeError, r"is not continuous: SAVOSAC needs a Box of floats\.$"),
    ],
    ids=str,
)
def test_bad_argument(kwargs, error, message):
    with pytest.raises(error, match=message):
        SAVOSAC(**{"policy": "MlpPolicy", "env": "Pendulum-v1", "buffer_size": 300, **kwargs})
