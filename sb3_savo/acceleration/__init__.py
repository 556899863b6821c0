"""
Everything that is here for speed alone. This module is the only door: nothing outside this folder imports anything else of it.

:class:`CompiledLosses`
    The losses and their gradients, compiled ahead of time, while training goes on. An update takes 0.28 to 0.73 of the eager
    time. Shown by ``python -m benchmarks.speed --parts update``, and how long they take by ``--parts compilation``; switched
    off by ``compile=False``; kept equal by ``tests/acceleration/test_compiled_loss.py``.
:func:`numpy_policy`
    ``predict`` and data collection in NumPy, directly on torch's parameters: for three actors and one observation in a quarter
    of torch's time. In a discrete space torch still finds the items. Shown by ``python -m benchmarks.acting`` and
    ``benchmarks.items``; switched off by overriding a method that is marked :func:`has_numpy_twin`; kept equal by
    ``tests/acceleration/test_numpy_policy.py``.
    The compiler of the losses does not replace it. A compiled ``predict`` takes 0.57 of NumPy's time (16 observations: 0.67),
    but compiling takes 28 seconds for every number of observations, which a model that was just loaded cannot wait for.
:func:`keep_freed_memory`
    Fewer page faults in the update of large networks. Shown by ``python -m benchmarks.speed --parts update``; switched off by
    glibc's own variable ``MALLOC_TRIM_THRESHOLD_`` in the environment; it changes no value.
:func:`sample_batch` and :func:`upload`
    Batches for a GPU, for which neither the GPU nor Python waits. They have never run on a GPU, and change nothing on the CPU;
    kept equal by ``tests/acceleration/test_uploads.py``, which also tests that a gradient step asks a GPU for no value.
:func:`has_bfloat16_hardware`
    Where ``precision="medium"`` and ``"auto"`` gain time. Shown by ``python -m benchmarks.speed --parts update``; switched off
    by ``precision="highest"``.

torch's private modules are imported when the first loss is compiled, not before.
"""

from sb3_savo.acceleration.allocator import keep_freed_memory
from sb3_savo.acceleration.bfloat16 import has_bfloat16_hardware
from sb3_savo.acceleration.compiled_losses import CompiledLosses
from sb3_savo.acceleration.numpy_policy import has_numpy_twin, numpy_policy
from sb3_savo.acceleration.uploads import sample_batch, upload

__all__ = [
    "CompiledLosses",
    "has_bfloat16_hardware",
    "has_numpy_twin",
    "keep_freed_memory",
    "numpy_policy",
    "sample_batch",
    "upload",
]
