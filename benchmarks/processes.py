"""Work in a process of its own, which may be killed at any moment."""

import os
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path


def in_process(work: Callable[[], str], folder: Path, kill_after: Callable[[], float] | None = None) -> str | None:
    """
    :param work: What to do in a process of its own
    :param folder: For the result
    :param kill_after: Waits, and returns, until the process is to be killed; None to let it end
    :return: The result; None if the process was killed before
    """
    result = folder / "result"
    result.unlink(missing_ok=True)
    pid = os.fork()
    if pid == 0:
        try:
            os.setpgrp()
            result.write_text(work())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    if kill_after is not None:
        seconds = kill_after()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and os.waitpid(pid, os.WNOHANG) == (0, 0):
            time.sleep(0.005)
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return result.read_text() if result.exists() else None
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass
    return result.read_text() if result.exists() else None
