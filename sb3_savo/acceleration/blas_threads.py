"""NumPy's matrix products, and the threads of OpenBLAS in which they may run."""

from collections.abc import Callable
from functools import cache

import numpy as np
from threadpoolctl import LibController, ThreadpoolController


@cache
def openblas() -> list[LibController]:
    """:return: The libraries in which NumPy's products may run on several threads"""
    return ThreadpoolController().select(internal_api="openblas").lib_controllers


def on_one_thread(function: Callable[..., np.ndarray], *args: np.ndarray) -> np.ndarray:
    """
    :param function: What has products in NumPy
    :param args: Its arguments
    :return: What it returns, computed on this thread alone: OpenBLAS's others, once awake, keep the processors busy from which
        torch's threads are to learn next
    """
    # (Not by threadpoolctl's own contexts, which take longer than most of the products)
    before = [library.get_num_threads() for library in openblas()]
    for library in openblas():
        library.set_num_threads(1)
    try:
        return function(*args)
    finally:
        for library, n_threads in zip(openblas(), before, strict=True):
            library.set_num_threads(n_threads)
