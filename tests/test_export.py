"""Exported policies: they compute what ``predict`` does, and whatever cannot be exported says so before any work."""

import io
import os
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import TD3
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_savo import CEM, SAVO, SAVOSAC, EmbeddedDiscrete, Ensemble, MultiStart, Wolpertinger
from sb3_savo.actions.nearest import ApproximateNearestItems
from sb3_savo.common.actor_policy import ActorPolicy
from sb3_savo.export import export_policy
from tests.algorithms import ALGORITHMS
from tests.full_disk import files_of_at_most
from tests.models import SMALL
from tests.reference import spread_out

FORMATS = [".pt2", ".onnx"]
N_ITEMS = 50
RNG = np.random.default_rng(0)

BOX = spaces.Box(-2, 2, (5,), np.float32)
IMAGE = spaces.Box(0, 255, (3, 36, 40), np.uint8)
MIXED = spaces.Dict(image=IMAGE, vector=spaces.Box(-1, 1, (2, 2), np.float64), kind=spaces.Discrete(4))
OBSERVATIONS = {
    "float64": spaces.Box(-2, 2, (3, 2), np.float64),
    "discrete": spaces.Discrete(7),
    "multidiscrete": spaces.MultiDiscrete([3, 4]),
    "multibinary": spaces.MultiBinary(4),
    "image": IMAGE,
    "dict": MIXED,
}
ACTIONS = spaces.Box(np.array([-1, -2], np.float32), np.array([3, 5], np.float32))
ITEMS = EmbeddedDiscrete(RNG.normal(size=(N_ITEMS, 3)))


class RandomEnv(gym.Env):
    """Observations at random; some of the items are allowed if it has masks."""

    def __init__(self, observation_space, action_space):
        self.observation_space = observation_space
        self.action_space = action_space

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, False, {}


class MaskedEnv(RandomEnv):
    def action_masks(self):
        return np.arange(self.action_space.n) % 2 == 0


def make(algorithm, observation_space=BOX, action_space=ACTIONS, env_class=RandomEnv, **kwargs):
    """:return: A model whose proposals differ"""
    policy = "MultiInputPolicy" if isinstance(observation_space, spaces.Dict) else "MlpPolicy"
    if observation_space.shape == IMAGE.shape:
        policy = "CnnPolicy"
    if algorithm in (SAVO, SAVOSAC, Ensemble):
        kwargs.setdefault("n_actors", 2)
    if algorithm is MultiStart:
        kwargs |= {"n_starts": 4, "n_ascent_steps": 2}
    model = algorithm(policy, env_class(observation_space, action_space), **{**SMALL, **kwargs})
    spread_out(model)
    return model


def observations(space, n=1000):
    space.seed(0)
    samples = [space.sample() for _ in range(n)]
    if isinstance(space, spaces.Dict):
        return {key: np.stack([sample[key] for sample in samples]) for key in space.spaces}
    return np.stack(samples)


def run(path, obs, masks=None):
    """:return: What an exported program answers"""
    if path.suffix == ".pt2":
        tensors = {k: th.as_tensor(v) for k, v in obs.items()} if isinstance(obs, dict) else th.as_tensor(obs)
        return th.export.load(path).module()(*[tensors, *([] if masks is None else [th.as_tensor(masks)])]).numpy()
    onnxruntime = pytest.importorskip("onnxruntime")
    inputs = dict(obs) if isinstance(obs, dict) else {"observation": obs}
    if masks is not None:
        inputs["action_masks"] = masks
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert {entry.name for entry in session.get_inputs()} == {*inputs}
    assert all(entry.shape[0] == "batch" for entry in session.get_inputs())
    return session.run(["action"], inputs)[0]


def first(obs, n):
    return {key: part[:n] for key, part in obs.items()} if isinstance(obs, dict) else obs[:n]


def assert_same(model, answers, wanted):
    """
    Assert that actions are equal up to 1e-4 of the width of the action space, and items are equal. One in a thousand may be
    another one: of two candidates with the same Q up to rounding, either may be taken.
    """
    assert answers.shape == wanted.shape and answers.dtype == model.action_space.dtype
    if isinstance(model.action_space, spaces.Box):
        space = model.action_space
        assert ((answers >= space.low) & (answers <= space.high)).all()
        differ = np.abs(answers - wanted) > 1e-4 * (space.high - space.low) + np.spacing(space.high)
    else:
        differ = answers != wanted
    assert differ.reshape(len(wanted), -1).any(axis=1).sum() <= len(wanted) / 1000


def check(model, path, masks=None, n=1000, **kwargs):
    """Export without a warning, and compare with ``predict``, also for one observation."""
    if path.suffix == ".onnx":
        pytest.importorskip("onnxscript")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert export_policy(model, path, **kwargs) == path
    assert os.listdir(path.parent) == [path.name]
    obs = observations(model.observation_space, n)
    given = {} if masks is None else {"action_masks": masks}
    wanted = model.predict(obs, deterministic=True, **given)[0]
    assert len(np.unique(wanted, axis=0)) > 1
    assert_same(model, run(path, obs, masks), wanted)
    assert_same(model, run(path, first(obs, 1), None if masks is None else masks[:1]), wanted[:1])


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_continuous_actions(algorithm, suffix, tmp_path):
    check(make(algorithm), tmp_path / f"policy{suffix}")


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("algorithm", [algorithm for algorithm in ALGORITHMS if algorithm is not SAVOSAC])
def test_items(algorithm, suffix, tmp_path):
    check(make(algorithm, action_space=ITEMS), tmp_path / f"policy{suffix}")


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("algorithm", [SAVO, Wolpertinger, MultiStart])
def test_masked_items(algorithm, suffix, tmp_path):
    masks = RNG.random((1000, N_ITEMS)) < 0.03
    masks[np.arange(1000), RNG.integers(N_ITEMS, size=1000)] = True
    model = make(algorithm, action_space=ITEMS, env_class=MaskedEnv)
    check(model, tmp_path / f"policy{suffix}", masks)  # the model knows that it has masks
    none_allowed = np.array([[False] * N_ITEMS, [True] * N_ITEMS])
    items = run(tmp_path / f"policy{suffix}", observations(BOX, 2), none_allowed)
    assert items[0] == -1 and items[1] == model.predict(observations(BOX, 2), deterministic=True)[0][1]


def test_masks_if_asked_for(tmp_path):
    model = make(Ensemble, action_space=ITEMS, env_class=MaskedEnv)
    check(model, tmp_path / "policy.pt2", action_masks=False)
    check(model.policy, tmp_path / "policy.pt2")  # a policy does not know
    check(make(Ensemble, action_space=ITEMS), tmp_path / "policy.pt2", np.ones((1000, N_ITEMS), dtype=bool), action_masks=True)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("kind", OBSERVATIONS)
# The two ways of recording
@pytest.mark.parametrize("algorithm", [Ensemble, pytest.param(MultiStart, marks=pytest.mark.expensive)])
def test_raw_observations(algorithm, kind, suffix, tmp_path):
    n = 50 if kind in ("image", "dict") else 1000
    check(make(algorithm, OBSERVATIONS[kind]), tmp_path / f"policy{suffix}", n=n)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("space", [IMAGE, MIXED], ids=["image", "dict"])
def test_images_as_the_environment_gives_them(space, suffix, tmp_path):
    pytest.importorskip("onnxscript")
    model = make(Ensemble, space)
    export_policy(model, tmp_path / f"policy{suffix}", channels_last=True)
    obs = observations(space, 20)
    wanted = model.predict(obs, deterministic=True)[0]
    if isinstance(obs, dict):
        obs = {**obs, "image": obs["image"].transpose(0, 2, 3, 1)}
    else:
        obs = obs.transpose(0, 2, 3, 1)
    assert_same(model, run(tmp_path / f"policy{suffix}", obs), wanted)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1e3, 2, (2, 2), np.float64),
        spaces.Box(-1e38, 1e38, (2,), np.float32),
        spaces.Box(1, 1.0001, (2,), np.float32),
        spaces.Box(-1, 1, (), np.float32),
    ],
    ids=["float64", "wide", "narrow", "scalar"],
)
def test_units_of_the_environment(space, suffix, tmp_path):
    check(make(Ensemble, action_space=space), tmp_path / f"policy{suffix}")


@pytest.mark.expensive
@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    "kwargs",
    [
        {"summarizer": "lstm"},
        {"summarizer": "transformer"},
        {"modulation": "mlp"},
        {"joint_action": True},
        {"n_actors": 1},
        {"policy_kwargs": {"net_arch": [16], "pool": "max", "share_features_extractor": True, "activation_fn": th.nn.Tanh}},
    ],
    ids=["lstm", "transformer", "mlp", "joint", "one", "max"],
)
def test_kinds_of_chains(kwargs, suffix, tmp_path):
    check(make(SAVO, **kwargs), tmp_path / f"policy{suffix}")


def test_searches_on_q_hat(tmp_path):
    check(make(CEM, q_smoothing=True), tmp_path / "policy.pt2")


def test_the_approximate_index_is_replaced_by_exact_search(tmp_path):
    pytest.importorskip("faiss")
    space = EmbeddedDiscrete(RNG.normal(size=(1500, 4)))
    model = make(Ensemble, action_space=space, nearest="approximate")
    assert isinstance(model.policy.items, ApproximateNearestItems)
    with pytest.warns(UserWarning, match=r"by exact search\. The approximate index of the policy, whose recall is [01]\.\d"):
        export_policy(model, tmp_path / "policy.pt2")
    model.policy.items.nearest = lambda queries, k=1, masks=None: super(ApproximateNearestItems, model.policy.items)._find(
        queries, k, masks
    )
    wanted = model.predict(observations(BOX), deterministic=True)[0]
    assert_same(model, run(tmp_path / "policy.pt2", observations(BOX)), wanted)


def test_only_what_is_used_is_written(tmp_path):
    """Neither target networks, surrogates nor a whole vector of parameters per parameter."""
    model = make(SAVO, policy_kwargs={"net_arch": [256, 256]})
    export_policy(model, tmp_path / "policy.pt2")
    used = [*model.policy.actor.parameters(), *model.policy.critic.parameters()]
    n_bytes = 4 * sum(parameter.numel() for parameter in used)
    assert 0.5 * n_bytes < (tmp_path / "policy.pt2").stat().st_size < 1.5 * n_bytes + 1e6


def test_learning_goes_on_after_an_export(tmp_path):
    """An export in the middle changes no weight and no draw, now and later."""
    weights = []
    for exports in (True, False):
        BOX.seed(0)
        model = Ensemble("MlpPolicy", RandomEnv(BOX, ACTIONS), **SMALL).learn(60)
        if exports:
            export_policy(model, tmp_path / "policy.pt2")
        model.learn(20, reset_num_timesteps=False)
        weights.append(model.policy.actor.parameter_vector.vector.detach())
    th.testing.assert_close(*weights, rtol=0, atol=0)


# The networks alone, and users' own exports


class Exportable(th.nn.Module):
    """As in SB3's guide "Exporting models"."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, observation):
        return self.network(observation, deterministic=True)


def by_jit(module, obs):
    return th.jit.trace(module, obs)


def by_export(module, obs):
    batch = {0: th.export.Dim("batch")}
    return th.export.export(module, (obs,), dynamic_shapes=(batch,)).module()


def by_strict_export(module, obs):
    return th.export.export(module, (obs,), dynamic_shapes=({0: th.export.Dim("batch")},), strict=True).module()


def by_onnx(module, obs):
    pytest.importorskip("onnxscript")
    return th.onnx.export(module, (obs,), dynamo=True, verbose=False)


def by_old_onnx(module, obs):
    pytest.importorskip("onnx")
    return th.onnx.export(module, (obs,), io.BytesIO(), dynamo=False)


EXPORTERS = [by_jit, by_export, by_strict_export, by_onnx, by_old_onnx]
quiet = pytest.mark.filterwarnings("ignore")  # torch's own, on its deprecated exporters


@quiet
@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("algorithm", [a for a in ALGORITHMS if issubclass(a.policy_aliases["MlpPolicy"], ActorPolicy)])
def test_an_actor_is_not_exported_alone(algorithm, exporter):
    actor = make(algorithm).policy.actor
    obs = th.zeros(2, *BOX.shape)
    with pytest.raises(Exception, match=r"(?s)cannot be exported alone.*sb3_savo\.export\.export_policy"):
        exporter(actor, obs)
    if exporter is not by_strict_export:  # which finds itself that no actor takes ``deterministic``
        with pytest.raises(Exception, match=r"(?s)cannot be exported alone.*sb3_savo\.export\.export_policy"):
            exporter(Exportable(actor), obs)
    assert actor(obs).shape[0] == 2 and actor.predict(np.zeros(BOX.shape))[0].shape == ACTIONS.shape


@quiet
@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("action_space", [ACTIONS, ITEMS], ids=["continuous", "items"])
def test_a_policy_is_exported_by_torchs_own_means(action_space, exporter):
    policy = make(SAVO, action_space=action_space).policy
    policy.set_training_mode(False)
    obs = th.as_tensor(observations(BOX, 20))
    exported = exporter(Exportable(policy), obs)
    if exporter not in (by_onnx, by_old_onnx):
        th.testing.assert_close(exported(obs), policy(obs, deterministic=True))


@pytest.mark.parametrize("whole", [True, False])
def test_networks_still_compile_in_one_graph(whole):
    policy = make(SAVO).policy
    network = policy if whole else policy.actor
    obs = th.zeros(3, *BOX.shape)
    th.testing.assert_close(th.compile(network, backend="eager", fullgraph=True)(obs), network(obs))


# Errors, all before any work


@pytest.fixture
def no_work(monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("the policy was recorded")

    monkeypatch.setattr("sb3_savo.export.record", fail)


def with_key(key):
    return spaces.Dict({key: spaces.Box(-1, 1, (2,)), "other": spaces.Box(-1, 1, (2,))})


@pytest.mark.parametrize(
    "make_model, path, kwargs, error, message",
    [
        (lambda: make(Ensemble), "policy.pb", {}, ValueError, r"path='.*policy\.pb' has an unknown format.*\.onnx or \.pt2"),
        (lambda: make(Ensemble), "policy", {}, ValueError, "unknown format"),
        (lambda: make(Ensemble), "none/policy.pt2", {}, FileNotFoundError, r"path='.*': there is no folder '.*none'"),
        (lambda: make(Ensemble), "folder.pt2", {}, IsADirectoryError, "is a folder"),
        (
            lambda: make(Ensemble),
            "p.pt2",
            {"action_masks": True},
            ValueError,
            "action_masks=True: the action space Box.* has no items",
        ),
        (lambda: make(Ensemble), "p.pt2", {"action_masks": "yes"}, ValueError, "action_masks='yes' is not known"),
        (lambda: make(Ensemble), "p.pt2", {"channels_last": 2}, ValueError, "channels_last=2 is not known"),
        (
            lambda: Ensemble("MlpPolicy", RandomEnv(BOX, ACTIONS), _init_setup_model=False),
            "p.pt2",
            {},
            ValueError,
            "model has no policy yet",
        ),
        (lambda: make(Ensemble).policy.actor, "p.pt2", {}, TypeError, "model is a Actors: it must be a model of sb3_savo"),
        (lambda: TD3("MlpPolicy", "Pendulum-v1", buffer_size=10), "p.pt2", {}, TypeError, "model is a TD3"),
        (lambda: make(Ensemble, with_key("action")), "p.onnx", {}, ValueError, "has the key 'action'.*export to .pt2"),
        (
            lambda: make(Ensemble, with_key("action_masks"), ITEMS),
            "p.onnx",
            {"action_masks": True},
            ValueError,
            "has the key 'action_masks'",
        ),
    ],
)
def test_errors(make_model, path, kwargs, error, message, no_work, tmp_path):
    (tmp_path / "folder.pt2").mkdir()
    with pytest.raises(error, match=message):
        export_policy(make_model(), tmp_path / path, **kwargs)
    assert os.listdir(tmp_path) == ["folder.pt2"]


@pytest.mark.parametrize("missing", ["onnx", "onnxscript"])
def test_a_missing_dependency_names_the_extra(missing, no_work, tmp_path, monkeypatch):
    pytest.importorskip("onnxscript")
    model = make(Ensemble)  # before the patch, since torch imports onnx when it makes an optimizer

    def find_spec(name, *args):
        if name == missing:
            raise ModuleNotFoundError(name=name)

    finder = type("Finder", (), {"find_spec": staticmethod(find_spec)})
    monkeypatch.setattr("sys.meta_path", [finder, *sys.meta_path])
    for name in [name for name in sys.modules if name.partition(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=rf"an ONNX file needs {missing}: pip install 'sb3-savo\[export\]'"):
        export_policy(model, tmp_path / "policy.onnx")


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_full_disk_leaves_the_old_file(suffix, tmp_path):
    """torch would end the whole program."""
    if suffix == ".onnx":
        pytest.importorskip("onnxscript")
    path = tmp_path / f"policy{suffix}"
    path.write_bytes(b"old")
    model = make(Ensemble)
    with files_of_at_most(1000), pytest.raises(OSError, match="bytes are free") as caught:
        export_policy(model, path)
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == [path.name]


def test_too_large_for_onnx(tmp_path, monkeypatch):
    pytest.importorskip("onnxscript")
    monkeypatch.setattr("sb3_savo.export.MAX_ONNX_BYTES", 1000)
    with pytest.raises(ValueError, match=r"bytes of weights are too many for an ONNX file: export to \.pt2"):
        export_policy(make(Ensemble), tmp_path / "policy.onnx")


def test_a_loaded_model(tmp_path):
    model = make(Ensemble)
    model.save(tmp_path / "model.zip")
    loaded = Ensemble.load(tmp_path / "model.zip", device="cpu")
    (tmp_path / "out").mkdir()
    check(loaded, tmp_path / "out" / "policy.pt2")


def test_several_environments(tmp_path):
    env = DummyVecEnv([lambda: RandomEnv(BOX, ACTIONS)] * 3)
    check(Ensemble("MlpPolicy", env, **SMALL), tmp_path / "policy.pt2")
