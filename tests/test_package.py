"""What is installed: the wheel's files, what it depends on, and a fresh environment that has only the wheel."""

import ast
import configparser
import re
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import sb3_savo

ROOT = Path(sb3_savo.__file__).parent.parent
# Where imports that only an extra installs may stand
EXTRA_OF = {
    "actions/nearest.py": "faiss",
    "analysis/actions.py": "umap",
    "analysis": "plots",
    "demo.py": "plots",
    "envs/movielens": "movielens",
    "export.py": "export",
    "envs/pictures.py": "render",
}


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
    expected |= {"sb3_savo/py.typed", *(f"sb3_savo/hyperparams/{path.name}" for path in (ROOT / "hyperparams").glob("*.yml"))}
    expected |= {str(path.relative_to(ROOT)) for path in (ROOT / "sb3_savo").rglob("*.py") if path.parent.name != "startup"}
    others = {name for name in names - expected if ".dist-info/" not in name}
    assert expected <= names
    assert not others


def test_metadata_of_the_wheel(wheel):
    archive = zipfile.ZipFile(wheel)
    metadata = archive.read(next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))).decode()
    assert "Classifier: Typing :: Typed" in metadata
    extras = set(re.findall(r"^Provides-Extra: (.+)$", metadata, re.MULTILINE))
    users = {"adroit", "benchmarks", "export", "faiss", "movielens", "plots", "render", "tensorboard", "umap", "video"}
    assert extras == users | {"all", "docs", "tests"}
    everything = next(item for item in re.findall(r"^Requires-Dist: (.+); extra == \"all\"$", metadata, re.MULTILINE))
    # The benchmarks are not in the wheel
    assert Requirement(everything).extras == users - {"benchmarks"}


@pytest.fixture(scope="module")
def config():
    if not (ROOT / "setup.cfg").exists():
        pytest.skip("not a checkout")
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def requirements(text):
    """:return: The requirements of one option of setup.cfg, by name, without those of the package on its own extras"""
    found = [Requirement(line) for line in text.split("\n") if line and not line.startswith("#")]
    return {canonicalize_name(item.name): item for item in found if canonicalize_name(item.name) != "sb3-savo"}


def third_party_imports(path):
    """:return: Names of the modules that a file imports: anywhere, and when it is imported itself"""

    def imports(node, inside_function=False):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((name.name, inside_function) for name in child.names)
            elif isinstance(child, ast.ImportFrom) and child.level == 0:
                yield child.module, inside_function
            is_for_types = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
            yield from imports(child, inside_function or is_for_types or isinstance(child, ast.FunctionDef | ast.Lambda))

    found = {(name.partition(".")[0], inside) for name, inside in imports(ast.parse(path.read_text()))}
    own = {*sys.stdlib_module_names, "sb3_savo", "_sb3_savo_startup"}
    return {name for name, _ in found if name not in own}, {name for name, inside in found if not inside and name not in own}


@pytest.fixture(scope="module")
def distributions():
    """Name of the distribution that a module belongs to"""
    return {module: canonicalize_name(names[0]) for module, names in packages_distributions().items()}


@pytest.mark.parametrize("path", sorted((ROOT / "sb3_savo").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_are_declared(config, distributions, path):
    """Everywhere the core suffices to import a file, but in the package of an extra."""
    declared = set(requirements(config["options"]["install_requires"]))
    place = str(path.relative_to(ROOT / "sb3_savo"))
    extra = next((name for start, name in EXTRA_OF.items() if place.startswith(start)), None)
    optional = set(requirements(config["options.extras_require"][extra])) if extra else set()
    anywhere, at_import = third_party_imports(path)
    assert {distributions[module] for module in anywhere} <= declared | optional
    if extra != "movielens":
        assert {distributions[module] for module in at_import} <= declared


def test_supported_versions_of_python(config):
    """The classifiers name what python_requires allows, and the style checker checks for the oldest."""
    named = re.findall(r"Programming Language :: Python :: (3\.\d+)", config["metadata"]["classifiers"])
    allowed = SpecifierSet(config["options"]["python_requires"])
    assert named == [version for version in (f"3.{minor}" for minor in range(50)) if version in allowed]
    assert f'target-version = "py{named[0].replace(".", "")}"' in (ROOT / "pyproject.toml").read_text()


def test_every_dependency_is_pinned(config):
    """The constraints hold a version of each dependency that setup.cfg allows."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    versions = {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in pins}
    assert len(versions) == len(pins)
    for text in (config["options"]["install_requires"], *config["options.extras_require"].values()):
        for name, requirement in requirements(text).items():
            assert versions[name] in requirement.specifier, name


def test_the_newest_torch_allowed_is_the_one_tested(config):
    """The compiled loss uses private parts of torch, which may change with any minor version."""
    specifier = requirements(config["options"]["install_requires"])["torch"].specifier
    tested = version("torch").partition("+")[0]
    major, minor = map(int, tested.split(".")[:2])
    assert tested in specifier
    assert f"{major}.{minor + 1}.0" not in specifier, "setup.cfg allows a version of torch that no test ran with"


# Modules that only extras install
MISSING = [
    "faiss",
    "gymnasium_robotics",
    "matplotlib",
    "moviepy",
    "pooch",
    "pygame",
    "scipy",
    "sklearn",
    "tensorboard",
    "umap",
]


def without_extras(code):
    """Run code where these modules cannot be imported."""
    hide = f"import sys; sys.modules |= dict.fromkeys({MISSING}); "
    return subprocess.run([sys.executable, "-c", hide + code], capture_output=True, text=True)


def test_the_core_does_without_the_extras():
    code = (
        "import gymnasium, rl_zoo3, sb3_savo; assert rl_zoo3.ALGOS['savo'] is sb3_savo.SAVO; "
        "import sb3_savo.zoo.samplers, sb3_savo.analysis, sb3_savo.envs.recsim, sb3_savo.envs.mining; "
        "env = gymnasium.make('LandscapePeaks2D-v0'); "
        "sb3_savo.SAVO('MlpPolicy', env, learning_starts=2, buffer_size=100).learn(4)"
    )
    result = without_extras(code)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    "env_id, message",
    [
        ("RecSimData-v0", "RecSimData needs pooch: pip install 'sb3-savo[movielens]'"),
        ("AdroitHandPen-v1", "AdroitHandPen-v1 needs gymnasium_robotics: pip install 'sb3-savo[adroit]'"),
        ("LandscapePeaks2D-v0", "The map of a landscape needs matplotlib: pip install 'sb3-savo[render]'"),
    ],
)
def test_a_missing_extra_is_named(env_id, message):
    code = f"import gymnasium, rl_zoo3, sb3_savo; env = gymnasium.make('{env_id}', render_mode='rgb_array'); "
    result = without_extras(code + "env.reset(); env.render()")
    assert f"ImportError: {message}" in result.stderr


def test_the_startup_line_is_tolerant_and_short():
    line = (ROOT / "sb3_savo" / "zoo" / "startup" / "sb3_savo_zoo.pth").read_text()
    assert line.count("\n") == 1
    subprocess.run([sys.executable, "-I", "-S", "-c", line], check=True)  # where the package is not to be found


@pytest.mark.expensive
def test_a_fresh_environment_with_the_wheel_only(wheel, tmp_path):
    """Install the core, train by the RL Zoo in an empty folder, uninstall without a trace."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel], check=True)
    train = ["-m", "rl_zoo3.train", "--algo", "savo", "--env", "HopperRestricted-v4", "-n", "60", "--eval-freq", "-1"]
    options = ["--hyperparams", "learning_starts:30", "train_freq:1", "n_envs:1", "gradient_steps:1"]
    subprocess.run([python, *train, *options], check=True, cwd=tmp_path)
    site = next((tmp_path / "venv" / "lib").glob("python*")) / "site-packages"
    assert (site / "sb3_savo_zoo.pth").exists()
    assert not [name for name in ("faiss", "gymnasium_robotics", "pygame", "sklearn", "tensorboard") if (site / name).exists()]
    subprocess.run([python, "-m", "pip", "uninstall", "-q", "-y", "sb3-savo"], check=True)
    assert not list(site.glob("*savo*"))


def test_the_citation_has_the_version_of_the_package(config):
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert str(citation["version"]) == config["metadata"]["version"] == sb3_savo.__version__
    paper = citation["preferred-citation"]
    bibtex = (ROOT / "docs" / "project" / "citing.md").read_text()
    assert paper["title"] in bibtex and "arXiv:2410.11833" in paper["journal"] and "arXiv:2410.11833" in bibtex
    assert [author["family-names"] for author in paper["authors"]] == ["Jain", "Kosaka", "Li", "Kim", "Bıyık", "Lim"]


def test_the_workflow_runs_every_python_and_system(config):
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    versions = re.findall(r"Programming Language :: Python :: (3\.\d+)", config["metadata"]["classifiers"])
    assert jobs["tests"]["strategy"]["matrix"]["python"] == jobs["windows"]["strategy"]["matrix"]["python"] == versions
    assert ".ci/run" in [step.get("run") for step in jobs["tests"]["steps"]]
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        assert yaml.safe_load(path.read_text())
