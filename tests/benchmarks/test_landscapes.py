"""The benchmark that measures how well each method maximizes: figures, runs, report and command."""

import re
import sys

import numpy as np
import pandas as pd
import pytest
import torch as th

from benchmarks import landscapes as benchmark
from benchmarks.landscape_tasks import ALGORITHMS, METHODS
from benchmarks.landscapes import assess, report, run
from sb3_savo.envs.landscapes import make_landscape
from tests.benchmarks.models import landscape_model, on_landscape
from tests.envs.test_landscapes import FIGURES, made, random_actions, random_contexts, reference


@pytest.fixture
def few_contexts(monkeypatch):
    monkeypatch.setattr(benchmark, "N_CONTEXTS", 200)


@pytest.mark.usefixtures("few_contexts")
@pytest.mark.parametrize("task, method", [("Peaks2D", "savo"), ("Shubert", "ensemble"), ("Items", "savo"), ("Peaks1D", "cem")])
def test_assess(task, method):
    name, kwargs = METHODS[method]
    model, env = landscape_model(task, ALGORITHMS[name], **kwargs)
    figures = assess(model, env.landscape, learned=False)
    candidates = [value for name, value in figures.items() if name.startswith("candidate_")]
    assert list(figures) == [*FIGURES, *(f"candidate_{i}" for i in range(model.n_candidates))]
    assert figures["chosen"] >= max(candidates) - 1e-6
    assert 0 <= figures["within_1"] <= figures["within_10"] <= 1
    assert 0 <= min(candidates) and figures["chosen"] <= 1 + 1e-6
    assert figures["gap"] >= -1e-6


@pytest.mark.usefixtures("few_contexts")
@pytest.mark.parametrize("task", ["Peaks2D", "Items"])
def test_assess_by_predictions(task):
    """``predict`` and the rewards of the environment give the same figures, one context at a time."""
    model, env = landscape_model(task)
    shares, gaps = [], []
    for context in random_contexts(200):
        env.reset()
        env.context = context.numpy()
        reward = env.step(model.predict(context.numpy(), deterministic=True)[0])[1]
        greatest = reference(env.landscape, context, env.landscape.best(context[None])[0])
        shares.append(reward / greatest)
        gaps.append(greatest - reward)
    figures = assess(model, env.landscape, learned=False)
    expected = [np.mean(shares), np.mean(np.array(shares) > 0.99), np.mean(np.array(shares) > 0.9), np.mean(gaps)]
    np.testing.assert_allclose([figures[name] for name in FIGURES], expected, atol=1e-4)


@pytest.mark.usefixtures("few_contexts")
@pytest.mark.parametrize("task", ["Peaks8D", "Shubert", "Items"])
def test_assess_of_the_best_policy(monkeypatch, task):
    model, env = landscape_model(task)
    monkeypatch.setattr(model.policy, "propose", lambda contexts, **_: env.landscape.best(contexts).unsqueeze(1))
    figures = assess(model, env.landscape, learned=False)
    assert figures == pytest.approx({"chosen": 1, "within_1": 1, "within_10": 1, "gap": 0, "candidate_0": 1}, abs=1e-5)


@pytest.mark.usefixtures("few_contexts")
def test_assess_of_a_mixed_policy(monkeypatch):
    """The second candidate has another height on the peak in each quarter of the states, close to the thresholds."""
    env = make_landscape("peaks", action_dim=2, n_peaks=1)
    env.landscape.width[:] = 0.1
    model = on_landscape(env)
    heights = np.array([0.995, 0.985, 0.905, 0.895])

    def propose(contexts, **_):
        distances = th.tensor(0.1 * np.sqrt(-2 * np.log(heights)), dtype=th.float32).repeat(50)
        good = env.landscape.best(contexts)
        good[:, 0] -= distances
        return th.stack([th.full_like(good, 5.0), good], dim=1)

    monkeypatch.setattr(model.policy, "propose", propose)
    share = heights.mean()
    expected = {"chosen": share, "within_1": 0.25, "within_10": 0.75, "gap": 1 - share, "candidate_0": 0, "candidate_1": share}
    assert assess(model, env.landscape, learned=False) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("n_actors", [1, 3])
@pytest.mark.parametrize("task", ["Peaks2D", "Items"])
def test_the_gap_under_q_is_the_gap_under_the_landscape_if_q_is_the_landscape(monkeypatch, task, n_actors):
    monkeypatch.setattr(benchmark, "N_CONTEXTS", 120)
    model, env = landscape_model(task, n_actors=n_actors)
    figures = assess(model, env.landscape, learned=True)
    assert figures["gap"] > 0.05
    assert figures["q_gap"] == pytest.approx(figures["gap"], abs=5e-3)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with two short runs."""
    folder = tmp_path_factory.mktemp("frozen")
    for method in ("savo_hybrid", "td3"):
        run("frozen", "Peaks2D", method, 0, 30, folder)
    return folder


@pytest.mark.parametrize("method, n_candidates", [("savo_hybrid", 3), ("td3", 1)])
def test_frozen_run(finished, method, n_candidates):
    assert sorted(path.name for path in finished.iterdir()) == ["Peaks2D-savo_hybrid-0-30.csv", "Peaks2D-td3-0-30.csv"]
    table = pd.read_csv(finished / f"Peaks2D-{method}-0-30.csv")
    candidates = [f"candidate_{i}" for i in range(n_candidates)]
    assert list(table) == ["updates", *FIGURES, *candidates]
    assert table.updates.tolist() == [30]
    figures = table.drop(columns="updates")
    assert ((figures >= 0) & (figures <= 1)).all(axis=None)
    assert table.within_1[0] <= table.within_10[0]
    assert table.chosen[0] >= table[candidates].max(axis=None) - 1e-5


def test_a_finished_run_is_not_done_again(finished):
    path = finished / "Peaks2D-savo_hybrid-0-30.csv"
    before = path.stat().st_mtime_ns, path.read_text()
    run("frozen", "Peaks2D", "savo_hybrid", 0, 30, finished)
    assert (path.stat().st_mtime_ns, path.read_text()) == before


def test_an_interrupted_run_is_done_again(finished, tmp_path):
    """The result does not depend on the partial file."""
    (tmp_path / "Peaks2D-td3-0-30.partial").write_text("updates,cho")
    run("frozen", "Peaks2D", "td3", 0, 30, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["Peaks2D-td3-0-30.csv"]
    assert (tmp_path / "Peaks2D-td3-0-30.csv").read_text() == (finished / "Peaks2D-td3-0-30.csv").read_text()


def test_a_run_that_fails_leaves_no_result(monkeypatch, tmp_path):
    def broken(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(benchmark, "assess", broken)
    with pytest.raises(KeyboardInterrupt):
        run("frozen", "Peaks1D", "td3", 0, 5, tmp_path)
    assert not list(tmp_path.glob("*.csv"))


@pytest.mark.parametrize("kind", ["frozen", "learned"])
def test_checkpoints(monkeypatch, tmp_path, kind):
    """Updates per checkpoint are right up to one step of all environments, and the landscape has the seed of the run."""
    updates, critics = [], []

    def record(model, landscape, learned):
        assert learned == (kind == "learned")
        assert model.exploration_noise_scale == (1.0, 0.1, 40 if kind == "frozen" else 160)
        contexts, actions = random_contexts(2), random_actions(2, 3, 1)
        values = made("Peaks1D", landscape_seed=3).landscape(contexts, actions)
        assert th.equal(landscape(contexts, actions), values)
        critics.append(th.equal(model.critic.q1(contexts, actions), values))
        updates.append(model._n_updates)
        return {"chosen": 0.5}

    monkeypatch.setattr(benchmark, "CHECKPOINTS", (4, 20, 1_000))
    monkeypatch.setattr(benchmark, "assess", record)
    run(kind, "Peaks1D", "savo_exact", 3, 40, tmp_path)
    assert pd.read_csv(tmp_path / "Peaks1D-savo_exact-3-40.csv").updates.tolist() == [4, 20, 40]
    per_step = 16 if kind == "frozen" else 4
    assert all(wanted <= done < wanted + per_step for done, wanted in zip(updates, (4, 20, 40), strict=True))
    assert critics == [kind == "frozen"] * 3


def test_learned_run(monkeypatch, tmp_path):
    monkeypatch.setattr(benchmark, "N_CONTEXTS", 50)
    run("learned", "Items", "wolpertinger", 1, 8, tmp_path)
    table = pd.read_csv(tmp_path / "Items-wolpertinger-1-8.csv")
    assert list(table)[:6] == ["updates", *FIGURES, "q_gap"]
    assert table.q_gap[0] >= 0 and table.updates.tolist() == [8]


# The report


def write(folder, task, method, seed, chosen, budget=40, updates=40, **figures):
    row = {"updates": updates, "chosen": chosen, "within_1": 0.1, "within_10": 0.2, "gap": 1 - chosen, "candidate_0": 0.0}
    pd.DataFrame([row | figures]).to_csv(folder / f"{task}-{method}-{seed}-{budget}.csv", index=False)


def test_report_of_runs(finished, capsys):
    report(finished)
    printed = capsys.readouterr().out
    chosen = {m: pd.read_csv(finished / f"Peaks2D-{m}-0-30.csv").chosen[0] for m in ("td3", "savo_hybrid")}
    assert "30 updates of 30; 1 to 1 runs per cell" in printed
    assert re.search(rf"^td3 +{chosen['td3']:.3f}$", printed, re.MULTILINE)
    assert re.search(rf"^savo_hybrid +{chosen['savo_hybrid']:.3f}$", printed, re.MULTILINE)
    gain = f"{chosen['savo_hybrid'] - chosen['td3']:.3f}"
    assert re.search(rf"^td3 +{gain} +{gain}$", printed, re.MULTILINE)
    assert "candidate_2" in printed


def test_report_in_numbers(tmp_path, capsys):
    for seed, (td3, hybrid) in enumerate([(0.5, 0.7), (0.6, 0.9)]):
        write(tmp_path, "Peaks2D", "td3", seed, td3)
        write(tmp_path, "Peaks2D", "savo_hybrid", seed, hybrid, candidate_1=0.25)
    write(tmp_path, "Items", "td3", 0, 0.25)
    report(tmp_path)
    first, *tables = capsys.readouterr().out.strip().split("\n\n")
    assert first == "40 updates of 40; 1 to 2 runs per cell; 95 % intervals of the mean"
    chosen, gains, others = (table.splitlines() for table in tables)
    # The half width of an interval of two numbers is 12.706 times half their difference (Student's t)
    assert chosen[0] == "chosen action: share of the greatest value"
    assert chosen[1].split() == ["task", "Peaks2D", "Items"]
    assert [line.split() for line in chosen[3:]] == [["td3", "0.550", "±0.635", "0.250"], ["savo_hybrid", "0.800", "±1.271"]]
    assert gains[0] == "savo_hybrid minus each method, in pairs on the same landscape"
    assert [line.split() for line in gains[1:]] == [["Peaks2D", "Items", "all"], ["td3", "0.250", "±0.635", "0.250", "±0.635"]]
    assert not any(line.startswith("savo_hybrid ") for line in gains[1:])
    assert others[0].split() == ["within_1", "within_10", "gap", "candidate_0", "candidate_1"]
    rows = [line.split() for line in others[1:] if "0." in line]
    assert rows == [
        ["Peaks2D", "td3", "0.100", "0.200", "0.450", "0.000"],
        ["savo_hybrid", "0.100", "0.200", "0.200", "0.000", "0.250"],
        ["Items", "td3", "0.100", "0.200", "0.750", "0.000"],
    ]


def test_gains_are_averaged_over_tasks_within_a_seed(tmp_path):
    returns = [("Peaks2D", 0, 0.5, 0.7), ("Peaks2D", 1, 0.5, 0.6), ("Items", 0, 0.1, 0.2), ("Items", 1, 0.2, 0.3)]
    for task, seed, td3, hybrid in returns:
        write(tmp_path, task, "td3", seed, td3)
        write(tmp_path, task, "savo_hybrid", seed, hybrid)
    write(tmp_path, "Items", "cem", 7, 0.5)
    gains = benchmark.gains_over(benchmark.collect(tmp_path), ["td3", "cem", "savo_hybrid"], ["Peaks2D", "Items"])
    assert list(gains.index) == ["td3"] and list(gains) == ["Peaks2D", "Items", "all"]
    # Mean of 0.15 and 0.10, and 12.706 times half their difference
    assert gains.loc["td3", "all"] == "0.125 ±0.318"
    assert gains.loc["td3", "Items"] == "0.100 ±0.000"


def test_a_folder_without_results(tmp_path):
    with pytest.raises(SystemExit, match="There are no results in"):
        report(tmp_path)


def test_report_keeps_budgets_and_checkpoints_apart(tmp_path, capsys):
    write(tmp_path, "Peaks2D", "td3", 0, 0.5)
    write(tmp_path, "Peaks2D", "td3", 1, 0.75, budget=90, updates=40)
    write(tmp_path, "Peaks2D", "td3", 2, 0.875, budget=90, updates=90)
    report(tmp_path)
    printed = capsys.readouterr().out
    assert re.findall(r"(\d+) updates of (\d+)", printed) == [("40", "40"), ("40", "90"), ("90", "90")]
    assert re.findall(r"^td3 +(\S+)$", printed, re.MULTILINE) == ["0.500", "0.750", "0.875"]


@pytest.mark.parametrize(
    "values, expected", [([0.5], "0.500"), ([0.1, 0.2, 0.6], "0.300 ±0.657"), ([1.0] * 3, "1.000 ±0.000")]
)
def test_interval(values, expected):
    """The second half width, by hand: 4.3027 times the standard error 0.1528."""
    assert benchmark.with_interval(pd.Series(values)) == expected


def test_command(monkeypatch, tmp_path, capsys):
    started = []

    def run_all(function, runs, jobs):
        assert function is run and jobs == 1
        for arguments in runs:
            _, task, method, seed, n_updates, folder = arguments
            started.append(arguments[:-1])
            write(folder, task, method, seed, 0.5, n_updates, n_updates)

    monkeypatch.setattr(benchmark, "run_all", run_all)
    chosen = ["--tasks", "Items", "Shubert", "--methods", "cem", "--seeds", "2", "--n-steps", "7", "--jobs", "1"]
    monkeypatch.setattr(sys, "argv", ["landscapes", "learned", *chosen, "--folder", str(tmp_path)])
    benchmark.main()
    cells = [("Items", 0), ("Items", 1), ("Shubert", 0), ("Shubert", 1)]
    assert started == [("learned", task, "cem", seed, 7) for task, seed in cells]
    assert len(list((tmp_path / "learned").iterdir())) == 4
    printed = capsys.readouterr().out
    assert "7 updates of 7; 2 to 2 runs per cell" in printed

    monkeypatch.setattr(sys, "argv", [*sys.argv, "--report"])
    benchmark.main()
    assert len(started) == 4 and capsys.readouterr().out == printed


@pytest.mark.parametrize("argument", ["thawed", "--tasks=Hills", "--methods=ppo"])
def test_bad_command(monkeypatch, capsys, argument):
    monkeypatch.setattr(sys, "argv", ["landscapes", *([] if argument == "thawed" else ["frozen"]), argument])
    with pytest.raises(SystemExit):
        benchmark.main()
    assert "invalid choice" in capsys.readouterr().err
