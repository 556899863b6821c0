"""The files of checkpoints: written whole or not at all, checked before they are believed, and none written twice."""

import errno
import hashlib
import json
import multiprocessing
import os
import random
import resource
import signal
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.callbacks import ConvertCallback
from stable_baselines3.common.envs import IdentityEnv

from sb3_savo import SAVO, ActionEmbedding, EmbeddedDiscrete
from sb3_savo.common.checkpoints import environments, run, snapshot
from sb3_savo.common.checkpoints import store as store_module
from sb3_savo.common.checkpoints.blocks import BLOCK_BYTES, Blocks
from sb3_savo.common.checkpoints.store import Store
from sb3_savo.files.codec import Decoder, Encoder
from sb3_savo.files.errors import FileError
from tests.checkpoints.runs import count_rollouts
from tests.models import SMALL

LARGE = BLOCK_BYTES // 8 + 5  # float64 numbers that fill a block and a little more


def write(store, step, **arrays):
    """A checkpoint without a model."""
    sized = {name: (array, None) for name, array in arrays.items()}
    store.write(step, lambda path: path.write_bytes(b"model"), {"step": step}, sized, {"num_timesteps": step})


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path)
    yield store
    store.close()


def test_what_is_written_is_read(store):
    rng = np.random.default_rng(0)
    arrays = {"small": rng.normal(size=(3, 2)), "large": rng.normal(size=LARGE), "empty": np.zeros((0, 3), np.float32)}
    write(store, 7, **arrays)
    checkpoint = store.newest()
    assert checkpoint.state == {"step": 7} and checkpoint.about["num_timesteps"] == 7
    assert checkpoint.model.read_bytes() == b"model"
    for name, array in arrays.items():
        np.testing.assert_array_equal(checkpoint.arrays[name], array)
        assert checkpoint.arrays[name].dtype == array.dtype


def test_two_are_kept_and_blocks_are_shared(store):
    array = np.arange(3.0 * LARGE)
    write(store, 1, buffer=array)
    n_blocks = len(list(store.blocks.folder.iterdir()))
    array[-1] = 0
    write(store, 2, buffer=array)
    assert len(list(store.blocks.folder.iterdir())) == n_blocks + 1
    array[:] = 1
    for step in (3, 4):
        write(store, step, buffer=array)
    assert [path.name for path in store.folders()] == ["step-000000000004", "step-000000000003"]
    digests = {path.stem for path in store.blocks.folder.iterdir()}
    assert digests == set(store.newest().about["arrays"]["buffer"]["blocks"])


def test_rows_that_are_zero_are_not_written(tmp_path):
    blocks = Blocks(tmp_path)
    array = np.zeros((9, LARGE))
    array[:2] = np.random.default_rng(0).normal(size=(2, LARGE))
    described = blocks.write(array, n_rows=3)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= array[:3].nbytes
    np.testing.assert_array_equal(blocks.read(described), array)


def test_every_damage_is_found_and_named(store):
    write(store, 1, buffer=np.zeros(LARGE))
    write(store, 2, buffer=np.random.default_rng(0).normal(size=LARGE), small=np.ones(3))
    newest = store.folders()[0]
    own = [store.blocks.path(digest) for digest in store.newest().about["arrays"]["buffer"]["blocks"]]
    rng = random.Random(0)
    for path in (*newest.iterdir(), *own):
        content = path.read_bytes()
        position = rng.randrange(len(content))
        flipped = bytearray(content)
        flipped[position] ^= 1 << rng.randrange(8)
        for damaged in (bytes(flipped), content[:position], content + b"x", None):
            path.unlink()
            if damaged is not None:
                path.write_bytes(damaged)
            with pytest.warns(UserWarning, match=f"is damaged, and the one before it is used.*{path.name}.*{newest.name}"):
                assert store.newest().state == {"step": 1}
            path.write_bytes(content)
    assert store.newest().state == {"step": 2}


def test_a_run_that_goes_on_after_damage_keeps_two_good_checkpoints(store):
    """It writes the same blocks again, and may not take the damaged one for its own."""
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=LARGE), rng.normal(size=LARGE)
    write(store, 1, buffer=first)
    write(store, 2, buffer=first, other=second)
    damaged = store.blocks.path(store.newest().about["arrays"]["other"]["blocks"][0])
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    with pytest.warns(UserWarning, match="is damaged, and the one before it is used"):
        assert store.newest().state == {"step": 1}
    for step in (3, 4):
        write(store, step, buffer=first, other=second)
        assert [store.read(folder).state["step"] for folder in store.folders()] == [step, 1 if step == 3 else 3]


def test_none_that_can_be_read_is_an_error(store):
    write(store, 1)
    (store.folders()[0] / store_module.MANIFEST).write_text("{}")
    with pytest.raises(FileError, match=r"none of its checkpoints can be read\. To begin anew.*manifest\.json"):
        store.newest()


def test_a_later_format_names_the_version(store):
    write(store, 1)
    path = store.folders()[0] / store_module.MANIFEST
    about = json.loads(path.read_text().partition("\n")[2])
    about["format"] = {"format": 99, "version": "9.9"}
    text = json.dumps(about)
    path.write_text(f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}")
    with pytest.raises(FileError, match=r"sb3-savo 9\.9 wrote it"):
        store.newest()


def write_forever(folder):
    store = Store(folder)
    rng = np.random.default_rng()
    array = rng.normal(size=LARGE)
    for step in range(store.newest().state["step"] + 1, 10**9):
        array[rng.integers(LARGE)] = step
        write(store, step, buffer=array, small=array[:9])


def test_sigkill_while_writing_leaves_a_checkpoint(tmp_path):
    """``benchmarks.durability`` does so 500 times."""
    first = Store(tmp_path)
    write(first, 0)
    first.close()
    rng = random.Random(0)
    for _ in range(4):
        process = multiprocessing.get_context("fork").Process(target=write_forever, args=(tmp_path,))
        process.start()
        time.sleep(0.1 + 0.1 * rng.random())
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        store = Store(tmp_path)
        checkpoint = store.newest()
        assert not list(tmp_path.glob("*.partial"))
        if checkpoint.state["step"] > 0:
            np.testing.assert_array_equal(checkpoint.arrays["small"], checkpoint.arrays["buffer"][:9])
        store.close()


def learn_on_a_full_disk(folder, n_bytes, found):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with pytest.MonkeyPatch.context() as patch, pytest.warns(UserWarning) as warned:
        count_rollouts(patch, 5)
        model = SAVO("MlpPolicy", "InvertedPendulumRestricted-v4", **SMALL)

        def fill(*_):
            if model.num_timesteps == 60:
                resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))
            return True

        try:
            model.learn(100, callback=fill, checkpoints=folder)
        except OSError as error:
            found.put(str(error))
    for warning in warned:
        found.put(str(warning.message))
    found.put(model.num_timesteps)


@pytest.mark.parametrize("n_bytes", [0, 1000, 30_000])
def test_a_full_disk_leaves_the_one_before(n_bytes, tmp_path):
    context = multiprocessing.get_context("fork")
    found = context.SimpleQueue()
    process = context.Process(target=learn_on_a_full_disk, args=(tmp_path, n_bytes, found))
    process.start()
    process.join(60)
    messages = []
    while not found.empty():
        messages.append(found.get())
    assert messages[-1] == 100  # learning went on
    assert any("A checkpoint could not be written, and learning goes on" in str(message) for message in messages)
    assert any(str(tmp_path) in str(message) and "bytes are free" in str(message) for message in messages)
    store = Store(tmp_path)
    assert 0 < store.newest().about["num_timesteps"] <= 60
    store.close()


def test_a_checkpoint_that_cannot_be_written_leaves_nothing_behind(store, monkeypatch):
    """On a full disk, its blocks would take the space that logs need."""
    write_block = Blocks._write_block

    def write_until_the_disk_is_full(blocks, digest, block):
        if len(list(blocks.folder.iterdir())) < 4:
            return write_block(blocks, digest, block)
        (blocks.folder / f"{digest}.partial").write_bytes(block[:9])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def files():
        return set(store.folder.rglob("*"))

    rng = np.random.default_rng(0)
    write(store, 1, buffer=rng.normal(size=LARGE))
    before = files()
    monkeypatch.setattr(Blocks, "_write_block", write_until_the_disk_is_full)
    for step in (2, 3):
        with pytest.raises(OSError, match="bytes are free"):
            write(store, step, buffer=rng.normal(size=3 * LARGE))
        assert files() == before
    assert store.newest().state == {"step": 1}


def test_a_manifest_that_cannot_be_read_now_costs_no_block(store, monkeypatch):
    """The process may have too many open files, which is also why the next checkpoint cannot be written."""
    write(store, 1, buffer=np.random.default_rng(0).normal(size=LARGE))

    def open_file(*args, **kwargs):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch, pytest.raises(OSError, match="Too many open files"):
        patch.setattr(Path, "open", open_file)
        patch.setattr(Path, "read_text", open_file)
        write(store, 2)
    assert store.newest().state == {"step": 1}


def test_one_process_at_a_time(store, tmp_path):
    with pytest.raises(ValueError, match="is in use by another process"):
        SAVO("MlpPolicy", "InvertedPendulumRestricted-v4", **SMALL).learn(60, checkpoints=tmp_path)


@pytest.mark.parametrize(
    "durations, expected",
    [
        ([3.0] * 4, [0.0, 33.0, 66.0, 99.0, 112.0]),  # ten times three seconds later; the last one at the end
        ([1.0, 1.0, 3.0, *[1.0] * 5], [0.0, 11.0, 22.0, 71.0, 82.0, 93.0, 104.0, 109.0]),  # made up for after the third
    ],
    ids=("constant", "one slow"),
)
def test_checkpoints_take_a_fixed_share_of_the_time(durations, expected, tmp_path, monkeypatch):
    now, written, left = [0.0], [], iter(durations)
    write = Store.write

    def slow(self, *args):
        written.append(now[0])
        now[0] += next(left, 0.0)
        write(self, *args)

    def one_second(*_):
        now[0] += 1.0
        return True

    monkeypatch.setattr(run, "PERIOD", 10)
    monkeypatch.setattr(run.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(Store, "write", slow)
    SAVO("MlpPolicy", "InvertedPendulumRestricted-v4", **SMALL).learn(100, callback=one_second, checkpoints=tmp_path)
    assert written == expected


def test_checkpoints_take_less_than_a_hundredth_of_the_time():
    assert run.PERIOD > 100


def test_arrays_with_equal_paths_are_told_apart():
    value = {"a.b": np.zeros(2), "a": {"b": np.ones(2)}, 1: np.full(2, 3.0), "1": np.full(2, 4.0)}
    encoder = Encoder()
    described = json.loads(json.dumps(encoder.encode(value, "run")))
    read = Decoder(encoder.arrays).decode(described)
    assert len(encoder.arrays) == 4
    np.testing.assert_equal(read, value)


def test_files_of_the_users_own_stay(tmp_path):
    (tmp_path / "blocks" / "mine").mkdir(parents=True)
    (tmp_path / "blocks" / "mine.txt").write_text("mine")
    (tmp_path / "film.partial").mkdir()
    left = tmp_path / "blocks" / f"{'0a' * 32}.partial"
    left.write_bytes(b"half a block")
    model = SAVO("MlpPolicy", "Pendulum-v1", **SMALL).learn(40, checkpoints=tmp_path)
    assert model.num_timesteps == 40 and not left.exists()
    assert (tmp_path / "blocks" / "mine").is_dir() and (tmp_path / "blocks" / "mine.txt").exists()
    assert (tmp_path / "film.partial").is_dir()


def test_only_transitions_are_cut_where_the_buffer_is_not_full():
    """As many items as the buffer has rows: their embeddings are written whole."""
    items = EmbeddedDiscrete(np.random.default_rng(0).normal(size=(100, 4)))
    model = SAVO("MlpPolicy", ActionEmbedding(IdentityEnv(dim=100), items.embeddings), **SMALL).learn(30)
    environments.start_recording(model.env)
    model.env.reset()
    arrays = snapshot.take_snapshot(model, ConvertCallback(None), False).arrays
    cut = {name for name, (_, n_rows) in arrays.items() if n_rows is not None}
    assert {"run.buffer.actions", "run.buffer.rewards"} <= cut
    assert not any("_space" in name for name in cut)
    embeddings, _ = arrays["run.buffer.item_space.embeddings"]
    np.testing.assert_array_equal(embeddings, items.embeddings)


class Thing:
    """Of a kind that a checkpoint does not write."""


class Telling(gym.ObservationWrapper):
    """Its state is a value that cannot be written, from a number of observations on."""

    def __init__(self, n_plain):
        super().__init__(gym.make("Pendulum-v1"))
        self.left = n_plain
        self.unwrapped.get_state = self.get_state
        self.unwrapped.set_state = lambda state: None

    def observation(self, observation):
        self.left -= 1
        return observation

    def get_state(self):
        return self.left if self.left > 0 else Thing()


def test_a_state_that_comes_up_and_cannot_be_written_does_not_end_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "PERIOD", 0)
    model = SAVO("MlpPolicy", Telling(60), **SMALL)
    with pytest.warns(UserWarning, match=r"A checkpoint is left out, .*own is a .*Thing"):
        model.learn(100, checkpoints=tmp_path)
    assert model.num_timesteps == 100
    store = Store(tmp_path)
    assert 0 < store.newest().about["num_timesteps"] < 60
    store.close()
    with pytest.raises(TypeError, match=r"own is a .*Thing"):
        SAVO("MlpPolicy", Telling(0), **SMALL).learn(100, checkpoints=tmp_path / "other")
