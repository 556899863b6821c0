"""The documentation builds without a warning, and its tables and messages are those of the project."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import sb3_savo
from sb3_savo.algorithms import ALGORITHMS
from sb3_savo.envs.registration import environments
from tests.models import SMALL

ROOT = Path(sb3_savo.__file__).parent.parent
DOCS = ROOT / "docs"
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]

pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="not a checkout")


@pytest.mark.expensive
def test_the_site_builds_without_warnings(tmp_path):
    pytest.importorskip("sphinx")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", DOCS, tmp_path]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "n_actors" in (tmp_path / "algorithms" / "savo.html").read_text()


def test_every_page_is_in_the_index():
    listed = set(re.findall(r"^[\w/-]+$", (DOCS / "index.md").read_text(), re.MULTILINE))
    assert {str(path.relative_to(DOCS).with_suffix("")) for path in DOCS.rglob("*.md")} == listed | {"index"}


def test_every_algorithm_has_a_page():
    pages = " ".join(path.read_text() for path in (DOCS / "algorithms").glob("*.md"))
    for algorithm in ALGORITHMS.values():
        assert f".. autoclass:: sb3_savo.{algorithm.__name__}\n" in pages
        assert f"`{algorithm.__name__}`" in (DOCS / "algorithms" / "index.md").read_text()


def test_every_environment_has_a_page():
    pages = " ".join(path.read_text() for path in (DOCS / "environments").glob("*.md"))
    # "`…4D`, `…8D`" stands for IDs of one family
    names = {re.sub(r"(Peaks|Restricted)[48]D-v0", r"\g<1>2D-v0", env_id) for env_id in environments()}
    names = {re.sub(r"-v5$", "-v4", env_id) for env_id in names}
    assert [name for name in names if f"`{name}`" not in pages] == []


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_glossary_has_every_metric(name):
    """Of all that ``train`` logs, but what SB3's own algorithms log too."""
    settings = {} if name in ("savosac", "q3c", "greedyac", "greedytd3") else {"q_smoothing": True}
    learned = {"surrogate": "approximate"} if name == "savo" else {}
    model = ALGORITHMS[name]("MlpPolicy", "Pendulum-v1", **SMALL, **settings, **learned)
    logged = {}
    model.learn(90, callback=lambda *_: logged.update(model.logger.name_to_value) or True, log_interval=None)
    glossary = set(re.findall(r"`(train/\w+)`", (DOCS / "guide" / "metrics.md").read_text()))
    names = {re.sub(r"_\d+$", "_i", key) for key in logged if key.startswith("train/")} - {"train/learning_rate"}
    assert len(names) > 2 and names <= glossary


def messages():
    """:return: The texts in the package's source, as far as they are constant"""
    for path in Path(sb3_savo.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


# Messages of other packages
THEIRS = {
    "argument --algo: invalid choice: 'savo'",
    "Environment `HopperRestricted` doesn't exist",
    "X11: The DISPLAY environment variable is missing",
    "an OpenGL platform library has not been loaded",
    "No model found for savo",
    "--trial-id 0",
    "Connection reset by peer",
}


def test_troubleshooting_quotes_messages_of_ours():
    headings = re.findall(r"^### (.*)$", (DOCS / "start" / "troubleshooting.md").read_text(), re.MULTILINE)
    quoted = {first or second for heading in headings for first, second in re.findall(r"``(.+?)``|`(.+?)`", heading)}
    assert quoted > THEIRS
    found = list(messages())
    # "needs matplotlib" is "needs {module}" in the source
    ours = {re.sub(r"^needs \w+$", " needs …: pip install ", text) for text in quoted - THEIRS}
    assert len(ours) > 15
    assert [text for text in ours if not any(text in message for message in found)] == []


def is_figure(cell):
    """Whether a cell has a decimal number, other than versions of Python, sections, and settings in the type of code."""
    return re.search(r"\d\.\d", re.sub(r"`[^`]*`|3\.1\d|§[\d.]+", "", cell)) is not None


def test_tables_of_figures_come_from_stored_results():
    """The tables between marks are as the CSV files have them, and no table of figures is outside of marks."""
    from benchmarks import publish

    for path in publish.documents():
        text = path.read_text()
        assert publish.filled(text) == text, f"{path} is out of date: run python -m benchmarks.publish"
        others = publish.TABLE.sub("", text)
        rows = [line for line in others.splitlines() if line.startswith("|")]
        assert [row for row in rows if is_figure(row)] == [], path


def test_every_table_is_published():
    from benchmarks import publish

    used = {name for path in publish.documents() for _, name, _ in publish.TABLE.findall(path.read_text())}
    assert used == set(publish.TABLES)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_to_files_exist(path):
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_the_readme_quotes_the_stored_returns_of_its_first_example():
    from benchmarks import pendulum

    table = pd.read_csv(pendulum.RESULTS)
    readme = (ROOT / "README.md").read_text()
    assert pendulum.in_words(table) in readme.replace("\n", " ")
    # The benchmark has the arguments of the example
    example = re.search(r"```python\n(.*?Pendulum.*?)```", readme, re.DOTALL)[1]
    calls = [node for node in ast.walk(ast.parse(example)) if isinstance(node, ast.Call)]
    named = {ast.unparse(call.func): call for call in calls}
    arguments = {word.arg: ast.literal_eval(word.value) for word in named["SAVO"].keywords}
    assert [ast.literal_eval(value) for value in named["SAVO"].args] == ["MlpPolicy", pendulum.ENV_ID, pendulum.LEARNING_RATE]
    assert arguments == {**pendulum.ARGUMENTS, "seed": 0}
    assert ast.literal_eval(named["model.learn"].args[0]) == pendulum.N_STEPS
    assert ast.literal_eval(named["evaluate_policy"].keywords[0].value) == pendulum.N_EPISODES
