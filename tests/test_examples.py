"""Every example and every notebook runs, with few steps."""

import json
import os
import runpy
import sys
from pathlib import Path

import pytest

import sb3_savo

EXAMPLES = Path(sb3_savo.__file__).parent.parent / "examples"
NOTEBOOKS = sorted((EXAMPLES / "notebooks").glob("*.ipynb"))
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
ARGUMENTS = {"compare_methods": ["160", "2"]}
MOVIELENS = Path(sb3_savo.__file__).parent.parent.parent / "shared" / "data" / "ml-latest-small"

pytestmark = pytest.mark.skipif(not EXAMPLES.exists(), reason="not a checkout")


# These take long: the compiler of rliable's statistics, the exporter to ONNX, and the fit of the click model
SLOW = {"compare_methods", "export", "movielens"}


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[pytest.mark.expensive] if path.stem in SLOW else [], id=path.stem) for path in SCRIPTS],
)
@pytest.mark.usefixtures("short_runs")
def test_example(path, monkeypatch, capsys):
    if path.stem == "movielens" and "MOVIELENS_DIR" not in os.environ:
        if not MOVIELENS.exists():
            pytest.skip(
                "neither MOVIELENS_DIR nor ../shared/data/ml-latest-small has the data set, and tests do not download it"
            )
        monkeypatch.setenv("MOVIELENS_DIR", str(MOVIELENS))
    monkeypatch.setattr(sys, "argv", [str(path), *ARGUMENTS.get(path.stem, ["40"])])
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_examples_are_short_and_say_how_to_run_them(path):
    text = path.read_text()
    assert text.count("\n") < 60
    assert f"python examples/{path.name}" in text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.usefixtures("short_runs")
def test_notebook(path):
    """Its cells run one after the other, in this process, since a kernel would import everything again."""
    namespace = {}
    for cell in json.loads(path.read_text())["cells"]:
        assert not cell.get("outputs"), "notebooks are kept without outputs"
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), str(path), "exec"), namespace)


@pytest.mark.expensive
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_in_a_kernel(path, tmp_path):
    """As a user runs it, with all its steps."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert any(output.output_type != "stream" for cell in notebook.cells for output in cell.get("outputs", []))
