"""The state of a vectorized environment and of its wrappers."""

import inspect
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecEnvWrapper, VecMonitor

from sb3_savo.common.checkpoints.logs import monitor_log_state, set_monitor_log_state
from sb3_savo.common.checkpoints.recording import RecordedClass, RecordedEnv, recorded_class
from sb3_savo.common.checkpoints.values import differing, settings_of, values_of
from sb3_savo.vec_env import WorkerError

# An episode with more steps gives a warning
LONG_EPISODE = 100_000

# What a wrapper's constructor has made, or what lasts for one step only
NOT_SAVED = (
    "venv",
    "class_attributes",
    "observation_space",
    "action_space",
    "reset_infos",
    "_seeds",  # of a wrapper, not used
    "_options",
    "metadata",
    "results_writer",
    "t_start",
)

# The arguments of wrappers when they began to learn
SETTINGS: WeakKeyDictionary[VecEnv, dict[str, Any]] = WeakKeyDictionary()


def layers(env: VecEnv) -> Iterator[VecEnv]:
    """:return: A vectorized environment, wrapper after wrapper, and what they wrap"""
    while isinstance(env, VecEnvWrapper):
        yield env
        env = env.venv
    yield env


def knows_its_state(part: Any) -> bool:
    """:return: Whether a vectorized environment without wrappers, or a callback, has ``get_state`` and ``set_state``"""
    return hasattr(type(part), "get_state") and hasattr(type(part), "set_state")


def start_recording(env: VecEnv) -> None:
    """
    :param env: A vectorized environment, of which :func:`environment_state` will be asked
    :raises ValueError: if it cannot be restored
    """
    *wrappers, _ = layers(env)
    for wrapper in wrappers:
        SETTINGS.setdefault(wrapper, wrapper_settings(wrapper))
    base = env.unwrapped
    if knows_its_state(base):
        return
    if not isinstance(base, (DummyVecEnv, SubprocVecEnv)):
        raise ValueError(
            f"checkpoints: the state of a {type(base).__name__} cannot be restored. It must be a DummyVecEnv or a "
            "SubprocVecEnv, or have the methods get_state(), which returns numbers, text, arrays and containers of them, and "
            "set_state(state)."
        )
    if base.has_attr("sb3_savo_recorded"):
        return
    for index in range(base.num_envs):
        try:
            (cls,) = base.get_attr("__class__", indices=[index])
        except (WorkerError, OSError, EOFError) as error:
            raise ValueError(
                f"checkpoints: the class of environment {index} cannot be sent from its worker. It must be in a module that "
                "is imported, not in the program itself, or the environment must be wrapped in a Monitor, as by make_vec_env: "
                f"{error or type(error).__name__}"
            ) from error
        made = recorded_class(cls) if isinstance(base, DummyVecEnv) else RecordedClass(cls)
        base.set_attr("__class__", made, indices=[index])


def stop_recording(env: VecEnv) -> None:
    """
    :param env: A vectorized environment of :func:`start_recording`
    """
    base = env.unwrapped
    if not isinstance(base, DummyVecEnv) or knows_its_state(base):
        return  # in the workers the classes stay as they are
    for one in base.envs:
        if isinstance(one, RecordedEnv):
            one.sb3_savo_forget()


def environment_state(env: VecEnv) -> dict[str, Any]:
    """
    :param env: A vectorized environment that is recorded
    :return: Its state and those of its wrappers
    """
    *wrappers, base = layers(env)
    # The arguments of the next reset
    next_reset = {"_seeds": list(base._seeds), "_options": list(base._options)}
    wrapped = [wrapper_state(wrapper) for wrapper in wrappers]
    state = {"type": type(base).__name__, "wrappers": wrapped, "next_reset": next_reset}
    if knows_its_state(base):
        return {**state, "own": base.get_state()}  # type: ignore[attr-defined]
    recorded = base.env_method("sb3_savo_recorded")
    longest = max(0 if part["actions"] is None else len(part["actions"]) for part in recorded)
    if longest > LONG_EPISODE:
        warnings.warn(
            f"checkpoints: an episode has taken more than {LONG_EPISODE:,} steps. Every checkpoint holds all its actions, and "
            "a resumed run repeats them. For small checkpoints, episodes must end: gymnasium.wrappers.TimeLimit does it.",
            stacklevel=2,
        )
    return {**state, "recorded": recorded}


def set_environment_state(env: VecEnv, state: dict[str, Any], name: str) -> None:
    """
    :param env: A vectorized environment, made as the saved one was
    :param state: What :func:`environment_state` has returned
    :param name: Its name in messages
    :raises ValueError: if it has other wrappers or another number of environments, or does not do again what it did
    """
    *wrappers, base = layers(env)
    saved = [part["type"] for part in state["wrappers"]]
    own = [type(wrapper).__name__ for wrapper in wrappers]
    if own != saved:
        raise ValueError(
            f"checkpoints: {name} has the wrappers {', '.join(own) or 'none'}, and in the checkpoint it has "
            f"{', '.join(saved) or 'none'}: they must be the same."
        )
    for wrapper, part in zip(wrappers, state["wrappers"], strict=True):
        set_wrapper_state(wrapper, part)
    vars(base).update(state["next_reset"])
    if knows_its_state(base) != ("own" in state):
        raise ValueError(
            f"checkpoints: {name} is a {type(base).__name__}, and in the checkpoint a {state['type']}: it must be the same."
        )
    if "own" in state:
        base.set_state(state["own"])  # type: ignore[attr-defined]
        return
    if len(state["recorded"]) != base.num_envs:
        raise ValueError(
            f"checkpoints: {name} has n_envs={base.num_envs}, and in the checkpoint {len(state['recorded'])}: it must have as "
            "many."
        )
    for index, recorded in enumerate(state["recorded"]):
        actions, rest = recorded["actions"], {**recorded, "actions": None}
        base.env_method("sb3_savo_begin_again", rest, indices=[index])
        # One call per step, since a worker has to answer a call in time
        for action in actions if actions is not None else ():
            base.env_method("sb3_savo_repeat", action, indices=[index])
        (difference,) = base.env_method("sb3_savo_compare", rest, indices=[index])
        if difference is not None:
            raise ValueError(
                f"checkpoints: environment {index} of {name} does not do again what it did before the checkpoint, although it "
                f"was reset with the same random generator and took the same actions: {difference}. Its randomness, or what "
                "it remembers from former episodes, lies elsewhere. It must draw from self.np_random alone, or have the "
                "methods get_state(), which returns numbers, text, arrays and containers of them, and set_state(state)."
            )


def wrapper_state(wrapper: VecEnv) -> dict[str, Any]:
    """
    :param wrapper: A wrapper of a vectorized environment
    :return: What it has counted or learned
    """
    values = values_of(wrapper, [name for name in vars(wrapper) if name not in NOT_SAVED])
    state = {"type": type(wrapper).__name__, "values": values, "settings": SETTINGS[wrapper]}
    return {**state, **monitor_log_state(wrapper)} if isinstance(wrapper, VecMonitor) else state


def wrapper_settings(wrapper: VecEnv) -> dict[str, Any]:
    """
    :param wrapper: A wrapper of a vectorized environment
    :return: JSON of its arguments that are its attributes, except paths and names, by which it is compared with another run's
    """
    names = [name for name in inspect.signature(type(wrapper)).parameters if name in vars(wrapper) and name not in NOT_SAVED]
    return {name: settings_of(vars(wrapper)[name]) for name in names if not isinstance(vars(wrapper)[name], (str, Path))}


def set_wrapper_state(wrapper: VecEnv, state: dict[str, Any]) -> None:
    """
    :param wrapper: A wrapper of a vectorized environment
    :param state: What :func:`wrapper_state` has returned
    :raises ValueError: if it began to learn with other arguments
    """
    if told := differing(wrapper, SETTINGS[wrapper], state.get("settings", {})):
        raise ValueError(
            f"checkpoints: {type(wrapper).__name__} has other arguments than {told} in the checkpoint: they must be the same."
        )
    for name, value in state["values"].items():
        setattr(wrapper, name, value)
    if isinstance(wrapper, VecMonitor):
        set_monitor_log_state(wrapper, state)
