"""The benchmark that measures how well each method maximizes: figures and runs."""

import dataclasses

import numpy as np
import pytest
import torch as th

from benchmarks import landscapes as benchmark
from benchmarks.landscapes import assess
from benchmarks.recording import Recorder
from benchmarks.schema import load_methods
from benchmarks.suite import list_runs
from sb3_savo.algorithms import ALGORITHMS
from sb3_savo.envs.landscapes import make_landscape
from tests.benchmarks.models import landscape_model, on_landscape
from tests.envs.test_landscapes import FIGURES, random_contexts, reference


@pytest.fixture
def few_contexts(monkeypatch):
    monkeypatch.setattr(benchmark, "N_CONTEXTS", 200)


@pytest.mark.usefixtures("few_contexts")
@pytest.mark.parametrize("task, method", [("Peaks2D", "savo"), ("Shubert", "ensemble"), ("Items", "savo"), ("Peaks1D", "cem")])
def test_assess(task, method):
    model, env = landscape_model(task, ALGORITHMS[load_methods()[method]["algorithm"]])
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


@pytest.mark.usefixtures("few_contexts")
@pytest.mark.parametrize("task, method", [("Peaks2D-frozen", "savo_hybrid"), ("Items-learned", "wolpertinger")])
def test_run(tmp_path, task, method):
    run = next(run for run in list_runs("study_a") if (run.task, run.method) == (task, method))
    run = dataclasses.replace(run, steps=16, evaluations=2)
    recorder = Recorder(tmp_path)
    frozen = task.endswith("-frozen")
    (benchmark.run_frozen if frozen else benchmark.run_learned)(run, recorder)
    assert [row["step"] for row in recorder.rows] == [8, 16]
    for row in recorder.rows:
        assert row["step"] <= row["updates"] < row["step"] + 16
        assert 0 <= row["within_1"] <= row["within_10"] <= 1 and row["return_mean"] <= 1 + 1e-6
        assert ("q_gap" in row) == (not frozen)
