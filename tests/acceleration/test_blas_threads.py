"""The number of threads of NumPy's matrix products, when several threads predict."""

import time

from sb3_savo.acceleration import blas_threads
from sb3_savo.acceleration.blas_threads import on_one_thread
from tests.test_threads import N_THREADS, in_threads


class Library:
    """An OpenBLAS that is slow to answer, so that threads meet."""

    def __init__(self):
        self.n_threads = 4

    def get_num_threads(self):
        n_threads = self.n_threads
        time.sleep(0.001)
        return n_threads

    def set_num_threads(self, n_threads):
        time.sleep(0.001)
        self.n_threads = n_threads


def test_openblas_keeps_its_threads(monkeypatch):
    """However many threads compute, and wherever they are interrupted."""
    library = Library()
    monkeypatch.setattr(blas_threads, "openblas", lambda: [library])
    inside = in_threads(lambda i: {on_one_thread(lambda: library.n_threads) for _ in range(20)})
    assert inside == [{1}] * N_THREADS and library.n_threads == 4
