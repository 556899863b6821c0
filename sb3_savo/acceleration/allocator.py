"""Memory that one gradient step frees and the next one needs again."""

import ctypes
import os
import platform
import sys

# Parameters of glibc's mallopt
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3

KEPT_BYTES = 2**29
GROWTH_BYTES = 2**26
LARGEST_BYTES = 2**25  # the most that glibc allows


def keep_freed_memory() -> None:
    """
    Have glibc keep up to half a GiB of what is freed, where it would give it back to the operating system, to get it again
    with thousands of page faults at the next gradient step. It is left alone where the environment sets its options.
    """
    is_set = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc" or is_set:
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_THRESHOLD, LARGEST_BYTES)
    libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
    libc.mallopt(M_TOP_PAD, GROWTH_BYTES)
