"""The number of threads that NumPy's matrix products use."""

from collections.abc import Callable
from functools import cache

import numpy as np
from threadpoolctl import LibController, ThreadpoolController


@cache
def openblas() -> list[LibController]:
    """:return: The loaded OpenBLAS libraries, which may run NumPy's products on several threads"""
    return ThreadpoolController().select(internal_api="openblas").lib_controllers


def on_one_thread(function: Callable[..., np.ndarray], *args: np.ndarray) -> np.ndarray:
    """
    Idle OpenBLAS threads spin and would slow torch's threads down in the next gradient step, so they are not woken up.

    :param function: A function that computes products in NumPy
    :param args: Its arguments
    :return: Its result, computed on this thread alone
    """
    # threadpoolctl's own contexts take longer than most of the products
    before = [library.get_num_threads() for library in openblas()]
    for library in openblas():
        library.set_num_threads(1)
    try:
        return function(*args)
    finally:
        for library, n_threads in zip(openblas(), before, strict=True):
            library.set_num_threads(n_threads)
