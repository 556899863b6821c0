"""The runs of a suite, with everything that decides their results. Nothing here imports torch."""

import dataclasses
import hashlib
import json
from typing import Any

from benchmarks.schema import DEFAULT_RUNNER, HYPERPARAMETERS, SB3_ALGORITHMS, load_suite, load_yaml


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


def list_runs(suite: str, budget: str = "small") -> list[Run]:
    """
    :param suite: Name of a suite, or path of its file
    :param budget: One of :data:`BUDGETS`
    :return: All runs of the suite in the order in which they are to be done: part after part, seed after seed
    :raises SuiteError: if the suite, a task or a method is wrong
    """
    described = load_suite(suite)
    runs = []
    for part in described.parts:
        # A part without this budget belongs to the other one alone
        part_budget = part["budgets"].get(budget, {"seeds": 0})
        for seed in range(part_budget["seeds"]):
            for task in part["tasks"]:
                for method in part["methods"]:
                    described_by = described.tasks[task], described.methods[method]
                    runs.append(make_run(task, method, seed, *described_by, budget, part_budget))
    return list({run.name: run for run in runs}.values())


def make_run(
    task_name: str,
    method_name: str,
    seed: int,
    task: dict[str, Any],
    method: dict[str, Any],
    budget: str,
    part_budget: dict[str, Any],
) -> Run:
    """
    The method's arguments go before the part's, those before the task's, and those before ``hyperparams/*.yml``.

    :param task_name: Name of the task
    :param method_name: Name of the method
    :param seed: Seed of the run
    :param task: Description of the task
    :param method: Description of the method
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
