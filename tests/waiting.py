"""Waiting for what other processes and threads do."""

import time
from collections.abc import Callable

# Far above what a test needs on a busy machine, far below what would pass for a hang
MAX_SECONDS = 120


def wait_until(condition: Callable[[], object], seconds: float = MAX_SECONDS) -> None:
    """Return as soon as the condition holds, and let the test fail if it does not hold in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"it did not happen within {seconds} seconds"
        time.sleep(0.05)
