"""A run that trains: on the environments of a task, with evaluations without noise on environments of their own."""

import inspect
import time
from copy import deepcopy
from typing import Any

import gymnasium as gym
import numpy as np
from sb3_contrib.common.maskable.utils import is_masking_supported
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.noise import ActionNoise, OrnsteinUhlenbeckActionNoise, VectorizedActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from benchmarks.recording import CHECKPOINTS, Recorder
from benchmarks.suite import Run
from sb3_savo import ResetCallback
from sb3_savo.algorithms import ALGORITHMS
from sb3_savo.common.exploration import StepSchedule, value_at
from sb3_savo.common.masked_evaluation import MaskedModel
from sb3_savo.envs.recsim import RecSimVecEnv

# By name, an algorithm of the package, or SB3's
CONSTRUCTORS: dict[str, type[OffPolicyAlgorithm]] = {**ALGORITHMS, "td3": TD3, "sac": SAC}
# Hyperparameters of the tasks that some algorithms do without: those of the chain of actors, and of the noise
OPTIONAL = (
    "n_actors",
    "summarizer",
    "exploration_noise_std",
    "exploration_noise_scale",
    "noise_per_candidate",
    "selection_epsilon",
)
# Hyperparameters of SAVO that make the noise of SB3's TD3
NOISE = ("exploration_noise_std", "exploration_noise_scale")
# Arguments that the run itself gives to the constructor
GIVEN = ("env", "seed", "device", "action_noise", "_init_setup_model")
MAX_EVALUATION_ENVS = 20


def run(run: Run, recorder: Recorder) -> None:
    """
    :param run: The run
    :param recorder: Takes its evaluations
    """
    model = make_model(run)
    evaluation = RecordEvaluations(recorder, make_evaluation_env(run), run)
    callbacks: list[BaseCallback] = [evaluation]
    if run.settings["reset"] is not None:
        callbacks.append(ResetCallback(run.settings["reset"]))
    # An interrupted run goes on from its last checkpoint; one of SB3's own algorithms begins anew, and so does one that was
    # evaluated otherwise
    checkpoints = recorder.folder / CHECKPOINTS / f"{run.evaluations}-evaluations-of-{run.episodes}-episodes"
    continues: dict[str, Any] = {"checkpoints": checkpoints} if run.settings["algorithm"] in ALGORITHMS else {}
    model.learn(run.steps, callback=callbacks, **continues)
    if not recorder.rows or recorder.rows[-1]["step"] < run.steps:
        evaluation.evaluate()
    model.save(recorder.folder / "agent.zip")


def make_env(env: str, env_kwargs: dict[str, Any], n_envs: int, seed: int) -> VecEnv:
    """
    :param env: Gymnasium's ID of the environment, after the name of a module that registers it and a colon if needed
    :param env_kwargs: Its arguments
    :param n_envs: Number of environments
    :param seed: Their seed
    :return: The environments; a batch of simulated users for RecSim
    """
    if env.startswith("RecSim") and not env.startswith("RecSimData"):
        users = RecSimVecEnv(n_envs, **{**gym.spec(env).kwargs, **env_kwargs})
        users.seed(seed)
        return users
    return make_vec_env(env, n_envs, seed=seed, env_kwargs=env_kwargs)


def make_evaluation_env(run: Run) -> VecEnv:
    """
    :param run: A run
    :return: The environments of its evaluations
    """
    n_envs = min(run.episodes, MAX_EVALUATION_ENVS)
    return make_env(run.settings["env"], run.settings["env_kwargs"], n_envs, seed=10_000 + 100 * run.seed)


def make_model(run: Run) -> OffPolicyAlgorithm:
    """
    :param run: A run
    :return: Its untrained model
    """
    settings = run.settings
    arguments = constructor_arguments(settings["algorithm"], settings["arguments"])
    env = make_env(settings["env"], settings["env_kwargs"], arguments.pop("n_envs", 1), seed=run.seed)
    if settings["algorithm"] == "td3":
        arguments["action_noise"] = savo_noise(settings["arguments"], env)
    return CONSTRUCTORS[settings["algorithm"]](env=env, seed=run.seed, device="cpu", **arguments)


def constructor_arguments(algorithm: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """
    :param algorithm: Name of an algorithm
    :param arguments: Arguments of a run
    :return: The same for the algorithm's constructor, and ``n_envs``: without those of :data:`OPTIONAL` that it does not have,
        and with tuples where YAML has lists
    """
    known = inspect.signature(CONSTRUCTORS[algorithm]).parameters
    # SB3 writes into policy_kwargs
    arguments = {name: deepcopy(value) for name, value in arguments.items() if name in known or name not in OPTIONAL}
    if isinstance(arguments.get("train_freq"), list):
        arguments["train_freq"] = tuple(arguments["train_freq"])
    return arguments


def savo_noise(arguments: dict[str, Any], env: VecEnv) -> ActionNoise:
    """
    :param arguments: Arguments of a run
    :param env: The environments
    :return: SAVO's Ornstein-Uhlenbeck noise for SB3's TD3
    """
    assert env.action_space.shape is not None
    scale = arguments.get("exploration_noise_scale", (1.0, 0.01, 500_000))
    return ScheduledNoise(env.action_space.shape, env.num_envs, scale, arguments.get("exploration_noise_std", 0.2))


class ScheduledNoise(VectorizedActionNoise):
    """
    Ornstein-Uhlenbeck noise like SAVO's, times a schedule.

    :param shape: Shape of the actions
    :param n_envs: Number of environments
    :param scale: The multiplier: a number, or (initial value, final value, environment steps)
    :param std: Scale of the process itself
    """

    def __init__(self, shape: tuple[int, ...], n_envs: int, scale: StepSchedule, std: float):
        noise: ActionNoise = OrnsteinUhlenbeckActionNoise(np.zeros(shape), std * np.ones(shape), theta=0.15, dt=1.0)
        super().__init__(noise, n_envs)
        self.scale = scale
        self.n_steps = 0

    def __call__(self) -> np.ndarray:
        scale = value_at(self.scale, self.n_steps)
        self.n_steps += self.n_envs
        return super().__call__() * scale


class LastValues(KVWriter):
    """Keeps the last value of everything that was logged."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
        self.values |= key_values

    def close(self) -> None:
        pass


class RecordEvaluations(BaseCallback):
    """
    Evaluates regularly, without noise.

    :param recorder: Takes the evaluations
    :param env: Environments of the evaluations
    :param run: The run
    """

    def __init__(self, recorder: Recorder, env: VecEnv, run: Run):
        super().__init__()
        self.recorder = recorder
        self.env = env
        self.run = run
        self.every = max(run.steps // run.evaluations, 1)
        self.successes: list[bool] = []
        self.logged = LastValues()

    def get_state(self) -> dict[str, Any]:
        """:return: What a checkpoint of the run holds: the rows so far"""
        elapsed = time.monotonic() - self.recorder.started
        return {"rows": self.recorder.rows, "elapsed": elapsed, "logged": self.logged.values, "n_calls": self.n_calls}

    def set_state(self, state: dict[str, Any]) -> None:
        """
        :param state: What :meth:`get_state` has returned
        """
        self.recorder.rows = state["rows"]
        self.recorder.started = time.monotonic() - state["elapsed"]
        self.logged.values = state["logged"]
        self.n_calls = state["n_calls"]

    def _on_training_start(self) -> None:
        self.model.set_logger(Logger(None, [self.logged]))

    def _on_step(self) -> bool:
        # At the first step, the untrained agent is evaluated
        if self.num_timesteps // self.every >= len(self.recorder.rows):
            self.evaluate()
        return True

    def evaluate(self) -> None:
        """Evaluate now."""
        self.successes.clear()
        model = MaskedModel(self.model, self.env) if is_masking_supported(self.env) else self.model
        returns, lengths = evaluate_policy(
            model, self.env, self.run.episodes, return_episode_rewards=True, callback=self.see_episode, warn=False
        )
        figures: dict[str, Any] = {"n_episodes": len(returns)}  # type: ignore[arg-type]
        for name, share in (("min", 0.0), ("q25", 0.25), ("median", 0.5), ("q75", 0.75), ("max", 1.0)):
            figures[f"return_{name}"] = float(np.quantile(returns, share))
        figures["length_mean"] = float(np.mean(lengths))
        figures["success_rate"] = float(np.mean(self.successes)) if self.successes else None
        figures["surrogate_error_pct"] = self.last_logged("train/surrogate_error_pct")
        self.recorder.add(self.num_timesteps, updates_of(self.model), float(np.mean(returns)), **figures)

    def see_episode(self, local_variables: dict[str, Any], global_variables: dict[str, Any]) -> None:
        if local_variables["done"] and "is_success" in local_variables["info"]:
            self.successes.append(bool(local_variables["info"]["is_success"]))

    def last_logged(self, name: str) -> float | None:
        """
        :param name: Name of a logged scalar
        :return: Its last value, or None
        """
        value = self.model.logger.name_to_value.get(name, self.logged.values.get(name))
        return None if value is None else float(value)


def updates_of(model: BaseAlgorithm) -> int:
    """
    :param model: A model
    :return: Its number of gradient steps
    """
    return int(model._n_updates)  # type: ignore[attr-defined]
