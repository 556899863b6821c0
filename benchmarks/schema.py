"""
The files of the suites: their keys, and the checks of what stands there. Nothing here imports torch.

``benchmarks/README.md`` describes every key.
"""

import ast
import difflib
import functools
import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

SUITES = Path(__file__).parent / "suites"
HYPERPARAMETERS = Path(__file__).parent.parent / "hyperparams"
BUDGETS = ("small", "paper")
# SB3's own algorithms take SAVO's hyperparameters, as far as they have them
SB3_ALGORITHMS = ("td3", "sac")

SUITE_KEYS = {"title": str, "parts": list, "include": list}
PART_KEYS = {"tasks": list, "methods": list, "budgets": dict}
PART_BUDGET_KEYS = {"seeds": int, "steps": int, "arguments": dict}
TASK_KEYS = {
    "env": str,
    "env_kwargs": dict,
    "runner": str,
    "episodes": int,
    "evaluations": int,
    "budgets": dict,
    "label": str,
}
TASK_BUDGET_KEYS = {"steps": int, "arguments": dict}
METHOD_KEYS = {"algorithm": str, "arguments": dict, "reset": str, "label": str}
DEFAULT_RUNNER = "benchmarks.training:run"


class SuiteError(ValueError):
    """A suite, or the table of the tasks or of the methods, is wrong."""


def load_yaml(path: Path) -> Any:
    """
    :param path: A YAML file
    :return: Its content
    :raises SuiteError: if the file can not be read, it is not YAML in UTF-8, or a mapping names a key twice
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=UniqueKeysLoader)
    except FileNotFoundError as error:
        raise SuiteError(f"There is no file {path}.") from error
    except UnicodeDecodeError as error:
        raise SuiteError(f"{path} must be a text in UTF-8: {error}.") from error
    except (OSError, yaml.YAMLError) as error:
        raise SuiteError(f"{path}: {error}") from error


class UniqueKeysLoader(yaml.SafeLoader):
    """Refuses a mapping that names a key twice, of which YAML would silently take the last one."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        # YAML's method puts merged keys before a mapping's own, and calls itself again for a mapping that it merges
        if not hasattr(node, "is_flat"):
            node.is_flat = True  # type: ignore[attr-defined]
            keys = [key.value for key, _ in node.value]
            for index, (key, _) in enumerate(node.value):
                if key.value in keys[:index]:
                    message = f"the key {key.value!r} stands here twice"
                    raise yaml.constructor.ConstructorError(None, None, message, key.start_mark)
            super().flatten_mapping(node)


def check_keys(where: str, mapping: Any, keys: Mapping[str, type]) -> None:
    """
    :param where: The place, for messages
    :param mapping: What stands there
    :param keys: The known keys, and the types of their values
    :raises SuiteError: if it is not a mapping, a key is unknown, or a value has another type
    """
    if not isinstance(mapping, dict):
        raise SuiteError(f"{where}: {mapping!r} is not a mapping of the keys {', '.join(keys)}.")
    for key, value in mapping.items():
        if key not in keys:
            raise SuiteError(f"{where}: unknown key {key!r}{nearest(key, keys)}; the keys are {', '.join(keys)}.")
        if not isinstance(value, keys[key]) or isinstance(value, bool):
            raise SuiteError(f"{where}: {key}={value!r} must be of the type {keys[key].__name__}.")
        if isinstance(value, int) and value < 1:
            raise SuiteError(f"{where}: {key}={value} must be at least 1.")
        if isinstance(value, list) and not value:
            raise SuiteError(f"{where}: {key}=[] must name at least one.")
        if key in ("arguments", "env_kwargs"):
            check_values(f"{where}, {key}", value)


def nearest(name: Any, known: Iterable[str]) -> str:
    """
    :param name: A name that is unknown
    :param known: The known names
    :return: A question after the known name that is most like it; nothing if none is like it
    """
    found = difflib.get_close_matches(str(name), known, n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""


def check_values(where: str, value: Any) -> None:
    """
    :param where: The place, for messages
    :param value: A value that stands there, or a list or mapping of values
    :raises SuiteError: if a value is a number that YAML reads as a text, such as ``1e-3``, or a name is not a text
    """
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise SuiteError(f"{where}: the name {key!r} must be a text.")
            check_values(f"{where}, {key}", inner)
    elif isinstance(value, list):
        for inner in value:
            check_values(where, inner)
    elif isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            return
        raise SuiteError(f"{where}: YAML reads {value!r} as a text, not as a number: write {yaml_number(number)}.")


def yaml_number(number: float) -> str:
    """
    :param number: A number
    :return: The number as YAML writes it
    """
    return yaml.safe_dump(number).split()[0]


def check_runner(where: str, runner: str) -> None:
    """
    :param where: The place, for messages
    :param runner: A function that does a run, ``module:function``
    :raises SuiteError: if there is no such function. The module's file is read, not imported, since it may import torch
    """
    module, _, function = runner.partition(":")
    functions = functions_of(module)
    if functions is None:
        raise SuiteError(f"{where}: runner={runner!r} must be module:function, but there is no file of a module {module!r}.")
    if function not in functions:
        hint = nearest(function, functions)
        raise SuiteError(f"{where}: runner={runner!r}: the module {module} has no function {function!r}{hint}.")


@functools.cache
def functions_of(module: str) -> list[str] | None:
    """
    :param module: Name of a module
    :return: Names of its functions, or None if there is no such module, or it is not written in Python
    """
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return [node.name for node in ast.parse(Path(spec.origin).read_text()).body if isinstance(node, ast.FunctionDef)]


def check_names(where: str, names: Sequence[Any], known: Sequence[str], kind: str) -> None:
    """
    :param where: The place, for messages
    :param names: The names that stand there
    :param known: The known names
    :param kind: What they name
    :raises SuiteError: if a name is unknown or stands there twice
    """
    for index, name in enumerate(names):
        if name not in known:
            raise SuiteError(f"{where}: unknown {kind} {name!r}{nearest(name, known)}; the {kind}s are {', '.join(known)}.")
        if name in names[:index]:
            raise SuiteError(f"{where}: the {kind} {name!r} stands there twice.")


def load_table(path: Path) -> dict[str, dict[str, Any]]:
    """
    :param path: A YAML file that describes things by name
    :return: Its content
    :raises SuiteError: if it is no mapping of names
    """
    table = load_yaml(path)
    if not isinstance(table, dict):
        raise SuiteError(f"{path}: {table!r} is not a mapping of names.")
    for name in table:
        # The name is a folder of the results
        if not isinstance(name, str) or "/" in name or name in ("", ".", ".."):
            raise SuiteError(f"{path}: the name {name!r} must be the name of a folder, a text without a slash.")
    return table


def load_tasks(folder: Path = SUITES) -> dict[str, dict[str, Any]]:
    """
    :param folder: Folder of the suites
    :return: All tasks by name, as ``tasks.yml`` describes them
    :raises SuiteError: if the file is wrong
    """
    path = folder / "tasks.yml"
    tasks = load_table(path)
    for name, task in tasks.items():
        where = f"{path}, task {name}"
        check_keys(where, task, TASK_KEYS)
        check_runner(where, task.get("runner", DEFAULT_RUNNER))
        check_names(f"{where}, budgets", list(task.get("budgets", {})), BUDGETS, "budget")
        for budget, values in task.get("budgets", {}).items():
            check_keys(f"{where}, budget {budget}", values, TASK_BUDGET_KEYS)
    return tasks


def load_methods(folder: Path = SUITES) -> dict[str, dict[str, Any]]:
    """
    :param folder: Folder of the suites
    :return: All methods by name, as ``methods.yml`` describes them
    :raises SuiteError: if the file is wrong
    """
    path = folder / "methods.yml"
    methods = load_table(path)
    algorithms = algorithm_names()
    for name, method in methods.items():
        where = f"{path}, method {name}"
        check_keys(where, method, METHOD_KEYS)
        check_names(where, [method.get("algorithm")], algorithms, "algorithm")
    return methods


def algorithm_names() -> list[str]:
    """:return: Names of all algorithms; each of ours has a file of hyperparameters"""
    # savo-paper.yml is a second file of SAVO
    return [*sorted(file.stem for file in HYPERPARAMETERS.glob("*.yml") if "-" not in file.stem), *SB3_ALGORITHMS]


class Suite(NamedTuple):
    """
    A suite as its files describe it.

    :param path: Its file
    :param parts: Its parts; for a suite that includes others, theirs in this order
    :param tasks: All tasks of its folder by name
    :param methods: All methods of its folder by name
    """

    path: Path
    parts: list[dict[str, Any]]
    tasks: dict[str, dict[str, Any]]
    methods: dict[str, dict[str, Any]]


def load_suite(suite: str) -> Suite:
    """
    :param suite: Name of a suite, or path of its file
    :return: The suite
    :raises SuiteError: if there is no such suite, or its file, ``tasks.yml`` or ``methods.yml`` is wrong
    """
    path = Path(suite) if suite.endswith(".yml") else SUITES / f"{suite}.yml"
    if not path.exists():
        names = suite_names(SUITES)
        raise SuiteError(
            f"There is no suite {suite!r}{nearest(suite, names)}. Give the path of a .yml file, or one of {', '.join(names)}."
        )
    tasks, methods = load_tasks(path.parent), load_methods(path.parent)
    return Suite(path, load_parts(path, tasks, methods), tasks, methods)


def suite_names(folder: Path = SUITES) -> list[str]:
    """
    :param folder: Folder of the suites
    :return: Names of its suites
    """
    return sorted(file.stem for file in folder.glob("*.yml") if file.stem not in ("tasks", "methods"))


def load_parts(
    path: Path, tasks: Mapping[str, Any], methods: Mapping[str, Any], including: Sequence[Path] = ()
) -> list[dict[str, Any]]:
    """
    :param path: File of a suite
    :param tasks: All tasks by name
    :param methods: All methods by name
    :param including: The files that include this one, the outermost first
    :return: The parts of the suite and of the suites that it includes
    :raises SuiteError: if the file, or a file that it includes, is wrong
    """
    content = load_yaml(path)
    check_keys(str(path), content, SUITE_KEYS)
    if ("parts" in content) == ("include" in content):
        raise SuiteError(f"{path}: a suite has either parts or include.")
    if path in including:
        raise SuiteError(f"{path}: the suite includes itself.")
    check_names(f"{path}, include", content.get("include", []), suite_names(path.parent), "suite")
    for index, part in enumerate(content.get("parts", [])):
        check_part(f"{path}, part {index + 1}", part, list(tasks), list(methods))
    included = [
        part
        for name in content.get("include", [])
        for part in load_parts(path.parent / f"{name}.yml", tasks, methods, [*including, path])
    ]
    return content.get("parts", included)


def check_part(where: str, part: Any, tasks: Sequence[str], methods: Sequence[str]) -> None:
    """
    :param where: The place, for messages
    :param part: What stands there
    :param tasks: Names of all tasks
    :param methods: Names of all methods
    :raises SuiteError: if it is not a part of a suite
    """
    check_keys(where, part, PART_KEYS)
    for key in PART_KEYS:
        if key not in part:
            raise SuiteError(f"{where}: the key {key!r} is missing.")
    check_names(f"{where}, tasks", part["tasks"], tasks, "task")
    check_names(f"{where}, methods", part["methods"], methods, "method")
    check_names(f"{where}, budgets", list(part["budgets"]), BUDGETS, "budget")
    for budget, values in part["budgets"].items():
        check_keys(f"{where}, budget {budget}", values, PART_BUDGET_KEYS)
        if "seeds" not in values:
            raise SuiteError(f"{where}, budget {budget}: the key 'seeds' is missing.")
