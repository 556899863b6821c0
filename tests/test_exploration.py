"""Noise on the candidates, schedules, and the choice among candidates while collecting."""

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import NormalActionNoise

from sb3_savo import SAVO
from sb3_savo.common.exploration import make_candidate_noise, value_at
from tests.algorithms import ALGORITHMS
from tests.models import SMALL

QUICK = {**SMALL, "learning_starts": 0, "buffer_size": 2_000}


def test_schedules():
    line = (1.0, 0.01, 500_000)
    assert [value_at(line, step) for step in (0, 250_000, 500_000, 3_000_000)] == pytest.approx([1.0, 0.505, 0.01, 0.01])
    assert value_at([0.0, 1.0, 10], 5) == 0.5
    assert value_at(0.3, 10**9) == 0.3


def test_ornstein_uhlenbeck():
    """Its variance and its correlation in time are those of the process; each env and candidate has its own."""
    np.random.seed(0)
    noise = make_candidate_noise("ou", None, (2, 3, 4))
    path = np.array([noise() for _ in range(20_000)])
    assert path.shape == (20_000, 2, 3, 4)
    assert path[1000:].std() == pytest.approx(0.2 / np.sqrt(1 - 0.85**2), rel=0.03)
    flat = path[1000:].reshape(-1, 24)
    for lag in (1, 5):
        correlation = np.mean([np.corrcoef(column[:-lag], column[lag:])[0, 1] for column in flat.T])
        assert correlation == pytest.approx(0.85**lag, abs=0.03)
    assert np.abs(np.corrcoef(flat.T) - np.eye(24)).max() < 0.15

    noise.reset(np.array([False, True]))
    assert (noise.state[1] == 0).all() and (noise.state[0] != 0).all()


def test_gaussian():
    np.random.seed(0)
    noise = make_candidate_noise("gaussian", None, (2, 3, 4))
    path = np.array([noise() for _ in range(3_000)])
    assert path.std() == pytest.approx(0.1, rel=0.02)
    assert np.abs(np.corrcoef(path.reshape(-1, 24).T) - np.eye(24)).max() < 0.1


def collect(n_steps=60, n_envs=2, **options):
    """Candidates that were stored, and the proposals without noise at the same states; (steps, n_envs, n_actors, dim)."""
    options = {
        "surrogate": "approximate",
        "gradient_steps": 0,
        **QUICK,
        **options,
    }  # its buffer holds candidates alone
    model = SAVO("MlpPolicy", make_vec_env("HopperRestricted-v5", n_envs=n_envs), **options)
    for parameter in model.policy.parameters():
        parameter.data += 0.1 * th.randn_like(parameter)
    model.learn(n_steps * n_envs)
    buffer = model.replay_buffer
    stored = buffer.actions[:n_steps, :, 3:].reshape(n_steps, n_envs, -1, 3)
    with th.no_grad():
        obs = th.as_tensor(buffer.observations[:n_steps].reshape(n_steps * n_envs, -1))
        proposals = model.policy.propose(obs).numpy().reshape(stored.shape)
    return model, stored, proposals


def test_every_candidate_is_perturbed_and_clipped():
    _, stored, proposals = collect(exploration_noise="gaussian", exploration_noise_std=0.3, exploration_noise_scale=1.0)
    noise = stored - proposals
    inside = np.abs(stored) < 1
    assert (np.abs(stored) <= 1).all() and inside.any()
    assert (noise[inside] != 0).all()
    assert noise[np.abs(proposals) < 0.1].std() == pytest.approx(0.3, rel=0.15)
    _, stored, proposals = collect(exploration_noise=None)
    np.testing.assert_allclose(stored, proposals, atol=1e-6)


@pytest.mark.parametrize("kind", ["ou", "gaussian"])
def test_all_candidates_of_an_environment_may_share_the_noise(kind):
    options = {"exploration_noise": kind, "exploration_noise_std": 0.05, "exploration_noise_scale": 1.0}
    _, stored, proposals = collect(noise_per_candidate=False, **options)
    noise = np.where(np.abs(stored) < 1, stored - proposals, np.nan)
    assert noise.shape[2] > 1 and np.isfinite(noise).all(axis=2).any()
    shared = noise[:, :, :1]
    assert (np.isnan(noise - shared) | (np.abs(noise - shared) < 1e-6)).all()
    assert not np.allclose(shared[:, 0], shared[:, 1], equal_nan=True), "environments have noise of their own"


@pytest.mark.parametrize("env", ["Pendulum-v1", "MiningExpedition-v0"])
@pytest.mark.parametrize("algorithm", [algorithm for algorithm in ALGORITHMS if algorithm.explores_by_noise])
def test_every_algorithm_explores_with_shared_noise(algorithm, env):
    model = algorithm("MlpPolicy", env, noise_per_candidate=False, **SMALL).learn(60)
    assert model.candidate_noise.shape == (1, 1, model.action_dim)


def test_the_noise_scale_follows_the_schedule():
    options = {"exploration_noise": "gaussian", "exploration_noise_std": 0.02, "exploration_noise_scale": (1.0, 0.0, 200)}
    _, stored, proposals = collect(n_steps=150, **options)
    noise = stored - proposals
    assert np.abs(noise[:20]).mean() > 3 * np.abs(noise[80:100]).mean() > 0
    np.testing.assert_allclose(noise[101:], 0, atol=1e-6)


def test_the_noise_restarts_with_the_episode_of_its_environment():
    model, _, _ = collect(n_steps=1)
    model.candidate_noise.state[:] = 1.0
    dones = np.array([True, False])
    obs = model._last_obs
    wide = np.zeros((2, 12), dtype=np.float32)
    model._store_transition(model.replay_buffer, wide, obs, np.zeros(2), dones, [{"terminal_observation": obs[0]}, {}])
    assert (model.candidate_noise.state[0] == 0).all() and (model.candidate_noise.state[1] == 1).all()


def test_the_noise_restarts_where_learn_restarts_the_environments():
    model, _, _ = collect(n_steps=1)
    for restarts, prepare in (
        (True, lambda: None),
        (False, lambda: None),
        (True, lambda: model.set_env(model.env, force_reset=True)),
    ):
        model.candidate_noise.state[:] = 1.0
        prepare()
        model._setup_learn(1, None, reset_num_timesteps=restarts and model._last_obs is not None)
        assert (model.candidate_noise.state == (0.0 if restarts else 1.0)).all()


def agreement(epsilon):
    """Whether the candidate with the highest Q was taken, with a ``selection_epsilon``; (200 steps, 2 environments)."""
    model, stored, _ = collect(n_steps=200, selection_epsilon=epsilon)
    taken = model.replay_buffer.actions[:200, :, :3]
    is_taken = (stored == taken[:, :, None]).all(axis=3)
    assert is_taken.any(axis=2).all()
    obs = th.as_tensor(model.replay_buffer.observations[:200].reshape(400, -1))
    with th.no_grad():
        best = model.policy.maximize(obs, th.as_tensor(stored.reshape(400, 3, 3)))[1].numpy().reshape(200, 2)
    return np.take_along_axis(is_taken, best[..., None], axis=2)[..., 0]


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 1.0])
def test_selection_epsilon_bypasses_the_arg_max(epsilon):
    """A random one of the three candidates is the best one in a third of the choices."""
    assert agreement(epsilon).mean() == pytest.approx(1 - epsilon * 2 / 3, abs=0.08 if epsilon > 0 else 0)


def test_selection_epsilon_follows_its_schedule():
    """Random choices only at first, fewer and fewer, and none from the line's end on, which is after 120 of 200 steps."""
    agrees = agreement((1.0, 0.0, 240))
    assert agrees[:20].mean() < 0.6 and agrees[120:].all()
    assert agrees[:60].mean() < agrees[60:120].mean() < 1


def test_action_noise_is_added_to_the_chosen_action():
    noise = NormalActionNoise(np.zeros(3), 0.2 * np.ones(3))
    model, stored, _ = collect(action_noise=noise)
    taken = model.replay_buffer.actions[:60, :, :3]
    assert not (stored == taken[:, :, None]).all(axis=3).any()
    assert (np.abs(taken) <= 1).all()


def test_evaluation_is_without_noise():
    model, _, _ = collect()
    obs = np.random.default_rng(0).normal(size=(10, 11))
    np.testing.assert_array_equal(model.predict(obs, deterministic=True)[0], model.predict(obs, deterministic=False)[0])
