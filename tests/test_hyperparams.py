"""The hyperparameters of the other methods are written from SAVO's."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from stable_baselines3.common.torch_layers import get_actor_critic_arch

import sb3_savo
from sb3_savo import SAVO
from sb3_savo.zoo.extensions import ALGORITHMS

ROOT = Path(sb3_savo.__file__).parent.parent
SCRIPT = ROOT / "scripts" / "write_hyperparams.py"

pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="not a checkout")


def write(*arguments):
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True)


def test_the_files_are_up_to_date():
    result = write("--check")
    assert result.returncode == 0, result.stderr


def test_every_algorithm_has_a_file():
    assert {path.stem for path in (ROOT / "hyperparams").glob("*.yml")} == {*ALGORITHMS, "savo-paper"}


def test_a_change_to_savo_reaches_every_file(tmp_path):
    folder = tmp_path / "hyperparams"
    shutil.copytree(ROOT / "hyperparams", folder)
    savo = (folder / "savo.yml").read_text()
    (folder / "savo.yml").write_text(savo.replace("  n_timesteps: 1000000\n", "  n_timesteps: 2000000\n", 1))
    result = write("--check", "--folder", folder)
    assert result.returncode == 1 and "Out of date" in result.stderr and "savosac.yml" in result.stderr
    assert write("--folder", folder).returncode == 0
    assert write("--check", "--folder", folder).returncode == 0
    for path in folder.glob("*.yml"):
        assert yaml.safe_load(path.read_text())["default"]["n_timesteps"] == 2_000_000, path.name


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name != "savo"])
def test_no_argument_of_savo_alone_is_left(name):
    """The script works on lines: it would overlook arguments in a different layout."""
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        from write_hyperparams import METHODS
    finally:
        sys.path.pop(0)
    method = METHODS[name]
    savo = yaml.safe_load((ROOT / "hyperparams" / "savo.yml").read_text())
    for env_id, section in yaml.safe_load((ROOT / "hyperparams" / f"{name}.yml").read_text()).items():
        assert not set(method.leaves_out) & {*section, *section.get("policy_kwargs", {})}, env_id
        own = {key: section[key] for key in method.own if key in section}
        assert own == (method.own if "n_actors" in savo[env_id] else {}), env_id
        assert ("n_actors" in section) == ("n_actors" in method.own and "n_actors" in savo[env_id]), env_id


ROBOTS = ("Hopper", "Walker2d", "HalfCheetah", "Ant", "InvertedPendulum", "InvertedDoublePendulum")
MUJOCO = [f"{robot}{kind}-{version}" for robot in ROBOTS for kind in ("", "Restricted") for version in ("v4", "v5")]
ADROIT = [f"AdroitHand{task}-v1" for task in ("Door", "Hammer", "Pen")]
RECSIM = [f"RecSim{size}-v0" for size in ("", "100k", "500k", "Data")]
# The paper's Table 3 (tests/test_zoo.py has its steps, environments and updates), and two settings of the authors' code
TABLE_3 = {
    "environments": (["MiningExpedition-v0"], MUJOCO + ADROIT, RECSIM),
    "batch_size": (256, 256, 256),
    "buffer_size": (500_000, 500_000, 1_000_000),
    "learning_rate": (3e-4, 3e-4, 3e-4),
    "gamma": (0.99, 0.99, 0.99),
    "exploration_noise_scale": ([1.0, 0.01, 5_000_000], [1.0, 0.01, 500_000], [1.0, 0.01, 10_000_000]),
    "selection_epsilon": ([1.0, 0.01, 500_000], 0.0, [1.0, 0.01, 2_000_000]),  # not used in MuJoCo by the authors' code
    "actors": ([128, 64, 64, 32], [256, 256], [64, 32, 32, 16]),
    "critics": ([128, 128], [256, 256], [64, 32]),
    "n_actors": (3, 3, 3),
    "summarizer": ("deepset", "deepset", "deepset"),
    "learning_starts": (1_000, 10_000, 1_000),
    "summary_dim": (16, 16, 32),
}


@pytest.mark.parametrize("column", range(3), ids=["mine", "mujoco", "recsim"])
def test_table_3(column):
    """What the file sets, alike for all environments of a column, and SAVO's defaults for what it does not name."""
    sections = yaml.safe_load((ROOT / "hyperparams" / "savo.yml").read_text())
    expected = {name: row[column] for name, row in TABLE_3.items()}
    first, *others = [sections[env_id] for env_id in expected.pop("environments")]
    assert all(section == first for section in others)
    model = SAVO(env="Pendulum-v1", **{key: value for key, value in first.items() if key not in ("n_timesteps", "n_envs")})
    actors, critics = get_actor_critic_arch(model.policy.net_arch)
    own = {**vars(model), "actors": actors, "critics": critics, "summary_dim": model.policy.summary_dim}
    assert {name: own[name] for name in expected} == expected
    assert model.qf_learning_rate is None, "critics learn at the actors' rate"
