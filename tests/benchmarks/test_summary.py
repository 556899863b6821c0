"""What a report says first, beside slow references on few made-up runs."""

import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest

from benchmarks import publish, summary, words
from benchmarks.report import main
from benchmarks.results import SHARE, Group
from benchmarks.sections import GroupReport
from benchmarks.tables import score_runs

TASKS, SEEDS = ("A-frozen", "B-frozen"), range(6)


def made_up(scores, same_seed="seed and landscape"):
    """:return: A group; scores: (task, method, seed) → score of the last evaluation"""
    rows = [(*key, step, score * step / 2) for key, score in scores.items() for step in (1, 2)]
    evaluations = pd.DataFrame(rows, columns=["task", "method", "seed", "step", "score"])
    keys = ["task", "method", "seed"]
    methods = dict.fromkeys(method for _, method, _ in scores)
    expected = pd.DataFrame(itertools.product(TASKS, methods, SEEDS), columns=keys)
    ranges = dict.fromkeys(TASKS, (0.0, 1.0, ""))
    return Group("", evaluations, expected, "updates", SHARE, ranges, same_seed, labels={"savo": "SAVO"})


@pytest.fixture
def scores():
    """SAVO is first on A, the ensemble on B but for one seed; `late` has run with four seeds on B."""
    rng = np.random.default_rng(1)
    found = {}
    for task, seed in itertools.product(TASKS, SEEDS):
        at = rng.uniform(0.3, 0.5)
        found[task, "savo", seed] = at
        gain = -0.1 if task == "A-frozen" else -0.01 if seed == 3 else 0.1
        found[task, "ensemble", seed] = at + gain * rng.uniform(0.8, 1)
        found[task, "td3", seed] = at - 0.2
        if task == "A-frozen" or seed < 4:
            found[task, "late", seed] = at + 0.4
    return found


def test_only_methods_with_enough_seeds_on_every_task(scores):
    group = made_up(scores)
    found = summary.summarize(group, summary.order_of_methods(group))
    assert found.methods == ["savo", "ensemble", "td3"]
    assert set(found.comparisons.other) == set(found.aggregates.method) - {"savo"} == {"ensemble", "td3"}
    few = made_up({key: score for key, score in scores.items() if key[2] < 4})
    assert summary.summarize(few, summary.order_of_methods(few)) is None
    assert summary.sentences(few, None) == [
        "Too few seeds: no comparison has 5 seeds of both methods on every task, so nothing is claimed."
    ]
    # The compared method itself has too few seeds
    assert summary.summarize(group, summary.order_of_methods(group, "late")) is None


def test_seeds_count_if_the_compared_method_has_them_on_every_task(scores):
    """Five seeds per task are none if every task has others, or if the compared method has others."""
    apart = {
        (task, "td3", seed + 9 * (task == "A-frozen")): score
        for (task, method, seed), score in scores.items()
        if method == "td3"
    }
    others = {(task, "td3", seed + 2): score for (task, method, seed), score in scores.items() if method == "td3"}
    for moved in (apart, others):
        group = made_up({**{key: score for key, score in scores.items() if key[1] != "td3"}, **moved})
        assert summary.summarize(group, summary.order_of_methods(group)).methods == ["savo", "ensemble"]


def test_first_places_by_counting(scores):
    methods = ["savo", "ensemble", "td3"]
    del scores["A-frozen", "td3", 5]
    places = summary.first_places(score_runs(made_up(scores)), methods)
    assert len(places) == 11 and not ((places.task == "A-frozen") & (places.seed == 5)).any()
    for row in places.itertuples():
        found = sorted(((scores[row.task, method, row.seed], method) for method in methods), reverse=True)
        assert [row.first, row.second] == [method for _, method in found[:2]]
        assert row.lead == pytest.approx(found[0][0] - found[1][0])
    counts = places["first"].value_counts()
    assert counts.to_dict() == {"savo": 6, "ensemble": 5}


def test_a_tie_does_not_count_for_the_compared_method():
    tied = made_up({(task, method, seed): 0.5 for task in TASKS for method in ("savo", "td3") for seed in SEEDS})
    places = summary.first_places(score_runs(tied), ["savo", "td3"])
    assert set(places["first"]) == {"td3"} and (places.lead == 0).all()
    said = summary.sentences(tied, summary.summarize(tied, ["savo", "td3"]))
    assert "The others are first on: td3 12 (ties, which count for them: 12)." in said[1]


def test_best_others_by_means(scores):
    group = made_up(scores)
    found = summary.summarize(group, summary.order_of_methods(group)).best_others.set_index("task")
    for task in TASKS:
        means = {name: np.mean([scores[task, name, seed] for seed in SEEDS]) for name in ("savo", "ensemble", "td3")}
        other = max(("ensemble", "td3"), key=means.get)
        assert found.other[task] == other
        assert found.difference[task] == pytest.approx(means["savo"] - means[other])
        ours, theirs = ([scores[task, name, seed] for seed in SEEDS] for name in ("savo", other))
        assert found.probability[task] == np.mean([a > b for a, b in zip(ours, theirs, strict=True)])
        assert found.rliable[task] == pytest.approx(np.mean([a > b for a in ours for b in theirs]))
    assert found.verdict.to_dict() == {"all tasks (2)": "no difference shown", "A-frozen": "better", "B-frozen": "worse"}


def test_sentences_say_what_the_scores_are(scores):
    group = made_up(scores)
    said = "\n".join(summary.sentences(group, summary.summarize(group, summary.order_of_methods(group))))
    lead = min(scores[task, "savo", seed] - scores[task, "ensemble", seed] for task in TASKS for seed in SEEDS if
               scores[task, "savo", seed] > scores[task, "ensemble", seed])  # fmt: skip
    assert "SAVO is first on 7 of 12 landscapes that all of them finished (2 tasks, seeds 0-5)." in said
    assert "The others are first on: ensemble 5." in said
    assert f"Its smallest lead is {lead:.2g}, ahead of ensemble on " in said
    assert "SAVO against td3: difference of the normalized scores 0.200 [0.200, 0.200], on single tasks better on 2" in said
    assert "SAVO against ensemble, the best of the others on all tasks: " in said
    against_best = "better on 1 (A), not shown to differ on 0, worse on 1 (B)."
    assert f"SAVO against the best of the others on each task: {against_best}" in said
    # Runs of an environment with equal seeds have no landscape in common
    elsewhere = made_up(scores, same_seed="seed")
    assert "is first on" not in "\n".join(
        summary.sentences(elsewhere, summary.summarize(elsewhere, summary.order_of_methods(elsewhere)))
    )


def test_missing_runs_are_grouped(scores):
    del scores["A-frozen", "td3", 0], scores["B-frozen", "td3", 0]
    assert words.missing_runs(made_up(scores)) == ["late, seeds 4-5: B-frozen", "td3, seeds 0: all 2 tasks"]


@pytest.mark.parametrize("seeds, text", [([3, 1, 2], "1-3"), ([0, 2, 3, 9], "0, 2-3, 9"), ([4], "4")])
def test_seed_ranges(seeds, text):
    assert words.seed_ranges(seeds) == text


@pytest.fixture
def report(capsys, monkeypatch, tmp_path):
    """:return: Writes a report of given groups with the summary alone, and returns what was printed and written"""

    def write(groups):
        monkeypatch.setattr("benchmarks.report.load", lambda *arguments: groups)
        monkeypatch.setattr(GroupReport, "text", lambda self: (self.summary(), "\n".join(self.parts))[1])
        main(["study_a", "-o", str(tmp_path)])
        return capsys.readouterr().out, (tmp_path / "report.md").read_text()

    return write


def test_the_command_prints_what_the_documentation_quotes(report):
    for text in report([publish.frozen_group()]):
        assert publish.block("study_in_short") in text


def test_a_published_table_names_methods_without_a_run(scores):
    with pytest.raises(ValueError, match=r"methods=\['multistart'\]: the stored results of .* have no run of these"):
        publish.study_means(made_up(scores), ["savo", "multistart"])


def test_budgets_that_nobody_has_begun_are_missing(report, scores):
    begun = made_up(scores)
    absent = dataclasses.replace(begun, name="10,000 updates", evaluations=begun.evaluations[:0])
    printed, text = report([begun, absent])
    n_methods = 4
    assert f"Missing runs: {2 + len(TASKS) * len(SEEDS) * n_methods}\n" in printed
    assert "- 10,000 updates, SAVO, seeds 0-5: all 2 tasks" in printed and "- late, seeds 4-5: B-frozen" in printed
    assert "**No run is finished of: 10,000 updates** (48 planned)." in text
