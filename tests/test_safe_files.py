"""Crafted, lying and damaged files: nothing in them is executed, and the error names the file and what is wrong with it."""

import base64
import io
import json
import os
import pickle
import resource
import time
import warnings
import zipfile
from pathlib import Path

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3 import DQN, PPO, SAC, TD3
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.vec_env import VecNormalize

from sb3_savo import SAVO, SAVOSAC, ActionEmbedding
from sb3_savo.files import pickles, tensors
from sb3_savo.files.archives import FORMAT_ENTRY, seal
from sb3_savo.files.errors import FileError, UnsafeFileError
from sb3_savo.files.models import load_safely
from sb3_savo.files.objects import load_vec_normalize, save_vec_normalize, seal_pickle
from sb3_savo.savo import SAVOPolicy
from tests.full_disk import files_of_at_most
from tests.models import SMALL, BatchNormExtractor

ENV_ID = "Pendulum-v1"
DATA = Path(__file__).parent / "data"


class Bomb:
    """A pickle of this makes a folder when it is executed."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A zip, and a policy, an actor, a replay buffer and statistics beside it."""
    folder = tmp_path_factory.mktemp("good")
    model = SAVO("MlpPolicy", VecNormalize(make_vec_env(ENV_ID)), **SMALL).learn(60)
    model.save(folder / "model.zip")
    model.policy.save(folder / "policy.pt")
    model.actor.save(folder / "actor.pt")
    model.save_replay_buffer(folder / "buffer.pkl")
    model.env.save(folder / "vecnormalize.pkl")
    model.env.save(folder / "sealed.pkl")
    seal_pickle(folder / "sealed.pkl")
    save_vec_normalize(model.env, folder / "statistics.zip")
    return folder


def edited(good, path, change, compression=zipfile.ZIP_STORED, name="model.zip"):
    with zipfile.ZipFile(good / name) as archive:
        parts = {entry: archive.read(entry) for entry in archive.namelist()}
    change(parts)
    with zipfile.ZipFile(path / name, "w", compression) as archive:
        for entry, content in parts.items():
            archive.writestr(entry, content)
    with open(path / name, "r+b") as file:
        seal(file)
    return path / name


def with_attribute(good, path, name, value):
    def change(parts):
        data = json.loads(parts["data"])
        data[name] = value
        parts["data"] = json.dumps(data).encode()

    return edited(good, path, change)


def pickled(value):
    return {":type:": "", ":serialized:": base64.b64encode(cloudpickle.dumps(value)).decode()}


def torch_file(value):
    file = io.BytesIO()
    th.save(value, file)
    return file.getvalue()


def bomb_of(kind, path):
    """:return: Objects that execute something when they are unpickled as usual, by several instructions of pickles"""
    sign = path / "executed"
    return {
        "call": lambda: cloudpickle.dumps(Bomb(sign)),
        "in a list": lambda: cloudpickle.dumps([1, {"a": Bomb(sign)}]),
        "old protocol": lambda: pickle.dumps(Bomb(sign), protocol=0),
        "instance": lambda: f"(S'{sign}'\nios\nmkdir\n.".encode(),
        "object": lambda: f"(cos\nmkdir\nS'{sign}'\no.".encode(),
        "lambda": lambda: cloudpickle.dumps(lambda x: x),
        "getattr": lambda: b"\x80\x04cbuiltins\ngetattr\ncos\nsep\nX\x05\x00\x00\x00upper\x86R.",
        "eval": lambda: b"\x80\x04cbuiltins\neval\nX\x03\x00\x00\x001+1\x85R.",
        "torch.load": lambda: b"\x80\x04ctorch.storage\n_load_from_bytes\nC\x01a\x85R.",
        "class attribute": lambda: b"\x80\x04cgymnasium.spaces.box\nBox\nN}X\x08\x00\x00\x00containsK\x01s\x86b.",
        "policy": lambda: b"\x80\x04cstable_baselines3.td3.policies\nTD3Policy\n)R.",
        "policy without constructor": lambda: b"\x80\x04cstable_baselines3.td3.policies\nTD3Policy\n)\x81.",
        "import": lambda: b"\x80\x04cantigravity\ngeohash\n.",
        "dotted": lambda: b"\x80\x04\x8c\x0bsb3_savo.vec\x8c\x09os.system\x93.",
        "too large": lambda: (
            b"\x80\x04cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nJ\x00\x00\x00\x40\x85C\x01b\x87R."
        ),
        "nested": lambda: b"\x80\x04)" + b"2\x86" * 60 + b".",
        "damaged": lambda: cloudpickle.dumps(np.zeros(3))[:-9],
    }[kind]()


KINDS = (
    *("call", "in a list", "old protocol", "instance", "object", "lambda", "getattr", "eval", "torch.load", "class attribute"),
    *("policy", "policy without constructor", "import", "dotted", "too large", "nested", "damaged"),
)


IMAGE = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
ARRAYS = {
    "rows first": IMAGE,
    "columns first": np.asfortranarray(IMAGE),
    "channels first": IMAGE.transpose(2, 0, 1),
    "channels last": IMAGE.transpose(1, 2, 0),
    "every second": IMAGE[:, ::2],
    "backwards": IMAGE[::-1],
    "repeated": np.broadcast_to(IMAGE[0], (5, 3, 4)),
    "one number": np.array(3.0),
    "none": np.zeros((0, 3)),
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_in_every_order_of_memory(name, protocol):
    read = pickles.loads(pickle.dumps(ARRAYS[name], protocol=protocol))
    np.testing.assert_array_equal(read, ARRAYS[name])
    assert read.dtype == ARRAYS[name].dtype and read.shape == ARRAYS[name].shape


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_in_a_pickle_is_executed(kind, tmp_path):
    with pytest.raises(FileError):
        pickles.loads(bomb_of(kind, tmp_path))
    assert not (tmp_path / "executed").exists()


def load_model(good, path, content):
    text = {":type:": "", ":serialized:": base64.b64encode(content).decode()}
    return SAVO.load(with_attribute(good, path, "ep_info_buffer", text))


def load_state(good, path, content):
    def change(parts):
        with zipfile.ZipFile(io.BytesIO(parts["policy.pth"])) as inner:
            entries = {name: inner.read(name) for name in inner.namelist()}
        with zipfile.ZipFile(file := io.BytesIO(), "w") as inner:
            for name, part in entries.items():
                inner.writestr(name, content if name.endswith("data.pkl") else part)
        parts["policy.pth"] = file.getvalue()

    return SAVO.load(edited(good, path, change))


def load_policy(good, path, content, name="policy.pt", load=SAVOPolicy.load):
    def change(parts):
        parts.update({entry: content for entry in parts if entry.endswith("data.pkl")})

    return load(edited(good, path, change, name=name))


def load_buffer(good, path, content):
    (path / "buffer.pkl").write_bytes(content)
    SAVO("MlpPolicy", ENV_ID, **SMALL).load_replay_buffer(path / "buffer.pkl")


def load_statistics(good, path, content):
    (path / "vecnormalize.pkl").write_bytes(content)
    load_vec_normalize(path / "vecnormalize.pkl", make_vec_env(ENV_ID))


@pytest.mark.parametrize("load", [load_model, load_state, load_policy, load_buffer, load_statistics])
@pytest.mark.parametrize("kind", ["call", "old protocol", "lambda"])
def test_no_file_executes_anything(load, kind, good, tmp_path):
    with pytest.raises(FileError, match=str(tmp_path)) as caught:
        load(good, tmp_path, bomb_of(kind, tmp_path))
    assert not (tmp_path / "executed").exists()
    assert load is load_state or "allow_pickle=True" in str(caught.value)


def test_an_explicit_argument_loads_pickles(good, tmp_path):
    path = with_attribute(good, tmp_path, "ep_info_buffer", pickled(Bomb(tmp_path / "executed")))
    SAVO.load(path, allow_pickle=True)
    assert (tmp_path / "executed").exists()
    path = with_attribute(good, tmp_path, "mine", 3)
    assert SAVO.load(path, allow_pickle=True).mine == 3
    with pytest.raises(ValueError, match="'mine', which no such model has"):
        SAVO.load(path)


def deflated(parts):
    parts["policy.pth"] = bytes(3 * 10**8)


def deflated_inside(parts):
    with zipfile.ZipFile(file := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as inner:
        inner.writestr("a/data.pkl", pickle.dumps({}))
        inner.writestr("a/data/0", bytes(3 * 10**8))
    parts["policy.pth"] = file.getvalue()


def many_numbers(parts):
    """A tensor that repeats one number."""
    state = tensors.loads(parts["policy.pth"])
    parts["policy.pth"] = torch_file({**state, next(iter(state)): th.zeros(1).expand(10**6, 10**6)})


def set_data(**values):
    def change(parts):
        parts["data"] = json.dumps({**json.loads(parts["data"]), **values}).encode()

    return change


LIES = {
    "buffer of 20 GB": (set_data(buffer_size=4 * 10**8), "buffer_size=400000000"),
    "zip bomb": (deflated, "unpacks from"),
    "zip bomb in a zip": (deflated_inside, "policy.pth"),
    "repeated number": (many_numbers, "policy.pth"),
    "huge networks": (set_data(policy_kwargs={"net_arch": [60_000, 60_000]}), "a network with a tensor of"),
    "many environments": (set_data(n_envs=10**9), "n_envs=1000000000"),
    "text for gamma": (set_data(gamma="abc"), "gamma='abc'"),
    "unknown attribute": (set_data(predict="x"), "predict"),
    "unknown entry": (lambda parts: parts.update({"run.py": b"print()"}), "run.py"),
    "negative count": (set_data(num_timesteps=-1), "num_timesteps=-1"),
    "later format": (
        lambda parts: parts.update({FORMAT_ENTRY: b'{"format": 99, "version": "7.1"}'}),
        "sb3-savo 7.1 wrote it",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_refused_at_once(lie, good, tmp_path):
    change, words = LIES[lie]
    path = edited(good, tmp_path, change, zipfile.ZIP_DEFLATED)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    with pytest.raises((ValueError, TypeError), match=r"model\.zip") as caught:
        SAVO.load(path, device="cpu")
    assert words in str(caught.value)
    assert time.process_time() - started < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


READERS = {
    "model.zip": SAVO.load,
    "policy.pt": SAVOPolicy.load,
    "buffer.pkl": lambda path: SAVO("MlpPolicy", ENV_ID, **SMALL).load_replay_buffer(path),
    "statistics.zip": lambda path: load_vec_normalize(path, make_vec_env(ENV_ID)),
    "sealed.pkl": lambda path: load_vec_normalize(path, make_vec_env(ENV_ID)),
}


@pytest.mark.parametrize("name", READERS)
def test_every_flipped_bit_is_found(good, tmp_path, name):
    content = (good / name).read_bytes()
    READERS[name](good / name)
    rng = np.random.default_rng(0)
    # Anywhere, and in the digest, its mark and its length
    places = [*rng.integers(len(content), size=30), *(len(content) - rng.integers(1, 74, size=20))]
    for position in places:
        damaged = bytearray(content)
        damaged[position] ^= 1 << rng.integers(8)
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(ValueError, match=name):
            READERS[name](tmp_path / name)


def test_sb3_reads_sealed_statistics(good):
    loaded = VecNormalize.load(good / "sealed.pkl", make_vec_env(ENV_ID))
    expected = VecNormalize.load(good / "vecnormalize.pkl", make_vec_env(ENV_ID))
    np.testing.assert_array_equal(loaded.obs_rms.mean, expected.obs_rms.mean)


@pytest.mark.parametrize("algorithm, env", [(TD3, ENV_ID), (SAC, ENV_ID), (PPO, ENV_ID), (DQN, "CartPole-v1")])
def test_genuine_zips_of_sb3_are_read(algorithm, env, tmp_path):
    model = algorithm("MlpPolicy", env, policy_kwargs={"activation_fn": th.nn.Tanh, "net_arch": [8]}, seed=0)
    model.save(tmp_path / "model.zip")
    loaded = load_safely(algorithm, tmp_path / "model.zip")
    for name, tensor in model.policy.state_dict().items():
        assert th.equal(tensor, loaded.policy.state_dict()[name])


@pytest.mark.parametrize("allow_pickle", [False, True])
def test_sb3_reads_ours(good, allow_pickle):
    data, states, _ = load_from_zip_file(good / "model.zip")
    loaded = SAVO.load(good / "model.zip", allow_pickle=allow_pickle)
    assert data["policy_class"] is SAVOPolicy and data["num_timesteps"] == loaded.num_timesteps == 60
    for name, tensor in loaded.policy.state_dict().items():
        assert th.equal(tensor, states["policy"][name])


def test_tensors_are_those_of_torch(good):
    with zipfile.ZipFile(good / "model.zip") as archive:
        for name in archive.namelist():
            if name.endswith(".pth"):
                own, torchs = tensors.loads(archive.read(name)), th.load(io.BytesIO(archive.read(name)), weights_only=True)
                assert str(own) == str(torchs)
    saved = {"a": th.arange(12).reshape(3, 4).T[1:], "b": th.zeros(0, 3), "c": th.ones(2, dtype=th.bfloat16)}
    for key, tensor in tensors.loads(torch_file(saved)).items():
        assert th.equal(tensor, saved[key]) and tensor.dtype == saved[key].dtype


@pytest.mark.parametrize("path", sorted(DATA.glob("savo-*.zip")), ids=lambda path: path.stem)
def test_zips_of_all_versions_are_read(path):
    """That of 0.1.0 was written before zips told their format."""
    model = SAVO.load(path, device="cpu")
    expected = json.loads(path.with_suffix(".json").read_text())
    assert model.num_timesteps == expected["num_timesteps"]
    np.testing.assert_allclose(model.predict(np.array([1.0, 0.0, 0.5], np.float32))[0], expected["action"], atol=1e-5)


def test_classes_of_a_users_own(tmp_path):
    """A class in a module is found again; one of the program itself needs the explicit argument."""
    kwargs = {**SMALL, "policy_kwargs": {"net_arch": [8], "features_extractor_class": BatchNormExtractor}}
    SAVO("MlpPolicy", ENV_ID, **kwargs).save(tmp_path / "model.zip")
    assert SAVO.load(tmp_path / "model.zip").policy_kwargs["features_extractor_class"] is BatchNormExtractor

    model = SAVO("MlpPolicy", ENV_ID, learning_rate=lambda progress: 1e-3 * progress, **SMALL)
    with pytest.warns(UserWarning, match=r"learning_rate: load will need allow_pickle=True"):
        model.save(tmp_path / "model.zip")
    with pytest.raises(UnsafeFileError, match="learning_rate"):
        SAVO.load(tmp_path / "model.zip")
    assert SAVO.load(tmp_path / "model.zip", allow_pickle=True).learning_rate(1.0) == 1e-3
    assert SAVO.load(tmp_path / "model.zip", custom_objects={"learning_rate": 0.1}).learning_rate == 0.1


def test_items_and_their_embeddings_are_read(tmp_path):
    env = ActionEmbedding(gym.make("CartPole-v1"), np.array([[0.0], [1.0]]))
    model = SAVO("MlpPolicy", env, **SMALL).learn(50)
    model.save(tmp_path / "model")
    model.policy.save(tmp_path / "policy.pt")
    assert SAVO.load(tmp_path / "model").action_space == model.action_space
    assert SAVOPolicy.load(tmp_path / "policy.pt").action_space == model.action_space


@pytest.mark.parametrize("name", ["vecnormalize.pkl", "statistics.zip"])
def test_statistics(good, name):
    env = load_vec_normalize(good / name, make_vec_env(ENV_ID))
    stock = VecNormalize.load(str(good / "vecnormalize.pkl"), make_vec_env(ENV_ID))
    np.testing.assert_array_equal(env.obs_rms.mean, stock.obs_rms.mean)
    assert env.ret_rms.var == stock.ret_rms.var and env.gamma == stock.gamma
    with pytest.raises(FileError, match=name):
        load_vec_normalize(good / name, make_vec_env("CartPole-v1"))


def test_genuine_buffers_of_sb3_are_read(tmp_path):
    model = SAVOSAC("MlpPolicy", ENV_ID, **SMALL)
    SAC("MlpPolicy", ENV_ID, buffer_size=50, learning_starts=100).learn(30).save_replay_buffer(tmp_path / "buffer.pkl")
    model.load_replay_buffer(tmp_path / "buffer.pkl")
    assert type(model.replay_buffer) is ReplayBuffer and model.replay_buffer.size() == 30
    assert DictReplayBuffer in pickles.subclasses(ReplayBuffer)


@pytest.mark.parametrize("part", ["model", "policy", "replay buffer"])
def test_a_full_disk_leaves_the_file(part, good, tmp_path):
    model = SAVO.load(good / "model.zip", device="cpu")
    path = tmp_path / "file.zip"
    save = {"model": model.save, "policy": model.policy.save, "replay buffer": model.save_replay_buffer}[part]
    save(path)
    before = path.read_bytes()
    with files_of_at_most(len(before) // 2), pytest.raises(OSError, match="bytes are free") as caught:
        save(path)
    assert caught.value.filename == str(path)
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["file.zip"]


def test_files_have_usual_rights(good, tmp_path):
    model = SAVO.load(good / "model.zip", device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(tmp_path / "new" / "model")
    saved = tmp_path / "new" / "model.zip"
    assert saved.stat().st_mode & 0o777 == 0o666 & ~_umask()
    saved.chmod(0o640)
    model.save(saved)
    assert saved.stat().st_mode & 0o777 == 0o640


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("kind", [NormalActionNoise, OrnsteinUhlenbeckActionNoise])
@pytest.mark.parametrize("n_envs", [1, 2])
def test_the_noise_of_sb3_is_read(kind, n_envs, tmp_path):
    noise = kind(np.zeros(1), np.ones(1))
    model = SAVO("MlpPolicy", make_vec_env(ENV_ID, n_envs), **SMALL, action_noise=noise).learn(45)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.save(tmp_path / "model.zip")
    assert str(SAVO.load(tmp_path / "model.zip").action_noise) == str(model.action_noise)
