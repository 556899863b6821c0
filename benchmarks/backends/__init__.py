"""
Where runs are done. A backend starts a run and returns its job; the same supervisor watches the jobs of every backend.

A backend imports its library when it is used, so that the local one needs none.
"""

from pathlib import Path
from typing import NamedTuple, Protocol

from benchmarks.suite import Run

NAMES = ("local", "ray", "slurm")


class Outcome(NamedTuple):
    """How a run ended: the worker's exit code, below 0 for a signal, and the last line that it printed."""

    code: int
    message: str


class Job(Protocol):
    """A run that has been started."""

    def outcome(self) -> Outcome | None:
        """:return: How the run ended, or None while it goes on"""

    def cancel(self) -> None:
        """End the run and everything that it started."""


class Backend(Protocol):
    """Starts runs."""

    def start(self, run: Run, folder: Path, threads: int) -> Job:
        """
        :param run: The run
        :param folder: Its folder
        :param threads: Number of threads that it may use
        :return: The started run
        """

    def close(self) -> None:
        """Free what the backend holds."""


def make_backend(name: str) -> Backend:
    """
    :param name: One of :data:`NAMES`
    :return: The backend
    :raises ImportError: if its library is not installed
    :raises ValueError: if it is not set up safely
    """
    if name == "ray":
        from benchmarks.backends.ray import RayBackend

        return RayBackend()
    if name == "slurm":
        from benchmarks.backends.slurm import SlurmBackend

        return SlurmBackend()
    from benchmarks.backends.local import LocalBackend

    return LocalBackend()
