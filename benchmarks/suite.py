"""Suites, the experiments as data: read a suite's file, check it, and list its runs. Nothing here imports torch."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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


@dataclasses.dataclass(frozen=True)
class Run:
    """
    One run: a task, a method and a seed, with everything that decides its result.

    :param task: Name of the task
    :param method: Name of the method
    :param seed: Seed of the run; for a landscape, also the seed of the landscape
    :param steps: Environment steps; for a landscape, updates
    :param settings: What else decides the result: ``runner``, ``env``, ``env_kwargs``, ``algorithm``, ``arguments``, ``reset``
    :param evaluations: Number of evaluations
    :param episodes: Episodes per evaluation
    """

    task: str
    method: str
    seed: int
    steps: int
    settings: dict[str, Any]
    evaluations: int
    episodes: int

    @property
    def name(self) -> str:
        """Name of the run, which is also its folder inside the results folder. Other settings give another name."""
        text = json.dumps({**self.settings, "steps": self.steps}, sort_keys=True)
        return f"{self.task}/{self.method}/{self.steps}-{hashlib.sha256(text.encode()).hexdigest()[:8]}/{self.seed}"

    def __hash__(self) -> int:
        return hash(self.name)

    def as_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))


def load_yaml(path: Path) -> Any:
    """
    :param path: A YAML file
    :return: Its content
    :raises SuiteError: if there is no such file, it is not YAML, or a mapping names a key twice
    """
    try:
        return yaml.load(path.read_text(), Loader=UniqueKeysLoader)
    except FileNotFoundError as error:
        raise SuiteError(f"There is no file {path}.") from error
    except yaml.YAMLError as error:
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
            raise SuiteError(f"{where}: unknown key {key!r}; the keys are {', '.join(keys)}.")
        if not isinstance(value, keys[key]) or isinstance(value, bool):
            raise SuiteError(f"{where}: {key}={value!r} must be of the type {keys[key].__name__}.")
        if isinstance(value, int) and value < 1:
            raise SuiteError(f"{where}: {key}={value} must be at least 1.")


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
            raise SuiteError(f"{where}: unknown {kind} {name!r}; the {kind}s are {', '.join(known)}.")
        if name in names[:index]:
            raise SuiteError(f"{where}: the {kind} {name!r} stands there twice.")


def load_tasks(folder: Path = SUITES) -> dict[str, dict[str, Any]]:
    """
    :param folder: Folder of the suites
    :return: All tasks by name, as ``tasks.yml`` describes them
    :raises SuiteError: if the file is wrong
    """
    path = folder / "tasks.yml"
    tasks = load_yaml(path)
    for name, task in tasks.items():
        where = f"{path}, task {name}"
        check_keys(where, task, TASK_KEYS)
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
    methods = load_yaml(path)
    algorithms = [*sorted(file.stem for file in HYPERPARAMETERS.glob("*.yml")), *SB3_ALGORITHMS]
    for name, method in methods.items():
        where = f"{path}, method {name}"
        check_keys(where, method, METHOD_KEYS)
        check_names(where, [method.get("algorithm")], algorithms, "algorithm")
    return methods


def load_suite(suite: str) -> tuple[Path, dict[str, Any]]:
    """
    :param suite: Name of a suite, or path of its file
    :return: Path of its file, and its content
    :raises SuiteError: if there is no such suite, or its file is wrong
    """
    path = Path(suite) if suite.endswith(".yml") else SUITES / f"{suite}.yml"
    if not path.exists():
        names = sorted(file.stem for file in SUITES.glob("*.yml") if file.stem not in ("tasks", "methods"))
        raise SuiteError(f"There is no suite {suite!r}. Give the path of a .yml file, or one of {', '.join(names)}.")
    content = load_yaml(path)
    check_keys(str(path), content, SUITE_KEYS)
    tasks, methods = load_tasks(path.parent), load_methods(path.parent)
    if ("parts" in content) == ("include" in content):
        raise SuiteError(f"{path}: a suite has either parts or include.")
    for index, part in enumerate(content.get("parts", [])):
        where = f"{path}, part {index + 1}"
        check_keys(where, part, PART_KEYS)
        for key in PART_KEYS:
            if key not in part:
                raise SuiteError(f"{where}: the key {key!r} is missing.")
        check_names(f"{where}, tasks", part["tasks"], list(tasks), "task")
        check_names(f"{where}, methods", part["methods"], list(methods), "method")
        check_names(f"{where}, budgets", list(part["budgets"]), BUDGETS, "budget")
        for budget, values in part["budgets"].items():
            check_keys(f"{where}, budget {budget}", values, PART_BUDGET_KEYS)
            if "seeds" not in values:
                raise SuiteError(f"{where}, budget {budget}: the key 'seeds' is missing.")
    return path, content


def list_runs(suite: str, budget: str = "small") -> list[Run]:
    """
    :param suite: Name of a suite, or path of its file
    :param budget: One of :data:`BUDGETS`
    :return: All runs of the suite in the order in which they are to be done: part after part, seed after seed
    :raises SuiteError: if the suite, a task or a method is wrong
    """
    path, content = load_suite(suite)
    if "include" in content:
        runs = [run for name in content["include"] for run in list_runs(name, budget)]
    else:
        tasks, methods = load_tasks(path.parent), load_methods(path.parent)
        runs = []
        for part in content["parts"]:
            # A part without this budget belongs to the other one alone
            part_budget = part["budgets"].get(budget)
            for seed in range(part_budget["seeds"] if part_budget else 0):
                for task in part["tasks"]:
                    for method in part["methods"]:
                        runs.append(make_run(task, tasks[task], method, methods[method], seed, budget, part_budget))
    return list({run.name: run for run in runs}.values())


def make_run(
    task_name: str,
    task: dict[str, Any],
    method_name: str,
    method: dict[str, Any],
    seed: int,
    budget: str,
    part_budget: dict[str, Any],
) -> Run:
    """
    The method's arguments go before the part's, those before the task's, and those before ``hyperparams/*.yml``.

    :param task_name: Name of the task
    :param task: Its description
    :param method_name: Name of the method
    :param method: Its description
    :param seed: Seed of the run
    :param budget: Name of the budget
    :param part_budget: The budget of the suite's part
    :return: The run
    """
    task_budget = task.get("budgets", {}).get(budget, {})
    env = task.get("env", task_name)
    arguments = load_hyperparameters(method["algorithm"], env)
    steps = part_budget.get("steps", task_budget.get("steps", arguments.pop("n_timesteps")))
    arguments.pop("n_timesteps", None)
    for overrides in (task_budget, part_budget, method):
        arguments = merge(arguments, overrides.get("arguments", {}))
    settings = {
        "runner": task.get("runner", DEFAULT_RUNNER),
        "env": env,
        "env_kwargs": task.get("env_kwargs", {}),
        "algorithm": method["algorithm"],
        "arguments": arguments,
        "reset": method.get("reset"),
    }
    return Run(task_name, method_name, seed, steps, settings, task.get("evaluations", 20), task.get("episodes", 10))


_read: dict[str, dict[str, Any]] = {}


def load_hyperparameters(algorithm: str, env: str) -> dict[str, Any]:
    """
    :param algorithm: An algorithm of the package, in small letters, or one of :data:`SB3_ALGORITHMS`
    :param env: Gymnasium's ID of the environment, after its module and a colon if it has one
    :return: What ``hyperparams/*.yml`` has for it, or for the default, as the RL Zoo chooses
    """
    file = "savo" if algorithm in SB3_ALGORITHMS else algorithm
    if file not in _read:
        _read[file] = load_yaml(HYPERPARAMETERS / f"{file}.yml")
    table = _read[file]
    return {**table.get(env.partition(":")[2] or env, table["default"])}


def merge(arguments: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """
    :param arguments: Arguments of a constructor
    :param overrides: What replaces them; a mapping replaces single keys of a mapping
    :return: Both
    """
    merged = {**arguments}
    for name, value in overrides.items():
        before = merged.get(name)
        merged[name] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
    return merged
