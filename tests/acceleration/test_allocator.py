"""Freed memory is kept."""

import os
import platform
import subprocess
import sys

import pytest


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
@pytest.mark.parametrize("setting", [None, "MALLOC_MMAP_THRESHOLD_"])
def test_freed_memory_is_kept(setting):
    """Once the pages are there, large tensors have no more faults, unless the environment sets the allocator's options."""
    script = """
import resource, torch
from sb3_savo.acceleration import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        tensors = [torch.ones(2**18 * n) for n in (1, 5, 9, 13, 17)]
        del tensors
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_freed_memory()
faults()
print(faults())
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    if setting is not None:
        environment[setting] = str(2**17)
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert (int(done.stdout) < 1_000) == (setting is None)
