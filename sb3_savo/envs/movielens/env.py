"""RecSim-Data (paper, §5 and Table 2): the environment, and its fit to a data set, which is cached on disk."""

import functools
import hashlib
import logging
import os
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pooch
from filelock import FileLock
from gymnasium import spaces
from gymnasium.error import ResetNeeded

from sb3_savo.actions.spaces import EmbeddedDiscrete
from sb3_savo.arguments import check_choice, check_flag, check_integer
from sb3_savo.envs.movielens.click_model import N_LAST_CLICKS, ClickModel, fit_click_model
from sb3_savo.envs.movielens.dataset import (
    DATASETS,
    EMBEDDING_DIM,
    cache_dir,
    centered_ratings,
    find_dataset,
    movie_embeddings,
    read_rating_log,
    user_profiles,
)
from sb3_savo.envs.pictures import draw_bars

SPLITS = ("train", "eval")
OFFLINE_SHARE = 0.6

# The cached fit depends on the source of these modules
FIT_SOURCES = [Path(__file__).with_name(name) for name in ("env.py", "click_model.py", "dataset.py")]

logger = logging.getLogger(__name__)


class Split(NamedTuple):
    """The users of one split, in read-only arrays."""

    click_model: ClickModel
    profiles: np.ndarray  # Profile of each user, (n_users, 30)
    n_ratings: np.ndarray  # Number of ratings of all users, ()


class RecSimData(gym.Env):
    """
    Recommend one movie per step to a user of MovieLens. Every episode has a new user.

    A movie is recommended once per episode, as is usual in the literature on recommendation. ``action_masks()`` allows the
    movies that were not recommended in this episode (all, once none is left), and ``info["action_masks"]`` holds the same
    after every step. A movie that is recommended again is not clicked. With ``repeats=True``, as in the text of the paper,
    there are no masks, and a policy can recommend the movie of the likeliest click at every step.
    ``python -m sb3_savo.envs.movielens`` prints what that earns.

    **Actions**: the index of a movie, in the order of the movies file. Embeddings, (n_movies, 30) in [-1, 1], from
    :func:`~sb3_savo.envs.movielens.dataset.movie_embeddings`.

    **Observations**: 120 numbers in [-1, 1]: the embeddings of the last 3 clicked movies, newest first, 0 where there is none,
    and then the user's profile, which :func:`~sb3_savo.envs.movielens.dataset.user_profiles` computes from all ratings of the
    user. A movie that is not clicked changes nothing.

    **Rewards**: 1 if the user clicks the movie, else 0. A fixed :class:`ClickModel` gives the probability of a click.

    An episode ends only at a time limit (``truncated``): 80 steps for ``RecSimData-v0``, as in the paper. The class itself has
    no time limit.

    The offline log holds 60 % of the users. It is used to compute the embeddings, to fit the click model of ``split="train"``,
    and as the users of that split. The other users have a click model of their own. So ``split="eval"`` never scores a policy
    by the click model, or with the users, that it was trained on.

    Missing files are downloaded to the folder SB3_SAVO_CACHE, else to the user's cache. The fitted models are kept there, too.

    :param dataset: ``"ml-latest-small"``, ``"ml-100k"``, ``"ml-1m"`` or ``"ml-25m"``
    :param data_dir: The folder that holds the data set's files, or its parent; None for the environment variable
        MOVIELENS_DIR, else the cache
    :param split: ``"train"`` or ``"eval"``
    :param split_seed: Seed of the draw of the offline users, at least 0
    :param repeats: Whether a movie may be recommended, and clicked, repeatedly in an episode
    :param render_mode: ``"rgb_array"``: an image of the observation, one bar per number, with one row for each of the three
        movies and one for the profile, (384, 240, 3) in uint8; ``"ansi"``: a string with the number of clicks and the last
        clicked movies; None: :meth:`render` returns None
    :raises TypeError: if ``split_seed`` is not an integer
    :raises ValueError: if an argument is not one of its choices, or a file is malformed or too small
    :raises FileNotFoundError: if the files are not found and cannot be downloaded
    """

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4}  # noqa: RUF012 (Gymnasium's attribute)
    action_space: EmbeddedDiscrete

    def __init__(
        self,
        dataset: str = "ml-latest-small",
        data_dir: str | os.PathLike | None = None,
        split: str = "train",
        split_seed: int = 0,
        render_mode: str | None = None,
        repeats: bool = False,
    ):
        check_flag("repeats", repeats)
        check_choice("split", split, SPLITS)
        check_choice("render_mode", render_mode, (None, *self.metadata["render_modes"]))
        self.render_mode = render_mode
        embeddings, splits = load_splits(dataset, data_dir, split_seed)
        self.click_model, self.profiles, _ = splits[split]
        # Movies that only users of the other split have rated differ in their genres alone
        self.action_space = EmbeddedDiscrete(embeddings, allow_duplicates=True)
        self.observation_space = spaces.Box(-1.0, 1.0, ((N_LAST_CLICKS + 1) * EMBEDDING_DIM,), np.float32)
        self._obs = np.zeros(self.observation_space.shape, dtype=np.float32)
        self._has_user = False
        self._clicked: list[int] = []
        self._recommended = np.zeros(len(embeddings), dtype=bool)
        self.repeats = repeats
        if not repeats:
            # Algorithms look for this method to see whether there are masks
            self.action_masks = self._not_recommended

    def _not_recommended(self) -> np.ndarray:
        """:return: Which movies have not been recommended in this episode, (n_movies,); all of them once none is left"""
        return ~self._recommended if not self._recommended.all() else np.ones_like(self._recommended)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        profile = self.profiles[self.np_random.integers(len(self.profiles))]
        self._clicked = []
        self._recommended[:] = False
        self._has_user = True
        self._obs = np.concatenate([np.zeros(N_LAST_CLICKS * EMBEDDING_DIM, dtype=np.float32), profile])
        return self._obs.copy(), {}

    def step(self, action: int | np.integer) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """
        :param action: Index of the movie
        :raises ValueError: if there is no such movie
        :raises ResetNeeded: before the first reset
        """
        if not self.action_space.contains(action):
            raise ValueError(f"action={action!r} is not a movie: it must be an integer from 0 to {self.action_space.n - 1}.")
        if not self._has_user:
            raise ResetNeeded("No episode is under way: call reset() before step().")
        movie = self.action_space.embeddings[action]
        clicked = self.np_random.random() < self.click_model.probability(self._obs, movie[None])[0]
        if not self.repeats and self._recommended[action]:
            clicked = False
        self._recommended[action] = True
        if clicked:
            older, profile = self._obs[: (N_LAST_CLICKS - 1) * EMBEDDING_DIM], self._obs[N_LAST_CLICKS * EMBEDDING_DIM :]
            self._obs = np.concatenate([movie, older, profile])
            self._clicked.append(int(action))
        # After the time limit action_masks() describes the next episode, so the mask of the last state is handed over here
        info = {} if self.repeats else {"action_masks": self.action_masks()}
        return self._obs.copy(), float(clicked), False, False, info

    def render(self) -> str | np.ndarray | None:
        if self.render_mode == "rgb_array":
            return draw_bars(self._obs.reshape(-1, EMBEDDING_DIM))
        if self.render_mode == "ansi":
            last = ", ".join(map(str, self._clicked[:-4:-1]))
            return f"{len(self._clicked)} clicks, the last on the movies {last or '(none)'}"
        return None


def load_splits(
    dataset: str, data_dir: str | os.PathLike | None = None, split_seed: int = 0
) -> tuple[np.ndarray, dict[str, Split]]:
    """
    Load both splits of a data set. The first call fits them to the files, later calls read them from the cache.

    :param dataset: See :class:`RecSimData`
    :param data_dir: See :class:`RecSimData`
    :param split_seed: See :class:`RecSimData`
    :return: The embeddings of the movies, (n_movies, 30), and the splits by name. All callers in a process share the arrays.
    """
    check_integer("split_seed", split_seed, low=0)
    return _load(dataset, find_dataset(dataset, data_dir).resolve(), split_seed, cache_dir())


@functools.lru_cache
def _load(dataset: str, folder: Path, split_seed: int, cache: Path) -> tuple[np.ndarray, dict[str, Split]]:
    files = DATASETS[dataset]
    inputs = [folder / files.ratings, folder / files.movies, *FIT_SOURCES]
    key = hashlib.sha256(" ".join([str(split_seed), *map(pooch.file_hash, map(str, inputs))]).encode()).hexdigest()[:16]
    path = cache / f"{dataset}-{key}.npz"
    arrays = _read_cache(path)
    if arrays is None:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            # Another process may have fitted and written it while this process waited for the lock
            arrays = _read_cache(path)
            if arrays is None:
                arrays = fit_splits(dataset, folder, split_seed)
                _write_cache(path, arrays)
    for array in arrays.values():
        array.setflags(write=False)
    return arrays["embeddings"], {
        split: Split(
            ClickModel(*(arrays[f"{split}_{field}"] for field in ClickModel._fields)),
            arrays[f"{split}_profiles"],
            arrays[f"{split}_n_ratings"],
        )
        for split in SPLITS
    }


def _read_cache(path: Path) -> dict[str, np.ndarray] | None:
    """Return None if the file is missing or damaged."""
    try:
        # np.load leaves a damaged file open where it opens it itself
        with path.open("rb") as opened, np.load(opened) as file:
            return dict(file)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile):
        return None


def _write_cache(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write the whole file at once, so that another process never reads a part of it. The caller must hold the lock."""
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    part.replace(path)


def fit_splits(dataset: str, folder: Path, split_seed: int) -> dict[str, np.ndarray]:
    """
    Fit everything that is learned from a data set. The AUC of ``train`` is optimistic, because the embeddings are computed
    from the ratings of all its users, also of the users who are held out from the click model. The AUC of ``eval`` is not.

    :param dataset: One of :data:`DATASETS`
    :param folder: The folder that holds the data set's files
    :param split_seed: Seed of the draw of the offline users
    :return: Arrays by name: the embeddings, and for each split the users' profiles, the number of ratings and the click model
    """
    log = read_rating_log(dataset, folder)
    offline = np.zeros(log.n_users, dtype=bool)
    offline[np.random.default_rng(split_seed).permutation(log.n_users)[: round(OFFLINE_SHARE * log.n_users)]] = True
    embeddings = movie_embeddings(log, offline)
    weights = centered_ratings(log, offline)
    profiles = user_profiles(embeddings, log.users, log.movies, weights)
    arrays = {"embeddings": embeddings}
    for split, members in (("train", offline), ("eval", ~offline)):
        model = fit_click_model(log, embeddings, weights, members)
        arrays |= {f"{split}_{field}": array for field, array in model._asdict().items()}
        arrays |= {f"{split}_profiles": profiles[members], f"{split}_n_ratings": np.asarray(members[log.users].sum())}
        logger.info("%s, %s: click model with a held-out AUC of %.3f", dataset, split, model.auc)
    return arrays
