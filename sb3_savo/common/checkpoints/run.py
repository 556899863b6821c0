"""A call of ``learn`` that writes checkpoints, or goes on from the last one."""

import os
import signal
import threading
import time
import warnings
from types import TracebackType
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure

from sb3_savo.common.checkpoints.callbacks import evaluation_environments
from sb3_savo.common.checkpoints.environments import start_recording, stop_recording
from sb3_savo.common.checkpoints.logs import cut_events
from sb3_savo.common.checkpoints.snapshot import check_continues, log_folder, put_back, take_snapshot
from sb3_savo.common.checkpoints.store import Store
from sb3_savo.files.errors import FileError, explain

# PERIOD times the duration of a checkpoint passes before the next, so all after the first take less than 0.7 % of the time.
# That leaves room for what environments note for them, see benchmarks.checkpoint_cost.
PERIOD = 150
# What a shell reports of a process that SIGTERM has ended
TERMINATED = 128 + signal.SIGTERM


class CheckpointedRun:
    """
    One call of ``learn(…, checkpoints=folder)``, a context in which the model learns.

    :param model: A model with an environment
    :param folder: The folder of its checkpoints
    :param start: Environment steps before the run
    :raises FileError: if all checkpoints in the folder are damaged
    :raises OSError: if the folder cannot be made
    :raises ValueError: if the folder is in use or of another run, or an environment cannot be restored
    """

    def __init__(self, model: BaseAlgorithm, folder: str | os.PathLike[str], start: int):
        self.model = model
        self.store = Store(folder)
        self._callback: BaseCallback | None = None
        self._is_terminated = False
        self._is_over = False
        self._due = 0.0
        # When the first checkpoint was written or read, and the time that later ones have taken
        self._began: float | None = None
        self._spent = 0.0
        self._handler: Any = None
        self._has_custom_logger = model._custom_logger
        try:
            assert model.env is not None
            self.checkpoint = self.store.newest()
            if self.checkpoint is not None:
                check_continues(model, self.checkpoint, start)
            start_recording(model.env)
            # An episode that has begun was not recorded
            model._last_obs = None
        except BaseException:
            self.store.close()
            raise

    def __enter__(self) -> "CheckpointedRun":
        if threading.current_thread() is threading.main_thread():
            self._handler = signal.signal(signal.SIGTERM, self._terminate)
        self._keep_log_folder()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None and self._callback is not None and not self._is_over:
                self._write(is_finished=self.model.num_timesteps < self.model._total_timesteps)
        finally:
            self.model._custom_logger = self._has_custom_logger
            if self._handler is not None:
                signal.signal(signal.SIGTERM, self._handler)
            for env in self._environments():
                stop_recording(env)
            self.store.close()
        if kind is None and self._is_terminated:
            raise SystemExit(TERMINATED)

    def _terminate(self, number: int, frame: Any) -> None:
        self._is_terminated = True

    def _environments(self) -> list[Any]:
        return [self.model.env, *(evaluation_environments(self._callback) if self._callback is not None else ())]

    def _keep_log_folder(self) -> None:
        """TensorBoard's rows go on in the folder of the run's first call, without those after the checkpoint."""
        model = self.model
        if self.checkpoint is None or model.tensorboard_log is None or model._custom_logger:
            return
        folder, sizes = log_folder(self.checkpoint)
        if folder is not None:
            cut_events(folder, sizes)
            model._logger = configure(str(folder), ["stdout", "tensorboard"] if model.verbose >= 1 else ["tensorboard"])
            # SB3 would take a new folder
            model._custom_logger = True

    def visit(self, callback: BaseCallback) -> bool:
        """
        Between two rollouts, when everything is stored and every update done: go on from a checkpoint, or write one if it is
        due.

        :param callback: The callbacks of the run
        :return: Whether the run goes on
        :raises SystemExit: after SIGTERM, with the exit code that a shell gives for it
        """
        if self._callback is None:
            self._callback = callback
            for env in self._environments():
                start_recording(env)
            if self.checkpoint is None:
                # Before anything is lost, this shows whether everything can be written
                self._write()
            else:
                began = time.monotonic()
                try:
                    put_back(self.model, callback, self.checkpoint)
                except FileError as error:
                    raise explain(self.checkpoint.folder, error) from error
                self._schedule(began)
                self._is_over = self.checkpoint.about["is_finished"] or self.model.num_timesteps >= self.model._total_timesteps
                if self.model.verbose >= 1:
                    print(f"Going on at step {self.model.num_timesteps}, from {self.checkpoint.folder}")
                if self._is_over:
                    return False
        elif self._is_terminated or time.monotonic() >= self._due:
            self._write_or_warn()
        if self._is_terminated:
            raise SystemExit(TERMINATED)
        return True

    def _write_or_warn(self) -> None:
        began = time.monotonic()
        try:
            self._write()
        except OSError as error:
            warnings.warn(
                f"A checkpoint could not be written, and learning goes on. The one before is unchanged. {error}", stacklevel=4
            )
            self._schedule(began)

    def _write(self, is_finished: bool = False) -> None:
        began = time.monotonic()
        assert self._callback is not None
        try:
            snapshot = take_snapshot(self.model, self._callback, is_finished)
        except TypeError as error:
            if not self.store.folders():  # nothing is lost yet
                raise
            warnings.warn(
                f"A checkpoint is left out, since a value in the run cannot be written. The one before is unchanged. {error}",
                stacklevel=4,
            )
            self._schedule(began)
            return
        self.store.write(self.model.num_timesteps, self.model.save, snapshot.state, snapshot.arrays, snapshot.about)
        self._schedule(began)

    def _schedule(self, began: float) -> None:
        """
        Choose when the next checkpoint is due. One that takes longer than the one before is made up for afterwards.

        :param began: When the last one began to be written or read
        """
        ended = time.monotonic()
        if self._began is None:
            self._began = ended
        else:
            self._spent += ended - began
        self._due = max(ended, self._began + PERIOD * self._spent) + PERIOD * (ended - began)
