"""Several threads predict with one model, also while it learns: every answer is what one thread alone would get."""

import threading
from concurrent.futures import ThreadPoolExecutor

import gymnasium as gym
import numpy as np
import pytest
import torch as th

from sb3_savo import SAVO, ActionEmbedding, EmbeddedDiscrete
from sb3_savo.algorithms import ALGORITHMS
from sb3_savo.common.update_lock import UpdateLock
from tests.models import QUICK, SMALL, BatchNormExtractor

N_THREADS = 8
CONTINUOUS = list(ALGORITHMS.values())
ITEMS = [algorithm for name, algorithm in ALGORITHMS.items() if name != "savosac"]


class Shop(gym.Env):
    def __init__(self):
        self.observation_space = gym.spaces.Box(-1, 1, (3,), np.float32)
        self.action_space = EmbeddedDiscrete(np.random.default_rng(0).normal(size=(500, 4)))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.look(), {}

    def step(self, action):
        return self.look(), float(action % 7), False, bool(self.np_random.random() < 0.1), {}

    def look(self):
        return self.np_random.uniform(-1, 1, 3).astype(np.float32)


def in_threads(function, n=N_THREADS):
    """:return: The function's results for 0 … n - 1, each in a thread of its own, all begun at once"""
    barrier = threading.Barrier(n)

    def run(i):
        barrier.wait()
        return function(i)

    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(run, range(n)))


CASES = [
    *(pytest.param(algorithm, "Pendulum-v1", id=f"{algorithm.__name__}, continuous") for algorithm in CONTINUOUS),
    *(pytest.param(algorithm, Shop, id=f"{algorithm.__name__}, items") for algorithm in ITEMS),
]


def make(algorithm, env, **kwargs):
    model = algorithm("MlpPolicy", env if isinstance(env, str) else env(), **{**SMALL, **kwargs})
    with th.no_grad():
        for parameter in model.policy.parameters():
            parameter += 0.3 * th.randn_like(parameter)
    return model


@pytest.mark.parametrize("algorithm, env", CASES)
def test_threads_predict(algorithm, env):
    model = make(algorithm, env)
    rng = np.random.default_rng(0)
    observations = [rng.uniform(-1, 1, (1 + i % 4, 3)).astype(np.float32) for i in range(N_THREADS * 10)]
    masks = [rng.random((len(obs), 500)) < 0.3 for obs in observations]
    kwargs = [{"action_masks": mask} if env is Shop and i % 2 else {} for i, mask in enumerate(masks)]

    def predict(i):
        return model.predict(observations[i], deterministic=True, **kwargs[i])[0]

    expected = [predict(i) for i in range(len(observations))]
    found = in_threads(lambda thread: [predict(i) for i in range(thread, len(observations), N_THREADS)])
    for thread, answers in enumerate(found):
        for i, answer in zip(range(thread, len(observations), N_THREADS), answers, strict=True):
            assert np.array_equal(answer, expected[i])


@pytest.mark.parametrize("algorithm, env", CASES)
def test_predictions_leave_learning_alone(algorithm, env):
    """Also a network's mode, on which batch normalization depends."""
    policy_kwargs = {"net_arch": [16], "features_extractor_class": BatchNormExtractor}
    alone, watched = (make(algorithm, env, policy_kwargs=policy_kwargs) for _ in range(2))
    obs = np.random.default_rng(0).uniform(-1, 1, (4, 3)).astype(np.float32)
    stop = threading.Event()

    def watch():
        while not stop.is_set():
            watched.predict(obs, deterministic=True)

    alone.set_random_seed(0)
    alone.learn(80)
    threads = [threading.Thread(target=watch) for _ in range(3)]
    for thread in threads:
        thread.start()
    watched.set_random_seed(0)
    try:
        watched.learn(80)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    for name, value in alone.policy.state_dict().items():
        assert th.equal(value, watched.policy.state_dict()[name]), name


def test_predictions_see_no_half_updated_network():
    """An optimizer that sets all weights to one number: every prediction is that of one of these numbers."""

    class Counting(th.optim.SGD):
        def step(self, closure=None):
            for parameter in self.param_groups[0]["params"]:
                value = parameter.flatten()[0].item() + 1e-3
                for part in parameter.data.chunk(8):
                    part.fill_(value)

    model = SAVO(
        "MlpPolicy", "Pendulum-v1", n_actors=1, policy_delay=1, **{**SMALL, "policy_kwargs": {"optimizer_class": Counting}}
    )
    obs = np.ones((1, 3), np.float32)
    seen, stop = set(), threading.Event()

    def watch():
        while not stop.is_set():
            seen.add(model.predict(obs)[0].item())

    possible = set()
    thread = threading.Thread(target=watch)
    with th.no_grad():
        model.actor.parameter_vector.vector.fill_(0.0)
    possible.add(model.predict(obs)[0].item())
    thread.start()
    try:
        model.learn(80)
    finally:
        stop.set()
        thread.join()
    final = model.actor.parameter_vector.vector.flatten()[0].item()
    vector = model.actor.parameter_vector.vector
    with th.no_grad():
        vector.fill_(0.0)
        while vector.flatten()[0] < final + 1e-9:
            value = vector.flatten()[0].item() + 1e-3
            vector.fill_(value)
            possible.add(model.predict(obs)[0].item())
    assert seen <= possible and len(seen) > 1


def test_an_error_in_a_gradient_step_leaves_the_lock_free():
    model = make(SAVO, "Pendulum-v1")
    model.critic_loss = None
    with pytest.raises(TypeError):
        model.learn(60)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(model.predict(np.zeros(3, np.float32))), daemon=True)
    thread.start()
    thread.join(20)
    assert answers


def test_the_lock_takes_turns():
    lock, order = UpdateLock(), []
    started = threading.Event()

    def wait():
        started.set()
        with lock:
            order.append("waiting")

    with lock, lock:
        thread = threading.Thread(target=wait)
        thread.start()
        started.wait()
        while not lock._queue.locked():
            pass
    with lock:
        order.append("again")
    thread.join()
    assert order == ["waiting", "again"]


def test_actions_of_masked_environments_in_threads():
    env = ActionEmbedding(gym.make("CartPole-v1"), np.eye(2))
    model = SAVO("MlpPolicy", env, **QUICK)
    obs = np.zeros((1, 4), np.float32)
    masks = [np.array([[True, False]]), np.array([[False, True]])]
    found = in_threads(lambda i: {int(model.predict(obs, action_masks=masks[i % 2])[0][0]) for _ in range(50)})
    assert found == [{i % 2} for i in range(N_THREADS)]
