"""Which actions an environment carries out, and which ones its invalid set swallows."""

from collections.abc import Callable

import gymnasium as gym
import numpy as np

from sb3_savo.envs.restricted import RestrictedAction

Validity = Callable[[np.ndarray], np.ndarray]

CHUNK = 4096


def restriction_of(env: gym.Env) -> RestrictedAction | None:
    """
    :param env: An environment
    :return: The wrapper in it that restricts the actions; None if there is none
    """
    layer = env
    while isinstance(layer, gym.Wrapper):
        if isinstance(layer, RestrictedAction):
            return layer
        layer = layer.env
    return None


def validity_of(env: gym.Env) -> Validity | None:
    """
    :param env: An environment
    :return: A function that says of actions in the units of the environment, (n, action_dim), whether each is valid, (n,);
        None if all are. Wrappers outside the restriction that change the action are taken into account.
    """
    restriction = restriction_of(env)
    if restriction is None:
        return None
    changes, layer = [], env
    while layer is not restriction:
        assert isinstance(layer, gym.Wrapper)
        if isinstance(layer, gym.ActionWrapper):
            changes.append(layer.action)
        layer = layer.env
    shape = env.action_space.shape
    assert shape is not None

    def are_valid(actions: np.ndarray) -> np.ndarray:
        given = actions.reshape(-1, *shape)
        for change in changes:
            given = np.stack([change(action) for action in given])
        # In parts, since the distances to all balls are large
        return np.concatenate([restriction.is_valid(part) for part in np.array_split(given, len(given) // CHUNK + 1)])

    return are_valid


def balls(restriction: RestrictedAction) -> tuple[np.ndarray, np.ndarray]:
    """
    :param restriction: A wrapper that restricts the actions to a union of balls of the unit cube
    :return: In the units of its action space, the centers, (n_balls, action_dim), and the radii along each dimension,
        (n_balls, action_dim)
    """
    return restriction.low + restriction.centers * restriction.width, restriction.radii[:, None] * restriction.width


def intervals(points: np.ndarray, inside: np.ndarray) -> list[tuple[float, float]]:
    """
    :param points: Increasing numbers, (n,)
    :param inside: Whether each belongs to a set, (n,)
    :return: The set's intervals, which end halfway to the neighbors outside
    """
    edges = np.concatenate([points[:1], (points[:-1] + points[1:]) / 2, points[-1:]])
    changes = np.flatnonzero(np.diff(np.concatenate([[0], inside.astype(int), [0]])))
    return [(float(edges[start]), float(edges[end])) for start, end in zip(changes[::2], changes[1::2], strict=True)]
