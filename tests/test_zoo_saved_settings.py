"""Crafted files beside an agent: the RL Zoo refuses them for our algorithms, and nothing in them is executed."""

import pickle
import sys
from collections import OrderedDict
from functools import partial
from pathlib import Path

import gymnasium as gym
import pytest
import yaml
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from torch import nn

from sb3_savo.files.errors import FileError, UnsafeFileError
from sb3_savo.files.objects import load_vec_normalize, save_vec_normalize
from sb3_savo.zoo.saved_settings import MAX_BYTES, check_saved_settings, check_yaml, modules_named_by_user
from tests.test_safe_files import Bomb
from tests.zoo_programs import run_program

ID = "Pendulum-v1"
HYPERPARAMS = ("learning_starts:40", "buffer_size:500", "policy_kwargs:dict(net_arch=[8])", "normalize:True")


class OwnWrapper(gym.Wrapper):
    """A wrapper of a module that was imported before."""


@pytest.fixture
def program(monkeypatch):
    """Runs ``python -m rl_zoo3.NAME`` in this process."""
    return partial(run_program, monkeypatch, ID)


@pytest.fixture
def folder(tmp_path, monkeypatch, program):
    """The folder of the settings of a trained agent, below the current one."""
    monkeypatch.chdir(tmp_path)
    program("train", "-n", 50, "--eval-freq", -1, "--env-kwargs", "g:9.0", "--hyperparams", *HYPERPARAMS)
    return Path(f"logs/savo/{ID}_1/{ID}")


CRAFTED = {
    "config.yml": "!!python/object/apply:os.mkdir [executed]",
    "args.yml": "env_kwargs: !!python/object/apply:os.mkdir [executed]",
    "vecnormalize.pkl": pickle.dumps(Bomb("executed")),
}
SHOW = {
    "enjoy": ("enjoy", "-f", "logs", "--no-render", "-n", 10),
    "record_video": ("record_video", "-f", "logs", "-n", 10),
    "train": ("train", "-n", 10, "-i", f"logs/savo/{ID}_1/{ID}.zip", "--hyperparams", *HYPERPARAMS),
}


@pytest.mark.parametrize("name", CRAFTED)
@pytest.mark.parametrize("show", SHOW)
def test_crafted_files_are_refused(folder, program, name, show):
    content = CRAFTED[name]
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    if show == "train" and name != "vecnormalize.pkl":
        program(*SHOW[show])  # does not read them
    else:
        with pytest.raises(UnsafeFileError, match=f"may execute code.*{name}"):
            program(*SHOW[show])
    assert not Path("executed").exists()


def test_genuine_files_are_read(folder, program, capsys):
    for show in SHOW.values():
        if show[0] != "record_video":
            program(*show)
    assert capsys.readouterr().out.count("Loading running average") == 1


def test_statistics_without_pickle_are_read(folder, program):
    path = folder / "vecnormalize.pkl"
    save_vec_normalize(load_vec_normalize(path, make_vec_env(ID)), path)
    program(*SHOW["enjoy"])


def test_statistics_of_another_environment_are_named(folder, program):
    path = folder / "vecnormalize.pkl"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FileError, match=r"vecnormalize\.pkl"):
        program(*SHOW["enjoy"])


def test_other_algorithms_are_as_they_were(tmp_path, monkeypatch, program):
    """The RL Zoo trusts the files of its own algorithms."""
    monkeypatch.chdir(tmp_path)
    program("train", "-n", 10, "--eval-freq", -1, algo="td3")
    Path(f"logs/td3/{ID}_1/{ID}/args.yml").write_text(CRAFTED["args.yml"])
    program("enjoy", "-f", "logs", "--no-render", "-n", 5, algo="td3")
    assert Path("executed").exists()


@pytest.fixture
def own_package(tmp_path, monkeypatch):
    """A package of the user's own, with a wrapper in a module that the package itself does not import."""
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package" / "__init__.py").touch()
    (tmp_path / "own_package" / "parts.py").write_text("import gymnasium\n\nclass Own(gymnasium.Wrapper):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in ("own_package", "own_package.parts"):
        sys.modules.pop(name, None)


OWN = ["env_wrapper: own_package.parts.Own", "policy_kwargs: {x: !!python/name:own_package.parts.Own ''}"]


@pytest.mark.parametrize("text", OWN)
def test_a_module_that_the_command_names_is_trusted(own_package, text):
    with pytest.raises(UnsafeFileError, match="--gym-packages MODULE"):
        check_yaml(text)
    assert "own_package" not in sys.modules
    check_yaml(text, ["own_package"])
    check_yaml(text, ["own_package.envs"])
    with pytest.raises(FileError, match=r"own_package\.nothing"):
        check_yaml(text.replace("parts", "nothing"), ["own_package"])
    with pytest.raises(UnsafeFileError):
        check_yaml("env_wrapper: own_package.parts.gymnasium", ["own_package"])


@pytest.mark.parametrize("arguments", [("--gym-packages", "own_package"), ("--gym-p=own_package", "-n", "5")], ids=str)
def test_enjoy_with_a_wrapper_of_a_users_own(own_package, folder, program, arguments):
    with (folder / "config.yml").open("a") as file:
        file.write("  - - env_wrapper\n    - own_package.parts.Own\n")
    with pytest.raises(UnsafeFileError, match="own_package"):
        program(*SHOW["enjoy"])
    program(*SHOW["enjoy"], *arguments)
    assert "own_package.parts" in sys.modules


def test_modules_that_a_command_names():
    assert modules_named_by_user(["enjoy", "--env", ID, "--gym-packages", "a", "b.c", "-n", "5"]) == ["a", "b.c"]
    assert modules_named_by_user(["enjoy", "--env", ID]) == []


def nested(item):
    """YAML of 30 levels, each with the one before ten times."""
    levels = [f"a0: &a0 {item}"] + [f"a{i}: &a{i} {item[0]}{', '.join([f'*a{i - 1}'] * 10)}{item[-1]}" for i in range(1, 31)]
    return "\n".join(levels)


LAUGHS = {
    "lists": nested("[x]"),
    "merged mappings": "a0: &a0 {k: v}\n"
    + "\n".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, 31)),
    "tuples as keys": "a0: &a0 !!python/tuple [1]\n"
    + "\n".join(f"a{i}: &a{i} !!python/tuple [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 31))
    + "\n? *a30\n: 1",
    "a name": nested("[x]") + "\nenv_wrapper: *a30",
    "one long text": f"a: &a {'x' * 30_000}\nenv_wrapper: [[{', '.join(['*a'] * 5_000)}]]",
    "itself": "a: &a [*a]",
}


@pytest.mark.parametrize("name", LAUGHS)
def test_aliases_of_aliases_are_refused(name):
    with pytest.raises(FileError, match="in the place of every alias"):
        check_yaml(LAUGHS[name])


def test_long_files_are_refused_unread(tmp_path):
    with (tmp_path / "args.yml").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(FileError, match=rf"more than {MAX_BYTES:,} bytes.*args\.yml"):
        check_saved_settings(tmp_path)


@pytest.mark.parametrize("value", ["!!int x", "!!int ''", "!!bool x", "!!timestamp x", f"!!int {'9' * 5000}", "!!float x"])
def test_values_that_do_not_fit_their_tags_are_named(value):
    with pytest.raises(FileError, match="a value does not fit its tag"):
        check_yaml(f"a: {value}")


GENUINE = [
    OrderedDict(a=1, b=OrderedDict(c=(1, 2.5)), d=[None, True, "x"], env_kwargs={"n": 3}, callback="x.Y"),
    {"policy_kwargs": {"activation_fn": nn.ReLU}, "replay_buffer_class": HerReplayBuffer},
    {"normalize": "dict(norm_obs=False, norm_reward=True)"},
    {"normalize": "{'norm_obs': True, 'norm_reward': False}"},
    {"normalize": {"norm_obs": True}},
    {"env_wrapper": None, "vec_env_wrapper": "stable_baselines3.common.vec_env.VecMonitor"},
    {"env_wrapper": ["rl_zoo3.wrappers.HistoryWrapper", {"gymnasium.wrappers.TimeLimit": {"max_episode_steps": 5}}]},
    {"env_wrapper": "rl_zoo3.utils.flatten_dict_observations"},
    {"env_wrapper": f"{__name__}.OwnWrapper"},
]


@pytest.mark.parametrize("settings", GENUINE, ids=str)
def test_genuine_settings(settings):
    check_yaml(yaml.dump(settings))


UNSAFE = {
    "a: !!python/object/apply:os.system [ls]": "!!python/object/apply:os.system",
    "a: !!python/object/new:os.system [ls]": "!!python/object/new:os.system",
    "a: !!python/object:sb3_savo.SAVO {x: 1}": "!!python/object:sb3_savo.SAVO",
    "a: !!python/module:antigravity": "!!python/module:antigravity",
    "a: !!python/name:os.system": "!!python/name:os.system",
    "a: !!python/name:antigravity.fly": "!!python/name:antigravity.fly",
    "a: !!python/name:torch.load": "!!python/name:torch.load",
    "!!python/object/apply:os.system [ls]: 1": "!!python/object/apply:os.system",
    "a: !!str {=: x, b: !!python/object/apply:os.system [ls]}": "!!python/object/apply:os.system",
    "a: !!python/object/apply:collections.OrderedDict {args: [], state: {x: 1}}": "OrderedDict",
    "a: &x [*x, !!python/object/apply:os.system [ls]]": "!!python/object/apply:os.system",
    'normalize: \'__import__("os").system("ls")\'': "normalize=",
    "normalize: 'dict(norm_obs=exit())'": "normalize=",
    "normalize: 'dict(norm_obs=True'": "normalize=",
    "env_wrapper: os.system": "env_wrapper='os.system'",
    "env_wrapper: [{subprocess.Popen: {shell: true}}]": "env_wrapper='subprocess.Popen'",
    "vec_env_wrapper: logs.savo.evil.Wrapper": "vec_env_wrapper='logs.savo.evil.Wrapper'",
    "env_wrapper: gymnasium.make": "env_wrapper='gymnasium.make'",
    "env_wrapper: !!python/name:torch.nn.Linear": "env_wrapper=<class",
    "env_wrapper: eval": "env_wrapper='eval'",
}


@pytest.mark.parametrize("text", UNSAFE)
def test_unsafe_settings(text):
    with pytest.raises(UnsafeFileError) as caught:
        check_yaml(text)
    assert UNSAFE[text] in str(caught.value) and "may execute code" in str(caught.value)
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("content", [b"a: [", b"- 1", b"", b"\xff\xfe\x00", b"[" * 3000, b"env_wrapper: rl_zoo3.nothing.X"])
def test_damaged_settings_are_named(folder, program, content):
    (folder / "config.yml").write_bytes(content)
    with pytest.raises(FileError, match=r"config\.yml"):
        program(*SHOW["enjoy"])
