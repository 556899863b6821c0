"""How long runs take, from the finished ones, for the time left. Nothing here imports torch."""

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from benchmarks.recording import RECORD
from benchmarks.suite import Run


class Durations:
    """
    Expected durations of runs: as long as finished runs of the same task, method and steps. Where there are none, as many
    steps per second as finished runs of the same task, or of any task.

    :param folder: Results folder
    :param runs: Runs, of which some may be finished
    """

    def __init__(self, folder: Path, runs: Iterable[Run]):
        self.folder = folder
        self.seconds: dict[tuple, list[float]] = defaultdict(list)
        self.medians: dict[tuple, float] = {}
        for run in runs:
            self.see(run)

    def see(self, run: Run) -> None:
        """
        :param run: A run; its duration counts from now on if it is finished
        """
        try:
            seconds = float(json.loads((self.folder / run.name / RECORD).read_text())["wall_time"])
        except (OSError, ValueError, KeyError, TypeError):
            return
        self.seconds[run.task, run.method, run.steps].append(seconds)
        self.seconds[run.task,].append(seconds / run.steps)
        self.seconds[()].append(seconds / run.steps)
        self.medians.clear()

    def median(self, key: tuple) -> float | None:
        """
        :param key: Task, method and steps; or the task; or nothing, for all tasks
        :return: Median duration, or for the last two of a step, in seconds; None if no such run is finished
        """
        if key not in self.medians and key in self.seconds:
            self.medians[key] = statistics.median(self.seconds[key])
        return self.medians.get(key)

    def expected(self, run: Run) -> float:
        """
        :param run: A run
        :return: Its expected duration in seconds; its steps if no run at all is finished
        """
        seconds = self.median((run.task, run.method, run.steps))
        if seconds is None:
            rate = self.median((run.task,)) or self.median(()) or 1.0
            seconds = run.steps * rate
        # A run of no time at all would not count
        return max(seconds, 1e-3)
