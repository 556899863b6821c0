"""How NumPy's matrix products are computed: by which kernels, and on how many threads."""

import threading
from collections.abc import Callable
from functools import cache
from typing import TypeVar

import numpy as np
from threadpoolctl import LibController, ThreadpoolController

Result = TypeVar("Result")


@cache
def openblas() -> list[LibController]:
    """:return: The loaded OpenBLAS libraries, which may run NumPy's products on several threads"""
    return ThreadpoolController().select(internal_api="openblas").lib_controllers


@cache
def multiplies_small_matrices() -> bool:
    """:return: Whether NumPy's library is an OpenBLAS that has kernels of its own for small products: those for AVX-512"""
    return any(library.architecture in ("SkylakeX", "Cooperlake", "Sapphirerapids") for library in openblas())  # type: ignore[attr-defined]


class OneThread:
    """
    Inside this context, OpenBLAS uses one thread. Its idle threads spin and would slow torch's threads down in the next
    gradient step, so they are not woken up.

    OpenBLAS has one number of threads per process. So the first of several Python threads inside sets it to one, and the last
    to leave restores it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_inside = 0
        self._before: list[int] = []

    def __enter__(self) -> None:
        # threadpoolctl's own contexts take longer than most of the products
        with self._lock:
            if self._n_inside == 0:
                self._before = [library.get_num_threads() for library in openblas()]
                for library in openblas():
                    library.set_num_threads(1)
            self._n_inside += 1

    def __exit__(self, *args: object) -> None:
        with self._lock:
            self._n_inside -= 1
            if self._n_inside == 0:
                for library, n_threads in zip(openblas(), self._before, strict=True):
                    library.set_num_threads(n_threads)


ONE_THREAD = OneThread()


def on_one_thread(function: Callable[..., Result], *args: np.ndarray) -> Result:
    """
    :param function: A function that computes products in NumPy
    :param args: Its arguments
    :return: Its result, computed on this thread alone
    """
    with ONE_THREAD:
        return function(*args)
