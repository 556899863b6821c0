"""Action spaces: a Discrete space that knows its items' embeddings, and the space that actors propose in."""

from typing import Any

import numpy as np
from gymnasium import spaces

from sb3_savo.actions.nearest import scale
from sb3_savo.arguments import check_flag

MAX_ITEMS = 2**24  # replay buffers hold items as float32, which is exact so far


class UnsupportedActionSpaceError(TypeError, AssertionError):
    """The action space is of the wrong kind. SB3's algorithms raise an ``AssertionError`` then, so this error is one too."""


class EmbeddedDiscrete(spaces.Discrete):
    """
    Items 0 … N-1, each with an embedding R(I) (paper, §3.2.1). For every other library it is Gymnasium's ``Discrete``.

    :param embeddings: One row per item, (N, D), N at least 2; kept as float32 and read-only, without a copy if they are
        float32 and read-only already
    :param seed: Seed of :meth:`sample`
    :param allow_duplicates: Whether two items may have the same embedding. The second of them is then taken only where a mask
        forbids the first.
    :raises TypeError: if the embeddings are not numbers
    :raises ValueError: if they have the wrong shape, are not finite, all rows are the same, or two rows are the same in
        float32, after scaling too, and ``allow_duplicates`` is False
    """

    embeddings: np.ndarray

    def __init__(
        self,
        embeddings: np.ndarray,
        seed: int | np.random.Generator | None = None,
        *,
        allow_duplicates: bool = False,
    ):
        check_flag("allow_duplicates", allow_duplicates)
        self.embeddings = check_embeddings(embeddings)
        # Rows that are the same are so after scaling too
        if not allow_duplicates and (pair := first_duplicate(scale(self.embeddings))) is not None:
            first, second = pair
            if (self.embeddings[first] == self.embeddings[second]).all():
                when = ""
                remedy = "Merge the two items, or give them different embeddings (a larger difference, or one more column)"
            else:
                when = " after scaling each column to [-1, 1]"
                remedy = "A column may hold a value far from all others: clip it, or take its logarithm"
            raise ValueError(
                f"embeddings: rows {first} and {second} are the same{when} (in float32), so item {second} could never be "
                f"taken. {remedy}; EmbeddedDiscrete(embeddings, allow_duplicates=True) accepts them."
            )
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
    :raises ValueError: if they have the wrong shape, are not finite or too large to scale, or all rows are the same
    """
    try:
        given = np.asarray(embeddings)
    except ValueError as error:
        raise ValueError(
            f"embeddings are not an array: they must be (N, D), one row of D numbers per item: {error}"
        ) from error
    if not (np.issubdtype(given.dtype, np.floating) or np.issubdtype(given.dtype, np.integer)):
        raise TypeError(f"embeddings are of the type {given.dtype}: they must be numbers, one row per item.")
    if given.ndim != 2 or given.shape[0] < 2 or given.shape[1] < 1:
        raise ValueError(f"embeddings has the shape {given.shape}: it must be (N, D), with N items of at least 2.")
    with np.errstate(over="ignore"):
        rows = np.array(given, dtype=np.float32, order="C", copy=True if given.flags.writeable else None)
    if not np.isfinite(rows).all():
        raise ValueError(f"embeddings: row {int(np.argmin(np.isfinite(rows).all(axis=1)))} is not finite (in float32).")
    largest = np.finfo(np.float32).max / 2
    if np.abs(rows).max() > largest:
        raise ValueError(f"embeddings: row {int(np.abs(rows).max(axis=1).argmax())} holds a number above {largest:.3g}.")
    if (rows == rows[0]).all():
        raise ValueError(f"embeddings: all {len(rows)} rows are the same, so no item could be told from another.")
    rows.setflags(write=False)
    return rows


def first_duplicate(rows: np.ndarray) -> tuple[int, int] | None:
    """
    :param rows: (N, D) in float32
    :return: The first row that equals an earlier one, as (the earlier row, the row), or None
    """
    # A polynomial hash of the bits, since sorting whole rows takes seconds for 500,000 items
    hashes = np.zeros(len(rows), dtype=np.uint64)
    for column in rows.T:
        # Adding 0 turns -0 into 0
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + (column + np.float32(0)).view(np.uint32)
    order = np.argsort(hashes, kind="stable")
    suspects = np.flatnonzero(hashes[order][1:] == hashes[order][:-1])
    pairs = [(int(order[i]), int(order[i + 1])) for i in suspects if (rows[order[i]] == rows[order[i + 1]]).all()]
    return min(pairs, key=lambda pair: pair[1]) if pairs else None


def proposal_space(action_space: spaces.Space) -> spaces.Box:
    """
    :param action_space: A ``Box``, or an :class:`EmbeddedDiscrete`
    :return: The space of the actors' proposals: the ``Box`` itself, or the space of the embeddings scaled to [-1, 1]
    """
    if isinstance(action_space, EmbeddedDiscrete):
        return spaces.Box(-1.0, 1.0, (action_space.embeddings.shape[1],), np.float32)
    if not isinstance(action_space, spaces.Box):
        raise UnsupportedActionSpaceError(
            f"action_space={action_space} must be a Box of floats, or an EmbeddedDiscrete: items with embeddings."
        )
    return action_space


# A dimension with fewer different numbers of its data type has hardly any actions to choose from
MIN_ACTIONS_PER_DIMENSION = 256


def check_action_space(space: spaces.Space, algorithm: str, argument: str = "env") -> None:
    """
    :param space: An action space
    :param algorithm: Name of the algorithm that is to act in it
    :param argument: The argument that it comes from
    :raises UnsupportedActionSpaceError: if it is neither a ``Box`` of floating-point numbers nor an ``EmbeddedDiscrete``
    :raises ValueError: if :func:`check_box` refuses the ``Box``, or there are more than ``MAX_ITEMS`` items
    """
    if isinstance(space, EmbeddedDiscrete):
        if space.n > MAX_ITEMS:
            raise ValueError(f"{argument}: the action space {space} has more than {MAX_ITEMS} items.")
    elif isinstance(space, spaces.Discrete):
        raise UnsupportedActionSpaceError(
            f"{argument}: the action space {space} is not continuous: {algorithm} needs a Box of floats, or an embedding of "
            "every action: wrap the environment in sb3_savo.ActionEmbedding(env, embeddings)."
        )
    else:
        check_box(space, algorithm, argument)


def check_box(space: spaces.Space, algorithm: str, argument: str = "env") -> None:
    """
    :param space: An action space
    :param algorithm: Name of the algorithm that is to act in it
    :param argument: The argument that it comes from
    :raises UnsupportedActionSpaceError: if it is not a ``Box`` of floating-point numbers
    :raises ValueError: if it is empty, one of its bounds is infinite, a lower one is not below its upper one, or the width
        between the two is infinite in the data type, or so small that hardly any numbers lie between them
    """
    subject = f"{argument}: the action space {space}"
    if not isinstance(space, spaces.Box) or not np.issubdtype(space.dtype, np.floating):
        raise UnsupportedActionSpaceError(f"{subject} is not continuous: {algorithm} needs a Box of floats.")
    if space.low.size == 0:
        raise ValueError(f"{subject} is empty: {algorithm} needs at least one dimension.")
    if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
        raise ValueError(f"{subject} is unbounded: {algorithm} needs finite bounds (TransformAction).")
    if not (space.low < space.high).all():
        raise ValueError(f"{subject} has a dimension without width: low must be below high.")
    with np.errstate(over="ignore"):
        width = space.high - space.low
        for dtype in (space.dtype, np.dtype(np.float32)):  # actions are computed in float32
            if not np.isfinite(width.astype(dtype)).all():
                raise ValueError(
                    f"{subject} is too wide: high - low is infinite in {dtype}. {algorithm} needs bounds like those of the "
                    "actions that make sense (TransformAction)."
                )
    steps = width / np.spacing(np.maximum(np.abs(space.low), np.abs(space.high)))
    if (steps < MIN_ACTIONS_PER_DIMENSION).any():
        raise ValueError(
            f"{subject} is too narrow: a dimension holds only about {steps.min():.0f} different numbers of {space.dtype}. "
            f"{algorithm} needs a wider one, or one around 0 (RescaleAction)."
        )


def describe_difference(saved: spaces.Space, given: spaces.Space) -> str:
    """
    :param saved: A space
    :param given: Another one, not equal to it
    :return: In what the two differ, in words
    """
    if isinstance(saved, EmbeddedDiscrete) and isinstance(given, EmbeddedDiscrete):
        if saved.embeddings.shape != given.embeddings.shape:
            (n, dim), (n_given, dim_given) = saved.embeddings.shape, given.embeddings.shape
            return f"{n_given} items with embeddings of {dim_given} numbers instead of {n} items with {dim} numbers"
        distances = np.abs(saved.embeddings - given.embeddings).max(axis=1)
        changed = np.flatnonzero(distances)
        return (
            f"the embeddings of {len(changed)} of {saved.n} items are not the same, first that of item {changed[0]}; "
            f"the largest difference is {distances.max():.3g}"
        )
    if isinstance(saved, spaces.Dict) and isinstance(given, spaces.Dict):
        if saved.keys() != given.keys():
            return f"the keys {sorted(given.keys())} instead of {sorted(saved.keys())}"
        key = next(key for key in saved if saved[key] != given[key])
        return f"the entry {key!r}: {describe_difference(saved[key], given[key])}"
    if isinstance(saved, spaces.Box) and isinstance(given, spaces.Box):
        for name in ("shape", "dtype"):
            if getattr(saved, name) != getattr(given, name):
                return f"the {name} {getattr(given, name)} instead of {getattr(saved, name)}"
        for name in ("low", "high"):
            old, new = getattr(saved, name).ravel(), getattr(given, name).ravel()
            if (old != new).any():
                index = int(np.argmax(old != new))
                return f"{name}[{index}] is {new[index]!s} instead of {old[index]!s}"
    return f"{given} instead of {saved}"
