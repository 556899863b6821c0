"""
Do the runs of a suite, each in a process of its own.

    python -m benchmarks.run study_a --workers 2
    python -m benchmarks.run study_a --list

A suite is a file of ``benchmarks/suites``, or the path of such a file. Finished runs are skipped, so the command can be
stopped at any time and given again. Several of these commands may share a suite and a folder. The exit code is 1 if a run
failed.
"""

import argparse
import re
import signal
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.backends import NAMES, Backend, Job, Outcome, make_backend
from benchmarks.command_line import at_least, output_folder
from benchmarks.progress import Durations
from benchmarks.recording import LOG, is_finished, read_record, share_done
from benchmarks.schema import BUDGETS, SuiteError, load_suite
from benchmarks.suite import Run, list_runs
from benchmarks.worker import BUSY

RESULTS = Path(__file__).parent / "results" / "runs"
# Seconds between two looks at the jobs, between two looks at their progress, and before another attempt at a run that somebody
# else does
POLL, REFRESH, RETRY = 0.05, 2.0, 2.0


class Supervisor:
    """
    Does runs, some at a time, and goes on when one fails.

    :param backend: Starts the runs
    :param folder: Results folder
    :param workers: Number of runs at a time
    :param threads: Threads per run
    """

    def __init__(self, backend: Backend, folder: Path, workers: int, threads: int):
        self.backend = backend
        self.folder = folder
        self.workers = workers
        self.threads = threads
        self.jobs: dict[Run, Job] = {}
        self.failed: list[tuple[Run, Outcome]] = []

    def do(self, runs: Sequence[Run], finished: Sequence[Run] = ()) -> None:
        """
        :param runs: The runs, which are started in this order
        :param finished: Finished runs, whose durations show how long the others will take
        """
        waiting = deque((run, 0.0) for run in runs)
        refreshed = 0.0
        durations = Durations(self.folder, finished)
        with tqdm(total=float(len(runs)), bar_format=BAR, smoothing=0) as bar:
            try:
                while waiting or self.jobs:
                    self._start(waiting)
                    for run in self._collect(waiting, bar):
                        durations.see(run)
                    if time.monotonic() > refreshed + REFRESH:
                        refreshed = time.monotonic()
                        self._show(bar, durations, runs, {run for run, _ in waiting})
                    time.sleep(POLL)
                self._show(bar, durations, runs, set())
            finally:
                for job in self.jobs.values():
                    job.cancel()

    def _start(self, waiting: deque[tuple[Run, float]]) -> None:
        for _ in range(len(waiting)):
            if len(self.jobs) == self.workers:
                return
            run, not_before = waiting.popleft()
            if time.monotonic() < not_before:
                waiting.append((run, not_before))
                continue
            # Another of these commands has done it
            if is_finished(self.folder / run.name):
                continue
            try:
                self.jobs[run] = self.backend.start(run, self.folder / run.name, self.threads)
            except OSError as error:
                self.failed.append((run, Outcome(1, str(error))))

    def _collect(self, waiting: deque[tuple[Run, float]], bar: tqdm) -> list[Run]:
        ended = []
        for run, job in list(self.jobs.items()):
            outcome = job.outcome()
            if outcome is None:
                continue
            del self.jobs[run]
            if outcome.code == BUSY:
                waiting.append((run, time.monotonic() + RETRY))
                continue
            ended.append(run)
            if outcome.code != 0:
                self.failed.append((run, outcome))
                bar.write(f"failed: {run.name}: {reason(outcome)}", file=sys.stderr)
        return ended

    def _show(self, bar: tqdm, durations: Durations, runs: Sequence[Run], waiting: set[Run]) -> None:
        # Runs count by their expected durations, since some take a hundred times as long as others
        expected = {run: durations.expected(run) for run in runs}
        done = {run: share_done(self.folder / run.name, run.steps) for run in self.jobs}
        bar.total = sum(expected.values())
        bar.n = sum(seconds * done.get(run, run not in waiting) for run, seconds in expected.items())
        bar.set_description_str(f"{len(runs) - len(waiting) - len(done)} of {len(runs)} runs", refresh=False)
        bar.refresh()


BAR = "{percentage:3.0f}%|{bar}| {desc} [{elapsed} so far, {remaining} left]"


def reason(outcome: Outcome) -> str:
    """
    :param outcome: How a run failed
    :return: Why, for people
    """
    if outcome.code < 0:
        name = signal.Signals(-outcome.code).name
        return f"killed by {name}" + (" (was there enough memory?)" if name == "SIGKILL" else "")
    return outcome.message or f"exit code {outcome.code}"


def parse_seeds(text: str) -> set[int]:
    """
    :param text: Seeds and ranges of seeds: ``3`` or ``0-4``
    :return: The seeds
    """
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    seeds = set(range(int(match[1]), int(match[2] or match[1]) + 1)) if match else set()
    if not seeds:
        raise argparse.ArgumentTypeError(f"{text!r} must be a seed or a range of seeds: 3 or 0-4")
    return seeds


def select(runs: Sequence[Run], seeds: set[int] | None, methods: list[str] | None, tasks: list[str] | None) -> list[Run]:
    """
    :param runs: Runs
    :param seeds: The wanted seeds, or None for all
    :param methods: The wanted methods, or None for all
    :param tasks: The wanted tasks, or None for all
    :return: The wanted runs
    :raises SuiteError: if no run has a wanted seed, method or task, or none has all of them
    """
    for kind, wanted in (("seed", seeds), ("method", methods), ("task", tasks)):
        known: dict[Any, None] = dict.fromkeys(getattr(run, kind) for run in runs)
        for name in wanted or ():
            if name not in known:
                raise SuiteError(f"--{kind}s: the suite has no {kind} {name!r}, but {', '.join(map(str, known))}.")
    selected = [
        run
        for run in runs
        if (seeds is None or run.seed in seeds)
        and (methods is None or run.method in methods)
        and (tasks is None or run.task in tasks)
    ]
    if not selected:
        raise SuiteError("--seeds, --methods, --tasks: the suite has each of them, but no run that has all of them.")
    return selected


def parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[Run]]:
    """
    :param arguments: The command line; None for that of this process
    :return: Its options, and the runs that it asks for
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", help="name of a suite, or path of its file")
    parser.add_argument("--budget", choices=BUDGETS, default="small", help="steps and seeds: the paper's, or fewer")
    parser.add_argument("--backend", choices=NAMES, default="local", help="where the runs are done")
    parser.add_argument("--workers", type=at_least(1), default=1, help="runs at a time")
    parser.add_argument("--threads", type=at_least(1), default=1, help="threads per run")
    parser.add_argument("--seeds", type=parse_seeds, nargs="+", help="only these, for instance: 0-4 7")
    parser.add_argument("--methods", nargs="+", help="only these")
    parser.add_argument("--tasks", nargs="+", help="only these")
    parser.add_argument("--folder", type=Path, default=RESULTS, help="results folder")
    parser.add_argument("--list", action="store_true", help="only list the runs, and whether they are finished")
    options = parser.parse_args(arguments)
    seeds = None if options.seeds is None else set().union(*options.seeds)
    try:
        runs = list_runs(options.suite, options.budget)
        if not runs:
            raise SuiteError(f"--budget {options.budget}: no part of the suite {options.suite} has this budget.")
        runs = select(runs, seeds, options.methods, options.tasks)
    except SuiteError as error:
        parser.error(str(error))
    options.folder = options.folder.absolute()
    return options, runs


def main(arguments: Sequence[str] | None = None) -> int:
    """
    :param arguments: The command line; None for that of this process
    :return: Exit code
    """
    options, runs = parse(arguments)
    finished = [run for run in runs if is_finished(options.folder / run.name)]
    try:
        for run in finished:
            read_record(options.folder / run.name, run)
    except ValueError as error:
        print(f"{options.suite}: {error}", file=sys.stderr)
        return 2
    done = set(finished)
    missing = [run for run in runs if run not in done]
    if options.list:
        for run in runs:
            print("finished" if run in done else "missing ", run.name)
    print(f"{len(runs) - len(missing)} of {len(runs)} runs are finished.", flush=True)
    if options.list or not missing:
        return 0
    try:
        check(missing, options.suite)
        backend = make_backend(options.backend)
        output_folder(str(options.folder))
    except (ImportError, ValueError, argparse.ArgumentTypeError) as error:
        print(f"{options.suite}: {error}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, stop)
    supervisor = Supervisor(backend, options.folder, options.workers, options.threads)
    try:
        supervisor.do(missing, finished)
    except KeyboardInterrupt:
        print("Stopped. The same command does the runs that are not finished.", file=sys.stderr)
        return 130
    finally:
        backend.close()
    for run, outcome in supervisor.failed:
        print(f"failed: {run.name}: {reason(outcome)}\n    {options.folder / run.name / LOG}", file=sys.stderr)
    if supervisor.failed:
        print(f"{len(supervisor.failed)} of {len(missing)} runs failed.", file=sys.stderr)
        return 1
    print(f"All {len(runs)} runs are finished.")
    return 0


def check(runs: Sequence[Run], suite: str) -> None:
    """
    :param runs: The runs that are to be done
    :param suite: Their suite
    :raises SuiteError: if their environments or arguments are wrong
    """
    # torch takes seconds, which a finished suite does without, and so do runs that are not ours
    if any(run.settings["runner"].startswith("benchmarks.") for run in runs):
        from benchmarks.checks import check_methods, check_runs

        check_runs(runs)
        check_methods(runs, load_suite(suite).methods)


def stop(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
