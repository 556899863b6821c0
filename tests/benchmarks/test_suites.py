"""The suites of the paper's experiments and of the study: their runs, and that every task and method can be made."""

import dataclasses
import functools
from importlib.util import find_spec

import pytest
from gymnasium.error import DependencyNotInstalled

from benchmarks import landscape_tasks, training
from benchmarks.checks import check_methods, check_runs
from benchmarks.schema import BUDGETS, SUITES, load_methods, load_tasks, load_yaml, suite_names
from benchmarks.suite import list_runs

# Number of runs with the small budget and with the paper's
N_RUNS = {
    "common_tasks": (90, 90),
    "equal_time": (10, 20),
    "fig07a_fig08_baselines": (300, 600),
    "fig07b_fig22_ablations": (175, 350),
    "fig10_adroit": (60, 120),
    "fig11_actors": (245, 490),
    "fig15_unrestricted": (270, 540),
    "fig16_resets": (20, 20),
    "fig17_noise": (280, 280),
    "fig18_fig27_sac": (165, 330),
    "fig19_many_items": (80, 96),
    "fig20_summarizers": (105, 105),
    "fig21_modulation": (70, 70),
    "fig23_surrogate_error": (50, 100),
    "fig24_table2_q_smoothing": (150, 150),
    "fig25_initialization": (80, 80),
    "fig26_actors_and_baselines": (440, 880),
    "held_out_landscapes": (350, 700),
    "hopper_start": (15, 30),
    "new_landscapes": (210, 420),
    "restricted_actors": (80, 160),
    "restricted_landscapes": (140, 280),
    "study": (5982, 6192),
    "study_a": (5110, 5110),
    "study_b": (140, 140),
    "study_c": (280, 280),
    "study_d": (17, 32),
    "study_e": (25, 50),
    "study_f": (15, 30),
    "study_g": (35, 70),
    "study_h": (480, 640),
    "table1_compute": (25, 50),
}
NEED_BOX2D = ("LunarLanderContinuous-v3", "BipedalWalker-v3")
# What Table 3 says of the steps of a run
PAPER_STEPS = {"HopperRestricted-v4": 3_000_000, "AdroitHandDoor-v1": 3_000_000, "MiningExpedition-v0": 10_000_000}


def small(run):
    """:return: The run with one environment and a small buffer, which cost time and memory and prove nothing here"""
    arguments = {**run.settings["arguments"], "n_envs": 1, "buffer_size": 1_000}
    return dataclasses.replace(run, settings={**run.settings, "arguments": arguments})


def make(run):
    """:return: The untrained model of a run"""
    settings = run.settings
    if settings["runner"] == "benchmarks.training:run":
        try:
            return training.make_model(small(run))
        except (FileNotFoundError, DependencyNotInstalled) as error:
            pytest.skip(str(error))
    frozen = settings["runner"].endswith("frozen")
    task, algorithm, arguments = settings["env"], settings["algorithm"], settings["arguments"]
    return landscape_tasks.make_model(task, algorithm, arguments, 0, run.steps, frozen, settings["env_kwargs"])[0]


@functools.cache
def first_runs(key):
    """:return: The first run of every task or of every method in any suite, by its name; quick ones before others"""
    found = {}
    for suite in ("study", *N_RUNS):
        for run in list_runs(suite):
            found.setdefault(getattr(run, key), run)
    return found


@pytest.mark.parametrize("suite", N_RUNS)
def test_number_of_runs(suite):
    assert tuple(len(list_runs(suite, budget)) for budget in BUDGETS) == N_RUNS[suite]
    assert load_yaml(SUITES / f"{suite}.yml")["title"]


def test_every_suite_is_here():
    assert suite_names() == sorted(N_RUNS)


def test_every_setting_passes_the_checks():
    for suite in N_RUNS:
        for budget in BUDGETS:
            runs = list_runs(suite, budget)
            if find_spec("Box2D") is None:
                runs = [run for run in runs if run.task not in NEED_BOX2D]
            check_runs(runs)
            check_methods(runs, load_methods())


@pytest.mark.parametrize("task", PAPER_STEPS)
def test_the_papers_budget(task):
    runs = [run for suite in ("fig10_adroit", "fig07a_fig08_baselines") for run in list_runs(suite, "paper")]
    assert {run.steps for run in runs if run.task == task} == {PAPER_STEPS[task]}


@pytest.mark.parametrize("method", load_methods())
def test_every_method_can_be_made(method):
    """On the first of its tasks."""
    runs = first_runs("method")
    if method not in runs:
        pytest.skip("no suite has this method")
    assert make(runs[method]).num_timesteps == 0


@pytest.mark.parametrize("task", [task for task in load_tasks() if not task.endswith(("-frozen", "-learned"))])
def test_every_task_can_be_made(task):
    runs = first_runs("task")
    if task not in runs:
        pytest.skip("no suite has this task")
    assert make(runs[task]).num_timesteps == 0
