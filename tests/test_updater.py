"""Gradient steps: batches, precision, and memory."""

import subprocess
import sys

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import TD3
from stable_baselines3.common.buffers import DictReplayBuffer
from stable_baselines3.common.envs import SimpleMultiObsEnv

from sb3_savo import SAVO
from tests.models import SMALL

ENV_ID = "InvertedDoublePendulumRestricted-v5"


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_batches_are_sampled_at_once(at_once, monkeypatch):
    """As many as fit, and the same as one by one."""
    model = SAVO("MultiInputPolicy", SimpleMultiObsEnv(discrete_actions=False), **SMALL).learn(60)
    observations = model.observation_space.spaces.values()
    batch_bytes = 16 * sum(space.dtype.itemsize * int(np.prod(space.shape)) for space in observations)
    monkeypatch.setattr("sb3_savo.common.training.MAX_SAMPLE_BYTES", at_once * batch_bytes)
    sizes = []
    sample = DictReplayBuffer.sample
    monkeypatch.setattr(DictReplayBuffer, "sample", lambda self, n, env=None: sizes.append(n) or sample(self, n, env=env))
    np.random.seed(3)
    batches = list(model.batches(7, 16))
    assert sizes == [16 * n for n in {1: [1] * 7, 3: [3, 3, 1], 100: [7]}[at_once]]
    assert model._n_updates == 20 + 7
    np.random.seed(3)
    for batch in batches:
        single = model.replay_buffer.sample(16)
        assert type(batch) is type(single) and batch.discounts is None
        for name in ("actions", "rewards", "dones", "candidates"):
            assert th.equal(getattr(batch, name), getattr(single, name))
        assert batch.observations.keys() == single.observations.keys()
        assert all(th.equal(value, single.observations[key]) for key, value in batch.observations.items())


def test_several_gradient_steps_are_those_of_td3():
    """TD3 samples for one at a time: the random numbers are the same."""
    td3 = TD3("MlpPolicy", ENV_ID, **{**SMALL, "policy_kwargs": {"net_arch": [8]}}).learn(60)
    savo = SAVO("MlpPolicy", ENV_ID, n_actors=1, **SMALL).learn(60)
    assert isinstance(savo.action_space, spaces.Box)
    savo.replay_buffer = td3.replay_buffer
    np.random.seed(0)
    batches = list(savo.batches(5, 16))
    np.random.seed(0)
    for batch in batches:
        single = td3.replay_buffer.sample(16)
        assert all(th.equal(getattr(batch, name), getattr(single, name)) for name in ("observations", "actions", "rewards"))


@pytest.mark.parametrize("precision", ["highest", "medium"])
def test_precision(precision, monkeypatch):
    """The losses of wide networks with bfloat16 factors are near those in float32, and not the same."""
    monkeypatch.setattr("sb3_savo.common.learning.has_bfloat16_hardware", lambda device: True)
    kwargs = {**SMALL, "batch_size": 64, "policy_kwargs": {"net_arch": [256, 256]}}
    model = SAVO("MlpPolicy", ENV_ID, surrogate="approximate", precision=precision, max_grad_norm=None, **kwargs).learn(100)
    batch = model.replay_buffer.sample(64)
    for name, loss_function in (
        ("critic", model.critic_loss),
        ("surrogates", model.surrogate_loss),
        ("actor", model.actor_loss),
    ):
        exact = loss_function(batch)[0]
        exact_gradient = getattr(model, name).parameter_vector.gradient(exact)
        loss, _, gradient = model.updater._eager_gradient(name, loss_function, (batch,))
        assert gradient.dtype == th.float32
        assert (th.equal(loss, exact) and th.equal(gradient, exact_gradient)) == (precision == "highest")
        assert loss.item() == pytest.approx(exact.item(), rel=0.02, abs=0.01)
        assert th.cosine_similarity(gradient, exact_gradient, dim=0) > 0.98


def test_precision_leaves_narrow_networks_alone(monkeypatch):
    monkeypatch.setattr("sb3_savo.common.learning.has_bfloat16_hardware", lambda device: True)
    model = SAVO("MlpPolicy", ENV_ID, precision="medium", **SMALL).learn(60)
    batch = model.replay_buffer.sample(16)
    loss, _, _ = model.updater._eager_gradient("critic", model.critic_loss, (batch,))
    assert th.equal(loss, model.critic_loss(batch)[0])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's /proc")
def test_long_training_takes_no_more_memory_than_short():
    """What is recorded in every gradient step does not hold the memory apart that the others need again."""
    script = """
from sb3_savo import SAVO
from tests.models import SMALL

def resident():
    return next(int(line.split()[1]) // 2**10 for line in open("/proc/self/status") if line.startswith("VmRSS"))

kwargs = {"learning_starts": 100, "batch_size": 256, "buffer_size": 400, "seed": 0, "device": "cpu", "compile": False}
model = SAVO("MlpPolicy", "HopperRestricted-v5", policy_kwargs={"net_arch": [256, 256]}, **kwargs).learn(110)
before = resident()
model.train(150, batch_size=256)
print(resident() - before)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 50
