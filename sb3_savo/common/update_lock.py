"""Predictions while another thread learns."""

import threading
from typing import Any


class UpdateLock:
    """
    Held by a gradient step and by a prediction, so that no prediction sees networks that are half updated, and none changes
    the mode of a network (training or evaluation) during a gradient step.

    Threads get the lock in turn: a thread that releases the lock and takes it again lets a waiting thread go first. A thread
    that holds the lock may take it again. A copy is a new lock.
    """

    def __init__(self) -> None:
        self._queue = threading.Lock()
        self._lock = threading.Lock()
        self._owner: int | None = None
        self._depth = 0

    def __enter__(self) -> None:
        if self._owner != threading.get_ident():
            # The first of the waiting threads holds the queue until it has the lock
            with self._queue:
                self._lock.acquire()
            self._owner = threading.get_ident()
        self._depth += 1

    def __exit__(self, *args: Any) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._owner = None
            self._lock.release()

    def __reduce__(self) -> tuple[type["UpdateLock"], tuple[()]]:
        return UpdateLock, ()
