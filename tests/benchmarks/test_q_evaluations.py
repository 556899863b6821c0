"""The number of evaluations of Q, beside what the algorithms' definitions say and beside another count."""

import dataclasses

import pandas as pd
import pytest
import torch as th

from benchmarks import q_evaluations, results, tables
from benchmarks.landscape_tasks import LandscapeQ
from benchmarks.suite import list_runs

BATCH = 8


def small_run(task, method):
    run = next(run for run in list_runs("study_a") if (run.task, run.method) == (f"{task}-frozen", method))
    arguments = {**run.settings["arguments"], "batch_size": BATCH, "learning_starts": 32, "policy_kwargs": {"net_arch": [8]}}
    return dataclasses.replace(run, settings={**run.settings, "arguments": arguments})


@pytest.mark.parametrize(
    "task, method, per_update, per_decision",
    [
        # One proposal per state is ascended, and a single candidate is taken unseen
        ("Peaks2D", "savo_1_actor", BATCH, 0),
        # Three are ascended. One decision per update collects the transitions, among three candidates
        ("Peaks2D", "ensemble", 3 * BATCH + 3, 3),
        ("Peaks2D", "wolpertinger", BATCH + 3, 3),
        # One search per decision: 3 iterations of 30 samples
        ("Peaks2D", "cem", 90, 90),
        # Q̂ is fitted at the taken item and at each proposal, to the values of Q there; Q̂ is what the actor ascends
        ("Items", "savo_1_actor", 2 * BATCH + 2 * BATCH + BATCH, 0),
    ],
)
def test_evaluations_of_the_definitions(task, method, per_update, per_decision):
    found = q_evaluations.count_evaluations(small_run(task, method))
    assert found == {"per_update": per_update, "per_decision": per_decision}


def test_savo_counted_at_the_landscape(monkeypatch):
    """Every value that the landscape returned is one evaluation."""
    seen = 0
    forward = LandscapeQ.forward

    def spy(self, inputs, nets):
        nonlocal seen
        values = forward(self, inputs, nets)
        seen += values[0].numel()
        return values

    monkeypatch.setattr(LandscapeQ, "forward", spy)
    monkeypatch.setattr(q_evaluations, "N_WARMUP", 0)
    found = q_evaluations.count_evaluations(small_run("Peaks2D", "savo"))
    assert seen == found["per_update"] * q_evaluations.N_UPDATES + found["per_decision"] * q_evaluations.N_CONTEXTS
    # Three candidates, each in a pool of the memory and ascended: far more than an ensemble's
    assert found["per_update"] > 3 * BATCH + 3


def test_counts_are_those_of_the_methods_that_run():
    """The stored counts hold every task and method on frozen landscapes, and are those of today's code."""
    stored = pd.read_csv(results.Q_EVALUATIONS).set_index(["task", "method"])
    runs = [run for suite in q_evaluations.SUITES for run in list_runs(suite)]
    planned = {(run.task, run.method) for run in runs if run.task.endswith("-frozen")}
    assert set(stored.index) == planned
    run = next(run for run in runs if (run.task, run.method) == ("Peaks2D-frozen", "savo"))
    assert q_evaluations.count_evaluations(run) == stored.loc["Peaks2D-frozen", "savo"].to_dict()


def test_with_q_evaluations():
    rows = pd.DataFrame({"task": ["Peaks2D-frozen", "none"], "method": "ensemble", "updates": [10, 10]})
    counts = results.with_q_evaluations(rows).q_evaluations
    per_update = pd.read_csv(results.Q_EVALUATIONS).set_index(["task", "method"]).per_update["Peaks2D-frozen", "ensemble"]
    assert counts[0] == 10 * per_update and th.isnan(th.tensor(counts[1]))
    assert "q_evaluations" not in results.with_q_evaluations(rows[1:])


def test_mean_curves_by_hand():
    keys = [(task, seed, step) for task in "AB" for seed in range(5) for step in (1, 2)]
    rows = [
        (task, "m", seed, step, seed + step + (task == "B"), step * (2 if task == "A" else 4)) for task, seed, step in keys
    ]
    evaluations = pd.DataFrame(rows, columns=["task", "method", "seed", "step", "score", "q_evaluations"])
    # A seed that has not finished every task does not count
    extra = evaluations.iloc[:1].assign(seed=9, score=100.0)
    found = tables.mean_curves(pd.concat([evaluations, extra]), ["m"])
    assert found[["step", "q_evaluations", "seeds", "mean"]].to_numpy().tolist() == [[1, 3, 5, 3.5], [2, 6, 5, 4.5]]
    assert (found.low < found["mean"]).all() and (found["mean"] < found.high).all()


def test_candidate_curves_by_hand():
    """Of the methods with several candidates: each candidate alone, and the one that is chosen."""
    rows = [
        (task, method, seed, step, 5.0, 1.0 * step, 3.0 + seed if method == "three" else None, 0.0)
        for task in "AB"
        for method in ("three", "one")
        for seed in range(5)
        for step in (1, 2)
    ]
    columns = ["task", "method", "seed", "step", "score", "candidate_0", "candidate_1", "q_evaluations"]
    evaluations = pd.DataFrame(rows, columns=columns)
    found = tables.candidate_curves(evaluations, ["three", "one"])
    assert set(found.method) == {"three"}
    means = found.pivot(index="step", columns="shown", values="mean")
    assert means.to_dict("list") == {"candidate_0": [1, 2], "candidate_1": [5, 5], "score": [5, 5]}
    assert tables.candidate_curves(evaluations.drop(columns="candidate_1"), ["three"]).empty
    # Runs from before the suites have no counts of Q's evaluations
    uncounted = tables.candidate_curves(evaluations.drop(columns="q_evaluations"), ["three", "one"])
    pd.testing.assert_frame_equal(uncounted, found.drop(columns="q_evaluations"))
