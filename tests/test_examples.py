"""Every example runs, with few steps."""

import os
import runpy
import sys
from pathlib import Path

import pytest

import sb3_savo

EXAMPLES = Path(sb3_savo.__file__).parent.parent / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
ARGUMENTS = {"compare_methods": ["160", "2"]}
STEPS = "40"
MOVIELENS = Path(sb3_savo.__file__).parent.parent.parent / "shared" / "data" / "ml-latest-small"

pytestmark = pytest.mark.skipif(not EXAMPLES.exists(), reason="not a checkout")


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_example(path, monkeypatch, capsys):
    if path.stem == "movielens" and "MOVIELENS_DIR" not in os.environ:
        if not MOVIELENS.exists():
            pytest.skip(
                "neither MOVIELENS_DIR nor ../shared/data/ml-latest-small has the data set, and tests do not download it"
            )
        monkeypatch.setenv("MOVIELENS_DIR", str(MOVIELENS))
    monkeypatch.setattr(sys, "argv", [str(path), *ARGUMENTS.get(path.stem, [STEPS])])
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_examples_are_short_and_say_how_to_run_them(path):
    text = path.read_text()
    assert text.count("\n") < 60
    assert f"python examples/{path.name}" in text
