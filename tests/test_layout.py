"""The rules of the house: imports point down, and nothing reaches past the door of what is here for speed alone."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import sb3_savo

PACKAGE = Path(sb3_savo.__file__).parent

# From the ground up; a folder imports from its own floor's folder and from lower ones only
FLOORS = (
    "arguments",
    "extras",
    "tracing",
    "vec_env",
    "actions",
    "files",
    "networks",
    "acceleration",
    "common",
    "savo",
    "savosac",
    "baselines",
    "algorithms",
    "zoo",
)
ENVIRONMENTS_MAY_IMPORT = {"arguments", "extras", "actions", "envs"}
# What lies beside the staircase, and the highest floor that it stands on; it may look at environments
ANNEXES = {"analysis": "algorithms", "export": "common"}


def imports(path):
    """:return: The modules of ours that a file imports, as (module, names)"""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "sb3_savo":
            yield node.module.split(".")[1:], [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "sb3_savo":
                    yield alias.name.split(".")[1:], []


def room(path):
    """:return: The folder or the file at the top of the package that a file belongs to"""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem in {*FLOORS, *ANNEXES})


def rooms_imported(path):
    """:return: The rooms from which a file imports"""
    found = set()
    for module, names in imports(path):
        found |= {module[0]} if module else {name for name in names if (PACKAGE / name).is_dir() or name in FLOORS}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    own, found = room(path), rooms_imported(path)
    if own == "envs":
        allowed = ENVIRONMENTS_MAY_IMPORT
    elif own in ANNEXES:
        allowed = {own, "envs", *FLOORS[: FLOORS.index(ANNEXES[own]) + 1]}
    else:
        allowed = {*FLOORS[: FLOORS.index(own) + 1]}
    assert found <= allowed, f"{path} reaches up to {found - allowed}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_acceleration_has_one_door(path):
    if room(path) != "acceleration":
        for module, names in imports(path):
            assert module[:1] != ["acceleration"] or len(module) == 1, f"{path} imports {'.'.join(module)}"
            assert module or "acceleration" not in names, f"{path} imports the whole of acceleration"


def test_every_room_has_a_floor():
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert rooms == {*FLOORS, *ANNEXES, "envs"} - {"arguments", "extras", "tracing", "vec_env", "algorithms", "export"}


def test_importing_loads_no_compiler():
    """torch's compiler loads when the first loss is compiled, so that workers of SubprocVecEnv do without."""
    code = "import sys, sb3_savo; print([name for name in ('torch._inductor', 'torch._dynamo') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


STUBS = """
class CompiledLosses:
    def __init__(self, *args):
        pass

    def find(self, *args):
        raise RuntimeError("a stub compiles nothing")

    def stop(self):
        pass

has_bfloat16_hardware = lambda device: False
has_numpy_twin = lambda method: method
numpy_policy = lambda policy: None
keep_freed_memory = lambda: False
sample_batch = lambda buffer, batch_size, env: buffer.sample(batch_size, env=env)
upload = lambda tensor, device: tensor.to(device)
"""


def run_with_stubs(tmp_path, *tests):
    """Run tests on a copy of the package in which stubs replace the folder ``acceleration``."""
    root = PACKAGE.parent
    if not (root / "setup.cfg").exists():
        pytest.skip("not a checkout")
    for name in ("sb3_savo", "tests", "hyperparams", "benchmarks"):
        shutil.copytree(root / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
    for name in ("pyproject.toml", "setup.cfg"):
        shutil.copy(root / name, tmp_path)
    shutil.rmtree(tmp_path / "sb3_savo" / "acceleration")
    (tmp_path / "sb3_savo" / "acceleration").mkdir()
    (tmp_path / "sb3_savo" / "acceleration" / "__init__.py").write_text(STUBS)
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not expensive", "-p", "no:cacheprovider", *tests]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        command, cwd=tmp_path, env={**environment, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_losses_without_acceleration(tmp_path):
    run_with_stubs(tmp_path, "tests/test_losses.py")


@pytest.mark.expensive
def test_every_other_test_without_acceleration(tmp_path):
    """All tests but those of the folder itself, of the installed package, and of the benchmarks that measure the folder."""
    others = ("acceleration", "benchmarks", "test_package.py", "test_layout.py", "test_zoo.py")
    run_with_stubs(tmp_path, "tests", *(f"--ignore=tests/{name}" for name in others))
