"""Run a function in a forked child process, so that its imports and allocations are freed when the child exits."""

import ctypes
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

import torch as th

T = TypeVar("T")

# A child that uses no processor time for so long waits for a lock that another thread held during the fork
STALL_SECONDS = 30.0
TIMEOUT_SECONDS = 600.0
PR_SET_PDEATHSIG = 1  # of Linux's prctl


def run_in_fork(function: Callable[[], T]) -> T:
    """
    Call a function in a fork on Linux, where forks are safe enough, and in this process elsewhere.

    (``multiprocessing.Process`` would not do: a daemonic process, such as a worker of ``multiprocessing.Pool`` in which
    somebody trains, may not start one.)

    :param function: A function that uses no GPU; its side effects stay in the fork
    :return: Its result, which is pickled on the way
    :raises RuntimeError: if the function raises an error, or its process ends, stalls or takes too long
    """
    if not sys.platform.startswith("linux"):
        return function()
    reader, writer = Pipe(duplex=False)
    with warnings.catch_warnings():
        # Python warns that a lock may be held; the time limits below are the answer
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        _answer(function, writer)
    writer.close()
    try:
        _wait(reader, child)
        value, failure = reader.recv()
    except EOFError:
        raise RuntimeError("a forked process ended without an answer") from None
    finally:
        reader.close()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if failure is not None:
        raise RuntimeError(failure)
    return value


def _answer(function: Callable[[], T], writer: Connection) -> None:
    """The child's part: send the result or the error, and exit."""
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # no orphan when the parent is killed
        th.set_num_threads(1)  # torch's worker threads do not survive a fork
        writer.send((function(), None))
    except BaseException as error:
        writer.send((None, f"{type(error).__name__}: {error}"))
    finally:
        os._exit(0)


def _wait(reader: Connection, child: int) -> None:
    """
    :param reader: Where the child answers
    :param child: Its process
    :raises RuntimeError: if it stalls or takes too long
    """
    started = progressed = time.monotonic()
    used = 0
    while not reader.poll(1.0):
        now = time.monotonic()
        if (ticks := _processor_ticks(child)) > used:
            used, progressed = ticks, now
        if now - progressed > STALL_SECONDS:
            raise RuntimeError(f"a forked process stalled for {STALL_SECONDS:.0f} seconds")
        if now - started > TIMEOUT_SECONDS:
            raise RuntimeError(f"a forked process did not answer within {TIMEOUT_SECONDS:.0f} seconds")


def _processor_ticks(process: int) -> int:
    """:return: The processor time of a process, in clock ticks"""
    # The fields follow the name, which may hold spaces but ends with the last parenthesis; see proc(5)
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
