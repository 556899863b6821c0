"""The files of the suites are checked when they are read: the message names the file, the key, and what is right."""

import pytest
import yaml

from benchmarks import schema
from benchmarks.checks import check_methods, check_runs
from benchmarks.schema import SuiteError, load_suite
from benchmarks.suite import list_runs, merge
from benchmarks.training import CONSTRUCTORS

TASKS = {"T": {"env": "Pendulum-v1", "budgets": {"small": {"steps": 10}}}}
METHODS = {"savo": {"algorithm": "savo"}, "td3": {"algorithm": "td3", "label": "TD3"}}
PART = {"tasks": ["T"], "methods": ["savo", "td3"], "budgets": {"small": {"seeds": 2}}}


def write(folder, suite=None, tasks=None, methods=None, text=None):
    (folder / "tasks.yml").write_text(yaml.safe_dump(TASKS if tasks is None else tasks))
    (folder / "methods.yml").write_text(yaml.safe_dump(METHODS if methods is None else methods))
    path = folder / "s.yml"
    path.write_text(text or yaml.safe_dump({"parts": [PART]} if suite is None else suite))
    return str(path)


def test_runs_of_a_suite(tmp_path):
    runs = list_runs(write(tmp_path))
    assert [(run.task, run.method, run.seed, run.steps) for run in runs] == [
        ("T", "savo", 0, 10),
        ("T", "td3", 0, 10),
        ("T", "savo", 1, 10),
        ("T", "td3", 1, 10),
    ]
    assert list_runs(write(tmp_path), "paper") == [], "the part has no such budget"


@pytest.mark.parametrize(
    "suite, message",
    [
        ({"part": [PART]}, r"s\.yml: unknown key 'part' \(did you mean 'parts'\?\); the keys are title, parts, include"),
        ({"title": "x"}, "either parts or include"),
        ({"parts": [PART], "include": ["s"]}, "either parts or include"),
        ({"parts": []}, r"s\.yml: parts=\[\] must name at least one"),
        ({"parts": {"a": 1}}, r"s\.yml: parts=.* must be of the type list"),
        ([PART], r"s\.yml: .* is not a mapping of the keys title, parts, include"),
        ({"include": ["z"]}, r"s\.yml, include: unknown suite 'z'; the suites are s"),
        ({"include": ["s"]}, r"s\.yml: the suite includes itself"),
        ({"parts": [{**PART, "task": ["T"]}]}, r"part 1: unknown key 'task' \(did you mean 'tasks'\?\)"),
        ({"parts": [PART, {"tasks": ["T"], "methods": ["savo"]}]}, "part 2: the key 'budgets' is missing"),
        ({"parts": [{**PART, "tasks": ["U"]}]}, "part 1, tasks: unknown task 'U'; the tasks are T"),
        ({"parts": [{**PART, "tasks": []}]}, r"part 1: tasks=\[\] must name at least one"),
        (
            {"parts": [{**PART, "methods": ["svao"]}]},
            r"unknown method 'svao' \(did you mean 'savo'\?\); the methods are savo, td3",
        ),
        ({"parts": [{**PART, "methods": ["savo", "savo"]}]}, "the method 'savo' stands there twice"),
        ({"parts": [{**PART, "budgets": {"smal": {"seeds": 1}}}]}, "unknown budget 'smal'.*the budgets are small, paper"),
        ({"parts": [{**PART, "budgets": {"small": {}}}]}, "budget small: the key 'seeds' is missing"),
        ({"parts": [{**PART, "budgets": {"small": {"seeds": 0}}}]}, "budget small: seeds=0 must be at least 1"),
        ({"parts": [{**PART, "budgets": {"small": {"seeds": True}}}]}, "seeds=True must be of the type int"),
        ({"parts": [{**PART, "budgets": {"small": {"seeds": 1, "step": 3}}}]}, "unknown key 'step'.*did you mean 'steps'"),
        (
            {"parts": [{**PART, "budgets": {"small": {"seeds": 1, "arguments": {"tau": "5e-3"}}}}]},
            r"budget small, arguments, tau: YAML reads '5e-3' as a text, not as a number: write 0\.005",
        ),
    ],
)
def test_wrong_suites(tmp_path, suite, message):
    with pytest.raises(SuiteError, match=message):
        load_suite(write(tmp_path, suite))


@pytest.mark.parametrize(
    "task, message",
    [
        ({"envs": "Pendulum-v1"}, r"tasks\.yml, task T: unknown key 'envs' \(did you mean 'env'\?\)"),
        ({"episodes": 0}, "task T: episodes=0 must be at least 1"),
        ({"runner": "benchmarks.training"}, "runner='benchmarks.training'.*has no function ''"),
        ({"runner": "benchmarks.trainin:run"}, "there is no file of a module 'benchmarks.trainin'"),
        ({"runner": "benchmarks.landscapes:run_frozn"}, r"has no function 'run_frozn' \(did you mean 'run_frozen'\?\)"),
        ({"budgets": {"small": {"seeds": 1}}}, "task T, budget small: unknown key 'seeds'"),
        ({"runner": "time:sleep"}, "must be module:function, but there is no file of a module 'time'"),
        (
            {"runner": "numpy.random.mtrand:f"},
            "must be module:function, but there is no file of a module 'numpy.random.mtrand'",
        ),
        ({"env_kwargs": {"reward": "1e2"}}, "env_kwargs, reward: YAML reads '1e2' as a text"),
        ({"env_kwargs": {1: 2}}, "task T, env_kwargs: the name 1 must be a text"),
        ("Pendulum-v1", "task T: 'Pendulum-v1' is not a mapping"),
    ],
)
def test_wrong_tasks(tmp_path, task, message):
    with pytest.raises(SuiteError, match=message):
        load_suite(write(tmp_path, tasks={"T": task}))


@pytest.mark.parametrize(
    "method, message",
    [
        ({"label": "SAVO"}, r"methods\.yml, method savo: unknown algorithm None"),
        ({"algorithm": "sav"}, r"unknown algorithm 'sav' \(did you mean 'savo'\?\); the algorithms are cem, ensemble"),
        ({"algorithm": "savo-paper"}, "unknown algorithm 'savo-paper'; the algorithms are cem, ensemble"),
        ({"algorithm": "savo", "arguments": {"policy_kwargs": {1: 2}}}, "arguments, policy_kwargs: the name 1 must be a text"),
        ({"algorithm": "savo", "argument": {}}, r"unknown key 'argument' \(did you mean 'arguments'\?\)"),
        ({"algorithm": "savo", "arguments": [1]}, "arguments=.* must be of the type dict"),
    ],
)
def test_wrong_methods(tmp_path, method, message):
    with pytest.raises(SuiteError, match=message):
        load_suite(write(tmp_path, methods={"savo": method, "td3": METHODS["td3"]}))


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("s.yml", "title: a\ntitle: b\n", "the key 'title' stands here twice"),
        ("s.yml", "title: [", r"s\.yml: while parsing"),
        ("tasks.yml", "[1]", r"tasks\.yml: \[1\] is not a mapping of names"),
        ("tasks.yml", "a/b: {}", r"tasks\.yml: the name 'a/b' must be the name of a folder"),
        ("tasks.yml", "..: {}", r"tasks\.yml: the name '\.\.' must be the name of a folder"),
        ("tasks.yml", b"a: {label: caf\xe9}", r"tasks\.yml must be a text in UTF-8: .* byte 0xe9"),
        ("s.yml", "title: a".encode("utf-16"), r"s\.yml must be a text in UTF-8"),
        ("tasks.yml", None, "There is no file .*tasks.yml"),
    ],
)
def test_wrong_files(tmp_path, name, text, message):
    suite = write(tmp_path)
    (tmp_path / name).unlink()
    if text is not None:
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SuiteError, match=message):
        load_suite(suite)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(SuiteError, match=r"s\.yml: .*Is a directory"):
        suite = write(tmp_path)
        (tmp_path / "s.yml").unlink()
        (tmp_path / "s.yml").mkdir()
        load_suite(suite)


def test_the_algorithms_are_those_of_the_runs():
    assert sorted(schema.algorithm_names()) == sorted(CONSTRUCTORS)


def test_unknown_suite():
    with pytest.raises(SuiteError, match=r"There is no suite 'study_aa' \(did you mean 'study_a'\?\)"):
        load_suite("study_aa")


@pytest.mark.parametrize(
    "task, arguments, message",
    [
        ({"env": "Pendulm-v1"}, {}, r"task T, method savo: env='Pendulm-v1' is not registered .*did you mean 'Pendulum-v1'"),
        ({"env": "no_module:A-v0"}, {}, "No module named 'no_module'"),
        ({"env": "RecSim-v0", "env_kwargs": {"n_item": 5}}, {}, "n_item=5 is not an argument of RecSim-v0"),
        ({"env": "Pendulum-v1"}, {"n_actor": 2}, "n_actor=2 is not an argument of SAVO: did you mean n_actors?"),
        ({"env": "Pendulum-v1"}, {"tau": 2.0}, "tau=2.0"),
        ({"env": "Pendulum-v1"}, {"surrogate": "exat"}, "surrogate='exat' is not known"),
        ({"env": ":Pendulum-v1"}, {}, "Empty module name"),
        ({"env": "Pendulum-v1"}, {"policy": "MlpPolcy"}, "policy='MlpPolcy' is not known: it must be one of 'MlpPolicy'"),
        (
            {"env": "Pendulum-v1"},
            {"policy_kwargs": {"net_arc": [8]}},
            "net_arc=.* is not an argument of the policy SAVOPolicy",
        ),
        ({"env": "Pendulum-v1"}, {"policy_kwargs": {"n_critics": 0}}, "n_critics=0 is too small"),
        ({"env": "Pendulum-v1"}, {"policy_kwargs": 3}, "policy_kwargs=3 is a int"),
        ({"env": "Pendulum-v1"}, {"seed": 3}, "seed=3 must not be an argument of a task or a method: the run itself gives it"),
        ({"env": "Pendulum-v1"}, {"env": "Ant-v4"}, "env='Ant-v4' must not be an argument"),
        ({"env": "Pendulum-v1"}, {"device": "cpu"}, "device='cpu' must not be an argument"),
        ({"env": "Pendulum-v1"}, {"n_envs": 0}, "n_envs=0 is too small: it must be an integer of at least 1"),
        ({"env": "Pendulum-v1"}, {"n_envs": 1.5}, "n_envs=1.5 is a float"),
    ],
)
def test_arguments_are_checked_before_any_run(tmp_path, task, arguments, message):
    suite = write(tmp_path, tasks={"T": task}, methods={**METHODS, "savo": {"algorithm": "savo", "arguments": arguments}})
    with pytest.raises(SuiteError, match=message):
        check_runs(list_runs(suite))


LEARNED = {"runner": "benchmarks.landscapes:run_learned", "env": "LandscapePeaks2D-v0"}
COUNTED = {"n_envs": 4, "train_freq": 1, "gradient_steps": 2}


@pytest.mark.parametrize(
    "task, method, message",
    [
        ({"env": "Pendulum-v1"}, {}, "landscape_seed=0 is not an argument of Pendulum-v1"),
        ({}, {"algorithm": "cem", "arguments": {"n_actors": 3}}, "n_actors=3 is not an argument of CEM"),
        ({}, {"algorithm": "td3"}, "algorithm='td3': a run on a landscape needs an algorithm of ours"),
        (
            {"env_kwargs": {"landscape_seed": 2}},
            {},
            r"env_kwargs=\{'landscape_seed': 2\}: a run on a landscape has no landscape_s",
        ),
        ({"env_kwargs": {"n_hills": 2}}, {}, "n_hills=2 is not an argument of Landscape"),
        ({}, {"reset": "full"}, "reset='full': a run on a landscape has no resets"),
        ({}, {"arguments": {"train_freq": 3}}, "train_freq=3, gradient_steps=2: a run on a landscape needs"),
        ({}, {"arguments": {"gradient_steps": -1}}, "gradient_steps=-1: a run on a landscape needs"),
        ({}, {"arguments": {"exploration_noise_scale": 0.5}}, r"exploration_noise_scale=0\.5: a run on a landscape needs \("),
    ],
)
def test_a_run_on_a_landscape_ignores_no_setting(tmp_path, task, method, message):
    arguments = {**COUNTED, **method.get("arguments", {})}
    task = {**TASKS["T"], **LEARNED, **task}
    suite = write(
        tmp_path, tasks={"T": task}, methods={**METHODS, "savo": {"algorithm": "savo", **method, "arguments": arguments}}
    )
    with pytest.raises(SuiteError, match=f"task T, method savo: .*{message}"):
        check_runs([run for run in list_runs(suite) if run.method == "savo"])


def test_arguments_of_sb3s_algorithms(tmp_path):
    """SAVO's own are left out, but no other name that SB3 does not know."""
    suite = write(tmp_path)
    check_runs(list_runs(suite))
    suite = write(tmp_path, methods={**METHODS, "td3": {"algorithm": "td3", "arguments": {"target_noise": 0.1}}})
    with pytest.raises(SuiteError, match=r"method td3: target_noise=0\.1 is not an argument of TD3"):
        check_runs(list_runs(suite))


@pytest.mark.parametrize("argument", ["policy", "seed", "device", "action_noise", "n_envs"])
def test_arguments_of_sb3s_algorithms_are_those_of_a_run(tmp_path, argument):
    suite = write(tmp_path, methods={**METHODS, "td3": {"algorithm": "td3", "arguments": {argument: 0}}})
    with pytest.raises(SuiteError, match=f"method td3: {argument}=0"):
        check_runs(list_runs(suite))


@pytest.mark.parametrize(
    "algorithm, arguments, message",
    [
        ("td3", {"n_actors": 3}, "n_actors=3 is not an argument of TD3"),
        ("td3", {"exploration_noise_std": 0.1, "n_envs": 2}, None),
        ("sac", {"exploration_noise_std": 0.1}, r"exploration_noise_std=0\.1 is not an argument of SAC"),
        ("wolpertinger", {"summarizer": "lstm"}, "summarizer='lstm' is not an argument of Wolpertinger"),
        ("savo", {"n_actors": 3}, None),
    ],
)
def test_a_method_has_only_arguments_of_its_algorithm(tmp_path, algorithm, arguments, message):
    """A task's arguments are for several algorithms; those that one does not have are left out."""
    part = {**PART, "budgets": {"small": {"seeds": 1, "arguments": {"n_actors": 2}}}}
    described = {**METHODS, "savo": {"algorithm": algorithm, "arguments": arguments}}
    suite = write(tmp_path, {"parts": [part]}, methods=described)
    runs = list_runs(suite)
    check_runs(runs)
    if message is None:
        check_methods(runs, load_suite(suite).methods)
    else:
        with pytest.raises(SuiteError, match=f"method savo: {message}"):
            check_methods(runs, load_suite(suite).methods)


def test_included_suites(tmp_path):
    write(tmp_path)
    other = {**PART, "methods": ["td3"], "budgets": {"small": {"seeds": 3}}}
    (tmp_path / "other.yml").write_text(yaml.safe_dump({"parts": [other]}))
    (tmp_path / "both.yml").write_text(yaml.safe_dump({"include": ["s", "other"]}))
    runs = list_runs(str(tmp_path / "both.yml"))
    assert [run.seed for run in runs if run.method == "td3"] == [0, 1, 2] and len(runs) == 5, "a common run is one run"


def test_merged_arguments():
    assert merge({"a": 1, "k": {"x": 1, "y": 2}}, {"k": {"y": 3}, "b": 4}) == {"a": 1, "b": 4, "k": {"x": 1, "y": 3}}


def test_settings_decide_the_name_of_a_run(tmp_path):
    name = list_runs(write(tmp_path))[0].name
    assert list_runs(write(tmp_path))[0].name == name
    for part in ({"small": {"seeds": 2, "steps": 11}}, {"small": {"seeds": 2, "arguments": {"tau": 0.1}}}):
        assert list_runs(write(tmp_path, {"parts": [{**PART, "budgets": part}]}))[0].name != name
    assert schema.BUDGETS == ("small", "paper")
