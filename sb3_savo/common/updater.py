"""Gradient steps: one optimizer step of a network on its loss, eager or compiled, and the target networks that follow."""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch as th
from stable_baselines3.common.utils import get_parameters_by_name, polyak_update
from torch.autograd.profiler import record_function

from sb3_savo.acceleration import CompiledLosses
from sb3_savo.common.policies import MaximizerPolicy
from sb3_savo.networks.network import Network

Precision = Literal["highest", "medium", "auto"]


class Updater:
    """
    Updates a policy's networks. A loss function returns ``(loss, metrics)``, a scalar and a dictionary of scalars to log. It
    is pure: its result depends on its arguments and on the policy's parameters, and it changes nothing.

    :param policy: The policy
    :param max_grad_norm: Largest gradient norm of every network; None for no limit
    :param uses_bfloat16: Whether the products of large layers are computed in bfloat16
    :param is_compiled: Whether the losses are compiled
    :param verbose: 1 to print when compiled losses are waited for and take over
    """

    def __init__(
        self,
        policy: MaximizerPolicy,
        max_grad_norm: float | None = None,
        uses_bfloat16: bool = False,
        is_compiled: bool = False,
        verbose: int = 0,
    ):
        self.policy = policy
        self.max_grad_norm = max_grad_norm
        self.uses_bfloat16 = uses_bfloat16
        self.is_compiled = is_compiled
        # The number of this gradient step in the call of ``learn``, from 1; only compilation asks for it
        self.gradient_step = 1
        # The sum and the number of each metric's values
        self._sums: dict[str, tuple[th.Tensor, int]] = {}
        networks = {name: getattr(policy, name) for name in (*policy.learner_names, *policy.target_names)}
        self.networks: dict[str, Network] = {name: network for name, network in networks.items() if network is not None}
        vectors = [network.parameter_vector for network in self.networks.values()]
        self.compiled_losses = CompiledLosses(policy, vectors, max_grad_norm, verbose)
        # The optimizers of the networks that were checked
        self._checked: dict[str, th.optim.Optimizer] = {}
        # Running statistics, which the target networks copy
        online, target = ([], [])  # type: tuple[list[th.Tensor], list[th.Tensor]]
        for name in policy.target_names:
            target += get_parameters_by_name(getattr(policy, name), ["running_"])
            online += get_parameters_by_name(getattr(policy, name.removesuffix("_target")), ["running_"])
        self._batch_norm_stats, self._batch_norm_stats_target = online, target

    @contextmanager
    def gradient_steps(self) -> Iterator[None]:
        """
        Gradient steps are done inside this context: all networks' parameters are views of their vectors there.

        :raises ValueError: if a user has replaced a network or unfrozen a parameter since the last call of ``learn``
        """
        with ExitStack() as stack:
            for name, network in self.networks.items():
                if getattr(self.policy, name) is not network:
                    raise ValueError(f"policy.{name} was replaced during learn: replace networks before learn is called.")
                network.check_frozen(name)
                if not all(network.parameter_vector.are_views()):
                    stack.enter_context(network.parameter_vector.bound())
            yield

    def step(self, name: str, loss_function: Any, *args: Any) -> th.Tensor:
        """
        One optimizer step of a network on its loss: only the network's own parameters receive a gradient. The loss is recorded
        under the function's name.

        :param name: Name of the network in the policy
        :param loss_function: Its loss; see the class
        :param args: The loss's arguments, transitions and tensors. When losses are compiled, all that changes from step to
            step has to be among them.
        :return: The loss, a constant
        """
        vector, optimizer = self.networks[name].parameter_vector, self.networks[name].optimizer
        if self._checked.get(name) is not optimizer:
            self.networks[name].check_parameters(name)
            self._checked[name] = optimizer
        compute = self._compiled_gradient if self.is_compiled and vector.is_plain else self._eager_gradient
        loss, metrics, gradient = compute(name, loss_function, args)
        with record_function("optimizer"):
            vector.step(optimizer, gradient)
        self.record(loss_function.__name__, loss)
        for metric, value in metrics.items():
            self.record(metric, value)
        return loss

    def _eager_gradient(
        self, name: str, loss_function: Any, args: tuple[Any, ...]
    ) -> tuple[th.Tensor, dict[str, th.Tensor], th.Tensor]:
        with record_function(f"{name}: loss"):
            loss, metrics = self._reduced_precision(loss_function, *args)
        with record_function("gradient"):
            gradient = self.networks[name].parameter_vector.gradient(loss, self.max_grad_norm)
        return loss.detach(), metrics, gradient

    def _compiled_gradient(
        self, name: str, loss_function: Any, args: tuple[Any, ...]
    ) -> tuple[th.Tensor, dict[str, th.Tensor], th.Tensor]:
        def reduced_loss(*args: Any) -> tuple[th.Tensor, dict[str, th.Tensor]]:
            return self._reduced_precision(loss_function, *args)

        key, learner = (name, len(args[0].rewards)), self.networks[name].parameter_vector
        try:
            compiled = self.compiled_losses.find(key, learner, reduced_loss, args, self.gradient_step)
            if compiled is not None:
                with record_function(f"{name}: loss and gradient"):
                    return compiled(*args)
        except Exception as error:
            self.is_compiled = False
            self.stop_compiling()
            reason = str(error).strip().partition("\n")[0]
            warnings.warn(
                f"compile: {loss_function.__name__} cannot be compiled here, so training goes on without compilation: "
                f"{type(error).__name__}: {reason}",
                stacklevel=3,
            )
        return self._eager_gradient(name, loss_function, args)

    def stop_compiling(self) -> None:
        """End the compilation of losses that have not taken over, with its processes and files."""
        self.compiled_losses.stop()

    def _reduced_precision(self, loss_function: Any, *args: Any) -> tuple[th.Tensor, dict[str, th.Tensor]]:
        """The loss, with the products of large layers in bfloat16 if ``uses_bfloat16`` says so."""
        with th.autocast(self.policy.device.type, th.bfloat16, enabled=self.uses_bfloat16):
            return loss_function(*args)

    @th.no_grad()
    def sync_targets(self, tau: float) -> None:
        """
        Move the target networks toward the online ones (Polyak), and copy the running statistics.

        :param tau: How far, from 0 to 1
        """
        with record_function("targets"):
            for name in self.policy.target_names:
                online, target = self.networks[name.removesuffix("_target")], self.networks[name]
                target.parameter_vector.vector.lerp_(online.parameter_vector.vector, tau)
            polyak_update(self._batch_norm_stats, self._batch_norm_stats_target, 1.0)

    def record(self, name: str, value: th.Tensor) -> None:
        """
        Record a metric of this gradient step.

        :param name: Name of the metric
        :param value: A scalar; it stays on its device until :meth:`pop_metrics`
        """
        # A running sum rather than a list: small tensors kept between steps would fragment the heap
        total, n = self._sums.get(name) or (value.new_zeros(()), 0)
        self._sums[name] = total.add_(value.detach()), n + 1

    def pop_metrics(self) -> dict[str, float]:
        """:return: The mean of every metric since the last call"""
        if not self._sums:
            return {}
        # One transfer from a GPU for all metrics
        totals = th.stack([total for total, _ in self._sums.values()]).tolist()
        means = {name: total / n for (name, (_, n)), total in zip(self._sums.items(), totals, strict=True)}
        self._sums.clear()
        return means
