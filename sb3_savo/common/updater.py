"""Gradient steps: batches, one optimizer pass over a network's loss, compiled or not, and the targets that follow."""

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch as th
from stable_baselines3.common.policies import BaseModel
from stable_baselines3.common.type_aliases import DictReplayBufferSamples, ReplayBufferSamples, TrainFrequencyUnit
from stable_baselines3.common.utils import FloatSchedule, get_parameters_by_name, polyak_update, update_learning_rate
from torch.autograd.profiler import record_function

from sb3_savo.acceleration.allocator import keep_freed_memory
from sb3_savo.acceleration.compiled_loss import CompiledGradient
from sb3_savo.common.buffers import CandidateReplayBufferSamples
from sb3_savo.common.collection import CollectingAlgorithm
from sb3_savo.networks.parameter_vector import FlatParameters

Batch = ReplayBufferSamples | DictReplayBufferSamples | CandidateReplayBufferSamples

# Networks that learn at ``learning_rate``; the others, at ``qf_learning_rate``
ACTORS = ("actor", "proposal")

COMPILE = (True, False, "auto")
PRECISIONS = ("highest", "medium")

# Gradient steps from which on compilation, of about a minute, pays
LONG_RUN = 20_000

# Transitions are sampled for several gradient steps at once, up to so many bytes of observations (that stay in the cache)
SAMPLED_BYTES = 2**20


class UpdatingAlgorithm(CollectingAlgorithm):
    """Off-policy algorithm whose networks each descend a loss of their own."""

    compile: bool | str
    precision: str
    policy_delay: int
    max_grad_norm: float | None
    qf_learning_rate: Any
    compiles: bool

    def _setup_model(self) -> None:
        # Sums, and of how many values
        self._recorded: dict[str, tuple[th.Tensor, int]] = {}
        self._compiled: dict[Any, CompiledGradient] = {}
        self.compiles = self.compile is True
        # Running statistics, which the target networks copy
        self.batch_norm_stats, self.batch_norm_stats_target = (
            [statistic for name in names for statistic in get_parameters_by_name(getattr(self.policy, name), ["running_"])]
            for names in ([name.removesuffix("_target") for name in self.policy.target_names], self.policy.target_names)
        )

    def _setup_lr_schedule(self) -> None:
        super()._setup_lr_schedule()
        self.qf_lr_schedule = None if self.qf_learning_rate is None else FloatSchedule(self.qf_learning_rate)

    def _setup_learn(self, total_timesteps: int, *args: Any, **kwargs: Any) -> Any:
        total_timesteps, callback = super()._setup_learn(total_timesteps, *args, **kwargs)
        keep_freed_memory()
        # Whatever was changed since the last time, the losses are to see it
        self._compiled.clear()
        n_steps = self.gradient_steps_until(total_timesteps)
        self.compiles = self.compile is True or (self.compile == "auto" and n_steps >= LONG_RUN)
        if self.compiles and self.verbose >= 1:
            print(f"Compiling the losses (compile={self.compile!r}, {n_steps:.0f} gradient steps): the first take a minute")
        return total_timesteps, callback

    def gradient_steps_until(self, total_timesteps: int) -> float:
        """
        :param total_timesteps: Environment steps at the end
        :return: How many gradient steps there will be until then; where episodes decide, at least so many
        """
        steps = max(total_timesteps - max(self.num_timesteps, self.learning_starts), 0)
        if self.gradient_steps < 0:
            return steps
        if self.train_freq.unit == TrainFrequencyUnit.EPISODE:  # type: ignore[union-attr]
            return 0
        return steps * self.gradient_steps / (self.train_freq.frequency * self.n_envs)  # type: ignore[union-attr]

    # Batches and records

    def batches(self, gradient_steps: int, batch_size: int) -> Iterator[Batch]:
        """
        The frame of :meth:`train`: one batch per gradient step; what is recorded meanwhile is logged at the end.

        :param gradient_steps: Number of gradient steps
        :param batch_size: Number of transitions in each batch
        :return: Batches of transitions
        """
        # Switch to train mode (this affects batch norm / dropout)
        self.policy.set_training_mode(True)
        self._update_learning_rates()
        self._recorded.clear()
        for batch in self._sample(gradient_steps, batch_size):
            self._n_updates += 1
            if self.policy.items is not None:
                batch = batch._replace(actions=self.policy.items.embed(batch.actions.squeeze(1)))
            yield batch

        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        for name, (total, n) in self._recorded.items():
            self.logger.record(f"train/{name}", total.item() / n)

    def _sample(self, gradient_steps: int, batch_size: int) -> Iterator[Batch]:
        """Batches, as many of which as fit in some memory are sampled at once."""
        spaces = getattr(self.observation_space, "spaces", {"": self.observation_space}).values()
        bytes_per_batch = batch_size * sum(space.dtype.itemsize * max(1, math.prod(space.shape)) for space in spaces)
        at_once = max(1, SAMPLED_BYTES // bytes_per_batch)
        for start in range(0, gradient_steps, at_once):
            n = min(at_once, gradient_steps - start)
            with record_function("sample"):
                samples: Batch = self.replay_buffer.sample(n * batch_size, env=self._vec_normalize_env)  # type: ignore[union-attr]
            yield from split(samples, n)

    def record(self, name: str, value: th.Tensor) -> None:
        """
        Remember a value of this gradient step; their mean is logged as ``train/name`` at the end of :meth:`train`.

        :param name: Name of the value
        :param value: A scalar; it stays on its device until then
        """
        # (Not a list of the values: as they lie between what a gradient step frees, the memory would go to pieces)
        total, n = self._recorded.get(name) or (value.new_zeros(()), 0)
        self._recorded[name] = total.add_(value.detach()), n + 1

    # The steps of an update

    @property
    def policy_is_due(self) -> bool:
        """Whether this gradient step updates the actors and the targets too (TD3's delayed policy updates)."""
        return self._n_updates % self.policy_delay == 0

    def descend(self, name: str, loss_function: Callable[[Batch], th.Tensor], batch: Batch) -> th.Tensor:
        """
        One optimizer step of a network on its loss, which is compiled if ``compile`` says so.

        :param name: Name of the network in the policy
        :param loss_function: Its loss on some transitions, a pure function of these and of the policy's parameters
        :param batch: Transitions
        :return: The loss, a constant
        """
        if self.compiles:
            try:
                loss, gradient = self._compiled_gradient(name, loss_function, batch)
            except Exception as error:
                self.compiles = False
                reason = str(error).strip().partition("\n")[0]
                warnings.warn(
                    f"compile={self.compile!r}: {loss_function.__name__} cannot be compiled here, training goes on without: "
                    f"{type(error).__name__}: {reason}",
                    stacklevel=2,
                )
            else:
                self._step(getattr(self.policy, name), gradient)
                return loss
        with record_function(f"{name}: loss"), self.reduced_precision():
            loss = loss_function(batch)
        self.minimize(getattr(self.policy, name), loss)
        return loss.detach()

    def _compiled_gradient(
        self, name: str, loss_function: Callable[[Batch], th.Tensor], batch: Batch
    ) -> tuple[th.Tensor, th.Tensor]:
        """The loss and its gradient by the compiled function, which is made at the first batch of a shape."""
        key = (name, len(batch.rewards))
        if key not in self._compiled:

            def loss_and_records(batch: Batch) -> tuple[th.Tensor, dict[str, th.Tensor]]:
                outer, self._recorded = self._recorded, {}
                try:
                    with self.reduced_precision():
                        loss = loss_function(batch)
                    return loss, {name: value for name, (value, _) in self._recorded.items()}
                finally:
                    self._recorded = outer

            networks = [*self.policy.learner_names, *self.policy.target_names]
            flats = {n: getattr(self.policy, n).flat for n in networks if getattr(self.policy, n) is not None}
            self._compiled[key] = CompiledGradient(
                self.policy, list(flats.values()), flats[name], loss_and_records, self.max_grad_norm, batch
            )
        with record_function(f"{name}: loss and gradient"):
            loss, recorded, gradient = self._compiled[key](batch)
        for record_name, value in recorded.items():
            self.record(record_name, value)
        return loss, gradient

    def reduced_precision(self) -> th.autocast:
        """:return: A context in which the products of large layers have bfloat16 factors, if ``precision`` says so"""
        return th.autocast(self.device.type, th.bfloat16, enabled=self.precision == "medium")

    def minimize(self, network: BaseModel, loss: th.Tensor) -> None:
        """
        One optimizer step: only the network's own parameters receive a gradient.

        :param network: What learns
        :param loss: A scalar
        """
        flat: FlatParameters = network.flat  # type: ignore[assignment]
        with record_function("gradient"):
            gradient = flat.gradient(loss, self.max_grad_norm)
        self._step(network, gradient)

    def _step(self, network: BaseModel, gradient: th.Tensor) -> None:
        with record_function("optimizer"):
            network.flat.vector.grad = gradient  # type: ignore[union-attr]
            network.optimizer.step()

    @th.no_grad()
    def sync_targets(self) -> None:
        """Move the target networks towards the online ones (Polyak), and copy the running statistics."""
        with record_function("targets"):
            for name in self.policy.target_names:
                online, target = getattr(self.policy, name.removesuffix("_target")), getattr(self.policy, name)
                target.flat.vector.lerp_(online.flat.vector, self.tau)
            polyak_update(self.batch_norm_stats, self.batch_norm_stats_target, 1.0)

    def _update_learning_rates(self) -> None:
        learners = self.policy.learners.items()
        self._update_learning_rate([learner.optimizer for name, learner in learners if name in ACTORS])
        for name, learner in learners:
            if name not in ACTORS:
                update_learning_rate(learner.optimizer, self._current_qf_learning_rate())

    def _current_qf_learning_rate(self) -> float:
        return (self.qf_lr_schedule or self.lr_schedule)(self._current_progress_remaining)


def split(batch: Batch, n: int) -> Iterator[Batch]:
    """
    :param batch: Transitions
    :param n: Number of parts
    :return: The same in n batches
    """
    if n == 1:
        return iter([batch])

    def parts(value: Any) -> Any:
        if isinstance(value, dict):
            return [dict(zip(value, entries, strict=True)) for entries in zip(*map(parts, value.values()), strict=True)]
        return [None] * n if value is None else value.chunk(n)

    return (type(batch)(*those) for those in zip(*map(parts, batch), strict=True))  # type: ignore[arg-type]
