"""What is installed: the wheel's files, and a fresh environment that has only the wheel."""

import ast
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import packages_distributions, requires, version
from pathlib import Path

import pytest
import torch as th
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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


# Rooms whose imports an extra brings, and single imports that an extra brings
EXTRAS_OF_ROOMS = {"envs/movielens": "movielens"}
EXTRAS_OF_MODULES = {"faiss": "faiss", "matplotlib": "render"}


def third_party_imports():
    """:return: (file, top-level module) of every import of the package that is neither ours nor Python's"""
    for path in (ROOT / "sb3_savo").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            for module in {name.split(".")[0] for name in names}:
                if module not in sys.stdlib_module_names and "sb3_savo" not in module:
                    yield str(path.relative_to(ROOT / "sb3_savo")), module


def declared(extra=None):
    """:return: Names of the distributions that the package needs, or that an extra adds"""
    wanted = [Requirement(text) for text in requires("sb3-savo")]
    return {
        canonicalize_name(each.name)
        for each in wanted
        if (each.marker is None if extra is None else each.marker is not None and each.marker.evaluate({"extra": extra}))
    }


def test_every_import_is_declared():
    """In the core, or in the extra of the room; ``rl_zoo3`` is patched, never imported before its user does."""
    distributions = packages_distributions()
    for file, module in third_party_imports():
        room_extra = next((extra for room, extra in EXTRAS_OF_ROOMS.items() if file.startswith(room)), None)
        extra = EXTRAS_OF_MODULES.get(module, room_extra)
        allowed = declared() | (declared(extra) if extra else set())
        found = {canonicalize_name(name) for name in distributions[module]}
        assert found & allowed, f"{file} imports {module}, which setup.cfg does not declare"


def test_the_newest_torch_allowed_is_the_one_tested():
    """The compiled loss uses private parts of torch, which may change with any minor version."""
    (torch,) = (each for each in map(Requirement, requires("sb3-savo")) if each.name == "torch")
    major, minor = map(int, version("torch").split("+")[0].split(".")[:2])
    assert torch.specifier.contains(th.__version__.split("+")[0])
    assert not torch.specifier.contains(f"{major}.{minor + 1}.0"), "setup.cfg allows a version of torch that no test ran with"


@pytest.mark.parametrize(
    "module, use, message",
    [
        ("sklearn", "import gymnasium as gym, sb3_savo; gym.make('RecSimData-v0')", "pip install 'sb3-savo[movielens]'"),
        (
            "gymnasium_robotics",
            "import rl_zoo3, gymnasium as gym; gym.make('AdroitHandDoor-v1')",
            "pip install 'sb3-savo[adroit]'",
        ),
    ],
)
def test_a_missing_extra_is_named(module, use, message):
    code = f"import sys; sys.modules[{module!r}] = None; {use}"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert done.returncode != 0 and message in done.stderr


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
