"""What makes the update fast and must not change it: networks as vectors, batches sampled at once, compilation, precision."""

import copy
import os
import pickle
import platform
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import TD3
from stable_baselines3.common.buffers import DictReplayBuffer
from stable_baselines3.common.envs import IdentityEnv, SimpleMultiObsEnv
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from sb3_savo import CEM, SAVO, SAVOSAC, ActionEmbedding, Ensemble, GreedyTD3
from sb3_savo.common.updater import LONG_RUN
from sb3_savo.networks.parameter_vector import ALIGNMENT, FlatParameters

ENV_ID = "InvertedDoublePendulumRestricted-v5"
SMALL = {"learning_starts": 40, "batch_size": 16, "buffer_size": 400, "seed": 0, "device": "cpu"}
SMALL["policy_kwargs"] = {"net_arch": [24, 16]}


class BatchNormExtractor(BaseFeaturesExtractor):
    """A user's own extractor, with running statistics and dropout-free layers."""

    def __init__(self, observation_space):
        super().__init__(observation_space, 8)
        self.net = nn.Sequential(nn.Linear(observation_space.shape[0], 8), nn.BatchNorm1d(8), nn.ReLU())

    def forward(self, observations):
        return self.net(observations)


class BranchingExtractor(BaseFeaturesExtractor):
    """Looks at its data in Python, which cannot be traced."""

    def __init__(self, observation_space):
        super().__init__(observation_space, observation_space.shape[0])
        self.scale = nn.Parameter(th.ones(1))

    def forward(self, observations):
        return self.scale * observations if observations.sum() > 0 else observations


EMBEDDINGS = np.random.default_rng(0).uniform(-1, 1, (1_000, 3)).astype(np.float32)


class ManyItems(ActionEmbedding):
    """SB3's identity task with 1,000 items, whose next state is drawn from its action space."""

    def __init__(self):
        super().__init__(IdentityEnv(dim=1_000), EMBEDDINGS)
        self.env.action_space.seed(0)


class MaskedItems(ManyItems):
    """Every other item is allowed."""

    def action_masks(self):
        return np.arange(1_000) % 2 == 0


def same_twice(make, n_steps=4):
    """Two models of the same weights and transitions, after some gradient steps: one of them compiled."""
    models = []
    for compile in (False, True):
        model = make(compile)
        model.learn(60)
        model.compiles = compile
        model.set_random_seed(1)
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # that it cannot be compiled
            model.train(n_steps, batch_size=16)
        assert model.compiles is compile
        models.append(model)
    return models


@pytest.mark.parametrize("case", ["continuous", "discrete", "batch norm"])
def test_compiled_and_eager_updates_are_the_same(case):
    """With the target's noise, so that the random numbers must be the same too."""
    kwargs = dict(SMALL, target_policy_noise=0.2)
    if case == "discrete":
        kwargs |= {"surrogate": "hybrid", "target_policy_noise": 0.0, "policy_kwargs": {"net_arch": [16]}}
    if case == "batch norm":
        extractor = {"features_extractor_class": BatchNormExtractor, "share_features_extractor": True}
        kwargs |= {"n_actors": 1, "policy_kwargs": {"net_arch": [16], **extractor}}
    env = "MiningExpedition-v0" if case == "discrete" else ENV_ID

    def make(compile):
        # No gradient step before: the frame of learn() compiles or not by itself
        return SAVO("MlpPolicy", env, compile=compile, **{**kwargs, "learning_starts": 100})

    eager, compiled = same_twice(make)
    other = compiled.policy.state_dict()
    for name, value in eager.policy.state_dict().items():
        th.testing.assert_close(other[name], value, rtol=1e-4, atol=2e-5, msg=lambda message, name=name: f"{name}: {message}")
    logged = compiled.logger.name_to_value
    for name, value in eager.logger.name_to_value.items():
        if name.startswith("train/"):
            assert logged[name] == pytest.approx(value, rel=1e-3, abs=1e-5), name


def test_nearest_items_in_a_compiled_update():
    """Searched for by an operator that the compiler leaves alone: with masks, and by an index."""
    for kwargs in ({"nearest": "approximate"}, {}):

        def make(compile, kwargs=kwargs):
            env = ManyItems() if kwargs else MaskedItems()
            # (By SGD: where hardly any gradient is, Adam makes steps of its rounding.)
            plain = {"net_arch": [16], "optimizer_class": th.optim.SGD}
            options = {**SMALL, "learning_starts": 100, "learning_rate": 0.01, "policy_kwargs": plain, **kwargs}
            # (One loss is compiled, that of the critics, whose target is at items.)
            return SAVO(
                "MlpPolicy", env, compile=compile, n_actors=2, surrogate=None, q_smoothing=False, policy_delay=10, **options
            )

        eager, compiled = same_twice(make)
        assert compiled.has_masks is not bool(kwargs)
        for name, value in eager.policy.state_dict().items():
            th.testing.assert_close(compiled.policy.state_dict()[name], value, rtol=1e-4, atol=2e-5)


def test_what_cannot_be_compiled_runs_without():
    kwargs = {**SMALL, "policy_kwargs": {"net_arch": [8], "features_extractor_class": BranchingExtractor}}
    model = SAVO("MlpPolicy", ENV_ID, compile=True, **kwargs)
    with pytest.warns(UserWarning, match="compile=True: critic_loss cannot be compiled here, training goes on without"):
        model.learn(50)
    assert not model.compiles and model._n_updates == 10
    assert np.isfinite(model.logger.name_to_value["train/critic_loss"])


def test_a_compiler_that_fails(tmp_path, monkeypatch):
    """Its own last words are in the warning."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("CXX", str(tmp_path / "none"))
    model = SAVO("MlpPolicy", ENV_ID, compile=True, n_actors=1, **SMALL)
    with pytest.warns(
        UserWarning, match="critic_loss cannot be compiled here, training goes on without: RuntimeError: .*none"
    ):
        model.learn(50)
    assert not model.compiles and model._n_updates == 10
    assert not list(tmp_path.rglob("*.pt2"))


def test_what_was_compiled_is_found_again(tmp_path, monkeypatch):
    """And the compiler's process leaves nothing but its package (here of one loss, the critics')."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    processes = []
    monkeypatch.setattr(
        subprocess, "run", lambda *args, run=subprocess.run, **kwargs: processes.append(0) or run(*args, **kwargs)
    )

    def updated():
        model = SAVO("MlpPolicy", ENV_ID, compile=True, n_actors=1, policy_delay=100, **SMALL).learn(50)
        assert model.compiles
        return model.critic.flat.vector

    first = updated()
    packages = sorted(path.name for path in (tmp_path / "sb3_savo").iterdir())
    assert len(processes) == len(packages) == 1 and packages[0].endswith(".pt2")
    assert th.equal(first, updated()) and len(processes) == 1


def test_auto_compiles_long_runs(capsys):
    def planned(total_timesteps, **kwargs):
        model = SAVO("MlpPolicy", ENV_ID, **{**SMALL, **kwargs})
        model._setup_learn(total_timesteps)
        return model.gradient_steps_until(total_timesteps), model.compiles

    assert planned(LONG_RUN + 39) == (LONG_RUN - 1, False)
    assert planned(LONG_RUN + 40, verbose=1) == (LONG_RUN, True)
    assert "Compiling the losses (compile='auto'" in capsys.readouterr().out
    assert planned(LONG_RUN + 40, compile=False) == (LONG_RUN, False)
    assert planned(50, compile=True) == (10, True)
    assert planned(1_040, train_freq=4, gradient_steps=2) == (500, False)
    assert planned(LONG_RUN + 40, train_freq=4, gradient_steps=-1) == (LONG_RUN, True)
    assert planned(10**6, train_freq=(1, "episode"), gradient_steps=3) == (0, False)
    model = SAVO("MlpPolicy", ENV_ID, **SMALL)
    model.learn(60)
    model._setup_learn(10**6, reset_num_timesteps=False)
    assert model.compiles


def test_arguments():
    with pytest.raises(ValueError, match=r"compile='yes' is not known: it must be one of True, False, 'auto'"):
        SAVO("MlpPolicy", ENV_ID, compile="yes")
    with pytest.raises(ValueError, match="precision='low' is not known: it must be one of 'highest', 'medium'"):
        SAVO("MlpPolicy", ENV_ID, precision="low")
    for name in ("compile", "precision"):
        with pytest.raises(TypeError, match=f"{name}=.* is not an argument of SAVOSAC"):
            SAVOSAC("MlpPolicy", ENV_ID, **{name: False})


def test_saving_and_resuming_after_compilation(tmp_path):
    """A compiled run is saved as any other, and goes on with or without compilation."""
    # (One loss is compiled, that of the critics.)
    first = SAVO("MlpPolicy", ENV_ID, compile=True, n_actors=1, policy_delay=100, **SMALL).learn(50)
    assert first.compiles and first._compiled
    first.save(tmp_path / "model")
    for compile in (True, False):
        loaded = SAVO.load(tmp_path / "model", env=first.env, custom_objects={"compile": compile})
        assert not loaded._compiled and loaded.compiles is compile
        saved, found = first.critic.optimizer.state_dict()["state"], loaded.critic.optimizer.state_dict()["state"]
        assert all(th.equal(found[0][key], value) for key, value in saved[0].items())
        obs = np.random.default_rng(0).normal(size=(5, *loaded.observation_space.shape)).astype(np.float32)
        np.testing.assert_array_equal(loaded.predict(obs)[0], first.predict(obs)[0])
        before = loaded.critic.flat.vector.clone()
        loaded.learn(50, reset_num_timesteps=False)
        assert loaded.compiles is compile and not th.equal(before, loaded.critic.flat.vector)


@pytest.mark.parametrize("precision", ["highest", "medium"])
def test_precision(precision):
    """The losses of wide networks with bfloat16 factors are near those in float32, and not the same."""
    kwargs = {**SMALL, "batch_size": 64, "policy_kwargs": {"net_arch": [256, 256]}}
    model = SAVO("MlpPolicy", ENV_ID, precision=precision, **kwargs).learn(100)
    batch = model.replay_buffer.sample(64)
    for name, loss_function in (
        ("critic", model.critic_loss),
        ("surrogates", model.surrogate_loss),
        ("actor", model.actor_loss),
    ):
        exact = loss_function(batch)
        flat = getattr(model, name).flat
        exact_gradient = flat.gradient(exact)
        with model.reduced_precision():
            loss = loss_function(batch)
        gradient = flat.gradient(loss)
        assert gradient.dtype == th.float32
        assert (th.equal(loss, exact) and th.equal(gradient, exact_gradient)) == (precision == "highest")
        assert loss.item() == pytest.approx(exact.item(), rel=0.02, abs=0.01)
        assert th.cosine_similarity(gradient, exact_gradient, dim=0) > 0.98


def test_precision_leaves_narrow_networks_alone():
    model = SAVO("MlpPolicy", ENV_ID, precision="medium", **SMALL).learn(60)
    batch = model.replay_buffer.sample(16)
    with model.reduced_precision():
        loss = model.critic_loss(batch)
    assert th.equal(loss, model.critic_loss(batch))


# One vector per network


def is_flat(network):
    """Whether a network's own parameters are the parts of its vector, at cache lines."""
    base, width = network.flat.vector.data_ptr(), network.flat.vector.element_size()
    offsets = [(parameter.data_ptr() - base) // width for parameter in network.flat.parameters]
    return offsets == network.flat.starts and not any(offset % ALIGNMENT for offset in offsets)


@pytest.mark.parametrize("algorithm", [SAVO, SAVOSAC, Ensemble, CEM, GreedyTD3])
@pytest.mark.parametrize("share", [False, True])
def test_networks_are_vectors(algorithm, share, tmp_path):
    kwargs = {**SMALL, "policy_kwargs": {"net_arch": [8], "features_extractor_class": BatchNormExtractor}}
    if algorithm is CEM:
        if share:
            pytest.skip("CEM has no actor to share with")
    else:
        kwargs["policy_kwargs"]["share_features_extractor"] = share
    model = algorithm("MlpPolicy", ENV_ID, **kwargs).learn(60)
    model.save(tmp_path / "model")
    for each in (model, algorithm.load(tmp_path / "model")):
        networks = [getattr(each.policy, name) for name in each.policy.target_names] + list(each.policy.learners.values())
        assert len(networks) >= 2 and all(is_flat(network) for network in networks)
        own = [id(parameter) for learner in each.policy.learners.values() for parameter in learner.flat.parameters]
        assert len(own) == len(set(own))
        learned = {id(parameter) for learner in each.policy.learners.values() for parameter in learner.parameters()}
        assert set(own) == learned


def test_targets_of_a_shared_extractor_follow():
    """Also where the target's is its own, as SAVOSAC's is."""
    for algorithm in (SAVO, SAVOSAC):
        kwargs = {**SMALL, "policy_kwargs": {"net_arch": [8], "features_extractor_class": BatchNormExtractor}}
        kwargs["policy_kwargs"]["share_features_extractor"] = True
        model = algorithm("MlpPolicy", ENV_ID, tau=0.25, **kwargs)
        online, target = model.critic.features_extractor, model.critic_target.features_extractor
        before = [parameter.clone() for parameter in target.parameters()]
        for parameter in online.parameters():
            parameter.data += 1
        model.sync_targets()
        for found, old, new in zip(target.parameters(), before, online.parameters(), strict=True):
            th.testing.assert_close(found, 0.75 * old + 0.25 * new)


def test_flat_parameters():
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))
    unused = nn.Parameter(th.ones(2))
    before = [parameter.clone() for parameter in net.parameters()]
    flat = FlatParameters([*net.parameters(), unused])
    assert all(th.equal(*pair) for pair in zip(net.parameters(), before, strict=True))
    loss = net(th.ones(4, 3)).square().mean()
    expected = [*th.autograd.grad(loss, list(net.parameters()), retain_graph=True), th.zeros(2)]
    gradient = flat.gradient(loss)
    assert gradient.shape == flat.vector.shape
    assert all(th.equal(*pair) for pair in zip(flat.views(gradient), expected, strict=True))
    norm = th.cat([part.flatten() for part in expected]).norm()
    for max_norm in (norm.item() / 3, 3 * norm.item()):
        clipped = flat.gradient(net(th.ones(4, 3)).square().mean(), max_norm)
        assert clipped.norm().item() == pytest.approx(min(max_norm, norm.item()), rel=1e-4)
    with th.no_grad():
        flat.vector.sub_(gradient)
    for parameter, old, part in zip(net.parameters(), before, expected, strict=False):
        assert th.equal(parameter, old - part)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda policy: pickle.loads(pickle.dumps(policy)), lambda policy: policy.double()]
)
def test_a_copied_or_converted_policy_still_learns(copied):
    model = Ensemble("MlpPolicy", ENV_ID, **SMALL).learn(60)
    policy = copied(model.policy)
    assert all(is_flat(network) for network in (policy.actor, policy.critic, policy.actor_target, policy.critic_target))
    before = policy.critic.q_networks.output.weight.clone()
    (vector,) = policy.critic.optimizer.param_groups[0]["params"]
    assert vector is policy.critic.flat.vector
    with th.no_grad():
        vector += 1
    assert th.equal(policy.critic.q_networks.output.weight, before + 1)


def test_any_optimizer():
    for kwargs in ({"optimizer_class": th.optim.RMSprop}, {"optimizer_kwargs": {"weight_decay": 0.1, "foreach": True}}):
        options = {**SMALL, "policy_kwargs": {"net_arch": [8], **kwargs}}
        model = SAVO("MlpPolicy", ENV_ID, **options)
        before = model.critic.flat.vector.clone()
        model.learn(60)
        assert not th.equal(before, model.critic.flat.vector)
        assert isinstance(model.critic.optimizer, kwargs.get("optimizer_class", th.optim.Adam))


# Batches


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_batches_are_sampled_at_once(at_once, monkeypatch):
    """As many as fit, and the same as one by one."""
    model = SAVO("MultiInputPolicy", SimpleMultiObsEnv(discrete_actions=False), **SMALL).learn(60)
    observations = model.observation_space.spaces.values()
    batch_bytes = 16 * sum(space.dtype.itemsize * int(np.prod(space.shape)) for space in observations)
    monkeypatch.setattr("sb3_savo.common.updater.SAMPLED_BYTES", at_once * batch_bytes)
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


# Memory


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
@pytest.mark.parametrize("setting", [None, "MALLOC_MMAP_THRESHOLD_"])
def test_freed_memory_is_kept(setting):
    """Once the pages are there, large tensors have no more faults, unless the environment sets the allocator's options."""
    script = """
import resource, torch
from sb3_savo.acceleration.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        tensors = [torch.ones(2**18 * n) for n in (1, 5, 9, 13, 17)]
        del tensors
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_freed_memory()
faults()
print(faults())
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    if setting is not None:
        environment[setting] = str(2**17)
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert (int(done.stdout) < 1_000) == (setting is None)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's /proc")
def test_long_training_takes_no_more_memory_than_short():
    """What is recorded in every gradient step does not hold the memory apart that the others need again."""
    script = """
from sb3_savo import SAVO

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
