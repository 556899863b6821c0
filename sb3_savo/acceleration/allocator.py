"""Keep the memory that one gradient step frees for the next one."""

import ctypes
import os
import platform
import sys

# Parameters of glibc's mallopt
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3

KEPT_BYTES = 2**29
GROWTH_BYTES = 2**26
LARGEST_BYTES = 2**25  # the most that glibc allows


def keep_freed_memory() -> bool:
    """
    Let glibc keep up to 512 MiB of freed memory. By default it returns large blocks to the operating system, and every
    gradient step then pays thousands of page faults.

    Does nothing where the environment sets glibc's own variables (``MALLOC_TRIM_THRESHOLD_``, ``MALLOC_TOP_PAD_``,
    ``MALLOC_MMAP_THRESHOLD_``, ``GLIBC_TUNABLES``), or under another allocator's C library.

    :return: Whether the settings were changed
    """
    is_set = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc" or is_set:
        return False
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_THRESHOLD, LARGEST_BYTES)
    libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
    libc.mallopt(M_TOP_PAD, GROWTH_BYTES)
    return True
