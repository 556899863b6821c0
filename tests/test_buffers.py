"""What the replay buffers give and take: minibatches, plain transitions, masks of the last state; and ``action_noise``."""

import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise, VectorizedActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_savo import CEM, SAVO, SAVOSAC, EmbeddedDiscrete, Ensemble, Wolpertinger
from sb3_savo.common.buffers import WITH_CANDIDATES, CandidateStorage
from sb3_savo.common.finite import NonFiniteError
from tests.models import BATCH, SMALL

BOX = spaces.Box(-2, 2, (2,), np.float32)
ITEMS = EmbeddedDiscrete(np.random.default_rng(0).normal(size=(9, 3)))
VECTOR = spaces.Box(-2, 2, (2,), np.float32)
GOALS = spaces.Dict(observation=VECTOR, achieved_goal=VECTOR, desired_goal=VECTOR)


class Reach(gym.Env):
    """
    What is achieved is below 0, and what is desired is 1, so a desired goal below 0 is a relabelled one.

    :param action_space: Action space
    :param observation_space: ``GOALS`` or ``VECTOR``
    :param end: What ends an episode after ten steps, ``terminated`` or ``truncated``
    """

    def __init__(self, action_space=BOX, observation_space=GOALS, end="truncated"):
        self.action_space, self.observation_space, self.end = action_space, observation_space, end

    def achieve(self):
        return -self.np_random.random(2).astype(np.float32)

    def look(self):
        x = self.achieve()
        is_dict = isinstance(self.observation_space, spaces.Dict)
        return {"observation": x, "achieved_goal": x, "desired_goal": np.ones(2, np.float32)} if is_dict else x

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.look(), {}

    def step(self, action):
        self.t += 1
        is_last = self.t == 10
        return self.look(), -1.0, is_last and self.end == "terminated", is_last and self.end == "truncated", {}

    def compute_reward(self, achieved, desired, info):
        return -(np.abs(achieved - desired).sum(-1) > 0.1).astype(np.float32)


class Numbered(Reach):
    """What is achieved is the number of the episode, in hundredths below 0."""

    n_episodes = 0

    def achieve(self):
        return np.full(2, -0.01 * self.n_episodes, np.float32)

    def reset(self, *, seed=None, options=None):
        self.n_episodes += 1
        return super().reset(seed=seed, options=options)


class Board(gym.Env):
    """
    An item can be taken once. ``info`` says which are left.

    :param end: What is told at the end of an episode: ``terminated`` or ``truncated``, with no item left
    :param convert: What the masks are converted to
    :param fault_at: From which step on ``convert`` applies
    """

    observation_space = spaces.Box(0, 1, (9,), np.float32)
    action_space = ITEMS

    def __init__(self, end="terminated", convert=lambda mask: mask, fault_at=0):
        self.end, self.convert, self.fault_at, self.n_steps = end, convert, fault_at, 0

    def action_masks(self):
        mask = self.board == 0
        return self.convert(mask) if self.n_steps >= self.fault_at else mask

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.board = np.zeros(9, np.float32)
        return self.board.copy(), {"action_masks": self.action_masks()}

    def step(self, action):
        assert self.board[action] == 0, "a forbidden item"
        self.n_steps += 1
        self.board[action] = 1
        is_full = bool(self.board.all())
        ends = (is_full and self.end == "terminated", is_full and self.end == "truncated")
        return self.board.copy(), float(action == 0), *ends, {"action_masks": self.action_masks()}


# Minibatches


@pytest.mark.parametrize("algorithm", [SAVO, SAVOSAC, CEM])
def test_every_minibatch_has_hers_mixture(algorithm):
    her = {"replay_buffer_class": HerReplayBuffer, "learning_starts": 50}
    model = algorithm("MultiInputPolicy", Reach(), **{**SMALL, **her}).learn(50)
    batches = list(model._sample(10, 20))
    assert len(batches) == 10
    for batch in batches:
        assert (batch.observations["desired_goal"] < 0).any(dim=1).sum() == 16  # n_sampled_goal=4: 80 %


class CountingReplayBuffer(ReplayBuffer):
    """Samples without replacement, remembers how often it was asked, and adds a field of its own."""

    def sample(self, batch_size, env=None):
        self.asked = [*getattr(self, "asked", []), batch_size]
        indices = np.random.permutation(self.size())[:batch_size]
        return self._get_samples(indices, env)


@pytest.mark.parametrize("algorithm", [SAVO, CEM])
def test_her_asks_the_environment_that_was_set(algorithm):
    her = {"replay_buffer_class": HerReplayBuffer, "replay_buffer_kwargs": {"n_sampled_goal": 4}}
    model = algorithm("MultiInputPolicy", Reach(), **{**SMALL, **her}).learn(50)
    model.env.env_method = lambda *_, **__: pytest.fail("the former environment is asked")
    model.set_env(Reach())
    model.learn(20, reset_num_timesteps=False)


@pytest.mark.parametrize("algorithm", [SAVO, SAVOSAC, CEM])
def test_a_users_own_buffer_is_asked_once_per_gradient_step(algorithm):
    model = algorithm("MlpPolicy", Reach(BOX, VECTOR), replay_buffer_class=CountingReplayBuffer, **SMALL).learn(40)
    model.train(7, BATCH)
    assert model.replay_buffer.asked == [BATCH] * 7


def test_a_replaced_sample_is_called_once_per_gradient_step():
    model = SAVO("MlpPolicy", Reach(BOX, VECTOR), **SMALL).learn(40)
    sample, sizes = model.replay_buffer.sample, []

    def counting(batch_size, env=None):
        sizes.append(batch_size)
        return sample(batch_size, env=env)

    model.replay_buffer.sample = counting
    model.train(7, BATCH)
    assert sizes == [BATCH] * 7


@pytest.mark.parametrize("buffer_class", [ReplayBuffer, NStepReplayBuffer])
@pytest.mark.parametrize("algorithm", [SAVO, CEM])
def test_independent_transitions_are_drawn_together(buffer_class, algorithm, monkeypatch):
    model = algorithm("MlpPolicy", Reach(BOX, VECTOR), replay_buffer_class=buffer_class, **SMALL).learn(40)
    sizes, sample = [], type(model.replay_buffer).sample
    monkeypatch.setattr(
        type(model.replay_buffer), "sample", lambda self, n, env=None: sizes.append(n) or sample(self, n, env=env)
    )
    assert [len(batch.rewards) for batch in model._sample(7, BATCH)] == [BATCH] * 7
    assert sizes == [7 * BATCH]


# Plain transitions


KINDS = {
    "plain": (ReplayBuffer, VECTOR, {}),
    "dict": (DictReplayBuffer, GOALS, {}),
    "n-step": (NStepReplayBuffer, VECTOR, {"n_steps": 3}),
    "her": (HerReplayBuffer, GOALS, {}),
}


def make(kind, action_space, n_envs=2, algorithm=SAVO, end="truncated", env_class=Reach, **kwargs):
    buffer_class, observation_space, options = KINDS[kind]
    policy = "MultiInputPolicy" if observation_space is GOALS else "MlpPolicy"
    env = DummyVecEnv([lambda: env_class(action_space, observation_space, end)] * n_envs)
    if buffer_class is HerReplayBuffer:
        options = {"replay_buffer_class": buffer_class}
    return algorithm(policy, env, **{**SMALL, "learning_starts": 0, **options, **kwargs})


def fill(model, n_steps=15, draw=None):
    """Add transitions of a random controller, as for SB3's buffers."""
    env, n_envs = model.get_env(), model.n_envs
    obs = env.reset()
    taken = []
    for _ in range(n_steps):
        action = np.array([env.action_space.sample() for _ in range(n_envs)]) if draw is None else draw(env)
        next_obs, reward, done, infos = env.step(action)
        scaled = model.policy.scale_action(action) if action.dtype == np.float32 else action
        model.replay_buffer.add(obs, next_obs, scaled, reward, done, infos)
        taken.append(scaled)
        obs = next_obs
    return np.array(taken)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("action_space", [BOX, ITEMS], ids=["box", "items"])
def test_plain_transitions(kind, action_space):
    model = make(kind, action_space)
    buffer = model.replay_buffer
    assert type(buffer) is WITH_CANDIDATES[KINDS[kind][0]]
    taken = fill(model)
    np.testing.assert_allclose(buffer.actions[:15, :, : buffer.widths[0]], taken.reshape(15, 2, -1), rtol=1e-6)
    samples = buffer.sample(200)
    assert samples.candidates.abs().max() <= 1 and samples.candidates.std() > 0.2
    if action_space is ITEMS:
        assert len(samples.candidate_items.unique()) == 9
        nearest = model.policy.items.nearest(samples.candidates).squeeze(2)
        assert th.equal(nearest, samples.candidate_items)
    model.learn(20)
    fill(model, 10)
    model.learn(20, reset_num_timesteps=False)
    assert buffer.size() == 15 + 10 + 10 + 10 and model._n_updates > 0
    copied = pickle.loads(pickle.dumps(buffer))
    np.testing.assert_array_equal(copied.actions, buffer.actions)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_the_target_bootstraps_where_a_time_limit_cuts_an_episode(kind, end):
    """And nowhere else at the end of an episode. Candidates are stored all the same."""
    model = make(kind, BOX, end=end, gradient_steps=0).learn(60)
    assert isinstance(model.replay_buffer, CandidateStorage) and model.replay_buffer.dones[:30].sum() == 6
    batch = model.replay_buffer.sample(300)
    assert (batch.dones == 1).any() == (end == "terminated")
    model.min_target_q_values = lambda obs, actions: th.ones(len(actions), 1)
    discounted = model.target_q_values(batch)[0] - batch.rewards
    powers = model.gamma ** th.arange(1, 4 if kind == "n-step" else 2)
    bootstraps = th.isclose(discounted, powers, atol=1e-5).any(dim=1, keepdim=True)
    assert th.equal(bootstraps, batch.dones == 0)


FRUGAL = {"optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}}


@pytest.mark.filterwarnings("ignore:The last trajectory in the replay buffer will be truncated")
@pytest.mark.parametrize("kind, kwargs", [("n-step", {}), ("her", {}), ("plain", FRUGAL)], ids=["n-step", "her", "frugal"])
@pytest.mark.parametrize("reset_num_timesteps", [True, False])
def test_a_reset_of_the_environments_ends_their_episodes(kind, kwargs, reset_num_timesteps):
    """A second call of ``learn`` resets them, and so does ``set_env``. No return and no goal is of another episode."""
    model = make(kind, BOX, env_class=Numbered, gradient_steps=0, **kwargs).learn(2 * 17)
    model.set_env(model.get_env(), force_reset=not reset_num_timesteps)
    model.learn(2 * 13, reset_num_timesteps=reset_num_timesteps)
    batch = model.replay_buffer.sample(1_000)
    if kind == "her":
        achieved, desired = batch.observations["achieved_goal"], batch.observations["desired_goal"]
        is_relabelled = desired < 0
        assert len(achieved.unique()) == 3 and th.equal(desired[is_relabelled], achieved[is_relabelled])
    else:
        continues = batch.dones == 0
        assert continues.any() and ((batch.observations == batch.next_observations) | ~continues).all()


@pytest.mark.parametrize("kind", ["plain", "n-step"])
def test_the_step_at_which_a_callback_ends_a_run_is_left_out(kind):
    """It is the last one of an episode here: what is stored after it must not begin in that episode."""
    model = make(kind, BOX, env_class=Numbered, gradient_steps=0)
    model.learn(100, callback=lambda *_: model.num_timesteps < 20)
    model.learn(20, reset_num_timesteps=False)
    assert model.replay_buffer.size() == 9 + 10
    batch = model.replay_buffer.sample(1_000)
    assert th.equal(batch.observations, batch.next_observations)


def test_n_step_returns_have_the_algorithms_steps_and_discount():
    def buffer(**kwargs):
        return SAVO(
            "MlpPolicy", Reach(BOX, VECTOR), replay_buffer_class=NStepReplayBuffer, gamma=0.5, **SMALL, **kwargs
        ).replay_buffer

    assert [(made.n_steps, made.gamma) for made in (buffer(), buffer(n_steps=4))] == [(1, 0.5), (4, 0.5)]
    own = buffer(replay_buffer_kwargs={"n_steps": 5})
    assert (own.n_steps, own.gamma) == (5, 0.5)


def test_a_transition_of_ours_is_stored_as_it_is():
    model = make("plain", BOX, surrogate="approximate")
    wide = np.random.default_rng(0).uniform(-1, 1, (2, 8)).astype(np.float32)
    state = np.random.get_state()[1].copy()
    model.replay_buffer.add(np.zeros((2, 2)), np.zeros((2, 2)), wide, np.zeros(2), np.zeros(2), [{}, {}])
    np.testing.assert_array_equal(model.replay_buffer.actions[0], wide)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_actions_rounded_beyond_the_bounds_are_clipped():
    model = make("plain", BOX)
    model.replay_buffer.add(np.zeros((2, 2)), np.zeros((2, 2)), np.full((2, 2), 1 + 1e-6), np.zeros(2), np.zeros(2), [{}, {}])
    assert (model.replay_buffer.actions[0, :, :2] == 1).all()


ZEROS = np.zeros((2, 2), np.float32)
BAD_TRANSITIONS = [
    (BOX, {"action": np.zeros((2, 3))}, ValueError, r"action has the shape \(2, 3\): it must be \(2, 2\), n_envs=2"),
    (BOX, {"action": np.zeros(2)}, ValueError, r"action has the shape \(2,\)"),
    (BOX, {"action": np.full((2, 2), 2.0)}, ValueError, r"action=.* is beyond \[-1, 1\]: it must be scaled"),
    (BOX, {"action": np.array([["a", "b"]] * 2)}, TypeError, "action is of the type <U1"),
    (BOX, {"action": np.array([[0, np.nan], [0, 0]])}, NonFiniteError, r"action at position \(1,\) is nan in environment 0"),
    (BOX, {"reward": np.array([0, np.inf])}, NonFiniteError, "reward is inf in environment 1"),
    (BOX, {"obs": np.full((2, 2), np.nan)}, NonFiniteError, "obs at position"),
    (BOX, {"next_obs": np.full((2, 2), np.nan)}, NonFiniteError, "next_obs at position"),
    (ITEMS, {"action": np.array([0, 9])}, ValueError, r"action=\[0, 9\]: an item must be from 0 to 8"),
    (ITEMS, {"action": np.array([-1, 0])}, ValueError, "an item must be from 0 to 8"),
    (ITEMS, {"action": np.array([0.0, 1.0])}, TypeError, "action is of the type float64: it must hold items"),
    (ITEMS, {"action": np.array([0])}, ValueError, r"action has the shape \(1,\): it must be \(2,\), n_envs=2"),
]


@pytest.mark.parametrize("action_space, wrong, error, message", BAD_TRANSITIONS)
def test_a_wrong_transition_is_refused(action_space, wrong, error, message):
    model = make("plain", action_space)
    action = ZEROS if action_space is BOX else np.zeros(2, int)
    right = {"obs": ZEROS, "next_obs": ZEROS, "action": action, "reward": np.zeros(2), "done": np.zeros(2)}
    with pytest.raises(error, match=message):
        model.replay_buffer.add(**{**right, **wrong}, infos=[{}, {}])
    assert model.replay_buffer.size() == 0


def test_plain_transitions_with_masks():
    model = SAVO("MlpPolicy", Board(), **{**SMALL, "learning_starts": 0})

    def draw(env):
        return np.array([np.random.choice(np.flatnonzero(env.env_method("action_masks")[0]))])

    taken = fill(model, 20, draw)
    samples = model.replay_buffer.sample(200)
    # The item taken is allowed, the others may not be
    assert (samples.candidate_items == samples.actions).all()
    assert th.equal(model.policy.items.embed(samples.candidate_items), samples.candidates)
    goes_on = samples.dones.squeeze(1) == 0
    assert th.equal(samples.next_action_masks[goes_on], (samples.next_observations == 0)[goes_on])
    assert len(taken) == 20
    model.learn(20)
    with pytest.raises(ValueError, match=r"infos\[0\] holds no 'action_masks': the mask at the next observation is needed"):
        model.replay_buffer.add(np.zeros((1, 9)), np.zeros((1, 9)), np.array([0]), np.zeros(1), np.zeros(1), [{}])


# Masks


@pytest.mark.parametrize("algorithm", [SAVO, Ensemble, Wolpertinger, CEM])
@pytest.mark.parametrize("convert", [np.asarray, list, lambda m: m.astype(int), lambda m: m.astype(float)])
def test_no_item_is_left_at_a_terminal_state(algorithm, convert):
    env = DummyVecEnv([lambda: Board(convert=convert)] * 2)
    model = algorithm("MlpPolicy", env, **SMALL).learn(100)
    masks = model.replay_buffer.sample(200).next_action_masks
    assert masks.any(dim=1).all() and model._n_updates > 0


@pytest.mark.expensive
def test_no_item_is_left_at_a_terminal_state_compiled(recwarn, monkeypatch):
    monkeypatch.setattr("sb3_savo.acceleration.compiled_losses.EAGER_STEPS", 0)
    model = SAVO("MlpPolicy", Board(), compile=True, **SMALL).learn(80)
    assert model.updater.is_compiled
    assert not [warning for warning in recwarn if "compile" in str(warning.message)]


WRONG_MASKS = [
    (lambda mask: mask & False, "of environment 1 at step 24 allows none of the 9 items"),
    (lambda mask: mask[:-1], r"of environment 1 at step 24 has the shape \(8,\): it must be \(9,\)"),
    (lambda mask: mask * 0.5, "of environment 1 at step 24 holds 0.5: an entry must be True or False"),
    (lambda mask: np.where(mask, np.nan, 0), "of environment 1 at step 24 holds nan"),
    (lambda mask: mask * 2, "of environment 1 at step 24 holds 2"),
    (lambda mask: ["yes"] * 9, "of environment 1 at step 24 is of the type <U3"),
    (lambda mask: None, "of environment 1 at step 24 is of the type object"),
]


@pytest.mark.parametrize("convert, message", WRONG_MASKS)
def test_a_wrong_mask_is_named(convert, message):
    env = DummyVecEnv([Board, lambda: Board(convert=convert, fault_at=12)])
    model = SAVO("MlpPolicy", env, **SMALL)
    with pytest.raises(ValueError, match="^action_masks " + message):
        model.learn(100)
    assert model.replay_buffer.size() == 11
    model = SAVO("MlpPolicy", Board(convert=convert), **SMALL)
    with pytest.raises(ValueError, match=r"^action_masks of environment 0 at step 0"):
        model.learn(10)


def test_no_item_is_left_at_a_truncated_state():
    model = SAVO("MlpPolicy", Board(end="truncated"), **SMALL)
    message = r"action_masks \(info of environment 0 at step 9\) allows none .* the state is truncated, not terminal"
    with pytest.raises(ValueError, match=message):
        model.learn(100)
    assert model.replay_buffer.size() == 8


def test_predict_checks_the_masks():
    model = SAVO("MlpPolicy", Board(), **SMALL)
    for masks in (np.full(9, 0.5), np.full(9, np.nan)):
        with pytest.raises(TypeError, match="action_masks is of the type float64: it must be bool"):
            model.predict(np.zeros(9, np.float32), action_masks=masks)
    assert model.predict(np.zeros(9, np.float32), action_masks=[0] * 8 + [1])[0] == 8


# The noise on the action


def noise_of(n):
    return NormalActionNoise(np.zeros(n), 0.3 * np.ones(n))


@pytest.mark.parametrize("algorithm", [SAVO, SAVOSAC, CEM])
@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("n_dims", [1, 2])
def test_noise_that_fits(algorithm, n_envs, n_dims):
    model = make("plain", BOX, n_envs, algorithm, action_noise=noise_of(n_dims), learning_starts=20)
    model.learn(60)
    assert model.replay_buffer.size() == 60 // n_envs


@pytest.mark.parametrize("n_dims", [1, 3])
def test_noise_that_fits_embeddings(n_dims):
    make("plain", ITEMS, action_noise=noise_of(n_dims), learning_starts=20).learn(40)


@pytest.mark.parametrize("learning_starts", [0, 1000])
def test_noise_of_one_dimension_moves_all_dimensions_alike(learning_starts):
    space = spaces.Box(-1, 1, (2, 2), np.float32)
    quiet = {"exploration_noise": None, "gradient_steps": 0, "learning_starts": learning_starts}
    runs = [
        make("plain", space, 1, action_noise=noise, **quiet).learn(1)
        for noise in (None, NormalActionNoise(np.full(1, 0.1), np.zeros(1)))
    ]
    still, moved = (run.replay_buffer.actions[0, 0, :4] for run in runs)
    np.testing.assert_allclose(moved, (still + 0.1).clip(-1, 1), atol=1e-6)


@pytest.mark.parametrize(
    "noise, message",
    [
        (noise_of(3), r"^action_noise=.* returns the shape \(3,\): it must have 2 dimensions"),
        (OrnsteinUhlenbeckActionNoise(np.zeros(3), np.ones(3)), "^action_noise=.* it must have 2 dimensions"),
        (VectorizedActionNoise(noise_of(2), 3), "^action_noise=.* is for 3 environments: it must be for 2"),
        (noise_of(0), "^action_noise="),
    ],
)
@pytest.mark.parametrize("algorithm", [SAVO, CEM])
def test_noise_of_another_size_stops_before_the_first_step(noise, message, algorithm):
    with pytest.raises(ValueError, match=message):
        make("plain", BOX, 2, algorithm, action_noise=noise)
    model = make("plain", BOX, 2, algorithm)
    model.action_noise = noise
    with pytest.raises(ValueError, match=r"^action_noise="):
        model.learn(40)
    assert model.num_timesteps == 0


def test_checking_the_noise_changes_no_random_number():
    noise = OrnsteinUhlenbeckActionNoise(np.zeros(2), np.ones(2))
    quiet = {"action_noise": noise, "exploration_noise": None, "gradient_steps": 0, "learning_starts": 0, "n_envs": 1}
    model = make("plain", BOX, **quiet)
    states = []
    model.learn(1, callback=lambda *_: True)
    states.append(np.random.get_state()[2])
    assert noise.noise_prev.any()
    expected = make("plain", BOX, **{**quiet, "action_noise": OrnsteinUhlenbeckActionNoise(np.zeros(2), np.ones(2))})
    np.random.seed(5)
    expected._setup_learn(1)
    assert np.random.get_state()[2] == np.random.RandomState(5).get_state()[2] and not expected.action_noise.noise_prev.any()
