"""The frame of ``train``: one batch per gradient step, learning rates before, and metrics after."""

import math
from collections.abc import Generator, Iterator

from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.utils import update_learning_rate
from torch.autograd.profiler import record_function

from sb3_savo.acceleration import sample_batch
from sb3_savo.common.buffers import Batch, draws_independently, split
from sb3_savo.common.learning import LearningAlgorithm
from sb3_savo.common.plausible import GRADIENT_INTERVAL, check_metrics
from sb3_savo.common.policies import MaximizerPolicy

# Transitions are sampled for several gradient steps at once: at most this many bytes of observations, which stay in the cache
MAX_SAMPLE_BYTES = 2**20


class TrainingAlgorithm(LearningAlgorithm):
    """An algorithm that learns from batches of transitions. A subclass says in ``train`` what it does with each."""

    policy: MaximizerPolicy
    policy_delay: int

    def batches(self, gradient_steps: int, batch_size: int) -> Iterator[Batch]:
        """
        The frame of :meth:`train`: one batch per gradient step; at the end, the metrics recorded meanwhile are logged.

        :param gradient_steps: Number of gradient steps
        :param batch_size: Number of transitions in each batch
        :return: Batches of transitions; in a discrete space, the actions are the embeddings of the items taken
        """
        self._open_batches = self._batches(gradient_steps, batch_size)
        return self._open_batches

    def _batches(self, gradient_steps: int, batch_size: int) -> Generator[Batch]:
        with self.policy.update_lock:
            # Switch to train mode (this affects batch norm / dropout)
            self.policy.set_training_mode(True)
        self._update_learning_rates()
        self.updater.pop_metrics()
        with self.updater.gradient_steps():
            for batch in self._sample(gradient_steps, batch_size):
                # Held while the caller computes the gradient step of this batch, up to its request for the next one
                with self.policy.update_lock:
                    if not self.policy.training:  # another thread has predicted meanwhile
                        self.policy.set_training_mode(True)
                    self._n_updates += 1
                    self.updater.gradient_step = self._n_updates - self._n_updates_at_start
                    if self.policy.items is not None:
                        batch = batch._replace(actions=self.policy.items.embed(batch.actions.squeeze(1)))
                    yield batch

        self._open_batches = None
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        metrics = self.updater.pop_metrics()
        for name, mean in metrics.items():
            self.logger.record(f"train/{name}", mean)
        self._check_metrics(metrics, gradient_steps)

    def _check_metrics(self, metrics: dict[str, float], gradient_steps: int) -> None:
        """
        :param metrics: What was recorded in the last gradient steps
        :param gradient_steps: Their number
        :raises NonFiniteError: if a loss or another metric is not finite
        """
        check_metrics(metrics, self._n_updates, self.num_timesteps)
        plausible = self._plausible_range
        if plausible is None or not metrics:
            return
        # A subclass may have other losses
        sizes = {
            "A mean Q of": abs(metrics.get("q_mean", 0.0)),
            "Critics whose error is": math.sqrt(abs(metrics.get("critic_loss", 0.0))),
        }
        plausible.check_q(sizes, getattr(self.replay_buffer, "rewards", None), self.num_timesteps)
        # A clipped gradient is never too large
        if self.max_grad_norm is None and self._n_updates % GRADIENT_INTERVAL < gradient_steps:
            for name, network in self.policy.learners.items():
                gradient = network.parameter_vector.vector.grad
                if gradient is not None:
                    plausible.check_gradient(name, gradient.norm().item(), self.num_timesteps)

    def _sample(self, gradient_steps: int, batch_size: int) -> Iterator[Batch]:
        """
        Sample one batch per gradient step, each as the buffer's ``sample(batch_size)`` would. Batches of independent
        transitions are drawn together, as many as fit into ``MAX_SAMPLE_BYTES``. All others are drawn one by one.
        """
        buffer: ReplayBuffer = self.replay_buffer  # type: ignore[assignment]
        at_once = 1
        if draws_independently(buffer):
            parts = getattr(self.observation_space, "spaces", {"": self.observation_space}).values()
            batch_bytes = batch_size * sum(space.dtype.itemsize * max(1, math.prod(space.shape)) for space in parts)
            at_once = max(1, MAX_SAMPLE_BYTES // batch_bytes)
        for start in range(0, gradient_steps, at_once):
            n = min(at_once, gradient_steps - start)
            with record_function("sample"):
                samples: Batch = sample_batch(buffer, n * batch_size, self._vec_normalize_env)
            yield from split(samples, n)

    @property
    def policy_is_due(self) -> bool:
        """Whether this gradient step updates the actors and the targets too (TD3's delayed policy updates)."""
        return self._n_updates % self.policy_delay == 0

    def _update_learning_rates(self) -> None:
        learners = self.policy.learners.items()
        actor_names = self.policy.actor_names
        self._update_learning_rate([learner.optimizer for name, learner in learners if name in actor_names])
        qf_learning_rate = (self.qf_lr_schedule or self.lr_schedule)(self._current_progress_remaining)
        for name, learner in learners:
            if name not in actor_names:
                update_learning_rate(learner.optimizer, qf_learning_rate)
