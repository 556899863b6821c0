"""Which losses are compiled, and when they take over."""

import time
from typing import Any

from stable_baselines3.common.policies import BasePolicy

from sb3_savo.acceleration.ahead_of_time import AheadOfTimeCompiler
from sb3_savo.acceleration.compiled_loss import CompiledLoss, Loss
from sb3_savo.acceleration.just_in_time import compile_just_in_time
from sb3_savo.networks.parameter_vector import ParameterVector

# Gradient steps of a call of ``learn`` that are computed without compilation, while compilers work. It is a number and not a
# time, so that a run can be repeated: compiled losses round differently.
EAGER_STEPS = 50


class CompiledLosses:
    """
    A policy's compiled losses, in one call of ``learn``. The first gradient steps are computed without them. Meanwhile they
    are compiled side by side, and then they take over together. A loss that is first needed later is waited for at once. A
    copy compiles anew.

    :param policy: The policy, on its device
    :param vectors: The vectors that hold the policy's parameters
    :param max_norm: Largest norm of a gradient; None for no limit
    :param verbose: 1 to print when losses are waited for and take over
    """

    def __init__(self, policy: BasePolicy, vectors: list[ParameterVector], max_norm: float | None, verbose: int = 0):
        self.policy = policy
        self.vectors = vectors
        self.max_norm = max_norm
        self.verbose = verbose
        self.losses: dict[tuple[str, int], CompiledLoss] = {}
        self._compiler: AheadOfTimeCompiler | None = None
        # Those that are still to take over, and when the first of them began to be compiled
        self._unfinished: dict[tuple[str, int], CompiledLoss] = {}
        self._began = 0.0

    def find(
        self, key: tuple[str, int], learner: ParameterVector, loss_function: Loss, args: tuple[Any, ...], gradient_step: int
    ) -> CompiledLoss | None:
        """
        :param key: The name of a loss, and the size of the batch
        :param learner: The vector that gets the gradient
        :param loss_function: The loss
        :param args: Its arguments
        :param gradient_step: The number of this gradient step, from 1
        :return: The compiled loss; None in the first gradient steps, in which its compilation begins
        :raises RuntimeError: if a loss cannot be compiled
        """
        if key not in self.losses and key not in self._unfinished:
            self._begin(key, learner, loss_function, args)
        if gradient_step <= EAGER_STEPS:
            return None
        if self._unfinished:
            self._finish(gradient_step)
        return self.losses[key]

    def _begin(self, key: tuple[str, int], learner: ParameterVector, loss_function: Loss, args: tuple[Any, ...]) -> None:
        if not self._unfinished:
            self._began = time.perf_counter()
        begin = compile_just_in_time
        if self.policy.device.type == "cpu":
            self._compiler = self._compiler or AheadOfTimeCompiler()
            begin = self._compiler.begin
        self._unfinished[key] = CompiledLoss(self.policy, self.vectors, learner, loss_function, self.max_norm, args, begin)

    def _finish(self, gradient_step: int) -> None:
        if self.verbose >= 1:
            names = ", ".join(name for name, _ in self._unfinished)
            print(f"Gradient step {gradient_step} waits for the compiled losses ({names})", flush=True)
        for loss in self._unfinished.values():
            loss.finish()
        self.losses |= self._unfinished
        self.stop()
        if self.verbose >= 1:
            print(f"They take over, {time.perf_counter() - self._began:.0f} s after their compilation began", flush=True)

    def stop(self) -> None:
        """End the compilation of losses that have not taken over."""
        self._unfinished.clear()
        if self._compiler is not None:
            self._compiler.close()
            self._compiler = None

    def __reduce__(self) -> tuple[type["CompiledLosses"], tuple[Any, ...]]:
        return CompiledLosses, (self.policy, self.vectors, self.max_norm, self.verbose)
