"""The runner: every run ends once, whatever is killed; a run that fails or a full disk is told, and loses nothing."""

import json
import random
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from benchmarks import run as runner
from benchmarks.backends.local import CHECKOUT
from benchmarks.progress import Durations
from benchmarks.recording import EVALUATIONS, LOG, RECORD, UNFINISHED, share_done
from benchmarks.suite import Run, list_runs
from tests.benchmarks import toy
from tests.waiting import wait_until

# Far above what the tests need on a busy machine
HANG_SECONDS = 120

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


@pytest.fixture(autouse=True)
def old_handler():
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def command(suite, *arguments):
    folder = suite.parent / "runs"
    return [sys.executable, "-m", "benchmarks.run", str(suite), "--folder", str(folder), "--workers", "2", *arguments]


def start(suite, *arguments):
    # A shell's background job ignores SIGINT, and so would its children
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(command(suite, *arguments), cwd=CHECKOUT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    finally:
        signal.signal(signal.SIGINT, before)


def do(suite, *arguments):
    """:return: Exit code of the command, in this process"""
    return runner.main(command(suite, *arguments)[3:])


def folders(suite):
    return [suite.parent / "runs" / run.name for run in list_runs(str(suite))]


def n_starts(folder):
    path = folder / toy.STARTS
    return len(path.read_text().splitlines()) if path.exists() else 0


def assert_ended(suite, n_runs):
    """Every run has ended, all of its evaluations are there, and no two processes were at work in one folder."""
    assert len(folders(suite)) == n_runs
    for folder in folders(suite):
        assert (folder / RECORD).exists()
        assert pd.read_csv(folder / EVALUATIONS).step.tolist() == [1, 2, 3]
        assert not (folder / toy.NOT_ALONE).exists() and not list(folder.glob("*.partial"))


def test_a_finished_suite_again_is_a_no_op(tmp_path, capsys):
    suite = toy.write_suite(tmp_path, seeds=3, seconds=0)
    assert do(suite, "--seeds", "0", "2") == 0
    assert "All 2 runs are finished." in capsys.readouterr().out
    assert do(suite, "--list") == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed[:3]] == ["finished", "missing", "finished"]
    assert listed[3] == "2 of 3 runs are finished."
    assert do(suite) == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")}
    assert do(suite) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "3 of 3 runs are finished."
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")} == before
    assert [n_starts(folder) for folder in folders(suite)] == [1, 1, 1]
    assert_ended(suite, 3)


def test_a_finished_suite_needs_no_torch(tmp_path):
    """So that it is a matter of a second."""
    suite = toy.write_suite(tmp_path, seeds=1, seconds=0)
    assert do(suite) == 0
    script = "import sys; from benchmarks.run import main; code = main(); sys.exit(code or 'torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script, *command(suite)[3:]], cwd=CHECKOUT, check=True, timeout=HANG_SECONDS)


def test_finished_runs_that_were_evaluated_otherwise_are_refused(tmp_path, capsys):
    """Also where they are all finished; the names of their folders do not tell them apart."""
    suite = toy.write_suite(tmp_path, seeds=2, seconds=0)
    assert do(suite, "--seeds", "0") == 0
    tasks = tmp_path / "tasks.yml"
    tasks.write_text(tasks.read_text().replace("}", ", evaluations: 3, episodes: 7}"))
    for arguments in ((), ("--seeds", "0"), ("--list",)):
        assert do(suite, *arguments) == 2
        printed = capsys.readouterr().err
        assert str(folders(suite)[0] / RECORD) in printed
        assert "a run with evaluations=20, episodes=10, and the suite has evaluations=3, episodes=7." in printed
    assert [n_starts(folder) for folder in folders(suite)] == [1, 0]


def test_a_damaged_record_is_refused(tmp_path, capsys):
    suite = toy.write_suite(tmp_path, seeds=1, seconds=0)
    assert do(suite) == 0
    (folders(suite)[0] / RECORD).write_text('{"run":')
    assert do(suite) == 2
    assert f"{folders(suite)[0] / RECORD} is damaged" in capsys.readouterr().err


def test_a_failed_run_is_listed(tmp_path, capsys):
    suite = toy.write_suite(tmp_path, seeds=3, seconds=0, broken=[1])
    assert do(suite) == 1
    printed = capsys.readouterr().err
    name = list_runs(str(suite))[1].name
    assert f"failed: {name}: RuntimeError: the toy is broken" in printed and "1 of 3 runs failed." in printed
    assert str(tmp_path / "runs" / name / LOG) in printed
    assert "the toy is broken" in (tmp_path / "runs" / name / LOG).read_text()
    assert [(folder / RECORD).exists() for folder in folders(suite)] == [True, False, True]
    assert do(suite) == 1, "and only the failed run again"
    assert [n_starts(folder) for folder in folders(suite)] == [1, 2, 1]


@pytest.mark.parametrize("file", [f"{EVALUATIONS}.partial", f"{RECORD}.partial"])
def test_a_full_disk_loses_nothing(tmp_path, capsys, file):
    """On /dev/full every write fails as on a full disk. (Not the evaluations so far, which the supervisor reads.)"""
    suite = toy.write_suite(tmp_path, seeds=2, seconds=0)
    full = folders(suite)[0] / file
    full.parent.mkdir(parents=True)
    full.symlink_to("/dev/full")
    assert do(suite) == 1
    printed = capsys.readouterr().err
    assert f"The disk of {full.parent} is full" in printed and "bytes are free" in printed
    assert [(folder / RECORD).exists() for folder in folders(suite)] == [False, True]
    full.unlink()
    assert do(suite) == 0
    assert_ended(suite, 2)


def test_two_supervisors_never_do_a_run_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "RETRY", 0.1)
    suite = toy.write_suite(tmp_path, seeds=6, seconds=0.3)
    other = start(suite)
    assert do(suite) == 0
    assert other.wait(HANG_SECONDS) == 0
    assert [n_starts(folder) for folder in folders(suite)] == [1] * 6
    assert_ended(suite, 6)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_run_outlives_its_supervisor(tmp_path, number):
    """Nor does what the run has started."""
    suite = toy.write_suite(tmp_path, seeds=2, seconds=600, child=True)
    supervisor = start(suite)
    wait_until(lambda: len(toy.processes_of(tmp_path)) == 4)
    supervisor.send_signal(number)
    code = supervisor.wait(HANG_SECONDS)
    assert code == (-signal.SIGKILL if number == signal.SIGKILL else 130)
    wait_until(lambda: not toy.processes_of(tmp_path))


@pytest.mark.parametrize(
    "n_runs, n_kills", [(12, 6), pytest.param(60, 25, marks=pytest.mark.expensive)], ids=["12 runs", "60 runs"]
)
def test_chaos(tmp_path, n_runs, n_kills):
    """
    Runs and supervisor are killed at random, and the command is given again: every run ends exactly once.
    The last run waits for the last kill, so that no machine is too fast or too slow for all kills to happen.
    """
    suite = toy.write_suite(tmp_path, seeds=n_runs, held=[n_runs - 1])
    hold = tmp_path / "runs" / toy.HOLD
    hold.parent.mkdir()
    hold.touch()
    rng = random.Random(n_runs)
    supervisor, ended, n_supervisors_killed = start(suite), {}, 0
    code = None
    while code != 0:
        time.sleep(rng.uniform(0.1, 0.6))
        running = toy.processes_of(tmp_path)
        if n_kills > 0 and running:
            n_kills -= 1
            if n_kills == 0:
                hold.unlink()
            if n_supervisors_killed == 0 or rng.random() < 0.2:
                n_supervisors_killed += 1
                supervisor.kill()
            else:
                subprocess.run(["kill", "-KILL", str(rng.choice(running))], stderr=subprocess.DEVNULL)
        for folder in folders(suite):
            if (folder / RECORD).exists():
                # A run that has ended is not done again
                assert ended.setdefault(folder, (folder / RECORD).stat().st_ino) == (folder / RECORD).stat().st_ino
        code = supervisor.poll()
        if code not in (None, 0):
            supervisor = start(suite)
    assert n_supervisors_killed > 0 and n_kills == 0
    wait_until(lambda: not toy.processes_of(tmp_path))
    assert_ended(suite, n_runs)


@pytest.mark.parametrize(
    "rows, share", [("", 0), ("step,x\n", 0), ("step,x\n30,1\n60,2\n", 0.5), ("step,x\n30,1\n6", 0.25), ("step,x\n1,1\n", 0)]
)
def test_share_done(tmp_path, rows, share):
    (tmp_path / UNFINISHED).write_text(rows)
    assert share_done(tmp_path, 120) == pytest.approx(share, abs=0.3 if share == 0.25 else 0)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--seeds", "5"], "the suite has no seed 5, but 0"),
        (["--methods", "sav"], "the suite has no method 'sav', but savo"),
        (["--tasks", "Toy-v1"], "the suite has no task 'Toy-v1', but Toy-v0"),
        (["--seeds", "5-3"], "'5-3' must be a seed or a range of seeds: 3 or 0-4"),
        (["--seeds", "x"], "'x' must be a seed or a range of seeds"),
        (["--seeds=-1"], "'-1' must be a seed or a range of seeds"),
        (["--budget", "paper"], "--budget paper: no part of the suite"),
        (["--workers", "0"], "'0' must be an integer of at least 1"),
        (["--backend", "cloud"], "invalid choice: 'cloud'"),
    ],
)
def test_bad_options(tmp_path, capsys, arguments, message):
    suite = toy.write_suite(tmp_path, seeds=1)
    with pytest.raises(SystemExit) as error:
        do(suite, *arguments)
    assert error.value.code == 2 and message in capsys.readouterr().err


def test_a_folder_that_can_not_be_written_to_is_found_before_any_run(tmp_path, capsys):
    suite = toy.write_suite(tmp_path, seeds=1)
    (tmp_path / "runs").write_text("no folder")
    assert do(suite, "--list") == 0
    assert do(suite) == 2
    assert f"'{tmp_path / 'runs'}' can not be written" in capsys.readouterr().err


def test_a_selection_of_nothing_is_an_error(tmp_path, capsys):
    """Each of the names is there, but in different parts of the suite."""
    suite = toy.write_suite(tmp_path, seeds=1)
    tasks = tmp_path / "tasks.yml"
    tasks.write_text(tasks.read_text() + tasks.read_text().replace("Toy-v0", "Toy-v1"))
    (tmp_path / "methods.yml").write_text("savo: {algorithm: savo}\ncem: {algorithm: cem}\n")
    part = suite.read_text().removeprefix("parts: [").rstrip().removesuffix("]")
    suite.write_text(f"parts: [{part}, {part.replace('Toy-v0', 'Toy-v1').replace('savo', 'cem')}]\n")
    with pytest.raises(SystemExit) as error:
        do(suite, "--tasks", "Toy-v1", "--methods", "savo")
    assert error.value.code == 2 and "no run that has all of them" in capsys.readouterr().err


def test_expected_durations(tmp_path):
    """From runs of the same task, method and steps, else from the time per step of the task or of all tasks."""

    def run(task="T", method="savo", seed=0, steps=100):
        return Run(task, method, seed, steps, {"method": method}, 1, 1)

    def finish(run, seconds):
        folder = tmp_path / run.name
        folder.mkdir(parents=True)
        (folder / RECORD).write_text(json.dumps({"wall_time": seconds}))

    assert Durations(tmp_path, [run()]).expected(run(steps=30)) == 30, "nothing is known"
    for seed, seconds in enumerate([10, 20, 60]):
        finish(run(seed=seed), seconds)
    finish(run("U", "td3"), 1000)
    durations = Durations(tmp_path, [run(seed=0), run(seed=1), run(seed=2), run("U", "td3"), run(seed=3)])
    assert durations.expected(run(seed=3)) == 20
    assert durations.expected(run(method="td3", steps=50)) == pytest.approx(10)
    assert durations.expected(run("V")) == pytest.approx(40)
    finish(run(seed=3), 21)
    durations.see(run(seed=3))
    assert durations.expected(run(seed=4)) == 20.5


def test_the_bar_counts_runs_by_their_durations(tmp_path, capsys):
    suite = toy.write_suite(tmp_path, seeds=2, seconds=0)
    assert do(suite) == 0
    assert "100%" in capsys.readouterr().err.splitlines()[-1]
