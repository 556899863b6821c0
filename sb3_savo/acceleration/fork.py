"""A function called in a fork of this process: what it imports and leaves behind takes no memory here."""

import os
import signal
import sys
from collections.abc import Callable
from multiprocessing import Pipe
from typing import TypeVar

import torch as th

T = TypeVar("T")

# A fork may hang on a lock that another thread of this process held (seconds until then)
PATIENCE = 600.0


def forked(function: Callable[[], T]) -> T:
    """
    Where processes fork safely (on Linux), call in a fork; elsewhere, here.

    :param function: It uses no GPU; what it changes, it changes in the fork
    :return: What it returns, which is pickled on the way
    :raises RuntimeError: if it raises, ends or hangs there
    """
    if not sys.platform.startswith("linux"):
        return function()
    reader, writer = Pipe(duplex=False)
    child = os.fork()
    if child == 0:
        try:
            # The threads that compute are not in the fork
            th.set_num_threads(1)
            writer.send((function(), None))
        except BaseException as error:
            writer.send((None, f"{type(error).__name__}: {error}"))
        finally:
            os._exit(0)
    writer.close()
    try:
        if not reader.poll(PATIENCE):
            raise RuntimeError(f"a forked process did not answer within {PATIENCE:.0f} seconds")
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
