"""The baselines against slow references written straight from their definitions, one state at a time."""

import math

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from sb3_contrib.common.envs import InvalidActionEnvDiscrete
from torch.distributions import Normal

from sb3_savo import CEM, Q3C, SAVO, ActionEmbedding, Ensemble, GreedyAC, GreedyTD3, MultiStart, Wolpertinger
from sb3_savo.actions.spaces import EmbeddedDiscrete
from tests.algorithms import ALGORITHMS, BASELINES
from tests.models import BATCH, SMALL, make_model, sample
from tests.reference import q_min

ENV_ID = "HopperRestricted-v5"
ITEMS_ENV_ID = "MiningExpedition-v0"


DEFAULTS = {
    Ensemble: {"n_actors": 3},
    Wolpertinger: {"k": 3, "sample_std": 0.01},
    CEM: {"n_iterations": 3, "n_samples": 30, "n_elites": 3},
    MultiStart: {"n_starts": 32, "n_ascent_steps": 5, "step_size": 0.1},
    GreedyAC: {"n_samples": 30, "n_elites": 3, "entropy_coef": 0.01},
    GreedyTD3: {"n_samples": 30, "n_elites": 3, "entropy_coef": 0.01},
    Q3C: {"n_points": 20, "n_nearest": 10, "smoothing": 0.1, "separation_coef": 0.01},
}
SHARED = (
    *("learning_rate", "batch_size", "buffer_size", "learning_starts", "tau", "gamma", "policy_delay", "max_grad_norm"),
    *("target_policy_noise", "selection_epsilon", "exploration_noise_scale"),
)


@pytest.mark.parametrize("algorithm", BASELINES)
def test_defaults(algorithm):
    """The authors' numbers for each method; what it shares with SAVO is SAVO's (tests/test_run.py)."""
    model, savo = algorithm("MlpPolicy", "Pendulum-v1"), SAVO("MlpPolicy", "Pendulum-v1")
    own = DEFAULTS[algorithm]
    assert {name: getattr(model, name) for name in own} == own
    assert {name: getattr(model.policy, name, value) for name, value in own.items()} == own
    assert [getattr(model, name) for name in SHARED] == [getattr(savo, name) for name in SHARED]
    assert model.policy.net_arch == savo.policy.net_arch and model.policy.n_critics == (1 if algorithm is GreedyAC else 2)
    if algorithm is GreedyAC:
        assert model.candidate_noise is None
    else:
        assert (model.candidate_noise.theta, model.candidate_noise.sigma) == (0.15, 0.2)


def ascended(model, s, action):
    """What an actor ascends who ascends Q, of one state (1, obs_dim) and one action (action_dim,)."""
    critic = model.critic if model.smooth_critic is None else model.smooth_critic
    return critic.q1_forward(s, action[None]).squeeze()


# One actor: three ways to say so


@pytest.mark.parametrize(
    "algorithm, options", [(Ensemble, {"n_actors": 1}), (Wolpertinger, {"k": 1}), (Wolpertinger, {"k": 3, "sample_std": 0.0})]
)
@pytest.mark.parametrize("q_smoothing", [False, True])
def test_one_candidate_is_savo_with_one_actor(algorithm, options, q_smoothing):
    """Same networks, same code: with the same weights, transitions and batches, the same updates."""
    if q_smoothing and options.get("k") == 3:
        pytest.skip("Q-smoothing learns from the random candidates of the warm-up, of which there are three")
    kwargs = {**SMALL, "q_smoothing": q_smoothing, "exploration_noise": None}
    savo, other = SAVO("MlpPolicy", ENV_ID, n_actors=1, **kwargs), algorithm("MlpPolicy", ENV_ID, **options, **kwargs)
    for name in (*savo.policy.learners, *savo.policy.target_names):
        getattr(other, name).load_state_dict(getattr(savo, name).state_dict())
    for model in (savo, other):
        model.gradient_steps = 0
        model.set_random_seed(1)
        model.learn(100)
    np.testing.assert_allclose(savo.replay_buffer.actions[:100, :, :3], other.replay_buffer.actions[:100, :, :3], atol=1e-6)
    for model in (savo, other):
        model.set_random_seed(2)
        model.train(50, BATCH)
    for name in ("actor", "critic", "critic_target"):
        for own, theirs in zip(getattr(savo, name).parameters(), getattr(other, name).parameters(), strict=True):
            th.testing.assert_close(own, theirs, rtol=0, atol=1e-5)


# Ensemble


def test_every_actor_of_an_ensemble_ascends_q_by_itself():
    model = make_model(Ensemble, ENV_ID, n_actors=4)
    batch = sample(model)
    obs = batch.observations
    objective = 0.0
    for k in range(BATCH):
        s = obs[k : k + 1]
        for i in range(4):
            action = model.actor.mu(s.expand(4, -1, -1))[i].tanh()
            objective += model.critic.q1_forward(s, action).item()
    assert model.actor_loss(batch)[0].item() == pytest.approx(-objective / BATCH, rel=1e-4)
    proposals = model.actor(obs)
    assert proposals.shape == (BATCH, 4, 3)
    for i in range(4):
        for weight in model.actor.mu.parameters():
            grad = th.autograd.grad(proposals[:, i].sum(), weight, retain_graph=True)[0]
            own = th.arange(4) == i
            assert grad[own].abs().sum() > 0 and grad[~own].abs().sum() == 0


# Wolpertinger


@pytest.mark.parametrize("sample_std", [0.01, 0.3])
def test_wolpertinger_samples_around_its_proposal(sample_std):
    model = make_model(Wolpertinger, ENV_ID, k=200, sample_std=sample_std)
    batch = sample(model)
    model.actor.mu.output.weight.data *= 0
    with th.no_grad():
        candidates = model.policy.propose(batch.observations)
    proposal = model.actor(batch.observations)[:, :1]
    th.testing.assert_close(candidates[:, :1], proposal)
    offsets = (candidates - proposal)[:, 1:]
    inside = candidates[:, 1:].abs() < 1
    assert inside.float().mean() > 0.8
    assert offsets[:, :, proposal[0, 0].abs() < 0.3].std().item() == pytest.approx(sample_std, rel=0.1)
    assert not th.equal(candidates, model.policy.propose(batch.observations))
    certain = model.policy.propose(batch.observations, deterministic=True)
    expected = (proposal[3, 0] + sample_std * model.policy.offsets[0]).clamp(-1, 1)
    th.testing.assert_close(certain[3, 1:], expected)


def test_the_noise_moves_wolpertingers_proposal_not_each_candidate():
    model = make_model(Wolpertinger, ENV_ID, k=5, sample_std=0.0)
    batch = sample(model)
    model.actor.mu.output.weight.data *= 0.01
    noise = 0.1 * th.randn(BATCH, 5, 3)
    candidates = model.policy.propose(batch.observations, noise=noise)
    moved = (model.actor(batch.observations) + noise[:, :1]).clamp(-1, 1)
    th.testing.assert_close(candidates, moved.expand(-1, 5, -1))


def items_by_distance(model, point, allowed=None):
    embeddings = model.policy.items.embeddings
    distances = (embeddings - point).norm(dim=1)
    if allowed is not None:
        distances[~allowed] = math.inf
    return distances.argsort()


def test_wolpertinger_takes_the_best_of_the_nearest_items():
    model = make_model(Wolpertinger, ITEMS_ENV_ID, k=4)
    batch = sample(model)
    obs = batch.observations
    with th.no_grad():
        items = model.policy.snap(model.policy.propose(obs))[1]
        for k in range(BATCH):
            nearest = items_by_distance(model, model.actor(obs[k : k + 1])[0, 0])[:4]
            assert items[k].tolist() == nearest.tolist()
            values = model.critic.q1(obs[k : k + 1], model.policy.items.embed(nearest)[None])[0]
            best = nearest[values.argmax()]
            assert model.predict(obs[k].numpy())[0] == best


def with_masks():
    """SB3-contrib's environment in which half of the 20 actions are not allowed."""
    embeddings = np.random.default_rng(0).normal(size=(20, 3))
    return ActionEmbedding(InvalidActionEnvDiscrete(dim=20, n_invalid_actions=10), embeddings)


@pytest.mark.parametrize("propose, actor", [("propose", "actor"), ("propose_targets", "actor_target")])
def test_wolpertinger_keeps_to_allowed_items(propose, actor):
    env = with_masks()
    model = make_model(Wolpertinger, env, k=3)
    batch = sample(model)
    masks = th.rand(BATCH, 20) < 0.5
    masks[:3] = False
    masks[:, 0] = True
    items = model.policy.snap(getattr(model.policy, propose)(batch.observations, masks=masks), masks)[1]
    for k in range(BATCH):
        proposal = getattr(model, actor)(batch.observations[k : k + 1])[0, 0]
        expected = items_by_distance(model, proposal, masks[k])[:3].tolist()
        n_allowed = int(masks[k].sum())
        assert items[k].tolist() == [expected[j if j < n_allowed else 0] for j in range(3)]


def test_wolpertinger_fits_the_smooth_q_at_its_proposal_only():
    """And at the taken item. The other candidates are items, which no actor proposes."""
    model = make_model(Wolpertinger, ITEMS_ENV_ID, k=4)
    batch = sample(model)
    terms = []
    for k in range(BATCH):
        s, taken, proposal = batch.observations[k : k + 1], batch.actions[k : k + 1], batch.candidates[k : k + 1, 0]
        item = model.policy.items.embed(items_by_distance(model, proposal)[:1])
        for at, action in ((taken, taken), (proposal, item)):
            terms.append((model.smooth_critic.q1_forward(s, at) - q_min(model, s, action).detach()) ** 2)
    th.testing.assert_close(model.smoothing_loss(batch)[0], th.stack(terms).mean(), rtol=1e-4, atol=1e-5)


# CEM


@pytest.mark.parametrize("env_id", [ENV_ID, ITEMS_ENV_ID])
@pytest.mark.parametrize("sizes", [(3, 30, 3), (1, 5, 1), (4, 12, 5)])
def test_cem(env_id, sizes):
    n_iterations, n_samples, n_elites = sizes
    model = make_model(CEM, env_id, n_iterations=n_iterations, n_samples=n_samples, n_elites=n_elites)
    batch = sample(model)
    weights = [math.log((n_elites + 1) / rank) for rank in range(1, n_elites + 1)]
    weights = [weight / sum(weights) for weight in weights]
    assert weights == sorted(weights, reverse=True)
    found = model.policy.find_action(batch.observations, deterministic=True)
    for k in range(BATCH):
        s = batch.observations[k : k + 1]
        mean, variance = th.zeros(model.action_dim), th.ones(model.action_dim)
        for i in range(n_iterations):
            samples = [mean + variance.sqrt() * model.policy.draws[i, 0, j] for j in range(n_samples)]
            elites = sorted(samples, key=lambda x: -ascended(model, s, x.tanh()).item())[:n_elites]
            mean = sum(w * x for w, x in zip(weights, elites, strict=True))
            variance = sum(w * (x - mean) ** 2 for w, x in zip(weights, elites, strict=True))
        th.testing.assert_close(found[k], elites[0].tanh(), rtol=1e-3, atol=1e-4)
    assert not th.equal(model.policy.find_action(batch.observations), model.policy.find_action(batch.observations))


# MultiStart


@pytest.mark.parametrize("env_id", [ENV_ID, ITEMS_ENV_ID])
@pytest.mark.parametrize("n_ascent_steps", [0, 4])
def test_multistart(env_id, n_ascent_steps):
    model = make_model(MultiStart, env_id, n_starts=6, n_ascent_steps=n_ascent_steps, step_size=0.2)
    batch = sample(model)
    for parameter in model.critic.parameters():
        parameter.grad = None
    found = model.policy.find_action(batch.observations, deterministic=True)
    for k in range(BATCH):
        s = batch.observations[k : k + 1]
        ends = []
        for action in model.policy.starts[0].clone():
            for i in range(n_ascent_steps):
                action = action.detach().requires_grad_(True)
                gradient = th.autograd.grad(ascended(model, s, action), action)[0]
                action = (action + 0.2 * (1 - i / n_ascent_steps) * gradient / gradient.norm()).clamp(-1, 1)
            ends.append(action.detach())
        best = max(ends, key=lambda a: ascended(model, s, a).item())
        th.testing.assert_close(found[k], best, rtol=1e-3, atol=1e-3)
    assert all(parameter.grad is None for parameter in model.critic.parameters())
    assert model.policy.find_action(batch.observations).requires_grad is False


@pytest.mark.parametrize("algorithm", [CEM, MultiStart, Q3C])
def test_a_search_has_no_actor(algorithm):
    model = make_model(algorithm, ENV_ID)
    assert set(model.policy.learners) == {"critic"}
    assert not hasattr(model, "actor_target")


# Greedy-AC and Greedy TD3


def density(out, x, dim):
    mean, log_std = out[:dim], out[dim:].clamp(-20, 2)
    return (Normal(mean, log_std.exp()).log_prob(x) - th.log(1 - th.tanh(x) ** 2 + 1e-6)).sum()


@pytest.mark.parametrize("algorithm", [GreedyAC, GreedyTD3])
@pytest.mark.parametrize("env_id", [ENV_ID, ITEMS_ENV_ID])
def test_greedy_losses(algorithm, env_id):
    model = make_model(algorithm, env_id, n_samples=12, n_elites=4, entropy_coef=0.3)
    batch = sample(model)
    obs, dim = batch.observations, model.action_dim
    for network in (model.actor, model.proposal):
        network.mu.output.weight.data *= 0.1  # far from where the density of tanh is steep
    th.manual_seed(0)
    draws = th.randn(BATCH, 12, dim)
    likelihood, likelihood_of_proposal, entropy = 0.0, 0.0, 0.0
    for k in range(BATCH):
        s = obs[k : k + 1]
        out, proposed = model.actor.outputs(s)[0, 0], model.proposal.outputs(s)[0, 0]
        samples = [proposed[:dim] + proposed[dim:].clamp(-20, 2).exp() * draws[k, j] for j in range(12)]
        elites = sorted(samples, key=lambda x: -ascended(model, s, x.tanh()).item())[:4]
        likelihood += sum(density(out, x.detach(), dim) for x in elites) / 4
        likelihood_of_proposal += sum(density(proposed, x.detach(), dim) for x in elites) / 4
        entropy -= sum(density(proposed, x, dim) for x in samples) / 12
    actor_loss, proposal_loss = -likelihood / BATCH, -(likelihood_of_proposal + 0.3 * entropy) / BATCH
    expected = {
        name: th.autograd.grad(loss, list(getattr(model, name).parameters()))
        for name, loss in (("actor", actor_loss), ("proposal", proposal_loss))
    }
    model.updater.max_grad_norm = None
    model.updater.pop_metrics()
    th.manual_seed(0)
    model.update_actors(batch)
    for name, gradients in expected.items():
        own = getattr(model, name).parameter_vector
        for found, gradient in zip(own.views(own.vector.grad), gradients, strict=True):
            th.testing.assert_close(found, gradient, rtol=1e-2, atol=1e-3)
    metrics = model.updater.pop_metrics()
    assert metrics["actor_loss"] == pytest.approx(actor_loss.item(), rel=1e-3)
    assert metrics["proposal_loss"] == pytest.approx(proposal_loss.item(), rel=1e-3)


def test_greedy_ac_samples_where_greedy_td3_takes_the_mean():
    for algorithm, samples in ((GreedyAC, True), (GreedyTD3, False)):
        model = make_model(algorithm, ENV_ID)
        batch = sample(model)
        obs, policy = batch.observations, model.policy
        mean = model.actor(obs)
        th.testing.assert_close(policy.propose(obs, deterministic=True), mean)
        assert th.equal(policy.propose(obs), policy.propose(obs)) is not samples
        assert th.equal(policy.propose_targets(obs), policy.propose_targets(obs)) is not samples
        assert (model.candidate_noise is None) is samples
        assert model.critic.n_critics == (1 if samples else 2)
    assert make_model(GreedyAC, ENV_ID, policy_kwargs={"net_arch": [8], "n_critics": 3}).critic.n_critics == 3


@pytest.mark.parametrize("algorithm, n_critics", [(GreedyAC, 1), (GreedyTD3, 2)])
def test_greedy_target(algorithm, n_critics):
    """By the target actor, a sample of it or its mean; Greedy TD3's is the minimum of two critics."""
    model = make_model(algorithm, ENV_ID)
    batch = sample(model)
    th.manual_seed(0)
    found = model.target_q_values(batch)[0]
    th.manual_seed(0)
    draws = th.randn(BATCH, 1, 3) if algorithm is GreedyAC else th.zeros(BATCH, 1, 3)
    for k in range(BATCH):
        next_s = batch.next_observations[k : k + 1]
        with th.no_grad():
            mean, log_std = model.actor_target.outputs(next_s)[0].split(3, dim=1)
            action = (mean + log_std.clamp(-20, 2).exp() * draws[k]).tanh()
            q_values = model.critic_target(next_s, action)
            expected = batch.rewards[k] + (1 - batch.dones[k]) * model.gamma * min(q_values)
        assert len(q_values) == n_critics
        th.testing.assert_close(found[k], expected[0], rtol=1e-4, atol=1e-4)


# What all have in common


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("env_id", ["Pendulum-v1", ITEMS_ENV_ID])
def test_a_loaded_model_is_the_saved_one_and_learns_on(tmp_path, algorithm, env_id):
    if env_id == ITEMS_ENV_ID and "SAC" in algorithm.__name__:
        pytest.skip("SAVOSAC is for continuous actions")
    model = algorithm("MlpPolicy", env_id, **SMALL).learn(80)
    model.save(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model", env=gym.make(env_id))
    for name, tensor in loaded.policy.state_dict().items():
        assert th.equal(tensor, model.policy.state_dict()[name])
    for name, learner in loaded.policy.learners.items():
        assert getattr(loaded, name) is learner
        steps = [state["step"] for state in learner.optimizer.state_dict()["state"].values()]
        assert steps and all(step > 0 for step in steps)
    obs = np.array([model.observation_space.sample() for _ in range(20)])
    once = model.predict(obs, deterministic=True)[0]
    np.testing.assert_array_equal(once, model.predict(obs, deterministic=True)[0])
    np.testing.assert_array_equal(once, loaded.predict(obs, deterministic=True)[0])
    np.testing.assert_allclose(once, [model.predict(o, deterministic=True)[0] for o in obs], atol=1e-4)
    before = {name: tensor.clone() for name, tensor in loaded.policy.state_dict().items()}
    loaded.learn(60, reset_num_timesteps=False)
    changed = {name.split(".")[0] for name, tensor in loaded.policy.state_dict().items() if not th.equal(tensor, before[name])}
    networks = {*loaded.policy.learners, *loaded.policy.target_names}
    assert changed - {"ent_coef"} == networks

    model.policy.save(tmp_path / "policy.pt")
    policy = type(model.policy).load(tmp_path / "policy.pt", device="cpu")
    np.testing.assert_array_equal(policy.predict(obs, deterministic=True)[0], once)


@pytest.mark.parametrize("algorithm", BASELINES)
@pytest.mark.parametrize(
    "options",
    [
        {"n_steps": 3},
        {"target_policy_noise": 0.2, "q_smoothing": True},
        {"selection_epsilon": 0.5, "exploration_noise": "gaussian"},
        {"optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}},
        {"train_freq": (1, "episode"), "gradient_steps": 5, "max_grad_norm": None, "policy_delay": 1},
    ],
    ids=str,
)
def test_shared_options(algorithm, options):
    taken = {name: value for name, value in options.items() if name not in algorithm.excluded_arguments}
    model = algorithm("MlpPolicy", "Pendulum-v1", **{**SMALL, **taken})
    before = [parameter.clone() for parameter in model.policy.parameters()]
    model.learn(400 if "train_freq" in options else 80)
    changed = [not th.equal(p, q) for p, q in zip(model.policy.parameters(), before, strict=True)]
    assert all(changed)
    assert all(th.isfinite(parameter).all() for parameter in model.policy.parameters())


@pytest.mark.parametrize("algorithm", BASELINES)
def test_masks(algorithm):
    """Allowed items only are taken, also by the search methods, which know nothing of masks."""
    env = with_masks()
    model = algorithm("MlpPolicy", env, **SMALL).learn(150)
    assert isinstance(model.action_space, EmbeddedDiscrete)
    masks = np.zeros((4, 20), dtype=bool)
    masks[:, [3, 7]] = True
    obs = np.array([model.observation_space.sample() for _ in range(4)])
    assert set(model.predict(obs, action_masks=masks)[0]) <= {3, 7}


@pytest.mark.parametrize(
    "algorithm, kwargs, error, message",
    [
        (Ensemble, {"n_actors": 0}, ValueError, "n_actors=0 is too small"),
        (Ensemble, {"surrogate": "exact"}, TypeError, r"^surrogate='exact' is not an argument of Ensemble"),
        (Wolpertinger, {"k": 0}, ValueError, "k=0 is too small"),
        (Wolpertinger, {"sample_std": -1}, ValueError, "sample_std=-1 is out of range"),
        (Wolpertinger, {"k": 60, "env": ITEMS_ENV_ID}, ValueError, "k=60 is too large: the action space has only 54 items"),
        (CEM, {"n_iterations": 0}, ValueError, "n_iterations=0 is too small"),
        (CEM, {"n_samples": 2}, ValueError, "n_samples=2 is too small: it must be an integer of at least 3"),
        (MultiStart, {"n_starts": 0}, ValueError, "n_starts=0 is too small"),
        (MultiStart, {"step_size": 0}, ValueError, "step_size=0 is out of range"),
        (GreedyAC, {"n_elites": 31}, ValueError, "n_samples=30 is too small: it must be an integer of at least 31"),
        (GreedyTD3, {"entropy_coef": -0.1}, ValueError, "entropy_coef=-0.1 is out of range"),
        (CEM, {"policy_kwargs": {"n_samples": 5}}, ValueError, r"policy_kwargs holds 'n_samples'.*CEM\(n_samples=…\)"),
        (Ensemble, {"policy": SAVO.policy_aliases["MlpPolicy"]}, TypeError, "policy=SAVOPolicy is not a Ensemble policy"),
    ],
    ids=str,
)
def test_bad_argument(algorithm, kwargs, error, message):
    with pytest.raises(error, match=message):
        algorithm(**{"policy": "MlpPolicy", "env": "Pendulum-v1", "buffer_size": 300, **kwargs})
