"""
Batches get to a GPU without a wait, and a gradient step asks a GPU for no value.

Here the device ``meta`` stands for a GPU. It computes shapes and no values, so whoever asks for a value fails.
"""

import pickle
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecNormalize
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sb3_savo import SAVO
from sb3_savo.acceleration.uploads import sample_batch, upload
from sb3_savo.common.buffers import CandidateStorage
from tests.algorithms import ALGORITHMS
from tests.models import BATCH, QUICK
from tests.test_buffers import BOX, ITEMS, Board, Reach
from tests.test_memory import KINDS, add_steps, fill

META = th.device("meta")
CPU = th.device("cpu")
# The fused optimizer knows no such device
NARROW: dict[str, Any] = {"net_arch": [16, 16], "optimizer_kwargs": {"fused": False}}


class NoWaits(TorchDispatchMode):
    """Fails where a tensor on the CPU meets one on the device: a GPU would have to wait for it to be copied."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        leaves = tree_leaves((args, kwargs, result))
        devices = {leaf.device.type for leaf in leaves if isinstance(leaf, th.Tensor) and leaf.dim()}
        assert len(devices) <= 1, f"{func} of tensors on {devices}"
        return result


def uploaded(tensor: th.Tensor, device: th.device) -> th.Tensor:
    """In place of ``upload``: it may copy."""
    assert tensor.device == CPU
    return th.empty(tensor.shape, dtype=tensor.dtype, device=device)


@contextmanager
def meta_as_gpu() -> Iterator[None]:
    """A model can be made on the device, and its gradient steps are all that it is asked for."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(th, "autocast", lambda *args, **kwargs: nullcontext())
        patched.setattr(th, "is_autocast_enabled", lambda *args: False)
        patched.setattr("stable_baselines3.common.policies.get_device", lambda *args: META)
        patched.setattr("sb3_savo.acceleration.uploads.upload", uploaded)
        patched.setattr("sb3_savo.common.updater.Updater.pop_metrics", lambda self: {})
        yield


TASKS: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "box": ("MlpPolicy", lambda: make_vec_env("Pendulum-v1", n_envs=2), {}),
    "n-step": ("MlpPolicy", lambda: make_vec_env("Pendulum-v1"), {"n_steps": 3}),
    "images": ("CnnPolicy", lambda: FakeImageEnv(36, 36, discrete=False), {}),
    "normalized": ("MlpPolicy", lambda: VecNormalize(make_vec_env("Pendulum-v1")), {}),
    "her": ("MultiInputPolicy", Reach, {"replay_buffer_class": HerReplayBuffer}),
    "items": ("MlpPolicy", lambda: make_vec_env("MiningExpedition-v0"), {}),
    "masks": ("MlpPolicy", Board, {}),
}
VARIANTS: list[dict[str, Any]] = [
    {"surrogate": "approximate"},
    {"surrogate": "hybrid", "saturation_penalty": 1.0},
    {"surrogate": "exact", "n_target_critics": 2, "policy_kwargs": {"n_critics": 3}},
    {"surrogate": None},
    {"q_smoothing": True},
    {"target_policy_noise": 0.2},
    {"summarizer": "lstm"},
    {"summarizer": "transformer", "surrogate": "approximate"},
    {"modulation": "mlp", "joint_action": True},
    {"optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}},
    {"n_actors": 1},
]


def cases() -> list[Any]:
    found = []
    for algorithm in ALGORITHMS:
        for name, task in TASKS.items():
            is_for_all = name in ("box", "her") or (name == "masks" and algorithm.takes_items)
            if algorithm is SAVO or is_for_all:
                found.append(pytest.param(algorithm, *task, id=f"{algorithm.__name__}-{name}"))
    for kwargs in VARIANTS:
        found.append(pytest.param(SAVO, *TASKS["box"][:2], kwargs, id=str(kwargs)))
    return found


@pytest.mark.parametrize(("algorithm", "policy", "make_env", "kwargs"), cases())
def test_a_gradient_step_asks_a_gpu_for_no_value(algorithm, policy, make_env, kwargs):
    kwargs = {**QUICK, **kwargs, "policy_kwargs": {**NARROW, **kwargs.get("policy_kwargs", {})}}
    on_cpu = algorithm(policy, make_env(), **kwargs).learn(60)
    with meta_as_gpu():
        with META:
            model = algorithm(policy, on_cpu.get_env(), **{**kwargs, "device": META})
        model.replay_buffer = on_cpu.replay_buffer
        model.replay_buffer.device = META
        model.set_logger(configure(None, []))
        model._vec_normalize_env = on_cpu._vec_normalize_env
        # The first gradient steps make the states of the optimizers, and put the memory on the GPU
        model.train(2, BATCH)
        with NoWaits():
            model.train(4, BATCH)
    assert model._n_updates == 6


def test_a_value_would_be_noticed():
    """The test above can fail."""
    with pytest.raises(NotImplementedError), meta_as_gpu():
        th.ones(3, device=META).cpu()
    with pytest.raises(RuntimeError), meta_as_gpu():
        th.ones(3, device=META).sum().item()
    with pytest.raises(AssertionError, match="cpu"), meta_as_gpu(), NoWaits():
        th.ones(3, device=META)[th.arange(2)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("space", [BOX, ITEMS], ids=["box", "items"])
def test_a_memory_on_a_gpu_is_the_memory_on_the_cpu(kind, space, monkeypatch):
    """The same actions are recalled, replaced, overwritten by new transitions, and pickled."""
    rows, every_row = th.tensor([3, 8, 19]), th.arange(20)
    new = th.tensor([5, 0, 2]) if space is ITEMS else th.tensor([[0.5, -0.25], [0.75, 0.125], [-1.0, 1.0]])

    def remembered() -> list[Any]:
        buffer, _ = fill(kind, space)
        recalled = [buffer.recall(every_row)]
        buffer.remember(rows, new)
        recalled.append(buffer.recall(every_row))
        # Rows 6 to 13; row 8 is one of them
        add_steps(buffer, 4)
        recalled.append(buffer.recall(every_row))
        again = pickle.loads(pickle.dumps(buffer))
        return [*recalled, again.recall(every_row), th.tensor(again.known_actions), th.tensor(buffer.known_actions)]

    expected = remembered()
    assert [th.equal(expected[i], expected[i + 1]) for i in range(3)] == [False, False, True]
    monkeypatch.setattr(CandidateStorage, "is_on_gpu", True)
    for on_gpu, on_cpu in zip(remembered(), expected, strict=True):
        assert on_gpu.dtype == on_cpu.dtype and th.equal(on_gpu, on_cpu)


def test_a_memory_returns_to_the_cpu(monkeypatch):
    """The buffer of a model on a GPU is given to a model on the CPU."""
    buffer, _ = fill(KINDS[0], BOX)
    rows, new = th.tensor([3, 8]), th.tensor([[0.5, -0.25], [0.75, 0.125]])
    with monkeypatch.context() as patched:
        patched.setattr(CandidateStorage, "is_on_gpu", True)
        buffer.remember(rows, new)
    assert th.equal(buffer.recall(rows), new)
    buffer.remember(rows, -new)
    assert th.equal(buffer.recall(rows), -new)


@pytest.mark.parametrize("kind", KINDS)
def test_batches_are_made_on_the_cpu_and_uploaded(kind, monkeypatch):
    """Every tensor of them, and the values are those that the buffer would give itself."""
    buffer, _ = fill(kind, ITEMS)
    np.random.seed(0)
    expected = buffer.sample(BATCH)
    uploads = []
    monkeypatch.setattr("sb3_savo.acceleration.uploads.upload", lambda tensor, device: uploads.append(tensor) or tensor)
    buffer.device = META
    np.random.seed(0)
    batch = sample_batch(buffer, BATCH, None)
    assert buffer.device == META
    leaves = [leaf for leaf in tree_leaves(batch) if leaf is not None]
    assert {id(leaf) for leaf in leaves} == {id(tensor) for tensor in uploads}
    for got, wanted in zip(leaves, [leaf for leaf in tree_leaves(expected) if leaf is not None], strict=True):
        assert got.dtype == wanted.dtype and th.equal(got, wanted)


def test_a_buffer_of_a_users_own_is_asked_as_it_is():
    """It may keep its transitions on the GPU."""

    class OnDevice(ReplayBuffer):
        def sample(self, batch_size, env=None):
            return self.device

    buffer = OnDevice(10, BOX, BOX, device="cpu")
    buffer.device = META
    assert sample_batch(buffer, 3, None) == META


def test_pinned_memory_is_for_cuda_alone():
    tensor = th.ones(3)
    assert upload(tensor, CPU) is tensor
    assert upload(tensor, META).device == META
