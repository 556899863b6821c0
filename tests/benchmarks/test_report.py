"""The report of a suite: what it reads, what it claims, and what it writes."""

import io
import itertools
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from benchmarks import figures, publish, results, tables, words
from benchmarks.recording import is_finished, read_record
from benchmarks.report import main
from benchmarks.results import Group
from benchmarks.schema import suite_names
from benchmarks.sections import GroupReport
from benchmarks.suite import list_runs

SUITE = """
title: A test
parts:
  - tasks: [MiningExpedition-v0, RecSim-v0]
    methods: [savo, savo_1_actor, savo_10_actors, ensemble]
    budgets: {small: {seeds: 5, steps: 100}}
"""


@pytest.fixture
def suite(tmp_path):
    """A suite of which every run is finished; methods differ by their number of actors, seeds by noise."""
    for name in ("tasks.yml", "methods.yml"):
        (tmp_path / name).write_text((results.RESULTS.parent / "suites" / name).read_text())
    path = tmp_path / "toy.yml"
    path.write_text(SUITE)
    for run in list_runs(str(path)):
        n_actors = run.settings["arguments"].get("n_actors", 3) * (run.method != "ensemble")
        rng = np.random.default_rng(run.seed)
        # The first evaluation, at the first step, is that of an untrained agent
        steps = np.concatenate([[1], np.linspace(10, 100, 5)])
        rows = {
            "step": steps,
            "return_mean": n_actors * steps / 100 + rng.normal(scale=0.05, size=6),
            "wall_time": steps * (1 + 0.1 * rng.random()),
            "updates": steps // 2,
            "surrogate_error_pct": 5.0 if n_actors > 1 else None,
        }
        folder = tmp_path / "runs" / run.name
        folder.mkdir(parents=True)
        pd.DataFrame(rows).to_csv(folder / "evaluations.csv", index=False)
        (folder / "run.json").write_text(json.dumps({"run": json.loads(run.as_json()), "versions": {"torch": "9.9"}}))
    return path


def write_report(suite, out, *arguments):
    main([str(suite), "--folder", str(suite.parent / "runs"), "-o", str(out), *arguments])
    return (out / "report.md").read_text()


def remove_run(suite, method, seed, task="RecSim-v0"):
    runs = [run for run in list_runs(str(suite)) if (run.task, run.method, run.seed) == (task, method, seed)]
    (suite.parent / "runs" / runs[0].name / "run.json").unlink()


def test_report(suite, tmp_path, capsys):
    text = write_report(suite, tmp_path / "out")
    assert "No run is missing." in capsys.readouterr().out and "No run is missing." in text
    assert "40 finished runs of 40 planned ones" in text and "torch 9.9" in text
    assert "the highest mean is 10.0 (SAVO, 10 actors); SAVO is number 2 of 4" in text
    assert "- SAVO against SAVO, 10 actors, the best of the others on all tasks: difference of the normalized" in text
    assert "SAVO is better than: on all tasks (2) 1 actor" in text
    assert "SAVO is **worse** than: on all tasks (2) SAVO, 10 actors" in text
    assert str(tmp_path / "out") in text.split("\n\n")[2], "the exact command"
    files = {path.name for path in (tmp_path / "out").iterdir()}
    for name in ("curves", "final", "aggregates", "profiles", "differences-whole", "improvement-final", "actors"):
        assert f"{name}.png" in files
    assert {"surrogate-error.png", "compute-seconds.png", "compute-updates.png", "compute.csv", "missing.csv"} <= files
    figures = {line.split("](")[1].split(")")[0] for line in text.splitlines() if line.startswith("![")}
    assert figures == {name for name in files if name.endswith(".png")}


def test_every_surrogate_has_a_curve_over_the_number_of_actors():
    curves = results.curves_over_actors([run.method for run in list_runs("fig11_actors")])
    approximate = {f"savo_approximate_{n}_actors": n for n in (5, 10, 15)}
    assert curves == {
        "savo": {"savo_1_actor": 1, "savo": 3, "savo_10_actors": 10},
        "savo_approximate": {"savo_1_actor": 1, "savo_approximate": 3, **approximate},
    }
    for suite in ("fig11_actors", "table1_compute"):
        settings = {run.method: run.settings["arguments"] for run in list_runs(suite)}
        for curve, members in results.curves_over_actors(settings).items():
            for method, n_actors in members.items():
                assert settings[method]["n_actors"] == n_actors
                assert n_actors == 1 or settings[method]["surrogate"] == settings[curve]["surrogate"]


def test_every_caption_states_seeds(suite, tmp_path):
    lines = write_report(suite, tmp_path / "out").split("\n\n")
    captions = [after for figure, after in itertools.pairwise(lines) if figure.startswith("![")]
    assert captions and all("5 seeds" in caption for caption in captions)


def test_same_results_same_report(suite, tmp_path):
    contents = []
    for _ in range(2):
        write_report(suite, tmp_path / "out")
        contents.append({path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()})
        shutil.rmtree(tmp_path / "out")
    differing = [name for name in contents[0] if contents[0][name] != contents[1][name]]
    assert contents[0].keys() == contents[1].keys() and not differing


def test_published_scores_are_rounded_once(tmp_path):
    """352.650001 is 352.7, and 352.65 in a file of six digits would become 352.6."""
    group = group_of({"a": {seed: [352.650001] for seed in range(5)}})
    report = GroupReport(group, None, tmp_path)
    report.write_table("scores", tables.per_task(report.runs, ["a"]))
    assert publish.scores(tmp_path / "scores.csv").final.tolist() == ["352.7 [352.7, 352.7]"]


def test_missing_runs_are_listed(suite, tmp_path, capsys):
    remove_run(suite, "ensemble", 3)
    text = write_report(suite, tmp_path / "out")
    printed = capsys.readouterr().out
    assert "Missing runs: 1\n" in printed
    for place in (printed, text):
        assert "- Ensemble, seeds 3: RecSim-v0" in place
        assert "With 5 or more seeds on every task: SAVO, 1 actor, SAVO, 10 actors." in place
    assert pd.read_csv(tmp_path / "out" / "missing.csv").to_dict("list") == {
        "task": ["RecSim-v0"],
        "method": ["ensemble"],
        "seed": [3],
    }
    # Four seeds claim nothing, although they agree
    comparisons = pd.read_csv(tmp_path / "out" / "comparisons-final.csv").set_index(["task", "other"])
    assert comparisons.verdict["RecSim-v0", "ensemble"] == "too few seeds"
    assert comparisons.verdict["MiningExpedition-v0", "ensemble"] == "better"
    assert comparisons.difference_low.isna().eq(comparisons.verdict == "too few seeds").all()


def test_no_claim_below_five_seeds(suite, tmp_path):
    for method in ("savo", "savo_1_actor", "savo_10_actors", "ensemble"):
        for task in ("RecSim-v0", "MiningExpedition-v0"):
            remove_run(suite, method, 0, task)
    text = write_report(suite, tmp_path / "out")
    assert "Too few seeds" in text and "nothing is claimed" in text
    for claim in ("better than", "**worse**", "the highest", "lowest for", "highest for"):
        assert claim not in text
    assert not (tmp_path / "out" / "differences-final.png").exists()


def test_method(suite, tmp_path, capsys):
    assert "### Ensemble against every other method" in write_report(suite, tmp_path / "out", "--method", "ensemble")
    with pytest.raises(SystemExit):
        write_report(suite, tmp_path / "out", "--method", "no_method")
    assert "--method=no_method has no finished run; the methods are savo, savo_1_actor" in capsys.readouterr().err


def test_every_stored_report_is_written_anew(suite, tmp_path, monkeypatch):
    """With the options that it was written with; files of an earlier report that are not part of it disappear."""
    out = tmp_path / "reports" / "toy"
    text = write_report(suite, out, "--method", "ensemble")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    (out / "old.csv").write_text("left by an earlier report")
    (out / "aggregates.csv").unlink()
    monkeypatch.setattr("benchmarks.report.REPORTS", tmp_path / "reports")
    main([])
    assert (out / "report.md").read_text() == text
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    with pytest.raises(SystemExit):
        main(["--method", "savo"])


def test_an_error_leaves_the_earlier_report(suite, tmp_path, monkeypatch):
    out = tmp_path / "reports" / "toy"
    write_report(suite, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    monkeypatch.setattr("benchmarks.report.REPORTS", tmp_path / "reports")
    with pytest.raises(SystemExit):
        write_report(suite, out, "--method", "savvo")
    monkeypatch.setattr("benchmarks.sections.GroupReport.text", lambda report: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(suite, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert list(out.parent.iterdir()) == [out]


def test_the_folder_of_all_reports_is_checked_first(suite, tmp_path, monkeypatch, capsys):
    (tmp_path / "reports").write_text("no folder")
    monkeypatch.setattr("benchmarks.report.REPORTS", tmp_path / "reports")
    monkeypatch.setattr("benchmarks.report.write", None)
    with pytest.raises(SystemExit):
        main([str(suite)])
    assert f"'{tmp_path / 'reports' / 'toy'}' can not be written" in capsys.readouterr().err


def test_other_files_of_a_chosen_folder_stay(suite, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.csv").write_text("mine")
    write_report(suite, tmp_path / "out")
    assert (tmp_path / "out" / "mine.csv").read_text() == "mine"


def test_nothing_finished(suite, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([str(suite), "--folder", str(tmp_path / "empty")])
    assert "no finished runs" in capsys.readouterr().err


def without(column):
    return lambda text: pd.read_csv(io.StringIO(text)).drop(columns=column).to_csv(index=False)


def with_value(column, value):
    return lambda text: pd.read_csv(io.StringIO(text), dtype=str).assign(**{column: value}).to_csv(index=False)


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda text: "", "No columns to parse"),
        (lambda text: text.splitlines()[0] + "\n", "it has no rows"),
        (lambda text: "".join(text.splitlines(True)[:-1]), r"it ends with step 77\.5, and the run has 100"),
        (lambda text: text.rstrip()[:-1], "its last line is cut off"),
        (lambda text: text + "1,2,3,4,5,6,7,8\n", r"Expected \d fields in line 8, saw 8\. Restore"),
        (lambda text: text.replace("wall_time,", "", 1), "it has no column wall_time"),
        (lambda text: text.replace(",surrogate_error_pct", "", 1), "its rows are longer than its first line"),
        (lambda text: "\n".join([*text.splitlines(), text.splitlines()[1], ""]), "step must rise from row to row"),
        (lambda text: text.replace("return_mean", "return_m\udcffan", 1), "can't decode"),
        (without("return_mean"), "it has no column return_mean"),
        (with_value("return_mean", ""), "return_mean has a value that is not a finite number"),
        (with_value("return_mean", "inf"), "return_mean has a value that is not a finite number"),
        (with_value("step", "1O0"), "step has a value that is not a finite number"),
        (with_value("surrogate_error_pct", "-inf"), "surrogate_error_pct has a value that is not a finite number"),
    ],
)
def test_damaged_evaluations_are_an_error(suite, tmp_path, capsys, damage, message):
    path = tmp_path / "runs" / list_runs(str(suite))[3].name / "evaluations.csv"
    path.write_bytes(damage(path.read_text()).encode(errors="surrogateescape"))
    with pytest.raises(SystemExit):
        write_report(suite, tmp_path / "out")
    printed = capsys.readouterr().err
    assert f"{path} is damaged: " in printed and re.search(message, printed) and "repeats it" in printed
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"run": {}}', '{"run": 1, "versions": {}}', '{"run": {}, "versions": {"to'])
def test_a_damaged_record_is_an_error(suite, tmp_path, capsys, text):
    path = tmp_path / "runs" / list_runs(str(suite))[3].name / "run.json"
    path.write_text(text)
    with pytest.raises(SystemExit):
        write_report(suite, tmp_path / "out")
    assert f"{path} is damaged" in capsys.readouterr().err


def test_runs_that_were_evaluated_otherwise_are_an_error(suite, tmp_path, capsys):
    """Their number of evaluations is not part of their folder's name, but decides which rows count."""
    tasks = tmp_path / "tasks.yml"
    tasks.write_text(tasks.read_text().replace("episodes: 200", "episodes: 100"))
    with pytest.raises(SystemExit):
        write_report(suite, tmp_path / "out")
    assert "run.json is of a run with episodes=200, and the suite has episodes=100" in capsys.readouterr().err


def test_the_commits_of_the_runs(suite, tmp_path):
    """Runs of several versions of a method are not told apart by their versions of sb3-savo."""
    assert "The runs are of" not in write_report(suite, tmp_path / "before")
    for run in list_runs(str(suite)):
        path = tmp_path / "runs" / run.name / "run.json"
        is_old = (run.method, run.task) == ("ensemble", "RecSim-v0") and run.seed in (0, 1, 3)
        commit = "0123456789" * 4 if is_old else "abcdef" * 7
        path.write_text(json.dumps({**json.loads(path.read_text()), "commit": commit}))
    text = write_report(suite, tmp_path / "out")
    assert "The runs are of 2 commits of this repository, see `commits.csv`." in text
    assert "Several commits have done the runs of: Ensemble on RecSim-v0." in text
    table = pd.read_csv(tmp_path / "out" / "commits.csv", dtype=str)
    rows = table[(table.task == "RecSim-v0") & (table.method == "ensemble")]
    assert dict(zip(rows.commit, rows.seeds, strict=True)) == {"01234567": "0-1, 3", "abcdefab": "2, 4"}


def test_every_stored_run_can_be_read():
    """By the suites that plan it."""
    folder = results.RESULTS / "runs"
    if not folder.exists():
        pytest.skip("no stored results")
    read = set()
    for run in itertools.chain.from_iterable(list_runs(suite) for suite in suite_names()):
        if run.name not in read and is_finished(folder / run.name):
            results.read_evaluations(folder / run.name / "evaluations.csv", results.COLUMNS, run.steps)
            read_record(folder / run.name, run)
            read.add(run.name)
    assert read == {str(path.parent.relative_to(folder)) for path in folder.rglob("run.json")}


@pytest.mark.parametrize(
    "suite_name, name, text, message",
    [
        ("landscapes", "frozen/Items-td3-0-2500.csv", "updates,chosen\n500,0.5\n", "updates 500, and the run has 2,500"),
        ("landscapes", "frozen/Items-td3-0-2500.csv", "updates,gap\n2500,0.5\n", "has no column chosen"),
        ("discrete", "RecSim-v0-savo-1.csv", "timestep,mean_return\n10,1.0\n", "ends with timestep 10, and the run has 20"),
        ("discrete", "RecSim-v0-savo-1.csv", "timestep,mean_return\n20,\n", "mean_return has a value that is not a finite"),
    ],
)
def test_damaged_results_from_before_the_suites(tmp_path, suite_name, name, text, message):
    (tmp_path / "frozen").mkdir()
    (tmp_path / "RecSim-v0-savo-0.csv").write_text("timestep,mean_return\n10,1.0\n20,1.0\n")
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=f"{name} is damaged: .*{message}"):
        results.load(suite_name, "small", tmp_path)


@pytest.mark.parametrize(
    "suite_name, groups, n_runs",
    [("breakthrough", [""], 34), ("discrete", [""], 30)],
)
def test_results_from_before_the_suites(suite_name, groups, n_runs):
    if not (results.RESULTS / suite_name).exists():
        pytest.skip("no stored results")
    loaded = results.load(suite_name, "small", None)
    assert [group.name for group in loaded] == groups
    assert sum(len(group.evaluations.groupby(results.KEYS)) for group in loaded) == n_runs
    assert all(len(group.expected) == len(group.missing) + n_runs for group in loaded)


@pytest.mark.parametrize("suite_name", results.OLD_SUITES)
def test_reports_on_results_from_before_the_suites(suite_name, tmp_path):
    if not (results.RESULTS / suite_name).exists():
        pytest.skip("no stored results")
    main([suite_name, "-o", str(tmp_path)])
    assert (tmp_path / "report.md").read_text().startswith("# ")


def test_landscapes_from_before_the_suites(tmp_path):
    for kind, name, updates in [
        ("frozen", "Items-td3-0", 2500),
        ("frozen", "Items-cem-1", 2500),
        ("learned", "Items-cem-0", 5000),
    ]:
        (tmp_path / kind).mkdir(exist_ok=True)
        (tmp_path / kind / f"{name}-{updates}.csv").write_text(f"updates,chosen,gap\n{updates},0.5,0.1\n")
    groups = {group.name: group for group in results.load("landscapes", "small", tmp_path)}
    assert list(groups) == ["frozen critic, 2,500 updates", "learned critic, 5,000 updates"]
    group = groups["frozen critic, 2,500 updates"]
    assert set(group.evaluations.method) == {"savo_1_actor", "cem"} and group.same_seed == "seed and landscape"
    assert group.missing.to_numpy().tolist() == [["Items", "cem", 0], ["Items", "savo_1_actor", 1]]


def test_name_that_is_no_run(tmp_path):
    (tmp_path / "notes.csv").write_text("timestep,mean_return\n1,1\n")
    with pytest.raises(ValueError, match=r"notes\.csv is not named like a run"):
        results.load("breakthrough", "small", tmp_path)


def group_of(scores, ranges=None):
    """:return: A group with one task; scores: method → seed → returns"""
    rows = [
        {"task": "T", "method": method, "seed": seed, "step": step, "score": score}
        for method, seeds in scores.items()
        for seed, values in seeds.items()
        for step, score in enumerate(values)
    ]
    evaluations = pd.DataFrame(rows)
    return Group("", evaluations, results.every_seed(evaluations), "steps", "return", ranges or {})


def test_score_runs():
    returns = list(range(20))
    runs = tables.score_runs(group_of({"a": {0: returns, 1: returns[:5]}}, {"T": (0.0, 10.0, "")}))
    assert runs.final.tolist() == [18.5, 4.0] and runs.whole.tolist() == [9.5, 2.0]
    assert runs.final_normalized.tolist() == [1.85, 0.4]


def test_normalization_from_the_runs():
    group = group_of({"a": {0: [1.0, 5.0]}, "b": {0: [3.0, 4.0]}})
    scale = tables.normalization(group, tables.score_runs(group))
    assert scale.low.tolist() == [2.0] and scale.high.tolist() == [5.0]
    known = replace(group, untrained={"T": 0.5})
    assert tables.normalization(known, tables.score_runs(known)).low.tolist() == [0.5]
    flat = group_of({"a": {0: [1.0, 1.0]}})
    assert tables.score_runs(flat).final_normalized.tolist() == [0.0], "runs that never improve"


@pytest.mark.parametrize(
    "our_seeds, their_seeds, n, paired",
    [
        (range(7), range(2, 8), 5, True),
        (range(6), range(3, 9), 6, False),
        (range(5), range(3), 3, True),
        (range(3), range(5, 10), 3, False),
    ],
)
def test_pairs(our_seeds, their_seeds, n, paired):
    """In pairs where five seeds have run with both, or where pairing loses nothing."""
    ours, theirs = (pd.DataFrame({"T": np.ones(len(seeds))}, index=list(seeds)) for seeds in (our_seeds, their_seeds))
    found = tables.compare_scores(ours + 1, theirs)
    assert (found["seeds"], found["paired"]) == (n, paired)
    assert found["verdict"] == ("better" if n >= 5 else "too few seeds")


def test_pairs_see_through_landscapes():
    """Landscapes differ by more than methods do; the difference shows only in pairs of runs on equal landscapes."""
    landscapes = pd.DataFrame({"T": np.arange(6.0)})
    gains = pd.DataFrame({"T": [0.1, 0.11, 0.12, 0.1, 0.09, 0.1]})
    assert tables.compare_scores(landscapes + gains, landscapes)["verdict"] == "better"
    assert tables.compare_scores(landscapes - gains, landscapes)["verdict"] == "worse"
    elsewhere = landscapes.set_axis(range(10, 16))
    assert tables.compare_scores(landscapes + gains, elsewhere)["verdict"] == "no difference shown"


def test_aggregate_needs_every_task():
    runs = pd.DataFrame(
        [("A", "x", 0, 1.0), ("B", "x", 0, 3.0), ("A", "x", 1, 9.0), ("A", "y", 0, 1.0)],
        columns=["task", "method", "seed", "final_normalized"],
    )
    table = tables.aggregate(runs, ["x", "y"])
    assert table.method.tolist() == ["x"] and table.seeds.tolist() == [1] and table["mean"].tolist() == [2.0]


def test_learning_curve():
    rows = pd.DataFrame({"seed": [0, 0, 1, 1], "x": [0.0, 10.0, 0.0, 10.0], "y": [0.0, 1.0, 2.0, 3.0]})
    assert tables.learning_curve(rows, "x", "y")[["x", "mean"]].to_numpy().tolist() == [[0, 1], [10, 2]]
    shifted = rows.assign(x=[0.0, 10.0, 5.0, 15.0])
    curve = tables.learning_curve(shifted, "x", "y", n_points=3)
    assert curve.x.tolist() == [5.0, 7.5, 10.0] and curve["mean"].tolist() == [1.25, 1.5, 1.75]
    assert curve.low.isna().all()


def candidates_of(numbers):
    """:return: Evaluations of five seeds on one task; numbers: method → number of candidates"""
    rows = [
        {"task": "T", "method": method, "seed": seed, "step": step, "score": 1.0}
        | {f"candidate_{i}": float(i) for i in range(number)}
        for method, number in numbers.items()
        for seed, step in itertools.product(range(5), (1, 2, 3))
    ]
    return pd.DataFrame(rows)


@pytest.mark.filterwarnings("error")
def test_methods_with_different_numbers_of_candidates():
    """A method has no curve of the candidates that it does not have."""
    curves = tables.candidate_curves(candidates_of({"a": 2, "b": 3, "c": 1}), ["a", "b", "c"])
    found = curves.groupby("method").shown.unique().map(set).to_dict()
    assert found == {"a": {"score", "candidate_0", "candidate_1"}, "b": {"score", "candidate_0", "candidate_1", "candidate_2"}}
    assert (curves.seeds == 5).all() and curves[["mean", "low", "high"]].notna().all().all()


def test_more_candidates_than_colors(tmp_path):
    curves = tables.candidate_curves(candidates_of({"a": 15}), ["a"])
    style = figures.Style(group_of({"a": {0: [1.0]}}), ["a"])
    figures.draw_candidates(curves, style, "updates", tmp_path / "candidates.png")
    assert (tmp_path / "candidates.png").exists()


def test_titles_do_not_overlap(tmp_path):
    long = "InvertedDoublePendulumRestricted-v4"
    figure, axes = figures.panels([long, long, "short", long], height=1)
    size = axes[2].title.get_fontsize()
    figures.save(figure, tmp_path / "titles.png")
    renderer = FigureCanvasAgg(figure).get_renderer()
    extents = [ax.title.get_window_extent(renderer) for ax in axes]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(extents))
    assert axes[2].title.get_fontsize() == size > axes[0].title.get_fontsize(), "a title that fits stays as it is"


@pytest.mark.parametrize("value, text", [(0.12345, "0.123"), (12.345, "12.3"), (12345.6, "12,346"), (np.nan, "")])
def test_number(value, text):
    assert words.number(value) == text


def test_breakthroughs():
    """The first evaluation above the threshold; a run that never gets there breaks through at infinity."""
    runs = {0: [1, 5, 2, 6, 3], 1: [1, 1, 1, 1, 9], 2: [1, 1, 1, 1, 1]}
    group = group_of({"a": runs, "b": {0: runs[2]}, "c": {0: runs[1]}, "d": {0: runs[0], 1: runs[2]}})
    table = tables.breakthroughs(group.evaluations, ["a", "b", "c", "d", "e"], {"T": 4.0, "U": 1.0})
    assert table.drop(columns="stayed").to_dict("list") == {
        "task": ["T"] * 4,
        "method": ["a", "b", "c", "d"],
        "seeds": [3, 1, 1, 2],
        "broke_through": [2, 0, 1, 1],
        "median_step": [4.0, np.inf, 4.0, np.inf],
    }
    # The break-through itself is no later evaluation: run 0 is above in one of three, and run 1 has none
    np.testing.assert_array_equal(table.stayed, [1 / 3, np.nan, np.nan, 1 / 3])
