"""The hyperparameters of the other methods are written from SAVO's."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import sb3_savo
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
