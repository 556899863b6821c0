"""Runs that are interrupted in the test's own process, after which the same script is run again."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from benchmarks.resume import Case, learn
from sb3_savo.common.checkpoints import run


class Interrupted(Exception):
    """What ends a run here; SIGKILL ends it in ``benchmarks.resume``."""


@contextmanager
def interrupted_at(monkeypatch: Any, steps: int | None) -> Iterator[None]:
    """A context in which every run ends by an error at a number of environment steps, in the middle of a rollout."""
    with monkeypatch.context() as patch:
        on_step = BaseCallback.on_step

        def stop(self: BaseCallback) -> bool:
            if self.parent is None and steps is not None and self.model.num_timesteps >= steps:
                raise Interrupted
            return on_step(self)

        patch.setattr(BaseCallback, "on_step", stop)
        yield


def interrupt_and_go_on(
    case: Case, folder: Path, monkeypatch: Any, every: int = 7, stops: tuple[int, ...] = (90, 190, 290)
) -> str:
    """
    :param case: A case
    :param folder: For its files
    :param monkeypatch: Pytest's
    :param stops: Environment steps at which it is interrupted
    :return: The digest of its result
    """
    count_rollouts(monkeypatch, 20)
    for stop in stops:
        with interrupted_at(monkeypatch, stop):
            try:
                learn(case, folder / "logs", folder / "checkpoints")
            except Interrupted:
                continue
            raise AssertionError(f"the run was not interrupted at {stop}")
    return learn(case, folder / "logs", folder / "checkpoints")


def count_rollouts(monkeypatch: Any, every: int) -> None:
    """From here on, a checkpoint is due every so many rollouts or a few more, in place of a time."""
    clock: Callable[[], float] = itertools.count().__next__
    monkeypatch.setattr(run.time, "monotonic", lambda: float(clock()))
    monkeypatch.setattr(run, "PERIOD", every)
