"""SAVO in discrete spaces with embeddings: what is snapped to items and what is not, masks, storage, saving and loading."""

import json
import pickle
import subprocess
import sys
import zipfile

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from sb3_contrib.common.envs import InvalidActionEnvDiscrete
from sb3_contrib.common.maskable.evaluation import evaluate_policy as maskable_evaluate_policy
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.buffers import NStepReplayBuffer
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import BitFlippingEnv, IdentityEnv, SimpleMultiObsEnv
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import SubprocVecEnv, VecNormalize

from sb3_savo import SAVO, ActionEmbedding, EmbeddedDiscrete
from sb3_savo.common.buffers import CandidateHerReplayBuffer, CandidateReplayBuffer, CandidateStorage
from sb3_savo.savo import SAVOPolicy
from tests.models import BATCH, SMALL, PlainReplayBuffer, make_model, sample, without_addresses
from tests.reference import propose, q_min, spread_out, surrogate
from tests.test_losses import assert_only_changes

ENV_ID = "MiningExpedition-v0"
N_ITEMS, DIM = 54, 9
QUICK = {**SMALL, "buffer_size": 800}


def scaled_embeddings(model):
    """The items' embeddings, from -1 to 1 in each dimension."""
    embeddings = model.action_space.embeddings.astype(float)
    low, high = embeddings.min(axis=0), embeddings.max(axis=0)
    return th.as_tensor(2 * (embeddings - low) / (high - low) - 1).float()


def nearest(model, point, allowed=None):
    """f_NN of one point (1, D) by its definition: the embedding of the closest item that is allowed."""
    embeddings = scaled_embeddings(model)
    distances = (embeddings - point).norm(dim=1)
    if allowed is not None:
        distances[~allowed] = th.inf
    return embeddings[distances.argmin()][None]


# The losses, against one state at a time


def target_from(model, batch, k, items):
    """The Bellman target of the k-th transition by its definition, from the embeddings of the items proposed next."""
    s_next = batch.next_observations[k : k + 1]
    picked = max(items, key=lambda item: model.critic.q1_forward(s_next, item).item())
    return batch.rewards[k] + (1 - batch.dones[k]) * model.gamma * th.minimum(*model.critic_target(s_next, picked))


@pytest.mark.parametrize("n_actors", [1, 3])
def test_bellman_target(n_actors):
    model = make_model(env=ENV_ID, n_actors=n_actors)
    batch = sample(model)
    for k, y in enumerate(model.target_q_values(batch)[0]):
        s_next = batch.next_observations[k : k + 1]
        with th.no_grad():
            items = [nearest(model, a) for a in propose(model.actor_target, s_next)]
            expected = target_from(model, batch, k, items)
        th.testing.assert_close(y, expected[0], rtol=1e-5, atol=1e-6)


def test_the_critic_learns_at_the_taken_items_embedding():
    model = make_model(env=ENV_ID)
    th.manual_seed(0)
    np.random.seed(0)
    ids = model.replay_buffer.sample(BATCH).actions
    np.random.seed(0)
    batch = sample(model)
    assert ids.dtype == th.long and ids.shape == (BATCH, 1)
    th.testing.assert_close(batch.actions, scaled_embeddings(model)[ids.squeeze(1)])


@pytest.mark.parametrize("n_actors", [2, 4])
def test_surrogate_loss(n_actors):
    """Surrogates see raw proposals; their targets are Q at the items nearest to these."""
    model = make_model(env=ENV_ID, n_actors=n_actors, surrogate="approximate")
    batch = sample(model)
    terms = []
    for k in range(BATCH):
        s, a = batch.observations[k : k + 1], batch.actions[k : k + 1]
        stored = [batch.candidates[k : k + 1, j] for j in range(n_actors)]
        for i in range(1, n_actors):
            with th.no_grad():
                tau = max(q_min(model, s, nearest(model, stored[j])) for j in range(i))
                target_taken = th.maximum(q_min(model, s, a), tau)
                target_proposed = th.maximum(q_min(model, s, nearest(model, stored[i])), tau)
            terms.append((surrogate(model, i, s, a, stored[:i]) - target_taken) ** 2)
            terms.append((surrogate(model, i, s, stored[i], stored[:i]) - target_proposed) ** 2)
    th.testing.assert_close(model.surrogate_loss(batch)[0], th.stack(terms).mean(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind, n_smoothed", [("approximate", 1), ("exact", 3), ("hybrid", 3), (None, 3)])
def test_smoothing_loss(kind, n_smoothed):
    """Q̂ sees raw proposals of the actors that ascend it; its targets are Q at the items nearest to these."""
    model = make_model(env=ENV_ID, surrogate=kind)
    batch = sample(model)
    terms = []
    for k in range(BATCH):
        s = batch.observations[k : k + 1]
        for at in (batch.actions[k : k + 1], *(batch.candidates[k : k + 1, j] for j in range(n_smoothed))):
            with th.no_grad():
                target = q_min(model, s, nearest(model, at))
            terms.append((model.smooth_critic.q1_forward(s, at) - target) ** 2)
    th.testing.assert_close(model.smoothing_loss(batch)[0], th.stack(terms).mean(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("q_smoothing", [True, False])
@pytest.mark.parametrize("kind", ["approximate", "exact", "hybrid", None])
def test_actor_loss(kind, q_smoothing):
    """Actors ascend at their raw proposals; with Q-smoothing those that would ascend Q ascend Q̂."""
    model = make_model(env=ENV_ID, surrogate=kind, q_smoothing=q_smoothing)
    batch = sample(model)
    objective = 0.0
    for k in range(BATCH):
        s = batch.observations[k : k + 1]
        actions = propose(model.actor, s)
        q = model.smooth_critic.q1_forward if q_smoothing else model.critic.q1_forward
        objective += q(s, actions[0])
        for i in range(1, 3):
            if kind == "approximate":
                objective += surrogate(model, i, s, actions[i], actions[:i])
            elif kind is not None:
                ascended = q(s, actions[i]) if q_smoothing else q_min(model, s, actions[i])
                tau = max(q_min(model, s, nearest(model, a)) for a in actions[:i])
                flat = tau if kind == "exact" else surrogate(model, i, s, actions[i], actions[:i])
                objective += ascended if ascended > tau else flat
            else:
                objective += q(s, actions[i])
    th.testing.assert_close(model.actor_loss(batch)[0], -(objective / BATCH).squeeze(), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("module", ["critic", "smooth_critic", "surrogates", "actor"])
def test_each_loss_changes_its_own_networks_only(module):
    model = make_model(env=ENV_ID, surrogate="approximate")
    batch = sample(model)
    losses = {
        "critic": model.critic_loss,
        "smooth_critic": model.smoothing_loss,
        "surrogates": model.surrogate_loss,
        "actor": model.actor_loss,
    }
    assert_only_changes(model, module, losses, batch)


def test_smoothing_is_the_default_for_items_only():
    assert SAVO("MlpPolicy", ENV_ID, **QUICK).smooth_critic is not None
    assert SAVO("MlpPolicy", ENV_ID, q_smoothing=False, **QUICK).smooth_critic is None
    assert SAVO("MlpPolicy", "Pendulum-v1", **QUICK).smooth_critic is None
    model = SAVO("MlpPolicy", "Pendulum-v1", q_smoothing=True, n_actors=1, **QUICK)
    before = [parameter.clone() for parameter in model.smooth_critic.parameters()]
    model.learn(60)
    assert "train/smoothing_loss" in model.logger.name_to_value
    assert all(not th.equal(p, q) for p, q in zip(model.smooth_critic.parameters(), before, strict=True))


def test_stored_items_without_candidates_are_found_anew():
    model = make_model(env=ENV_ID, surrogate="approximate", replay_buffer_class=PlainReplayBuffer)
    batch = sample(model)
    assert batch.actions.shape == (BATCH, DIM)
    candidates, actions = model.proposals(batch)
    for k in range(BATCH):
        for j, proposal in enumerate(propose(model.actor, batch.observations[k : k + 1])):
            # (The chain multiplies the rounding, which is another on other processors and for other batches)
            th.testing.assert_close(candidates[k, j], proposal[0], rtol=1e-4, atol=1e-4)
            th.testing.assert_close(actions[k, j], nearest(model, proposal)[0])
    assert model.surrogate_loss(batch)[0].isfinite()


# Acting and storing


def stored_parts(model, start, stop):
    """Taken items, the candidates' items and the candidates, of some steps; (steps, n_envs, ...)."""
    buffer = model.replay_buffer
    n = model.n_candidates
    taken, items, candidates, *_ = np.split(buffer.actions[start:stop], np.cumsum(buffer.widths)[:-1], axis=2)
    return taken[..., 0], items, candidates.reshape(*candidates.shape[:2], n, -1)


def test_what_is_stored_is_what_was_chosen_from():
    """The buffer holds items and raw proposals; the taken item is the one of theirs with the highest Q1."""
    model = SAVO("MlpPolicy", make_vec_env(ENV_ID, n_envs=2), **QUICK)
    spread_out(model)
    model.gradient_steps = 0
    model.learn(160)
    taken, items, candidates = stored_parts(model, 20, 80)
    assert set(np.unique(taken)) <= set(range(N_ITEMS)) and (np.abs(candidates) <= 1).all()
    observations = th.as_tensor(model.replay_buffer.observations[20:80]).flatten(0, 1)
    embeddings = scaled_embeddings(model)
    steps = zip(observations, taken.ravel(), items.reshape(-1, 3), candidates.reshape(-1, 3, DIM), strict=True)
    for s, item, item_list, points in steps:
        for i, point in zip(item_list, points, strict=True):
            assert th.equal(embeddings[int(i)], nearest(model, th.as_tensor(point))[0])
        with th.no_grad():
            values = [model.critic.q1_forward(s[None], embeddings[int(i)][None]).item() for i in item_list]
        assert max(values) == pytest.approx(values[list(item_list).index(item)])

    warm_up_taken, warm_up_items, warm_up = stored_parts(model, 0, 20)
    assert len(np.unique(warm_up_taken)) > 15 and len(np.unique(warm_up_items)) > 15
    assert np.abs(warm_up).max() > 0.9 and warm_up.std() == pytest.approx(1 / np.sqrt(3), abs=0.05)


def test_noise_is_inside_the_chain():
    model = make_model(env=ENV_ID)
    obs = th.as_tensor(np.stack([model.observation_space.sample() for _ in range(5)]))
    noise = 0.5 * th.randn(5, 3, DIM)
    with th.no_grad():
        noisy = model.policy.propose(obs, noise=noise)
        for k in range(5):
            s, actions = obs[k : k + 1], []
            for i in range(3):
                if i == 0:
                    action = th.tanh(model.actor.mu(s[None])[0])
                else:
                    action = th.tanh(model.actor.nu(s[None], s, th.stack(actions, dim=1), slice(i - 1, i))[0])
                actions.append((action + noise[k, i]).clamp(-1, 1))
            th.testing.assert_close(noisy[k], th.cat(actions), rtol=1e-4, atol=1e-4)
        assert th.equal(model.policy.propose(obs), model.policy.propose(obs, th.zeros(5, 3, DIM)))


def test_selection_epsilon_takes_uniformly_random_items():
    options = {**QUICK, "learning_starts": 0, "gradient_steps": 0, "exploration_noise": None}
    model = SAVO("MlpPolicy", ENV_ID, selection_epsilon=1.0, **options).learn(600)
    taken, items, _ = stored_parts(model, 0, 600)
    counts = np.bincount(taken.ravel().astype(int), minlength=N_ITEMS)
    assert (counts > 0).sum() > 50 and counts.max() < 40
    assert len(np.unique(items)) < 10  # the candidates are still the policy's


def test_action_noise_moves_the_chosen_item():
    quiet = {"exploration_noise": None, "gradient_steps": 0, **QUICK, "learning_starts": 0}
    still = SAVO("MlpPolicy", ENV_ID, **quiet).learn(60)
    moved = SAVO("MlpPolicy", ENV_ID, action_noise=NormalActionNoise(np.zeros(DIM), np.ones(DIM)), **quiet).learn(60)
    assert len(np.unique(stored_parts(still, 0, 60)[0])) < 10 < len(np.unique(stored_parts(moved, 0, 60)[0]))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"n_actors": 1},
        {"n_actors": 1, "q_smoothing": False},
        {"n_actors": 5, "summarizer": "lstm", "modulation": "mlp"},
        {"summarizer": "transformer", "init": "xavier"},
        {"condition_on_previous": False, "surrogate": "exact"},
        {"joint_action": True, "surrogate": None, "q_smoothing": False},
        {"joint_action": True},
        {"exploration_noise": "gaussian", "selection_epsilon": (1.0, 0.1, 50)},
        {"target_policy_noise": 0.2},
        {"n_steps": 3},
        {"policy_kwargs": {"net_arch": [8], "summary_dim": 32, "n_critics": 1, "share_features_extractor": True}},
        {"optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}},
    ],
    ids=without_addresses,
)
def test_options(options):
    model = SAVO("MlpPolicy", ENV_ID, **{**QUICK, **options})
    before = {name: parameter.clone() for name, parameter in model.policy.named_parameters()}
    model.learn(90)
    learned = {name.split(".")[0] for name, value in model.policy.named_parameters() if not th.equal(value, before[name])}
    assert learned == {name.split(".")[0] for name in before}
    obs = np.stack([model.observation_space.sample() for _ in range(4)])
    items, _ = model.predict(obs)
    assert items.shape == (4,) and all(model.action_space.contains(item) for item in items)
    assert model.action_space.contains(model.predict(obs[0])[0][()])


def test_predict_is_the_item_with_the_highest_q_of_those_nearest_to_the_proposals():
    model = make_model(env=ENV_ID)
    obs = np.stack([model.observation_space.sample() for _ in range(20)])
    items, _ = model.predict(obs, deterministic=True)
    embeddings = scaled_embeddings(model)
    for s, item in zip(th.as_tensor(obs), items, strict=True):
        with th.no_grad():
            found = [nearest(model, a) for a in propose(model.actor, s[None])]
            best = max(found, key=lambda e: model.critic.q1_forward(s[None], e).item())
        assert th.equal(embeddings[item], best[0])


def test_several_processes_and_normalized_observations():
    env = VecNormalize(make_vec_env(ENV_ID, n_envs=2, vec_env_cls=SubprocVecEnv, vec_env_kwargs={"start_method": "fork"}))
    model = SAVO("MlpPolicy", env, **QUICK).learn(120)
    assert model._n_updates == 40
    env.close()


def test_dict_observations():
    env = ActionEmbedding(SimpleMultiObsEnv(), np.random.default_rng(0).normal(size=(4, 2)))
    model = SAVO("MultiInputPolicy", env, **QUICK).learn(60)
    assert env.action_space.contains(model.predict(env.observation_space.sample())[0][()])


def test_hindsight():
    env = ActionEmbedding(BitFlippingEnv(n_bits=4), np.random.default_rng(0).normal(size=(4, 3)))
    model = SAVO("MultiInputPolicy", env, replay_buffer_class=HerReplayBuffer, **QUICK).learn(100)
    assert type(model.replay_buffer) is CandidateHerReplayBuffer
    batch = model.replay_buffer.sample(30)
    assert batch.candidates.shape == (30, 3, 3) and batch.candidate_items.shape == (30, 3)
    assert batch.actions.dtype == batch.candidate_items.dtype == th.long


def test_it_learns_which_item_is_shown():
    """On SB3's identity task with 30 items (reward 1 for the item that is observed) it becomes much better than chance."""

    class Shown(IdentityEnv):
        """Shows the item's embedding."""

        def _get_obs(self):
            return embeddings[self.state]

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return self._get_obs(), {}

        def step(self, action):
            _, *rest = super().step(action)
            return self._get_obs(), *rest

    embeddings = np.random.default_rng(0).uniform(-1, 1, (30, 2)).astype(np.float32)
    env = Shown(dim=30)
    env.observation_space = spaces.Box(-1, 1, (2,), np.float32)
    options = {**QUICK, "policy_kwargs": {"net_arch": [64, 64]}, "batch_size": 64, "learning_starts": 400}
    model = SAVO(
        "MlpPolicy", ActionEmbedding(env, embeddings), learning_rate=3e-3, gamma=0.0, selection_epsilon=0.5, **options
    )
    model.learn(900)
    assert (model.predict(embeddings)[0] == np.arange(30)).mean() > 0.5  # chance: 1 in 30


# Masks


class Masked(gym.Wrapper):
    """Checks that only allowed items are taken; ``info`` tells of those that are allowed at the end of an episode."""

    def step(self, action):
        masks = self.unwrapped.action_masks()
        assert masks[action], "a forbidden item"
        obs, reward, terminated, truncated, info = self.env.step(action)
        if self.tell and (terminated or truncated):
            info["action_masks"] = np.array(self.unwrapped.action_masks())
        return obs, reward, terminated, truncated, info

    tell = False


def masked_env(tell=False):
    env = Masked(InvalidActionEnvDiscrete(dim=70, n_invalid_actions=60, ep_length=10))
    env.tell = tell
    return ActionEmbedding(env, np.random.default_rng(0).normal(size=(70, 3)))


@pytest.mark.parametrize(
    "options",
    [
        {"selection_epsilon": 0.5, "action_noise": NormalActionNoise(np.zeros(3), np.ones(3))},
        {"n_actors": 1, "q_smoothing": False},
        {"nearest": "exact", "target_policy_noise": 0.3},
    ],
    ids=without_addresses,
)
def test_only_allowed_items_are_taken(options):
    model = SAVO("MlpPolicy", make_vec_env(masked_env, n_envs=3), **QUICK, **options)
    model.learn(150)
    assert model.replay_buffer.store_masks
    assert model._n_updates > 0


def test_the_masks_at_the_next_observations_are_stored():
    model = SAVO("MlpPolicy", make_vec_env(masked_env, n_envs=2), **QUICK)
    seen, add = [], model.replay_buffer.add

    def record(obs, next_obs, action, reward, done, infos):
        current = np.stack(model.get_env().env_method("action_masks"))
        seen.append(np.where(done[:, None], True, current))
        add(obs, next_obs, action, reward, done, infos)

    model.replay_buffer.add = record
    model.learn(80)
    words = np.split(model.replay_buffer.actions[:40], np.cumsum(model.replay_buffer.widths)[:-1], axis=2)[3]
    stored = model.replay_buffer._unpack_masks(th.as_tensor(words.reshape(80, 3).copy())).numpy()
    np.testing.assert_array_equal(stored.reshape(40, 2, 70), np.stack(seen))
    del model.replay_buffer.add
    batch = model.replay_buffer.sample(200)
    assert set(batch.next_action_masks.sum(dim=1).tolist()) == {10, 70}  # all items at the end of an episode
    copied = pickle.loads(pickle.dumps(model.replay_buffer)).sample(200)
    assert set(copied.next_action_masks.sum(dim=1).tolist()) == {10, 70}


def test_info_tells_of_the_masks_at_the_end_of_an_episode():
    model = SAVO("MlpPolicy", masked_env(tell=True), **QUICK).learn(80)
    assert set(model.replay_buffer.sample(200).next_action_masks.sum(dim=1).tolist()) == {10}


def test_the_bellman_target_is_of_an_allowed_item():
    one_hot, space = np.eye(70, dtype=np.float32), spaces.Box(0, 1, (70,), np.float32)
    env = gym.wrappers.TransformObservation(masked_env(tell=True), lambda o: one_hot[o], space)
    model = make_model(env=env)
    batch = sample(model)
    changed = 0
    for k, y in enumerate(model.target_q_values(batch)[0]):
        s_next, allowed = batch.next_observations[k : k + 1], batch.next_action_masks[k]
        with th.no_grad():
            proposals = propose(model.actor_target, s_next)
            items = [nearest(model, a, allowed) for a in proposals]
            expected = target_from(model, batch, k, items)
        th.testing.assert_close(y, expected[0], rtol=1e-5, atol=1e-6)
        changed += any(not th.equal(nearest(model, a), item) for a, item in zip(proposals, items, strict=True))
    assert changed > BATCH / 2


@pytest.mark.parametrize("make_env", [lambda: ENV_ID, lambda: masked_env(tell=True)], ids=["all", "masked"])
def test_target_policy_noise_moves_to_an_allowed_item(make_env):
    """The noise moves the picked item's embedding, and the target critics see the item nearest to where it is then."""
    model = make_model(env=make_env(), target_policy_noise=0.5, target_noise_clip=1.0)
    batch, seen = sample(model), []
    next_obs, masks = batch.next_observations, batch.next_action_masks
    model.critic_target.register_forward_hook(lambda module, args, output: seen.append(args[1]))
    th.manual_seed(0)
    model.target_q_values(batch)
    th.manual_seed(0)
    with th.no_grad():
        picked = model.policy.maximize(next_obs, model.policy.snap(model.actor_target(next_obs), masks)[0])[0]
        moved = (picked + (0.5 * th.randn_like(picked)).clamp(-1, 1)).clamp(-1, 1)
    allowed = [None] * BATCH if masks is None else masks
    expected = th.cat([nearest(model, moved[k], allowed[k]) for k in range(BATCH)])
    assert len(seen) == 1
    th.testing.assert_close(seen[0], expected)
    assert (expected != picked).any(dim=1).sum() > BATCH / 4


def test_predict_with_masks():
    env = masked_env()
    model = SAVO("MlpPolicy", env, **QUICK).learn(60)
    masks = np.zeros((5, 70), dtype=bool)
    masks[np.arange(5), [3, 14, 15, 9, 26]] = True
    np.testing.assert_array_equal(model.predict(np.arange(5), action_masks=masks)[0], [3, 14, 15, 9, 26])
    assert model.predict(np.array(2), action_masks=masks[1])[0] == 14
    # sb3-contrib's evaluation asks the environment, which checks that only allowed items are taken
    maskable_evaluate_policy(model, env, n_eval_episodes=3, warn=False)
    with pytest.raises(ValueError, match=r"action_masks has the shape \(5, 69\), but the action space is EmbeddedDiscrete"):
        model.predict(np.arange(5), action_masks=masks[:, 1:])
    with pytest.raises(ValueError, match="a row allows none of the 70 items"):
        model.predict(np.arange(5), action_masks=np.zeros((5, 70), dtype=bool))
    with pytest.raises(ValueError, match="but the action space is Box"):
        SAVO("MlpPolicy", "Pendulum-v1", **QUICK).predict(np.zeros(3), action_masks=np.ones(2))


def test_masks_need_a_place_in_the_buffer():
    model = SAVO("MlpPolicy", masked_env(), replay_buffer_class=PlainReplayBuffer, **QUICK)
    with pytest.raises(ValueError, match=r"env has action masks, but the PlainReplayBuffer of this model is for .* without"):
        model.learn(10)
    model = SAVO("MlpPolicy", masked_env(), **QUICK)
    model.set_env(ActionEmbedding(IdentityEnv(dim=70), model.action_space.embeddings))
    with pytest.raises(ValueError, match=r"env has no action masks, but the Candidate.* of this model is for .* with:"):
        model.learn(10)
    for several in ({"n_steps": 3}, {"replay_buffer_class": NStepReplayBuffer, "replay_buffer_kwargs": {"n_steps": 3}}):
        with pytest.raises(ValueError, match="n_steps=3: env has action masks, which are stored for the next step only"):
            SAVO("MlpPolicy", masked_env(), **several, **QUICK)


# Saving and loading


def test_a_loaded_model_learns_on_and_its_embeddings_are_saved_once(tmp_path):
    embeddings = np.random.default_rng(0).normal(size=(20_000, 16)).astype(np.float32)

    class ManyItems(gym.Env):
        observation_space = spaces.Box(-1, 1, (2,), np.float32)
        action_space = EmbeddedDiscrete(embeddings)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return self.np_random.uniform(-1, 1, 2).astype(np.float32), {}

        def step(self, action):
            return self.np_random.uniform(-1, 1, 2).astype(np.float32), 0.0, self.np_random.random() < 0.1, False, {}

    model = SAVO("MlpPolicy", ManyItems(), surrogate="approximate", **QUICK).learn(60)
    model.save(tmp_path / "model")
    in_base64 = embeddings.nbytes * 4 / 3
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        data = json.loads(archive.read("data"))
        assert in_base64 < len(archive.read("data")) < 1.1 * in_base64
        assert len(archive.read("policy.pth")) < embeddings.nbytes
    large = [name for name, value in data.items() if len(json.dumps(value)) > 100_000]
    assert large == ["action_space"]

    loaded = SAVO.load(tmp_path / "model", env=ManyItems())
    assert loaded.action_space == model.action_space
    obs = np.random.default_rng(1).uniform(-1, 1, (50, 2)).astype(np.float32)
    np.testing.assert_array_equal(model.predict(obs)[0], loaded.predict(obs)[0])
    for name in ("actor", "critic", "surrogates", "smooth_critic"):
        saved, found = (getattr(m, name).optimizer.state_dict()["state"] for m in (model, loaded))
        assert saved.keys() == found.keys() and saved
    loaded.learn(60, reset_num_timesteps=False)

    model.policy.save(tmp_path / "policy.pt")
    policy = SAVOPolicy.load(tmp_path / "policy.pt", device="cpu")
    np.testing.assert_array_equal(policy.predict(obs)[0], model.predict(obs)[0])

    other = ActionEmbedding(ManyItems(), embeddings + 1)
    with pytest.raises(ValueError, match="Action spaces do not match"):
        SAVO.load(tmp_path / "model", env=other)


FRESH = "import numpy as np; from sb3_savo import SAVO; import sys; model = SAVO.load('model', device='cpu'); " + (
    "assert not {'sb3_savo.envs.mining', 'sb3_savo.envs.recsim', 'sb3_savo.envs.movielens'} & set(sys.modules); "
    "np.save('items.npy', model.predict(np.load('obs.npy'), deterministic=True)[0])"
)


@pytest.mark.parametrize(
    "env_id, options", [(ENV_ID, {}), ("RecSim-v0", {}), ("RecSim-v0", {"nearest": "approximate"})], ids=without_addresses
)
def test_loading_in_a_fresh_process_without_the_environment(tmp_path, env_id, options):
    model = SAVO("MlpPolicy", env_id, **QUICK, **options).learn(60)
    model.save(tmp_path / "model")
    obs = np.stack([model.observation_space.sample() for _ in range(50)])
    np.save(tmp_path / "obs.npy", obs)
    subprocess.run([sys.executable, "-c", FRESH], cwd=tmp_path, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "items.npy"), model.predict(obs)[0])


@pytest.mark.parametrize("options", [{}, {"q_smoothing": False, "surrogate": None}], ids=without_addresses)
def test_replay_buffers(tmp_path, options):
    model = SAVO("MlpPolicy", ENV_ID, **QUICK, **options).learn(60)
    assert (type(model.replay_buffer) is CandidateReplayBuffer) == (not options)
    model.save_replay_buffer(tmp_path / "buffer")
    model.load_replay_buffer(tmp_path / "buffer")
    assert isinstance(model.replay_buffer, CandidateStorage) == (not options)
    model.learn(60, reset_num_timesteps=False)


def test_evaluation_while_learning(tmp_path):
    evaluate = EvalCallback(Monitor(gym.make(ENV_ID)), eval_freq=50, n_eval_episodes=1, best_model_save_path=str(tmp_path))
    SAVO("MlpPolicy", ENV_ID, **QUICK).learn(110, callback=evaluate)
    assert (tmp_path / "best_model.zip").exists()


def test_same_seed_same_run():
    runs = [SAVO("MlpPolicy", ENV_ID, **QUICK).learn(120).replay_buffer.actions for _ in range(2)]
    np.testing.assert_array_equal(*runs)


# Errors


def test_a_plain_discrete_space_says_how_to_wrap_it():
    message = r"action space Discrete\(2\) is not continuous: SAVO needs .*sb3_savo.ActionEmbedding\(env, embeddings\)"
    with pytest.raises(TypeError, match=message):
        SAVO("MlpPolicy", "CartPole-v1")


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"q_smoothing": "yes"}, "q_smoothing='yes' is not known"),
        ({"nearest": "faiss"}, "nearest='faiss' is not known: it must be one of 'exact', 'approximate'"),
        ({"nearest": "approximate"}, "nearest='approximate' is for many items: use 'exact' for 54"),
        ({"policy_kwargs": {"q_smoothing": True}}, r"policy_kwargs holds 'q_smoothing'.*SAVO\(q_smoothing=…\)"),
    ],
    ids=without_addresses,
)
def test_bad_argument(kwargs, message):
    with pytest.raises(ValueError, match=message):
        SAVO("MlpPolicy", ENV_ID, **{**QUICK, **kwargs})


def test_the_recall_of_an_approximate_index_is_printed(capsys):
    model = SAVO("MlpPolicy", "RecSim-v0", nearest="approximate", verbose=1, **QUICK)
    assert f"its recall is {model.policy.items.recall:.3f}" in capsys.readouterr().out
    assert model.policy.items.recall > 0.9
