"""The layout of the benchmarks: experiments share files, but do not import one another."""

import ast
from pathlib import Path

import pytest

import benchmarks

FOLDER = Path(benchmarks.__file__).parent
SHARED = {
    "checks",
    "backends",
    "command_line",
    "failing_env",
    "figures",
    "landscape_tasks",
    "landscapes",
    "processes",
    "progress",
    "random_policy",
    "recording",
    "results",
    "schema",
    "sections",
    "statistics",
    "suite",
    "summary",
    "tables",
    "timing",
    "words",
    "training",
    "worker",
}
FILES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")
EXPERIMENTS = [name for name in FILES if name not in SHARED]


def imported_benchmarks(source):
    """:return: The files of ``benchmarks`` that a source text imports, at its top, inside a function, or in a script"""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = "benchmarks." if node.level else ""
            names |= {f"{package}{node.module or ''}.{alias.name}".replace("..", ".") for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "\nfrom benchmarks" in node.value:
            names |= {f"benchmarks.{name}" for name in imported_benchmarks(node.value)}
    return {name.split(".")[1] for name in names if name.startswith("benchmarks.")}


@pytest.mark.parametrize(
    "source, expected",
    [
        ("import benchmarks.a, os", {"a"}),
        ("from benchmarks import a as b, c", {"a", "c"}),
        ("from benchmarks.a import b", {"a"}),
        ("def f():\n    from .a import b\n    from . import c", {"a", "c"}),
        ("script = '\\nfrom benchmarks.a import b\\n'", {"a"}),
        ("from sb3_savo.benchmarks import a", set()),
    ],
    ids=range(6),
)
def test_imported_benchmarks(source, expected):
    assert imported_benchmarks(source) == expected


@pytest.mark.parametrize("name", FILES)
def test_no_file_imports_an_experiment(name):
    assert imported_benchmarks((FOLDER / f"{name}.py").read_text()) <= SHARED


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_is_a_command_in_the_readme(name):
    assert "def main(" in (FOLDER / f"{name}.py").read_text()
    assert f"`{name}" in (FOLDER / "README.md").read_text()
