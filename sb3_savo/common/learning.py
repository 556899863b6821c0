"""What surrounds the update: ``learn``, with its checks and checkpoints; ``load``, ``save`` and ``set_env``."""

import io
import os
import pathlib
import warnings
from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Literal, TypeVar

import torch as th
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, TrainFrequencyUnit
from stable_baselines3.common.utils import FloatSchedule, get_system_info
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from sb3_savo.acceleration import has_bfloat16_hardware, keep_freed_memory
from sb3_savo.arguments import InheritedArguments, check_device, check_flag
from sb3_savo.common.before_learning import (
    check_evaluation,
    check_learn_arguments,
    warn_of_empty_replay_buffer,
    warn_of_no_gradient_step,
)
from sb3_savo.common.buffers import Batch
from sb3_savo.common.checkpoints import CheckpointedRun
from sb3_savo.common.collection import CollectingAlgorithm
from sb3_savo.common.environments import check_spaces_match, make_env, watching_last_observations
from sb3_savo.common.loading import check_replay_buffer
from sb3_savo.common.saving import load_model, load_replay_buffer, save_model, save_replay_buffer
from sb3_savo.common.transition_checks import check_last_observations
from sb3_savo.common.updater import Precision, Updater

SelfLearningAlgorithm = TypeVar("SelfLearningAlgorithm", bound="LearningAlgorithm")

# Compilation takes up to a minute, which pays from this number of gradient steps on
MIN_STEPS_TO_COMPILE = 20_000


class LearningAlgorithm(InheritedArguments, CollectingAlgorithm):
    """Off-policy algorithm with all methods of SB3's that users call, and without the update itself."""

    compile: bool | Literal["auto"]
    precision: Precision
    max_grad_norm: float | None
    qf_lr_schedule: FloatSchedule | None
    updater: Updater
    # Gradient steps before this call of ``learn``. A run that goes on has those of its first call.
    _n_updates_at_start: int = 0
    # The batches of a call of :meth:`train` that has not ended; a generator, of which there is no copy
    _open_batches: Generator[Batch] | None = None

    def _setup_learn(self, total_timesteps: int, *args: Any, **kwargs: Any) -> Any:
        total_timesteps, callback = super()._setup_learn(total_timesteps, *args, **kwargs)
        if keep_freed_memory() and self.verbose >= 1:
            print("glibc keeps up to 512 MiB of freed memory for the next updates, unless MALLOC_TRIM_THRESHOLD_ is set")
        if not issubclass(self.policy.optimizer_class, th.optim.SGD):
            self._check_learning_rates()
        n_steps = self._gradient_steps_until(total_timesteps)
        is_compiled = self.compile is True or (self.compile == "auto" and n_steps >= MIN_STEPS_TO_COMPILE)
        # A new one compiles again, since settings may have changed since the last call of ``learn``
        self.updater = Updater(self.policy, self.max_grad_norm, self._uses_bfloat16, is_compiled, self.verbose)
        self._n_updates_at_start = self._n_updates
        self._report_precision()
        if is_compiled and self.verbose >= 1:
            print(f"Compiling the losses (compile={self.compile!r}, {n_steps:.0f} gradient steps) while training goes on")
        return total_timesteps, callback

    @property
    def _uses_bfloat16(self) -> bool:
        """Whether ``precision`` asks for bfloat16 and the device has hardware for it."""
        return self.precision != "highest" and has_bfloat16_hardware(self.device)

    def _report_precision(self) -> None:
        if self.precision == "medium" and not self._uses_bfloat16:
            warnings.warn(
                f"precision='medium': this device ({self.device}) has no hardware for bfloat16, in which products would take "
                "tens of times as long, so everything is computed in float32, as by precision='highest'. precision='auto' "
                "chooses without a warning.",
                stacklevel=4,
            )
        if self.precision == "auto" and self.verbose >= 1:
            reason = "has hardware for it" if self._uses_bfloat16 else "has no hardware for bfloat16"
            chosen = "large layers in bfloat16" if self._uses_bfloat16 else "everything in float32"
            print(f"precision='auto' computes {chosen}: this device ({self.device}) {reason}")

    def _check_learning_rates(self) -> None:
        for name, schedule in (("learning_rate", self.lr_schedule), ("qf_learning_rate", self.qf_lr_schedule)):
            if schedule is not None and self._plausible_range is not None:
                rate = schedule(self._current_progress_remaining)
                self._plausible_range.check_learning_rate(name, rate, self.num_timesteps)

    def _gradient_steps_until(self, total_timesteps: int) -> float:
        """
        :param total_timesteps: Environment steps at the end
        :return: Number of gradient steps until then; a lower bound where episodes decide
        """
        steps = max(total_timesteps - max(self.num_timesteps, self.learning_starts), 0)
        if self.gradient_steps < 0:
            return steps
        if self.train_freq.unit == TrainFrequencyUnit.EPISODE:  # type: ignore[union-attr]
            return 0
        return steps * self.gradient_steps / (self.train_freq.frequency * self.n_envs)  # type: ignore[union-attr]

    def learn(
        self: SelfLearningAlgorithm,
        total_timesteps: float,
        callback: MaybeCallback = None,
        log_interval: int | None = 4,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
        checkpoints: str | os.PathLike[str] | None = None,
    ) -> SelfLearningAlgorithm:
        """
        Learn; with ``checkpoints``, start a run or continue it. The same script, run again after whatever ended it, goes on
        from the last checkpoint: the result is bit for bit that of a run without a break, on the same machine with the same
        versions. The run is written when it begins, whenever 150 times the duration of the last checkpoint have passed, at
        SIGTERM (the process then ends with exit code 143), and at its end. A finished run does nothing.

        :param total_timesteps: The total number of samples (env steps) to train on; a whole number, 3e6 as well as 3000000
        :param callback: callback(s) called at every step with state of the algorithm.
        :param log_interval: number of episodes between two logs; None for none
        :param tb_log_name: the name of the run for TensorBoard logging; the algorithm's by default
        :param reset_num_timesteps: whether or not to reset the current timestep number (used in logging)
        :param progress_bar: Display a progress bar using tqdm and rich.
        :param checkpoints: A folder for the checkpoints of this run, which may be missing; None for none. Environments are
            restored by repeating the actions since their last reset, and are reset when the run begins.
        :return: the trained model
        :raises TypeError: if an argument has the wrong type, or a callback or the replay buffer cannot be written
        :raises ValueError: if one is out of its range, the model has no environment, or is to be evaluated in another one; if
            the checkpoints are damaged, of another run, or in use, or an environment does not repeat what it did
        """
        check_learn_arguments(
            total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar, checkpoints
        )
        if self.env is None:
            raise ValueError(
                f"env=None: learn needs an environment: {type(self).__name__}.load(path, env=env), or model.set_env(env) "
                "gives the model one."
            )
        check_evaluation(callback, self)
        start = 0 if reset_num_timesteps else self.num_timesteps
        run = nullcontext() if checkpoints is None else CheckpointedRun(self, checkpoints, start)
        watch: AbstractContextManager[None] = nullcontext()
        if self._vec_normalize_env is not None:
            check = partial(check_last_observations, self)
            watch = watching_last_observations(self._vec_normalize_env.venv, check)
        try:
            with watch, run as self._checkpointed_run:
                if self._checkpointed_run is None or self._checkpointed_run.checkpoint is None:
                    warn_of_no_gradient_step(self, int(total_timesteps), reset_num_timesteps)
                    warn_of_empty_replay_buffer(self, reset_num_timesteps)
                return super().learn(
                    total_timesteps=int(total_timesteps),
                    callback=callback,
                    log_interval=log_interval,  # type: ignore[arg-type]
                    tb_log_name=tb_log_name or type(self).__name__,
                    reset_num_timesteps=reset_num_timesteps,
                    progress_bar=progress_bar,
                )
        finally:
            self._checkpointed_run = None
            self.close_progress_bars()
            self.updater.stop_compiling()
            if self._open_batches is not None:  # an error in a gradient step leaves the lock taken
                self._open_batches.close()
                self._open_batches = None

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """
        :param env: The environment to learn in from now on
        :param force_reset: Whether it is reset before learning goes on
        :raises TypeError: if it is no environment
        :raises ValueError: if it has other spaces than the model, or another number of environments
        """
        name = type(self).__name__
        wrapped = self._wrap_env(make_env(env, self.verbose), self.verbose)
        check_spaces_match(wrapped, self.observation_space, self.action_space, name)
        if wrapped.num_envs != self.n_envs:
            raise ValueError(
                f"env: it has {wrapped.num_envs} environments, and the model is for {self.n_envs}: it must have as many, or "
                f"be given to {name}.load(path, env=env)."
            )
        super().set_env(wrapped, force_reset)
        if isinstance(self.replay_buffer, HerReplayBuffer):  # which asks its environment for the rewards of other goals
            self.replay_buffer.env = self.env

    @classmethod
    def load(  # type: ignore[override]
        cls: type[SelfLearningAlgorithm],
        path: str | pathlib.Path | io.BufferedIOBase,
        env: GymEnv | str | None = None,
        device: th.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        allow_pickle: bool = False,
        **kwargs: Any,
    ) -> SelfLearningAlgorithm:
        """
        Load the model from a zip-file. Nothing that the file names is executed. What it holds and what the arguments change
        passes the checks of the constructor.

        :param path: path to the file (or a file-like) where to load the agent from
        :param env: the new environment to run the loaded model on (can be None if you only need prediction)
        :param device: Device on which the code should run.
        :param custom_objects: Dictionary of objects to replace upon loading, by the name of the attribute. ``{"action_space":
            env.action_space}`` lets a model act on other items than those of its training.
        :param print_system_info: Whether to print system info from the saved model and the current system info
        :param force_reset: Force call to ``reset()`` before training to avoid unexpected behavior.
        :param allow_pickle: Whether the file may execute code, as with SB3's ``load``. Needed for functions and classes of
            your own that were defined in the program itself; only for files of people you trust
        :param kwargs: Arguments of the constructor to change
        :return: new model instance with loaded parameters
        :raises FileNotFoundError: if there is no such file
        :raises TypeError: if an argument is unknown or of the wrong type, or another algorithm saved the file
        :raises ValueError: if an argument is out of its range, the environment's spaces are not the model's, or the file is
            damaged, incomplete, would execute code, or of another model
        """
        check_device("device", device)
        check_flag("allow_pickle", allow_pickle)
        if print_system_info:
            get_system_info()
        return load_model(cls, path, env, device, custom_objects, force_reset, allow_pickle, kwargs)  # type: ignore[arg-type]

    def save(
        self,
        path: str | pathlib.Path | io.BufferedIOBase,
        exclude: Iterable[str] | None = None,
        include: Iterable[str] | None = None,
    ) -> None:
        """
        Save the model in a zip, which is written aside and then takes the place of a former one: a kill or a full disk leaves
        that unchanged. SB3 and the RL Zoo can read it.

        :param path: path to the file where the rl agent should be saved
        :param exclude: name of parameters that should be excluded in addition to the default ones
        :param include: name of parameters that might be excluded but should be included anyway
        :raises OSError: if it cannot be written
        """
        save_model(self, path, exclude or (), include or ())  # type: ignore[arg-type]

    def save_replay_buffer(self, path: str | pathlib.Path | io.BufferedIOBase) -> None:
        """
        Save the replay buffer as arrays and JSON, without pickle, as :meth:`save` saves the model.

        :param path: Path to the file where the replay buffer should be saved
        :raises OSError: if it cannot be written
        :raises TypeError: if it is of a class that holds other things than arrays, numbers and spaces
        """
        save_replay_buffer(self, path)  # type: ignore[arg-type]

    def load_replay_buffer(
        self,
        path: str | pathlib.Path | io.BufferedIOBase,
        truncate_last_traj: bool = True,
        allow_pickle: bool = False,
    ) -> None:
        """
        Load a replay buffer, of :meth:`save_replay_buffer` or of SB3's algorithms, and execute nothing that the file names.

        :param path: Path to the file
        :param truncate_last_traj: With ``HerReplayBuffer``, whether the last trajectory counts as finished, so that learning
            goes on with a new one
        :param allow_pickle: Whether the file may execute code; only for files of people you trust
        :raises FileNotFoundError: if there is no such file
        :raises ValueError: if the file is damaged, would execute code, or is of another environment
        """
        check_flag("allow_pickle", allow_pickle)
        buffer = load_replay_buffer(self, path, truncate_last_traj, allow_pickle)  # type: ignore[arg-type]
        try:
            check_replay_buffer(buffer, self, self.n_candidates, self.has_memory)
        except ValueError as error:
            raise ValueError(f"{error} (path={str(path)!r})") from error
        self.replay_buffer = buffer
