"""What is installed: the wheel's files, and a fresh environment that has only the wheel."""

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import sb3_savo

ROOT = Path(sb3_savo.__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    if not (ROOT / "setup.cfg").exists():
        pytest.skip("not a checkout")
    folder = tmp_path_factory.mktemp("wheel")
    # By way of the source distribution, so that nothing is built in the checkout
    subprocess.run([sys.executable, "-m", "build", "--outdir", folder, ROOT], check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_files_of_the_wheel(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    data = f"sb3_savo-{sb3_savo.__version__}.data/purelib/"
    expected = {f"{data}sb3_savo_zoo.pth", f"{data}sb3_savo_zoo.start", "_sb3_savo_startup/__init__.py"}
    expected |= {"sb3_savo/py.typed", *(f"sb3_savo/hyperparams/{path.name}" for path in (ROOT / "hyperparams").iterdir())}
    expected |= {str(path.relative_to(ROOT)) for path in (ROOT / "sb3_savo").rglob("*.py") if path.parent.name != "startup"}
    others = {name for name in names - expected if ".dist-info/" not in name}
    assert expected <= names
    assert not others


def test_the_startup_line_is_tolerant_and_short():
    line = (ROOT / "sb3_savo" / "zoo" / "startup" / "sb3_savo_zoo.pth").read_text()
    assert line.count("\n") == 1
    subprocess.run([sys.executable, "-I", "-S", "-c", line], check=True)  # where the package is not to be found


@pytest.mark.expensive
def test_a_fresh_environment_with_the_wheel_only(wheel, tmp_path):
    """Install, train by the RL Zoo in an empty folder, uninstall without a trace."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel], check=True)
    train = ["-m", "rl_zoo3.train", "--algo", "savo", "--env", "HopperRestricted-v4", "-n", "60", "--eval-freq", "-1"]
    options = ["--hyperparams", "learning_starts:30", "train_freq:1", "n_envs:1", "gradient_steps:1"]
    subprocess.run([python, *train, *options], check=True, cwd=tmp_path)
    site = next((tmp_path / "venv" / "lib").glob("python*")) / "site-packages"
    assert (site / "sb3_savo_zoo.pth").exists()
    subprocess.run([python, "-m", "pip", "uninstall", "-q", "-y", "sb3-savo"], check=True)
    assert not list(site.glob("*savo*"))
