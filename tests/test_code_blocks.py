"""
Every block of code in the README and in the documentation runs, as it stands.

The fixture ``short_runs`` cuts learning to some steps. Python blocks of one document share their variables and an empty
folder. A command ``python -m …`` runs in this process. Other commands are checked for what they name: extras, files, targets
of ``make``.
"""

import re
import runpy
import shlex
import shutil
import subprocess
import sys
import warnings
from configparser import ConfigParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import sb3_savo

ROOT = Path(sb3_savo.__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
# These have many commands
SLOW = {"docs/guide/zoo.md", "docs/start/quickstart.md", "docs/guide/export.md"}
# Blocks that are no code of ours
OTHER_LANGUAGES = {"bibtex", "text", "{eval-rst}", "{include}", "{toctree}"}

pytestmark = pytest.mark.skipif(not (ROOT / "docs").exists(), reason="not a checkout")


# How the RL Zoo's commands are cut, besides their learning; the last value of an option counts
OPTIONS = {
    "rl_zoo3.train": ["--eval-episodes", "2"],
    "rl_zoo3.enjoy": ["-n", "20", "--no-render"],
    "rl_zoo3.record_video": ["-n", "2"],
    # tests/test_demo.py runs it
    "sb3_savo.demo": ["--help"],
}


def run_module(module, arguments):
    # The blocks run in an empty folder, and the trained agents are in the checkout
    arguments = [str(ROOT / "agents") if argument == "agents" else argument for argument in arguments]
    arguments += OPTIONS.get(module, [])
    if module == "rl_zoo3.train":
        arguments += ["--eval-freq", "2" if "--eval-freq" in arguments else "-1"]
        if "-optimize" in arguments:
            arguments += ["--n-trials", "1", "--n-evaluations", "1"]
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setattr(sys, "argv", [module, *arguments])
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            assert not end.code, end


def check_pip(arguments):
    """``pip install``: the files of constraints and the extras exist"""
    parser = ConfigParser()
    parser.read(ROOT / "setup.cfg")
    assert arguments.pop(0) == "install"
    while arguments:
        argument = arguments.pop(0)
        if argument in ("-c", "--index-url"):
            value = arguments.pop(0)
            assert argument != "-c" or (ROOT / value).exists()
        elif argument != "-e":
            requirement = Requirement(re.sub(r"^\.", "sb3-savo", argument))
            assert requirement.name in ("sb3-savo", "torch")
            assert requirement.extras <= set(parser["options.extras_require"])


def run_command(line):
    words = shlex.split(line, comments=True)
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):  # variables of the environment
        words.pop(0)
    program, *arguments = words
    if (program, arguments[:1]) == ("python", ["-m"]) and arguments[1] not in ("build", "pytest", "venv"):
        run_module(arguments[1], arguments[2:])
    elif program == "pip":
        check_pip(arguments)
    elif program == "make":
        if shutil.which("make"):
            subprocess.run(["make", "-n", *arguments], cwd=ROOT, check=True, capture_output=True)
    elif program == "docker":
        assert (ROOT / "Dockerfile").exists()
    elif program in ("python", "pytest"):
        files = [argument for argument in arguments if argument.endswith(".py") or "/" in argument]
        assert [name for name in files if not (ROOT / name).exists()] == []
        assert files or arguments[0] == "-m"
    else:
        assert program in ("cd", "git", ".", ".ci/run"), f"How should this be tested? {line}"


def run_commands(example):
    for line in example.parsed.replace("\\\n", " ").splitlines():
        if line.strip() and not line.startswith("#"):
            run_command(line)


@pytest.fixture
def sybil():
    """The library that finds and runs the blocks"""
    module = pytest.importorskip("sybil")
    from sybil.parsers.myst import CodeBlockParser, PythonCodeBlockParser

    return module.Sybil([PythonCodeBlockParser(), CodeBlockParser("bash", run_commands)])


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=name, marks=[pytest.mark.expensive] if name in SLOW else [])
        for path, name in ((path, str(path.relative_to(ROOT))) for path in DOCUMENTS)
    ],
)
@pytest.mark.usefixtures("short_runs")
def test_blocks_run(path, sybil):
    document = sybil.parse(path)
    examples = list(document.examples())
    for example in examples:
        # Classes that a block defines, and what pickles them, look for their module
        example.namespace.setdefault("__name__", "__main__")
        example.evaluate()
    languages = re.findall(r"^```(\S+)", path.read_text(), re.MULTILINE)
    assert set(languages) <= {"bash", "python"} | OTHER_LANGUAGES
    assert len(examples) == sum(language in ("bash", "python") for language in languages)
