"""
Environments that can be restored although they do not know how: by replaying the actions since the last reset.

An environment's class is replaced by a subclass of it, which notes what decides an episode: the random generator before the
reset, the reset's arguments, and the actions since. So environments in the workers of a ``SubprocVecEnv`` are reached too.
An environment whose randomness lies elsewhere may have the methods ``get_state`` and ``set_state`` for it. Their value, of
numbers, text, arrays and containers, is noted before every reset.
"""

import copy
import inspect
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.monitor import Monitor

from sb3_savo.common.checkpoints.logs import monitor_log_state, set_monitor_log_state

# The statistics of a Monitor that last for longer than an episode
MONITORED = ("episode_returns", "episode_lengths", "episode_times", "total_steps")


class RecordedEnv(gym.Env):
    """What is added to the class of an environment. All names are private, since the environment has attributes of its own."""

    _sb3_savo_episode: dict[str, Any] | None = None
    _sb3_savo_actions: list[Any]
    _sb3_savo_observation: Any

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:  # type: ignore[override]
        """
        :param kwargs: The arguments of the environment's own
        :return: What the environment returns
        """
        before = {"generator": generator_state(self), "own": own_state(self), "kwargs": copy.deepcopy(kwargs)}
        result = super().reset(**kwargs)
        self._sb3_savo_episode, self._sb3_savo_actions, self._sb3_savo_observation = before, [], result[0]
        return result

    def step(self, action: Any) -> Any:
        """
        :param action: The action
        :return: What the environment returns
        """
        if self._sb3_savo_episode is not None:
            self._sb3_savo_actions.append(np.array(action))
        result = super().step(action)
        self._sb3_savo_observation = result[0]
        return result

    def sb3_savo_recorded(self) -> dict[str, Any]:
        """:return: What decides the episode, its actions, and what is compared when they have been repeated"""
        return {
            "episode": self._sb3_savo_episode,
            "actions": np.stack(self._sb3_savo_actions) if self._sb3_savo_episode and self._sb3_savo_actions else None,
            "observation": copy.deepcopy(self._sb3_savo_observation) if self._sb3_savo_episode else None,
            "generator": generator_state(self),
            "own": own_state(self),
            "monitors": [monitor_state(monitor) for monitor in monitors_of(self)],
        }

    def sb3_savo_begin_again(self, recorded: dict[str, Any]) -> None:
        """
        :param recorded: What :meth:`sb3_savo_recorded` has returned
        """
        episode = recorded["episode"]
        if episode is None:
            set_generator_state(self, recorded["generator"])
            set_own_state(self, recorded["own"])
            return
        set_generator_state(self, episode["generator"])
        set_own_state(self, episode["own"])
        for monitor in monitors_of(self):
            monitor.needs_reset = True
        self.reset(**episode["kwargs"])

    def sb3_savo_repeat(self, action: Any) -> None:
        """
        :param action: The next action of the recorded episode
        """
        self.step(action)

    def sb3_savo_compare(self, recorded: dict[str, Any]) -> str | None:
        """
        :param recorded: What :meth:`sb3_savo_recorded` has returned
        :return: What differs after the last action; None if nothing does
        """
        monitors = list(monitors_of(self))
        if len(monitors) != len(recorded["monitors"]):
            return f"it has {len(monitors)} Monitor wrappers, and {len(recorded['monitors'])} in the checkpoint"
        for monitor, state in zip(monitors, recorded["monitors"], strict=True):
            set_monitor_state(monitor, state)
        if not equal(generator_state(self), recorded["generator"]):
            return "its random generator has another state"
        if not equal(own_state(self), recorded["own"]):
            return "get_state() returns something else"
        if recorded["episode"] is not None and not equal(self._sb3_savo_observation, recorded["observation"]):
            return "its last observation is another one"
        return None

    def sb3_savo_forget(self) -> None:
        """Give the environment its own class back."""
        for name in ("_sb3_savo_episode", "_sb3_savo_actions", "_sb3_savo_observation"):
            vars(self).pop(name, None)
        self.__class__ = type(self).__mro__[2]  # the one behind RecordedEnv


class RecordedClass:
    """
    A class for an environment in a worker process, which makes it when it is unpickled.

    :param cls: The environment's class
    """

    def __init__(self, cls: type[gym.Env]):
        self.cls = cls

    def __reduce__(self) -> tuple[Any, ...]:
        return recorded_class, (self.cls,)


def recorded_class(cls: type[gym.Env]) -> type[gym.Env]:
    """
    :param cls: A class of environments
    :return: The same with :class:`RecordedEnv`; its name stays
    """
    return type(cls.__name__, (RecordedEnv, cls), {"__module__": cls.__module__, "__qualname__": cls.__qualname__})


def generator_state(env: gym.Env) -> dict[str, Any]:
    """:return: The state of an environment's random generator, which is made if there is none yet"""
    return copy.deepcopy(dict(env.unwrapped.np_random.bit_generator.state))


def set_generator_state(env: gym.Env, state: dict[str, Any]) -> None:
    """
    :param env: An environment
    :param state: What :func:`generator_state` has returned
    """
    env.unwrapped.np_random.bit_generator.state = state


def has_own_state(env: gym.Env) -> bool:
    """:return: Whether an environment has ``get_state()`` and ``set_state(state)``; MuJoCo's has other arguments"""
    return takes(getattr(env.unwrapped, "get_state", None)) and takes(getattr(env.unwrapped, "set_state", None), "state")


def takes(method: Any, *arguments: Any) -> bool:
    """:return: Whether it is a method that can be called with these arguments"""
    try:
        inspect.signature(method).bind(*arguments)
    except (TypeError, ValueError):
        return False
    return True


def own_state(env: gym.Env) -> Any:
    """:return: What an environment says of its state; None if it has no ``get_state`` and ``set_state``"""
    return copy.deepcopy(env.unwrapped.get_state()) if has_own_state(env) else None  # type: ignore[attr-defined]


def set_own_state(env: gym.Env, state: Any) -> None:
    """
    :param env: An environment
    :param state: What :func:`own_state` has returned
    """
    if has_own_state(env):
        env.unwrapped.set_state(state)  # type: ignore[attr-defined]


def monitors_of(env: gym.Env) -> Iterator[Monitor]:
    """:return: The environment and its parts, as far as they are SB3's ``Monitor``"""
    while isinstance(env, gym.Wrapper):
        if isinstance(env, Monitor):
            yield env
        env = env.env


def monitor_state(monitor: Monitor) -> dict[str, Any]:
    """:return: The statistics of a ``Monitor``, and the content of its file"""
    return {**{name: getattr(monitor, name) for name in MONITORED}, **monitor_log_state(monitor)}


def set_monitor_state(monitor: Monitor, state: dict[str, Any]) -> None:
    """
    :param monitor: A ``Monitor``
    :param state: What :func:`monitor_state` has returned
    """
    for name in MONITORED:
        setattr(monitor, name, copy.copy(state[name]))
    set_monitor_log_state(monitor, state)


def equal(first: Any, second: Any) -> bool:
    """:return: Whether observations or states of generators are the same, bit by bit"""
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        return len(first) == len(second) and all(equal(*pair) for pair in zip(first, second, strict=True))
    first, second = np.asarray(first), np.asarray(second)
    return first.shape == second.shape and bool(np.array_equal(first, second, equal_nan=first.dtype.kind == "f"))
