"""A ``SubprocVecEnv`` whose workers cannot fail in silence."""

import atexit
import faulthandler
import math
import multiprocessing as mp
import os
import signal
import tempfile
import threading
import time
import traceback
import weakref
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import SubprocVecEnv
from stable_baselines3.common.vec_env.base_vec_env import CloudpickleWrapper, VecEnv
from stable_baselines3.common.vec_env.subproc_vec_env import _worker

from sb3_savo.arguments import check_number, is_number

# The environment variable with the default of ``timeout``
TIMEOUT_VARIABLE = "SB3_SAVO_WORKER_TIMEOUT"
# How long a worker with a processor of its own may take to import its libraries and to make its environment
STARTUP_SECONDS = 120.0
# How long ``close`` waits for the workers before it kills them
CLOSE_SECONDS = 3.0
# Whether workers are made by forks
FORKS = "fork" in mp.get_all_start_methods()

# All that are not closed yet
OPEN: "weakref.WeakSet[WatchedSubprocVecEnv]" = weakref.WeakSet()


class WorkerError(RuntimeError):
    """
    A worker of :class:`WatchedSubprocVecEnv` has raised an error, died, stopped answering, or returned an observation of the
    wrong shape, a reward that is no number, or an end of an episode that is neither True nor False.
    """


class Failure(NamedTuple):
    """What a worker sends in place of an answer."""

    traceback: str


def watched_worker(remote: Connection, parent_remote: Connection, env_fn: CloudpickleWrapper, stack_file: str) -> None:
    """
    The worker process: SB3's own, which reports its error and ends with its parent.

    It does not end by SIGTERM. Schedulers send SIGTERM to the processes of a program together, and the parent needs the worker
    to write a last checkpoint.

    :param remote: The worker's end of the pipe
    :param parent_remote: The other end
    :param env_fn: The function that makes the environment
    :param stack_file: Where to write the stack when the parent asks for it
    """
    # A function and not SIG_IGN, which programs that the environment starts would inherit
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    threading.Thread(target=exit_with_parent, daemon=True).start()
    try:
        with open(stack_file, "w") as stack:
            if hasattr(faulthandler, "register"):
                faulthandler.register(signal.SIGUSR1, stack)
            _worker(remote, parent_remote, env_fn)
    except Exception:
        remote.send(Failure(traceback.format_exc()))


def exit_with_parent() -> None:
    """Wait until the parent process has ended, however it ended, and end this process."""
    parent = mp.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def has_ended(process: BaseProcess) -> bool:
    """
    :param process: A worker
    :return: Whether it has ended. Where its fork server has ended before it, ``is_alive`` cannot know.
    """
    if process.is_alive():
        return False
    if not FORKS:
        return True
    try:
        os.kill(process.pid, 0)  # type: ignore[arg-type]
    except ProcessLookupError:
        return True
    return False


def kill(process: BaseProcess) -> None:
    """
    :param process: A worker that has not ended
    """
    if process.is_alive():
        process.kill()
    else:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)  # type: ignore[arg-type]


class WatchedConnection:
    """
    The parent's end of the pipe to a worker; an answer that does not come is an error.

    :param connection: The pipe
    :param process: The worker
    :param index: Its number
    :param timeout: Longest time that an answer may take, in seconds
    :param stack_file: Where the worker writes its stack
    """

    def __init__(self, connection: Connection, process: BaseProcess, index: int, timeout: float, stack_file: str):
        self.connection = connection
        self.process = process
        self.index = index
        self.timeout = timeout
        self.stack_file = stack_file
        # None until the worker has told it
        self.observation_space: spaces.Space | None = None
        self._command = ""

    def send(self, message: Any) -> None:
        """
        :param message: The message
        :raises WorkerError: if the worker has ended
        """
        self._command = message[0]
        try:
            self.connection.send(message)
        except OSError:
            # Its last message may say why it has ended
            if isinstance(last := self._last_answer(), Failure):
                raise self._error(f"raised an error:\n{last.traceback}") from None
            raise self._error(self._death()) from None

    def recv(self) -> Any:
        """
        :return: The worker's answer
        :raises WorkerError: if the worker raises an error, ends, does not answer in time or gives an observation of another
            shape than its space has, a reward that is no number, or an end that is neither True nor False
        """
        ready = wait([self.connection, self.process.sentinel], self.timeout)
        if self.connection not in ready and ready and not has_ended(self.process):
            ready = wait([self.connection], self.timeout)  # its fork server has ended
        if not ready:
            raise self._error(
                f"has not answered for {self.timeout:g} seconds. A slow environment needs a larger timeout=, or, where the RL "
                f"Zoo makes the workers, {TIMEOUT_VARIABLE}=SECONDS before its command. {self._stack()}"
            )
        answer = self._last_answer()
        if isinstance(answer, Failure):
            raise self._error(f"raised an error:\n{answer.traceback}")
        if answer is NO_ANSWER:
            raise self._error(self._death())
        if self.observation_space is not None and self._command in ("step", "reset"):
            self._check_answer(answer)
        return answer

    def _check_answer(self, answer: Any) -> None:
        is_last = False
        if self._command == "step":
            _, reward, is_last, *_ = answer
            if not is_number(reward):
                raise self._error(f"has returned the reward {reward!r}: it must be a number.")
            if not isinstance(is_last, (bool, np.bool_)):
                raise self._error(f"has returned terminated or truncated={is_last!r}: both must be True or False.")
        for observation in (answer[0], answer[3]["terminal_observation"]) if is_last else (answer[0],):
            if difference := shape_difference(observation, self.observation_space):
                raise self._error(f"has returned an observation that does not fit its space: {difference}")

    def close(self) -> None:
        self.connection.close()

    def _last_answer(self) -> Any:
        try:
            return self.connection.recv() if self.connection.poll() else NO_ANSWER
        except (EOFError, OSError):
            return NO_ANSWER

    def _death(self) -> str:
        self.process.join(1.0)
        code = self.process.exitcode
        how = f"by signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"with exit code {code}"
        return f"has ended {how}, without an error of its own. A worker that the system kills may have needed too much memory."

    def _stack(self) -> str:
        if not hasattr(faulthandler, "register") or self.process.pid is None or not Path(self.stack_file).exists():
            return ""
        os.kill(self.process.pid, signal.SIGUSR1)
        time.sleep(0.3)
        return f"It is here:\n{Path(self.stack_file).read_text()}"

    def _error(self, what: str) -> WorkerError:
        return WorkerError(f"The environment in worker {self.index} {what}")


NO_ANSWER = object()


def shape_difference(observation: Any, space: spaces.Space | None, name: str = "its") -> str | None:
    """
    :param observation: What an environment has returned
    :param space: Its observation space
    :param name: How to call the observation in the message
    :return: In what the shapes differ; None if they do not
    """
    if isinstance(space, spaces.Dict):
        parts: Any = space.spaces.items()
    elif isinstance(space, spaces.Tuple):
        parts = enumerate(space.spaces)
    elif space is None or space.shape is None or np.shape(observation) == space.shape:
        return None
    else:
        return f"{name} shape is {np.shape(observation)}, and must be {space.shape}."
    for key, part in parts:
        try:
            value = observation[key]
        except (LookupError, TypeError):
            return f"it has no entry {key!r}."
        if difference := shape_difference(value, part, f"entry {key!r}: its"):
            return difference
    return None


def close_at_exit() -> None:
    """
    Close what this process has left open. ``multiprocessing`` would wait without an end for workers that SIGTERM does not end;
    it has imported its own function for the exit before, so this one is called first.
    """
    for env in list(OPEN):
        if env._creator == os.getpid():
            env.close()


def default_timeout() -> float:
    """
    :return: The longest time that an answer may take, in seconds
    :raises ValueError: if the environment variable is no number above 0
    """
    text = os.environ.get(TIMEOUT_VARIABLE, "10")
    try:
        timeout = float(text)
    except ValueError:
        timeout = 0.0
    if not 0 < timeout < math.inf:
        raise ValueError(f"{TIMEOUT_VARIABLE}={text!r} must be a number of seconds above 0.")
    return timeout


class WatchedSubprocVecEnv(SubprocVecEnv):
    """
    SB3's ``SubprocVecEnv``, which fails loudly: where a worker raises an error, dies, hangs or returns an observation of the
    wrong shape, a reward that is no number, or an end that is neither True nor False, the call raises a :class:`WorkerError`
    that names the worker and shows its traceback. :meth:`close` returns within five seconds. The workers end when their parent
    does, even if it is killed, and not by SIGTERM: a parent that gets SIGTERM too can write a last checkpoint.

    :param env_fns: Environments to run in subprocesses
    :param start_method: How to start the subprocesses, one of ``multiprocessing.get_all_start_methods()``; by default
        ``forkserver`` where there is one, else ``spawn``
    :param timeout: The longest time that a reset, a step or a call may take, in seconds, above 0; None for the environment
        variable SB3_SAVO_WORKER_TIMEOUT, else 10. Making the environments may take two minutes, or two minutes for each worker
        per processor.
    :raises ValueError: if ``timeout`` is out of its range
    :raises WorkerError: if an environment cannot be made
    """

    def __init__(self, env_fns: list[Callable[[], gym.Env]], start_method: str | None = None, timeout: float | None = None):
        if timeout is None:
            timeout = default_timeout()
        check_number("timeout", timeout, above=True)
        if start_method is None:
            start_method = "forkserver" if "forkserver" in mp.get_all_start_methods() else "spawn"
        context: Any = mp.get_context(start_method)
        # The workers start side by side, and share the processors
        startup_timeout = max(timeout, STARTUP_SECONDS * max(1.0, len(env_fns) / (os.cpu_count() or 1)))
        self.waiting = False
        self.closed = False
        self.processes: list[Any] = []
        self.remotes: list[WatchedConnection] = []  # type: ignore[assignment]
        self._stack_folder = tempfile.TemporaryDirectory(prefix="sb3_savo_workers_", ignore_cleanup_errors=True)
        self._creator = os.getpid()
        OPEN.add(self)
        try:
            for index, env_fn in enumerate(env_fns):
                remote, work_remote = context.Pipe()
                stack_file = str(Path(self._stack_folder.name, f"{index}.txt"))
                args = (work_remote, remote, CloudpickleWrapper(env_fn), stack_file)
                process = context.Process(target=watched_worker, args=args, daemon=True)
                process.start()
                work_remote.close()
                self.processes.append(process)
                self.remotes.append(WatchedConnection(remote, process, index, startup_timeout, stack_file))
            for connection in self.remotes:
                connection.send(("get_spaces", None))
            answers = [connection.recv() for connection in self.remotes]
            for connection, (observation_space, _) in zip(self.remotes, answers, strict=True):
                connection.timeout = timeout
                connection.observation_space = observation_space
            VecEnv.__init__(self, len(env_fns), *answers[0])
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the workers; those that do not end by themselves within three seconds are killed."""
        if self.closed:
            return
        self.closed = True
        OPEN.discard(self)
        deadline = time.monotonic() + CLOSE_SECONDS
        for remote in self.remotes:
            try:
                remote.send(("close", None))
            except WorkerError:
                pass
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))
            while not has_ended(process) and time.monotonic() < deadline:
                time.sleep(0.01)
            if not has_ended(process):
                kill(process)
                process.join(1.0)
        for remote in self.remotes:
            remote.close()
        self._stack_folder.cleanup()


atexit.register(close_at_exit)
