"""A compiled loss equals the eager one."""

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.envs import IdentityEnv
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from sb3_savo import SAVO, SAVOSAC, ActionEmbedding
from sb3_savo.acceleration import ahead_of_time, compiled_losses
from sb3_savo.common.learning import MIN_STEPS_TO_COMPILE
from tests.full_disk import files_of_at_most
from tests.models import SMALL, BatchNormExtractor

ENV_ID = "InvertedDoublePendulumRestricted-v5"


@pytest.fixture(autouse=True)
def _no_eager_steps(monkeypatch):
    """Compiled losses take over at the first gradient step."""
    monkeypatch.setattr(compiled_losses, "EAGER_STEPS", 0)


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
        model.updater.is_compiled = compile
        model.set_random_seed(1)
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # that it cannot be compiled
            model.train(n_steps, batch_size=16)
        assert model.updater.is_compiled is compile
        models.append(model)
    return models


def assert_same(eager, compiled):
    other = compiled.policy.state_dict()
    for name, value in eager.policy.state_dict().items():
        th.testing.assert_close(other[name], value, rtol=1e-4, atol=2e-5, msg=lambda message, name=name: f"{name}: {message}")
    logged = compiled.logger.name_to_value
    for name, value in eager.logger.name_to_value.items():
        if name.startswith("train/"):
            assert logged[name] == pytest.approx(value, rel=1e-3, abs=1e-5), name


BATCH_NORM = {"net_arch": [16], "features_extractor_class": BatchNormExtractor, "share_features_extractor": True}
# Each loss takes many seconds to compile. The first case compiles all losses of SAVO; the others, a part of it each
CASES = [
    {"n_actors": 2, "n_target_critics": 2, "policy_kwargs": {**BATCH_NORM, "n_critics": 3}},
    pytest.param({"policy_kwargs": {"net_arch": [24, 16]}}, marks=pytest.mark.expensive),
    pytest.param({"n_actors": 1, "policy_kwargs": BATCH_NORM}, marks=pytest.mark.expensive),
    pytest.param(
        {"env": "MiningExpedition-v0", "surrogate": "hybrid", "target_policy_noise": 0.0, "policy_kwargs": {"net_arch": [16]}},
        marks=pytest.mark.expensive,
    ),
]


@pytest.mark.parametrize(
    "options", CASES, ids=["two actors and batch norm", "three actors", "one actor and batch norm", "items"]
)
def test_compiled_and_eager_updates_are_the_same(options):
    """With the target's noise, so that the random numbers must be the same too."""
    # No gradient step before: the frame of learn() compiles or not by itself
    kwargs = {**SMALL, "env": ENV_ID, "learning_starts": 100, "target_policy_noise": 0.2, **options}
    eager, compiled = same_twice(lambda compile: SAVO("MlpPolicy", compile=compile, **kwargs))
    assert_same(eager, compiled)


# (By SGD: where hardly any gradient is, Adam makes steps of its rounding. The actors' loss, which has no items, is not due.)
ITEMS: dict[str, Any] = {"n_actors": 2, "policy_delay": 10, "learning_rate": 0.01, "learning_starts": 100}
ITEMS["policy_kwargs"] = {"net_arch": [16], "optimizer_class": th.optim.SGD}


@pytest.mark.parametrize("env", [ManyItems, MaskedItems])
def test_nearest_items_in_a_compiled_update(env):
    """
    Searched for by an operator that the compiler leaves alone: by an index, for all three losses that depend on items; and
    exactly, with masks, for the one loss that depends on them, the critics'.
    """
    kwargs = (
        {"nearest": "approximate", "surrogate": "approximate"}
        if env is ManyItems
        else {"surrogate": None, "q_smoothing": False}
    )
    eager, compiled = same_twice(lambda compile: SAVO("MlpPolicy", env(), compile=compile, **{**SMALL, **ITEMS, **kwargs}))
    assert len(compiled.updater.compiled_losses.losses) == (3 if env is ManyItems else 1)
    assert compiled.has_masks is (env is MaskedItems)
    assert_same(eager, compiled)


def test_what_cannot_be_compiled_runs_without():
    kwargs = {**SMALL, "policy_kwargs": {"net_arch": [8], "features_extractor_class": BranchingExtractor}}
    model = SAVO("MlpPolicy", ENV_ID, compile=True, **kwargs)
    with pytest.warns(UserWarning, match="compile: critic_loss cannot be compiled here, so training goes on without"):
        model.learn(50)
    assert not model.updater.is_compiled and model._n_updates == 10
    assert np.isfinite(model.logger.name_to_value["train/critic_loss"])


def learns_without_compilation(match):
    """:return: The model, after a run whose losses should be compiled, but a warning says why they are not"""
    model = SAVO("MlpPolicy", ENV_ID, compile=True, n_actors=1, **SMALL)
    with pytest.warns(UserWarning, match=f"critic_loss cannot be compiled here, so training goes on without .*{match}"):
        model.learn(50)
    assert not model.updater.is_compiled and model._n_updates == 10
    return model


def files(folder):
    """:return: The files and folders of a cache, without its lock"""
    return sorted(path.name for path in (folder / "sb3_savo").iterdir() if path.name != "lock")


def test_no_compiler(tmp_path, monkeypatch):
    """It is noticed before anything is traced, and the warning says what to install."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("CXX", str(tmp_path / "none"))
    monkeypatch.setattr(ahead_of_time, "trace", lambda *args: os._exit(3))
    learns_without_compilation("the C\\+\\+ compiler .*none' was not found or does not run: install g\\+\\+")
    assert files(tmp_path) == []


def test_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    with files_of_at_most(1000):
        learns_without_compilation("bytes are free.*graph.pt2")
    assert files(tmp_path) == []


def test_a_compiler_that_fails(tmp_path, monkeypatch):
    """Its own last words are in the warning."""
    compiler = tmp_path / "broken"
    compiler.write_text('#!/bin/sh\n[ "$1" = --version ] && echo 1.0 && exit 0\necho no such luck >&2; exit 1\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("CXX", str(compiler))
    learns_without_compilation("RuntimeError: ")
    assert files(tmp_path) == []


def test_a_folder_of_others(tmp_path, monkeypatch):
    """Nothing is loaded from it, and nothing written to it."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    (tmp_path / "sb3_savo").mkdir()
    (tmp_path / "sb3_savo").chmod(0o777)
    learns_without_compilation("other users can write to the folder of compiled code")
    assert not list((tmp_path / "sb3_savo").iterdir())


def test_what_was_compiled_is_found_again(tmp_path, monkeypatch):
    """
    The compiler's process leaves nothing but its package, and a package that was tampered with is compiled again. The result
    of a run does not depend on what was compiled before. A compiled run is saved as any other, and goes on with or without
    compilation.
    """
    monkeypatch.setattr(compiled_losses, "EAGER_STEPS", 4)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    processes = []
    monkeypatch.setattr(
        ahead_of_time,
        "CompileProcess",
        lambda *args, begin=ahead_of_time.CompileProcess: processes.append(0) or begin(*args),
    )

    def updated(compile):
        # (One loss is compiled, that of the critics.)
        model = SAVO("MlpPolicy", ENV_ID, compile=compile, n_actors=1, policy_delay=100, **SMALL).learn(50)
        assert model.updater.is_compiled is compile and len(model.updater.compiled_losses.losses) == int(compile)
        return model

    first = updated(compile=True)
    (name,) = files(tmp_path)
    assert len(processes) == 1 and name.endswith(".pt2")
    unpacked = [line for line in Path("/proc/self/maps").read_text().splitlines() if "/sb3_savo/data/aotinductor/" in line]
    assert unpacked and all(line.endswith("(deleted)") for line in unpacked)
    vector = first.critic.parameter_vector.vector
    assert th.equal(vector, updated(compile=True).critic.parameter_vector.vector)
    th.testing.assert_close(vector, updated(compile=False).critic.parameter_vector.vector, rtol=1e-4, atol=2e-5)

    first.save(tmp_path / "model")
    for compile in (True, False):
        loaded = SAVO.load(tmp_path / "model", env=first.env, custom_objects={"compile": compile})
        assert not loaded.updater.compiled_losses.losses and loaded.updater.is_compiled is compile
        saved, found = first.critic.optimizer.state_dict()["state"], loaded.critic.optimizer.state_dict()["state"]
        assert all(th.equal(found[0][key], value) for key, value in saved[0].items())
        obs = np.random.default_rng(0).normal(size=(5, *loaded.observation_space.shape)).astype(np.float32)
        np.testing.assert_array_equal(loaded.predict(obs)[0], first.predict(obs)[0])
        before = loaded.critic.parameter_vector.vector.clone()
        loaded.learn(50, reset_num_timesteps=False)
        assert loaded.updater.is_compiled is compile and not th.equal(before, loaded.critic.parameter_vector.vector)
    assert len(processes) == 1

    package = tmp_path / "sb3_savo" / name
    package.write_bytes(b"planted" + package.read_bytes())
    updated(compile=True)
    assert len(processes) == 2


def test_auto_compiles_long_runs(capsys):
    def planned(total_timesteps, **kwargs):
        model = SAVO("MlpPolicy", ENV_ID, **{**SMALL, **kwargs})
        model._setup_learn(total_timesteps)
        return model._gradient_steps_until(total_timesteps), model.updater.is_compiled

    assert planned(MIN_STEPS_TO_COMPILE + 39) == (MIN_STEPS_TO_COMPILE - 1, False)
    assert planned(MIN_STEPS_TO_COMPILE + 40, verbose=1) == (MIN_STEPS_TO_COMPILE, True)
    assert "Compiling the losses (compile='auto'" in capsys.readouterr().out
    assert planned(MIN_STEPS_TO_COMPILE + 40, compile=False) == (MIN_STEPS_TO_COMPILE, False)
    assert planned(50, compile=True) == (10, True)
    assert planned(1_040, train_freq=4, gradient_steps=2) == (500, False)
    assert planned(MIN_STEPS_TO_COMPILE + 40, train_freq=4, gradient_steps=-1) == (MIN_STEPS_TO_COMPILE, True)
    assert planned(10**6, train_freq=(1, "episode"), gradient_steps=3) == (0, False)
    model = SAVO("MlpPolicy", ENV_ID, **SMALL)
    model.learn(60)
    model._setup_learn(10**6, reset_num_timesteps=False)
    assert model.updater.is_compiled


def test_arguments():
    with pytest.raises(ValueError, match=r"compile='yes' is not known: it must be one of True, False, 'auto'"):
        SAVO("MlpPolicy", ENV_ID, compile="yes")
    with pytest.raises(ValueError, match="precision='low' is not known: it must be one of 'highest', 'medium', 'auto'"):
        SAVO("MlpPolicy", ENV_ID, precision="low")
    for name in ("compile", "precision"):
        with pytest.raises(TypeError, match=f"{name}=.* is not an argument of SAVOSAC"):
            SAVOSAC("MlpPolicy", ENV_ID, **{name: False})
