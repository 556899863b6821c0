"""Run a function in a forked child process, so that its imports and allocations are freed when the child exits."""

import ctypes
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

import torch as th

T = TypeVar("T")

# Another thread may hold a lock during the fork. Python's own hooks (logging has one) then wait before the fork, and the child
# may wait after it. Such locks are soon released, so a second fork finds them free. All waits together take less than a
# minute: the two forks, and their two children.
FORK_SECONDS = 10.0
STALL_SECONDS = 15.0
# A child that uses less processor time in STALL_SECONDS waits for a lock, or asks for it again and again
STALL_PROCESSOR_SECONDS = 0.2
TIMEOUT_SECONDS = 600.0
PR_SET_PDEATHSIG = 1  # of Linux's prctl


class StalledError(RuntimeError):
    """A child waits for a lock that another thread held during the fork."""


def run_in_fork(function: Callable[[], T]) -> T:
    """
    Call a function in a fork on Linux, where forks are safe enough, and in this process elsewhere. If the child stalls, the
    function is called once more in another fork.

    (``multiprocessing.Process`` would not do: a daemonic process, such as a worker of ``multiprocessing.Pool`` in which
    somebody trains, may not start one.)

    :param function: A function that uses no GPU; its side effects stay in the fork
    :return: Its result, which is pickled on the way
    :raises RuntimeError: if the function raises an error, or its process ends, stalls or takes too long
    """
    if not sys.platform.startswith("linux"):
        return function()
    try:
        return _run_in_one_fork(function)
    except StalledError:
        return _run_in_one_fork(function)


def _run_in_one_fork(function: Callable[[], T]) -> T:
    reader, writer = Pipe(duplex=False)
    forked: Future[int] = Future()
    is_over = threading.Event()
    # In a thread of its own, since Python's hooks may wait for a lock without limit
    thread = threading.Thread(target=_fork, args=(function, writer, os.getpid(), forked, is_over), daemon=True)
    thread.start()
    try:
        try:
            child = forked.result(FORK_SECONDS)
        except TimeoutError:
            raise RuntimeError(f"a fork waited {FORK_SECONDS:.0f} seconds for a lock that another thread holds") from None
        writer.close()
        _wait(reader, child)
        value, failure = reader.recv()
    except EOFError:
        raise RuntimeError("a forked process ended without an answer") from None
    finally:
        is_over.set()
        if forked.done():
            thread.join()
        reader.close()
        writer.close()
    if failure is not None:
        raise RuntimeError(failure)
    return value


def _fork(function: Callable[[], T], writer: Connection, parent: int, forked: "Future[int]", is_over: threading.Event) -> None:
    """Fork, and outlive the child, since Linux kills it when the thread that forked ends."""
    try:
        with warnings.catch_warnings():
            # Python warns that a lock may be held; the time limits are the answer
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
    except BaseException as error:
        forked.set_exception(error)
        return
    if child == 0:
        if is_over.is_set():
            os._exit(0)
        _answer(function, writer, parent)
    forked.set_result(child)
    is_over.wait()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _answer(function: Callable[[], T], writer: Connection, parent: int) -> None:
    """The child's part: send the result or the error, and exit."""
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # no orphan when the parent is killed
        if os.getppid() != parent:  # it was killed before
            os._exit(0)
        th.set_num_threads(1)  # torch's worker threads do not survive a fork
        writer.send((function(), None))
    except BaseException as error:
        # Ours are RuntimeErrors, as is what :func:`run_in_fork` raises
        writer.send((None, str(error) if type(error) is RuntimeError else f"{type(error).__name__}: {error}"))
    finally:
        os._exit(0)


def _wait(reader: Connection, child: int) -> None:
    """
    :param reader: Where the child answers
    :param child: Its process
    :raises StalledError: if it hardly uses the processor
    :raises RuntimeError: if it takes too long
    """
    started = progressed = time.monotonic()
    used = 0.0
    while not reader.poll(1.0):
        now = time.monotonic()
        if (seconds := _processor_seconds(child)) >= used + STALL_PROCESSOR_SECONDS:
            used, progressed = seconds, now
        if now - progressed > STALL_SECONDS:
            raise StalledError(f"a forked process stalled for {STALL_SECONDS:.0f} seconds")
        if now - started > TIMEOUT_SECONDS:
            raise RuntimeError(f"a forked process did not answer within {TIMEOUT_SECONDS:.0f} seconds")


def _processor_seconds(process: int) -> float:
    """:return: The processor time that a process has used, in seconds"""
    # The fields follow the name, which may hold spaces but ends with the last parenthesis; see proc(5)
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
