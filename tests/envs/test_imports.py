"""The environments use the action spaces and the checks of arguments, but no learning code."""

import ast
from pathlib import Path

import pytest

import sb3_savo.envs

FOLDER = Path(sb3_savo.envs.__file__).parent
ALLOWED = ("sb3_savo.actions.", "sb3_savo.arguments.", "sb3_savo.envs.")
MODULES = [str(path.relative_to(FOLDER)) for path in sorted(FOLDER.rglob("*.py"))]


@pytest.mark.parametrize("module", MODULES)
def test_environments_import_no_learning_code(module):
    imported = []
    for node in ast.walk(ast.parse((FOLDER / module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module != "sb3_savo"
            imported.append(node.module)
        elif isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
    ours = [name for name in imported if name.split(".")[0] == "sb3_savo"]
    assert [name for name in ours if not f"{name}.".startswith(ALLOWED)] == []
