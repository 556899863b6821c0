"""Saving and loading: the model, the policy alone, the replay buffer; another number of environments; a fresh process."""

import copy
import pickle
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3 import TD3, HerReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import BitFlippingEnv, SimpleMultiObsEnv
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.policies import BasePolicy

from sb3_savo import SAVO, GreedyAC, GreedyTD3
from sb3_savo.common.buffers import (
    CandidateDictReplayBuffer,
    CandidateHerReplayBuffer,
    CandidateNStepReplayBuffer,
    CandidateReplayBuffer,
)
from sb3_savo.savo import SAVOPolicy
from tests.algorithms import ALGORITHMS
from tests.models import SMALL

ENV_ID = "Pendulum-v1"
OPTIONS = [
    {},
    {"n_actors": 1},
    {"n_actors": 5, "surrogate": "exact"},
    {"surrogate": "hybrid"},
    {"surrogate": "approximate"},
    {"surrogate": None, "condition_on_previous": False},
    {"joint_action": True},
    {"summarizer": "lstm", "modulation": "mlp"},
    {"summarizer": "transformer", "init": "add", "qf_learning_rate": 1e-3},
    {"exploration_noise": "gaussian", "selection_epsilon": [0.5, 0.1, 100], "n_steps": 2},
]


def states(model):
    return {name: parameter.clone() for name, parameter in model.policy.state_dict().items()}


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_loaded_model_is_the_saved_one_and_learns_on(tmp_path, options):
    model = SAVO("MlpPolicy", ENV_ID, **SMALL, **options).learn(80)
    model.save(tmp_path / "model")
    loaded = SAVO.load(tmp_path / "model", env=gym.make(ENV_ID))

    for name, value in options.items():
        assert getattr(loaded, name) == value
    assert loaded.num_timesteps == 80
    for name, tensor in states(loaded).items():
        assert th.equal(tensor, model.policy.state_dict()[name])
    for module in ("actor", "critic", *(["surrogates"] if model.surrogates is not None else [])):
        saved, found = (getattr(m, module).optimizer.state_dict() for m in (model, loaded))
        assert saved["param_groups"] == found["param_groups"]
        assert saved["state"].keys() == found["state"].keys() and saved["state"]
        for key in saved["state"]:
            assert all(th.equal(saved["state"][key][k], found["state"][key][k]) for k in saved["state"][key])
    obs = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    np.testing.assert_array_equal(model.predict(obs)[0], loaded.predict(obs)[0])
    assert loaded.actor is loaded.policy.actor and loaded.surrogates is loaded.policy.surrogates

    before = states(loaded)
    loaded.learn(60, reset_num_timesteps=False)
    assert loaded.num_timesteps == 140
    assert any(not th.equal(before[name], tensor) for name, tensor in states(loaded).items())


def test_loading_in_a_fresh_process_without_the_environment(tmp_path):
    model = SAVO("MlpPolicy", "HopperRestricted-v5", **SMALL).learn(60)
    model.save(tmp_path / "hopper")
    obs = np.random.default_rng(0).normal(size=(5, 11))
    np.save(tmp_path / "obs.npy", obs)
    code = (
        "import numpy as np; from sb3_savo import SAVO; model = SAVO.load('hopper', device='cpu'); "
        "np.save('actions.npy', model.predict(np.load('obs.npy'), deterministic=True)[0])"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    np.testing.assert_allclose(np.load(tmp_path / "actions.npy"), model.predict(obs)[0], atol=1e-6)


def test_loading_with_another_number_of_environments(tmp_path):
    SAVO("MlpPolicy", make_vec_env(ENV_ID, n_envs=2), **SMALL).learn(60).save(tmp_path / "model")
    loaded = SAVO.load(tmp_path / "model", env=make_vec_env(ENV_ID, n_envs=3))
    assert loaded.candidate_noise.shape == (3, 3, 1)
    loaded.learn(90)
    assert loaded.replay_buffer.n_envs == 3


@pytest.mark.parametrize("allow_pickle", [False, True])
def test_loading_with_other_learning_rates(tmp_path, allow_pickle):
    SAVO("MlpPolicy", ENV_ID, 1e-3, qf_learning_rate=2e-3, **SMALL).save(tmp_path / "model")
    loaded = SAVO.load(tmp_path / "model", learning_rate=1e-5, qf_learning_rate=1e-6, allow_pickle=allow_pickle)
    assert (loaded.lr_schedule(1), loaded.qf_lr_schedule(1)) == (1e-5, 1e-6)


def test_loading_for_evaluation_with_a_tiny_buffer(tmp_path):
    """What the RL Zoo does with SB3's own off-policy algorithms."""
    SAVO("MlpPolicy", ENV_ID, **SMALL).save(tmp_path / "model")
    loaded = SAVO.load(tmp_path / "model", buffer_size=1, custom_objects={"learning_rate": 0.0, "lr_schedule": lambda _: 0.0})
    assert loaded.replay_buffer.buffer_size == 1
    loaded.predict(loaded.observation_space.sample())


def test_parameters_can_be_moved(tmp_path):
    kwargs = {**SMALL, "surrogate": "approximate"}
    first, second = (SAVO("MlpPolicy", ENV_ID, **{**kwargs, "seed": seed}) for seed in (0, 1))
    assert set(first.get_parameters()) == {"policy", "actor.optimizer", "critic.optimizer", "surrogates.optimizer"}
    second.set_parameters(first.get_parameters())
    for name, tensor in states(second).items():
        assert th.equal(tensor, first.policy.state_dict()[name])
    first.save(tmp_path / "model", exclude=["gamma"], include=["replay_buffer"])
    loaded = SAVO.load(tmp_path / "model")
    assert isinstance(loaded.replay_buffer, CandidateReplayBuffer)
    with pytest.raises(RuntimeError, match="surrogates"):
        SAVO("MlpPolicy", ENV_ID, surrogate=None, **SMALL).set_parameters(first.get_parameters())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_copy_learns_on_and_leaves_the_model_alone(algorithm, copied):
    model = algorithm("MlpPolicy", ENV_ID, **SMALL).learn(60)
    before = states(model)
    copy_of_model = copied(model).learn(20, reset_num_timesteps=False)
    assert copy_of_model.num_timesteps == 80
    after = states(copy_of_model)
    assert not any(th.equal(after[name], before[name]) for name in before if name.startswith("critic.") and "weight" in name)
    assert all(th.equal(value, before[name]) for name, value in states(model).items())


@pytest.mark.parametrize("options", OPTIONS[:6], ids=str)
def test_the_policy_alone(tmp_path, options):
    model = SAVO("MlpPolicy", ENV_ID, **SMALL, **options)
    obs = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    model.policy.save(tmp_path / "policy.pt")
    loaded = SAVOPolicy.load(tmp_path / "policy.pt", device="cpu")
    np.testing.assert_array_equal(loaded.predict(obs)[0], model.predict(obs)[0])

    model.actor.save(tmp_path / "actor.pt")
    actor = type(model.actor).load(tmp_path / "actor.pt", device="cpu")
    assert isinstance(actor, BasePolicy)
    th.testing.assert_close(actor(th.as_tensor(obs)), model.actor(th.as_tensor(obs)))
    # Alone, without a critic that could choose, it acts by the first proposal
    np.testing.assert_allclose(actor.predict(obs)[0], 2 * actor(th.as_tensor(obs))[:, 0].detach().numpy(), atol=1e-6)


BUFFERS = {
    "plain": (lambda: gym.make(ENV_ID), {}, CandidateReplayBuffer),
    "n-step": (lambda: gym.make(ENV_ID), {"n_steps": 3}, CandidateNStepReplayBuffer),
    "dict": (lambda: SimpleMultiObsEnv(discrete_actions=False), {}, CandidateDictReplayBuffer),
    "her": (
        lambda: BitFlippingEnv(n_bits=3, continuous=True),
        {"replay_buffer_class": HerReplayBuffer, "replay_buffer_kwargs": {"n_sampled_goal": 2}},
        CandidateHerReplayBuffer,
    ),
}


@pytest.mark.filterwarnings("ignore:The last trajectory in the replay buffer will be truncated")
@pytest.mark.parametrize("kind", BUFFERS)
@pytest.mark.parametrize("n_envs", [1, 3])
def test_replay_buffers(tmp_path, kind, n_envs):
    """Each of SB3's has a twin that keeps the candidates; it can be saved and loaded."""
    make_env, options, buffer_class = BUFFERS[kind]
    policy = "MlpPolicy" if kind in ("plain", "n-step") else "MultiInputPolicy"
    model = SAVO(policy, make_vec_env(make_env, n_envs=n_envs), **SMALL, **options).learn(90)
    buffer = model.replay_buffer
    assert type(buffer) is buffer_class
    action_dim = model.action_space.shape[0]
    # The taken action, the candidates, the row, and the known action
    assert buffer.actions.shape[2] == 4 * action_dim + 1 + action_dim

    model.save_replay_buffer(tmp_path / "buffer")
    model.load_replay_buffer(tmp_path / "buffer")
    loaded = model.replay_buffer
    assert type(loaded) is buffer_class and loaded is not buffer
    np.testing.assert_array_equal(loaded.actions, buffer.actions)
    batch = loaded.sample(30)
    assert batch.candidates.shape == (30, 3, action_dim) and batch.actions.shape == (30, action_dim)
    assert (batch.discounts is not None) == (kind == "n-step")
    model.learn(60, reset_num_timesteps=False)


@pytest.mark.parametrize("noise", [NormalActionNoise, OrnsteinUhlenbeckActionNoise])
@pytest.mark.parametrize(("n_envs", "other"), [(1, 2), (2, 1), (2, 3), (2, 2)])
def test_action_noise_serves_another_number_of_environments(tmp_path, noise, n_envs, other):
    noise = noise(np.zeros(1), 0.1 * np.ones(1))
    model = SAVO("MlpPolicy", make_vec_env(ENV_ID, n_envs=n_envs), action_noise=noise, **SMALL).learn(40)
    model.save(tmp_path / "model")
    loaded = SAVO.load(tmp_path / "model", env=make_vec_env(ENV_ID, n_envs=other)).learn(40)
    processes = loaded.action_noise.noises if other > 1 else [loaded.action_noise]
    assert [type(process) for process in processes] == [type(noise)] * other


def test_what_is_stored_is_what_was_chosen_from():
    """After the warm-up the taken action is one of the stored candidates: the one with the highest Q1."""
    env = make_vec_env("HopperRestricted-v5", n_envs=2)
    model = SAVO("MlpPolicy", env, surrogate="approximate", **SMALL).learn(40)
    model.gradient_steps = 0
    model.learn(100, reset_num_timesteps=False)
    buffer = model.replay_buffer
    actions, candidates = np.split(buffer.actions[22:70], [3], axis=2)
    candidates = candidates.reshape(48, 2, 3, 3)
    assert (np.abs(candidates) <= 1).all()
    with th.no_grad():
        obs = th.as_tensor(buffer.observations[22:70].reshape(96, 11)).float()
        chosen = model.policy.maximize(obs, th.as_tensor(candidates.reshape(96, 3, 3)))[0].numpy()
    np.testing.assert_array_equal(actions.reshape(96, 3), chosen)
    warm_up = buffer.actions[:20, :, 3:]
    assert np.abs(warm_up).max() > 0.9 and warm_up.std() == pytest.approx(1 / np.sqrt(3), abs=0.05)


def test_a_loaded_buffer_makes_the_returns_of_the_model(tmp_path):
    one, three = (SAVO("MlpPolicy", ENV_ID, gamma=0.9, n_steps=n, **SMALL).learn(90) for n in (1, 3))
    one.save_replay_buffer(tmp_path / "one")
    three.save_replay_buffer(tmp_path / "three")
    with pytest.raises(ValueError, match=r"no returns of n_steps=3: it must be an NStepReplayBuffer.*path="):
        three.load_replay_buffer(tmp_path / "one")

    for n_steps, gamma in ((1, 0.9), (2, 0.9), (3, 0.5)):
        model = SAVO("MlpPolicy", ENV_ID, gamma=gamma, n_steps=n_steps, **SMALL)
        model.load_replay_buffer(tmp_path / "three")
        buffer = model.replay_buffer
        found = buffer._get_samples(np.array([20, 40]))
        discounted = [buffer.rewards[[20 + k, 40 + k], 0] * gamma**k for k in range(n_steps)]
        np.testing.assert_allclose(found.rewards.squeeze(1), sum(discounted), rtol=1e-5)
        np.testing.assert_allclose(found.discounts.squeeze(1), gamma**n_steps, rtol=1e-5)


@pytest.mark.parametrize("surrogate", ["memory", "approximate"])
def test_a_td3_buffer_serves_too(tmp_path, surrogate):
    td3 = TD3("MlpPolicy", ENV_ID, learning_starts=1000, buffer_size=400).learn(120)
    td3.save_replay_buffer(tmp_path / "buffer")
    model = SAVO("MlpPolicy", ENV_ID, surrogate=surrogate, **SMALL).learn(1)
    with pytest.warns(UserWarning, match="keeps neither the candidates"):
        model.load_replay_buffer(tmp_path / "buffer")
    learner = model.surrogates if surrogate == "approximate" else model.actor
    before = [parameter.clone() for parameter in learner.parameters()]
    model.train(5, 16)
    assert any(not th.equal(p, q) for p, q in zip(learner.parameters(), before, strict=True))
    model.learn(50)
    assert model.replay_buffer.size() == 170


def test_no_candidates_are_stored_where_none_are_learned_from():
    for options in ({"n_actors": 1}, {"surrogate": None}, {"surrogate": "exact"}):
        model = SAVO("MlpPolicy", ENV_ID, **SMALL, **options).learn(60)
        assert model.replay_buffer.actions.shape[2] == 1


def test_zips_need_no_environment_nor_noise(tmp_path):
    """What is pickled in a zip is small: neither networks, nor noise, nor buffers."""
    model = SAVO("MlpPolicy", ENV_ID, **SMALL).learn(80)
    data = {name: value for name, value in model.__dict__.items() if name not in model._excluded_save_params()}
    del data["ep_info_buffer"], data["ep_success_buffer"]
    assert len(pickle.dumps({k: v for k, v in data.items() if "schedule" not in k and k != "policy_class"})) < 6_000


def test_another_algorithm_whose_sizes_agree_does_not_load(tmp_path):
    """The pairs whose sizes differ are in test_bad_input.py."""
    GreedyAC("MlpPolicy", ENV_ID, **{**SMALL, "policy_kwargs": {"net_arch": [16, 16], "n_critics": 2}}).save(
        tmp_path / "model"
    )
    with pytest.raises(TypeError, match=r"a model of GreedyAC, which GreedyTD3.load cannot load: it must be GreedyAC.load"):
        GreedyTD3.load(tmp_path / "model")
    assert GreedyAC.load(tmp_path / "model").critic.n_critics == 2


class OwnSAVO(SAVO):
    """An algorithm of a user's own is a model of the one of ours that it derives from."""


@pytest.mark.parametrize("saving, loading", [(OwnSAVO, OwnSAVO), (OwnSAVO, SAVO), (SAVO, OwnSAVO)])
def test_algorithms_of_a_users_own_load(saving, loading, tmp_path):
    saving("MlpPolicy", ENV_ID, **SMALL).save(tmp_path / "model")
    assert type(loading.load(tmp_path / "model")) is loading
    with pytest.raises(TypeError, match=r"a model of SAVO, which GreedyTD3.load cannot load: it must be SAVO.load"):
        GreedyTD3.load(tmp_path / "model")
