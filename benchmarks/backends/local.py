"""Runs as processes of this machine."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from benchmarks.backends import Outcome
from benchmarks.recording import LOG
from benchmarks.suite import Run

CHECKOUT = Path(__file__).parent.parent.parent
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# Seconds that a run has to end itself before it is killed
PATIENCE = 10.0


class LocalJob:
    """
    A run in a process of its own, which dies with the process that started it.

    :param run: The run
    :param folder: Its folder
    :param threads: Number of threads that it may use
    """

    def __init__(self, run: Run, folder: Path, threads: int):
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", str(folder), run.as_json()],
            cwd=CHECKOUT,
            env={**os.environ, **dict.fromkeys(THREADS, str(threads)), "SAVO_RUN_PARENT": str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def outcome(self) -> Outcome | None:
        code = self.process.poll()
        return None if code is None else Outcome(code, self._last_line())

    def wait(self) -> Outcome:
        """:return: How the run ended, when it has ended"""
        return Outcome(self.process.wait(), self._last_line())

    def _last_line(self) -> str:
        # What the worker printed before it opened its log, or could not write into it
        assert self.process.stderr is not None
        with self.process.stderr as stderr:
            os.set_blocking(stderr.fileno(), False)
            lines = (stderr.read() or b"").decode(errors="replace").split("\n")
        if not any(lines):
            try:
                lines = (self.folder / LOG).read_text(errors="replace").split("\n")
            except OSError:
                lines = []
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def cancel(self) -> None:
        self._signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass


def do_run(run: Run, folder: Path, threads: int) -> Outcome:
    """
    Do a run in a process of its own on the machine where this is called; it dies with the process that calls this.

    :param run: The run
    :param folder: Its folder
    :param threads: Number of threads that it may use
    :return: How it ended
    """
    return LocalJob(run, folder, threads).wait()


class LocalBackend:
    """Runs as processes of this machine."""

    def start(self, run: Run, folder: Path, threads: int) -> LocalJob:
        return LocalJob(run, folder, threads)

    def close(self) -> None:
        pass
