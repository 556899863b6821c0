"""Whether torch records our code in order to export it, and whether it records a policy or a part of one."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch as th


class Recording(threading.local):
    """What this thread records. torch's compiler can read this kind of object, unlike a ``ContextVar``."""

    is_ours = False
    is_of_policy = False


RECORDING = Recording()


def is_exporting() -> bool:
    """:return: Whether this code runs in our export, in ``torch.export``, in an ONNX exporter or in ``torch.jit.trace``"""
    return RECORDING.is_ours or th.compiler.is_exporting() or th.jit.is_tracing()


def is_in_policy() -> bool:
    """:return: Whether this code runs inside :func:`in_policy`"""
    return RECORDING.is_of_policy


@contextmanager
def exporting() -> Iterator[None]:
    """What runs inside this context is recorded by our export, whichever of torch's recorders it uses."""
    RECORDING.is_ours = True
    try:
        yield
    finally:
        RECORDING.is_ours = False


@contextmanager
def in_policy() -> Iterator[None]:
    """Inside this context actors propose for a policy, which chooses between their proposals."""
    RECORDING.is_of_policy = True
    try:
        yield
    finally:
        RECORDING.is_of_policy = False
