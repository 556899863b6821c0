"""Action spaces: a Discrete space that knows its items' embeddings, and the space that actors propose in."""

from typing import Any

import numpy as np
from gymnasium import spaces

MAX_ITEMS = 2**24  # replay buffers hold items as float32, which is exact so far


class UnsupportedActionSpaceError(TypeError, AssertionError):
    """The action space is of the wrong kind. SB3's algorithms raise an ``AssertionError`` then, so this error is one too."""


class EmbeddedDiscrete(spaces.Discrete):
    """
    Items 0 … N-1, each with an embedding R(I) (paper, §3.2.1). For every other library it is Gymnasium's ``Discrete``.

    :param embeddings: One row per item, (N, D), N at least 2; kept as float32 and read-only, without a copy if they are
        float32 and read-only already
    :param seed: Seed of :meth:`sample`
    :raises TypeError: if the embeddings are not numbers
    :raises ValueError: if they have the wrong shape, are not finite, or all rows are the same
    """

    embeddings: np.ndarray

    def __init__(self, embeddings: np.ndarray, seed: int | np.random.Generator | None = None):
        self.embeddings = check_embeddings(embeddings)
        super().__init__(len(self.embeddings), seed=seed)

    def __repr__(self) -> str:
        return f"EmbeddedDiscrete({self.n}, dim={self.embeddings.shape[1]})"

    def __eq__(self, other: Any) -> bool:
        return (
            isinstance(other, EmbeddedDiscrete)
            and super().__eq__(other)
            and (self.embeddings is other.embeddings or np.array_equal(self.embeddings, other.embeddings))
        )

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state)
        self.embeddings.setflags(write=False)


def check_embeddings(embeddings: Any) -> np.ndarray:
    """
    :param embeddings: One row per item, (N, D)
    :return: The embeddings in float32, read-only
    :raises TypeError: if they are not numbers
    :raises ValueError: if they have the wrong shape, are not finite, or all rows are the same
    """
    given = np.asarray(embeddings)
    if not (np.issubdtype(given.dtype, np.floating) or np.issubdtype(given.dtype, np.integer)):
        raise TypeError(f"embeddings are of the type {given.dtype}: they must be numbers, one row per item.")
    if given.ndim != 2 or given.shape[0] < 2 or given.shape[1] < 1:
        raise ValueError(f"embeddings has the shape {given.shape}: it must be (N, D), with N items of at least 2.")
    with np.errstate(over="ignore"):
        rows = np.array(given, dtype=np.float32, order="C", copy=True if given.flags.writeable else None)
    if not np.isfinite(rows).all():
        raise ValueError(f"embeddings: row {int(np.argmin(np.isfinite(rows).all(axis=1)))} is not finite (in float32).")
    if (rows == rows[0]).all():
        raise ValueError(f"embeddings: all {len(rows)} rows are the same, so no item could be told from another.")
    rows.setflags(write=False)
    return rows


def proposal_space(action_space: spaces.Space) -> spaces.Box:
    """
    :param action_space: A ``Box``, or an :class:`EmbeddedDiscrete`
    :return: The space of the actors' proposals: the ``Box`` itself, or the space of the embeddings scaled to [-1, 1]
    """
    if isinstance(action_space, EmbeddedDiscrete):
        return spaces.Box(-1.0, 1.0, (action_space.embeddings.shape[1],), np.float32)
    assert isinstance(action_space, spaces.Box)
    return action_space


def check_action_space(space: spaces.Space, algorithm: str) -> None:
    """
    :param space: An action space
    :param algorithm: Name of the algorithm that is to act in it
    :raises UnsupportedActionSpaceError: if it is neither a ``Box`` of floating-point numbers nor an ``EmbeddedDiscrete``
    :raises ValueError: if :func:`check_box` refuses the ``Box``, or there are more than ``MAX_ITEMS`` items
    """
    if isinstance(space, EmbeddedDiscrete):
        if space.n > MAX_ITEMS:
            raise ValueError(f"env: the action space {space} has more than {MAX_ITEMS} items.")
    elif isinstance(space, spaces.Discrete):
        raise UnsupportedActionSpaceError(
            f"env: the action space {space} is not continuous: {algorithm} needs a Box of floats, or an embedding of every "
            "action: wrap the environment in sb3_savo.ActionEmbedding(env, embeddings)."
        )
    else:
        check_box(space, algorithm)


def check_box(space: spaces.Space, algorithm: str) -> None:
    """
    :param space: An action space
    :param algorithm: Name of the algorithm that is to act in it
    :raises UnsupportedActionSpaceError: if it is not a ``Box`` of floating-point numbers
    :raises ValueError: if it is empty, or one of its bounds is infinite, or a lower one is not below its upper one
    """
    if not isinstance(space, spaces.Box) or not np.issubdtype(space.dtype, np.floating):
        raise UnsupportedActionSpaceError(
            f"env: the action space {space} is not continuous: {algorithm} needs a Box of floats."
        )
    if space.low.size == 0:
        raise ValueError(f"env: the action space {space} is empty: {algorithm} needs at least one dimension.")
    if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
        raise ValueError(f"env: the action space {space} is unbounded: {algorithm} needs finite bounds (RescaleAction).")
    if not (space.low < space.high).all():
        raise ValueError(f"env: the action space {space} has a dimension without width: low must be below high.")
