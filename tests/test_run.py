"""Our algorithms train: every option, every kind of observation, one and several environments, as an SB3 user would ask."""

import gc
import weakref

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.callbacks import CheckpointCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import BitFlippingEnv, FakeImageEnv, IdentityEnvBox, SimpleMultiObsEnv
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize

from sb3_savo import SAVO
from sb3_savo.baselines.search import SearchAlgorithm
from tests.algorithms import ALGORITHMS
from tests.models import QUICK, SMALL

ENV_ID = "Pendulum-v1"


def changed(model, before):
    """Names of the networks that have learned."""
    parameters = zip(model.policy.named_parameters(), before, strict=True)
    return {name.split(".")[0] for (name, parameter), old in parameters if not th.equal(parameter, old)}


def networks(model):
    return {name.split(".")[0] for name, _ in model.policy.named_parameters()}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"n_actors": 1},
        {"n_actors": 2},
        {"n_actors": 6},
        {"surrogate": "exact"},
        {"surrogate": "hybrid"},
        {"surrogate": "approximate"},
        {"surrogate": None},
        {"summarizer": "lstm"},
        {"summarizer": "transformer"},
        {"summarizer": "lstm", "modulation": "mlp"},
        {"modulation": "mlp"},
        {"condition_on_previous": False},
        {"joint_action": True},
        {"joint_action": True, "surrogate": "exact"},
        {"init": "xavier"},
        {"init": "random"},
        {"init": "add"},
        {"exploration_noise": "gaussian"},
        {"exploration_noise": None, "selection_epsilon": 0.5},
        {"selection_epsilon": (1.0, 0.0, 50), "exploration_noise_scale": 0.3, "exploration_noise_std": 0.05},
        {"action_noise": NormalActionNoise(np.zeros(1), 0.1 * np.ones(1))},
        {"target_policy_noise": 0.2},
        {"policy_delay": 1, "max_grad_norm": None, "qf_learning_rate": 1e-3},
        {"learning_rate": lambda progress: 1e-3 * progress},
        {"policy_kwargs": {"net_arch": {"pi": [8], "qf": [12, 12]}, "n_critics": 3, "activation_fn": th.nn.Tanh}},
        {"policy_kwargs": {"net_arch": [16], "pool": "max", "summary_dim": 4, "layer_norm": False}},
        {"policy_kwargs": {"net_arch": [16], "optimizer_class": th.optim.SGD, "optimizer_kwargs": {"momentum": 0.9}}},
        {"n_steps": 3},
        {"train_freq": (1, "episode"), "gradient_steps": -1},
        {"train_freq": 5, "gradient_steps": 0},
        {"optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}},
    ],
    ids=", ".join,
)
def test_options(options):
    model = SAVO("MlpPolicy", ENV_ID, **{**SMALL, **options})
    before = [parameter.clone() for parameter in model.policy.parameters()]
    model.learn(80 if options.get("train_freq") != (1, "episode") else 400)
    assert all(th.isfinite(parameter).all() for parameter in model.policy.parameters())
    assert changed(model, before) == (networks(model) if options.get("gradient_steps") != 0 else set())
    action, _ = model.predict(model.observation_space.sample())
    assert model.action_space.contains(action)


def test_a_float_budget():
    model = SAVO("MlpPolicy", ENV_ID, **QUICK).learn(6e1)
    assert model.num_timesteps == 60
    assert isinstance(model._total_timesteps, int)


def test_defaults():
    """The paper's, but for the start of learning, which is SB3's: a short run is to learn, too."""
    model = SAVO("MlpPolicy", ENV_ID)
    assert (model.n_actors, model.batch_size, model.buffer_size, model.learning_starts) == (3, 256, 500_000, 100)
    assert (model.learning_rate, model.tau, model.gamma, model.policy_delay) == (3e-4, 0.005, 0.99, 2)
    assert (model.target_policy_noise, model.max_grad_norm, model.selection_epsilon) == (0.0, 1.0, 0.0)
    assert model.policy.net_arch == [256, 256]
    assert (model.candidate_noise.theta, model.candidate_noise.sigma) == (0.15, 0.2)
    assert model.exploration_noise_scale == (1.0, 0.01, 500_000)


@pytest.mark.parametrize("vec_env_cls", [DummyVecEnv, SubprocVecEnv])
def test_several_environments(vec_env_cls):
    env = make_vec_env("HopperRestricted-v5", n_envs=3, vec_env_cls=vec_env_cls)
    model = SAVO("MlpPolicy", env, train_freq=2, gradient_steps=-1, **SMALL)
    model.learn(120)
    assert model._n_updates == 14 * 6  # after 42, 48, … 120 steps
    assert model.replay_buffer.sample(7).candidates.shape == (7, 3, 3)
    env.close()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("share_features_extractor", [False, True])
def test_images(algorithm, share_features_extractor, tmp_path):
    env = FakeImageEnv(screen_height=40, screen_width=40, n_channels=1, discrete=False)
    policy_kwargs = {
        "features_extractor_kwargs": {"features_dim": 16},
        **SMALL["policy_kwargs"],
    }
    if not issubclass(algorithm, SearchAlgorithm):
        policy_kwargs["share_features_extractor"] = share_features_extractor
    model = algorithm("CnnPolicy", env, policy_kwargs=policy_kwargs, **{**QUICK, "buffer_size": 60})
    before = [parameter.clone() for parameter in model.policy.parameters()]
    model.learn(60)
    assert changed(model, before) == networks(model)
    model.save(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded._last_obs, model._last_obs)
    if algorithm is not SAVO:
        return
    assert (model.critic.features_extractor is model.actor.features_extractor) == share_features_extractor
    model.predict(env.observation_space.sample())


@pytest.mark.parametrize("share_features_extractor", [False, True])
def test_surrogates_share_the_extractor_if_critics_do(share_features_extractor):
    policy_kwargs = {**SMALL["policy_kwargs"], "share_features_extractor": share_features_extractor}
    model = SAVO("MlpPolicy", ENV_ID, surrogate="approximate", policy_kwargs=policy_kwargs)
    assert (model.surrogates.features_extractor is model.actor.features_extractor) == share_features_extractor


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("n_envs", [1, 2])
def test_dict_observations(algorithm, n_envs):
    env = make_vec_env(lambda: SimpleMultiObsEnv(discrete_actions=False), n_envs=n_envs)
    model = algorithm("MultiInputPolicy", env, **SMALL).learn(60)
    if algorithm is SAVO:
        assert model.replay_buffer.sample(5).candidates.shape == (5, 3, 4)
    model.predict(env.observation_space.sample())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("n_envs", [1, 3])
def test_her(algorithm, n_envs):
    env = make_vec_env(lambda: BitFlippingEnv(n_bits=4, continuous=True), n_envs=n_envs)
    model = algorithm(
        "MultiInputPolicy",
        env,
        replay_buffer_class=HerReplayBuffer,
        replay_buffer_kwargs={"n_sampled_goal": 2, "goal_selection_strategy": "future"},
        **SMALL,
    ).learn(90)
    assert isinstance(model.replay_buffer, HerReplayBuffer)
    if algorithm is SAVO:
        assert model.replay_buffer.sample(5).candidates.shape == (5, 3, 4)
    assert model._n_updates > 0


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_vec_normalize(algorithm):
    env = VecNormalize(make_vec_env(ENV_ID, n_envs=2))
    model = algorithm("MlpPolicy", env, **SMALL).learn(80)
    assert np.abs(model.replay_buffer.observations[:40, :, 2]).max() > 1.5  # as observed, not as normalized
    assert model._n_updates > 0


def test_a_normalized_environment_keeps_no_model():
    env = VecNormalize(make_vec_env(ENV_ID, n_envs=2))
    model = SAVO("MlpPolicy", env, **SMALL).learn(80)
    replay_buffer = weakref.ref(model.replay_buffer)
    del model
    gc.collect()
    assert replay_buffer() is None


class MatrixActions(gym.Env):
    """Actions of two dimensions, with asymmetric float64 bounds, of which those around a target are rewarded."""

    observation_space = spaces.Box(-1, 1, (2,), np.float64)
    action_space = spaces.Box(np.array([[-3.0, 0.0], [1.0, -0.1]]), np.array([[1.0, 8.0], [2.0, 0.0]]), dtype=np.float64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.uniform(-1, 1, 2), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        return self.np_random.uniform(-1, 1, 2), -float(np.square(action).sum()), False, self.np_random.random() < 0.2, {}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("n_envs", [1, 3])
def test_action_spaces_of_any_shape_and_bounds(algorithm, n_envs):
    model = algorithm("MlpPolicy", make_vec_env(MatrixActions, n_envs=n_envs), **SMALL).learn(90)
    batch = model.replay_buffer.sample(20)
    assert batch.actions.shape == (20, 4)
    if algorithm is SAVO:
        assert batch.candidates.shape == (20, 3, 4)
    action, _ = model.predict(np.zeros(2))
    assert action.shape == (2, 2)


@pytest.mark.filterwarnings("ignore:Training and eval env are not of the same type")
@pytest.mark.parametrize("channel_last", [False, True])
def test_an_evaluation_with_images_in_a_dict(channel_last, tmp_path):
    """Of images the channels may come first or last, as for the environment that learns."""

    def make_env():
        return Monitor(SimpleMultiObsEnv(discrete_actions=False, channel_last=channel_last))

    evaluate = EvalCallback(make_env(), eval_freq=5, n_eval_episodes=1, verbose=0)
    policy_kwargs = {"net_arch": [8], "features_extractor_kwargs": {"cnn_output_dim": 8}}
    model = SAVO("MultiInputPolicy", make_env(), **{**SMALL, "buffer_size": 100, "policy_kwargs": policy_kwargs})
    model.learn(10, callback=evaluate)
    assert evaluate.n_calls == 10 and np.isfinite(evaluate.last_mean_reward)
    model.save(tmp_path / "model")
    np.testing.assert_equal(SAVO.load(tmp_path / "model")._last_obs, model._last_obs)


def test_callbacks_and_tensorboard(tmp_path):
    evaluate = EvalCallback(Monitor(gym.make(ENV_ID)), eval_freq=60, n_eval_episodes=1, log_path=str(tmp_path / "eval"))
    checkpoint = CheckpointCallback(50, str(tmp_path / "checkpoints"), save_replay_buffer=True)
    model = SAVO("MlpPolicy", ENV_ID, surrogate="approximate", tensorboard_log=str(tmp_path / "tb"), **SMALL)
    model.learn(210, callback=[evaluate, checkpoint], log_interval=1, progress_bar=True)
    assert (tmp_path / "eval" / "evaluations.npz").exists()
    assert len(list((tmp_path / "checkpoints").glob("*replay_buffer*.pkl"))) == 4

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tb" / "SAVO_1"))
    events.Reload()
    td3 = {"train/actor_loss", "train/critic_loss", "train/learning_rate", "rollout/ep_rew_mean", "time/fps"}
    own = {"train/surrogate_loss", "train/surrogate_error_pct", "train/q_gain", "train/saturated_share"}
    own |= {f"train/candidate_share_{i}" for i in range(3)}
    assert td3 | own <= set(events.Tags()["scalars"])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_same_seed_same_run(algorithm):
    runs = []
    for _ in range(2):
        model = algorithm("MlpPolicy", "HopperRestricted-v5", **SMALL).learn(150)
        runs.append([parameter.clone() for parameter in model.policy.parameters()])
    assert all(th.equal(p, q) for p, q in zip(*runs, strict=True))


def test_every_optimizer_follows_the_schedule():
    rates = {"learning_rate": lambda p: 1e-3 * p, "qf_learning_rate": lambda p: 1e-2 * p}
    model = SAVO("MlpPolicy", ENV_ID, surrogate="approximate", **rates, **QUICK).learn(80)
    progress = 1 - 80 / 80
    assert model._current_progress_remaining == progress
    model._current_progress_remaining = 0.5
    model.train(1, 16)
    rates = [module.optimizer.param_groups[0]["lr"] for module in (model.actor, model.critic, model.surrogates)]
    assert rates == pytest.approx([5e-4, 5e-3, 5e-3])
    assert model.logger.name_to_value["train/learning_rate"] == pytest.approx(5e-4)


def test_target_networks_follow_by_polyak():
    model = SAVO("MlpPolicy", ENV_ID, tau=0.1, **SMALL).learn(60)
    expected = [
        0.9 * target + 0.1 * online
        for module, copy in ((model.critic, model.critic_target), (model.actor, model.actor_target))
        for online, target in zip(module.parameters(), copy.parameters(), strict=True)
    ]
    model.updater.sync_targets(model.tau)
    targets = [*model.critic_target.parameters(), *model.actor_target.parameters()]
    th.testing.assert_close(targets, expected)


def test_learning_a_target_action():
    """On SB3's identity task (reward 1 within 0.1 of what is observed) the agent becomes much better than chance."""
    env = IdentityEnvBox(eps=0.3)
    options = {**QUICK, "buffer_size": 500, "learning_starts": 200, "policy_kwargs": {"net_arch": [64, 64]}}
    model = SAVO("MlpPolicy", env, **options, learning_rate=3e-3, gamma=0.0)
    model.learn(500)
    observed = np.random.default_rng(0).uniform(-1, 1, (200, 1)).astype(np.float32)
    actions, _ = model.predict(observed, deterministic=True)
    assert (np.abs(actions - observed) < 0.3).mean() > 0.8


class Exported(th.nn.Module):
    """What SB3's documentation exports."""

    def __init__(self, policy):
        super().__init__()
        self.policy = policy

    def forward(self, observation):
        return self.policy(observation, deterministic=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("options", [{}, {"modulation": "mlp"}, {"summarizer": "transformer"}, {"n_actors": 1}], ids=str)
def test_torchscript_export_equals_predict(options):
    """``policy(obs, deterministic=True)`` has no branch on data, so it can be traced (as an ONNX export does)."""
    model = SAVO("MlpPolicy", ENV_ID, **SMALL, **options).learn(60)
    model.policy.set_training_mode(False)
    obs = th.randn(4, 3)
    traced = th.jit.trace(Exported(model.policy), obs, check_trace=False)
    other = th.randn(9, 3)
    th.testing.assert_close(traced(other), model.policy(other, deterministic=True))
