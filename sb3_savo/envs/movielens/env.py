"""RecSim-Data (paper, §5 and Table 2): recommend movies to the users of MovieLens."""

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

from sb3_savo.actions.spaces import EmbeddedDiscrete
from sb3_savo.arguments import check_choice, check_integer
from sb3_savo.envs.movielens import click_model as clicks
from sb3_savo.envs.movielens import dataset as movielens_data
from sb3_savo.envs.movielens.click_model import N_LAST, ClickModel
from sb3_savo.envs.movielens.dataset import DATASETS, EMBEDDING_DIM, cache_dir, find_dataset
from sb3_savo.envs.pictures import draw_bars

SPLITS = ("train", "eval")
OFFLINE_SHARE = 0.6

logger = logging.getLogger(__name__)


class Split(NamedTuple):
    """What the environment knows of the users of one split; arrays are read-only."""

    click_model: ClickModel
    profiles: np.ndarray  # (n_users, 30)
    n_ratings: np.ndarray  # ()


class RecSimData(gym.Env):
    """
    Recommend one movie after the other to a user of MovieLens, a new one every episode: reward 1 if it is clicked, which a
    frozen :class:`ClickModel` gives the probability of, else 0. Any movie may be recommended, also one that was before. The
    paper's episodes are 80 steps, which is the time limit of ``RecSimData-v0``; the environment itself has none.

    Actions are the movies, in the order of the data set's file; :func:`movielens_data.movie_embeddings` embeds them (30-D).
    An observation is the embeddings of the last 3 clicked movies, newest first, 0 where there is none, and then the user's
    profile (:func:`movielens_data.profiles` of the whole log): (120,), in [-1, 1]. A movie that is not clicked changes
    nothing.

    Six users of ten are the offline log: the embeddings are made from it, the click model of ``split="train"`` is fitted to
    it, and it is them that this split serves. The others have a click model of their own, so that with ``split="eval"`` no
    policy is scored by the model, or with the users, that it was trained on.

    The files, where not found, are downloaded to the folder SB3_SAVO_CACHE, else the user's cache. What is fitted to them is
    kept there too.

    :param dataset: ``"ml-latest-small"``, ``"ml-100k"``, ``"ml-1m"`` or ``"ml-25m"``
    :param data_dir: The folder that holds the data set's files, or its parent; None for the environment variable
        MOVIELENS_DIR, else the cache
    :param split: ``"train"`` or ``"eval"``
    :param split_seed: Seed of the draw of the offline users
    :param render_mode: ``"rgb_array"``: an image of the observation, one bar per number, the three movies and the profile one
        above the other, (384, 240, 3) in uint8; ``"ansi"``: a line on the clicks so far; None: :meth:`render` returns None
    :raises TypeError: if ``split_seed`` is not an integer
    :raises ValueError: if an argument has none of its values, or a file is malformed or too small
    :raises FileNotFoundError: if the files are neither found nor downloaded
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
    ):
        check_choice("split", split, SPLITS)
        check_choice("render_mode", render_mode, (None, *self.metadata["render_modes"]))
        self.render_mode = render_mode
        embeddings, splits = load(dataset, data_dir, split_seed)
        self.click_model, self.profiles, _ = splits[split]
        self.action_space = EmbeddedDiscrete(embeddings)
        self.observation_space = spaces.Box(-1.0, 1.0, ((N_LAST + 1) * EMBEDDING_DIM,), np.float32)
        self._obs = np.zeros(self.observation_space.shape, dtype=np.float32)
        self._clicked: list[int] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        profile = self.profiles[self.np_random.integers(len(self.profiles))]
        self._clicked = []
        self._obs = np.concatenate([np.zeros(N_LAST * EMBEDDING_DIM, dtype=np.float32), profile])
        return self._obs.copy(), {}

    def step(self, action: int | np.integer) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """
        :param action: The movie
        :raises ValueError: if there is no such movie
        """
        if not self.action_space.contains(action):
            raise ValueError(f"action={action!r} is not a movie: it must be an integer from 0 to {self.action_space.n - 1}.")
        movie = self.action_space.embeddings[action]
        clicked = self.np_random.random() < self.click_model.probability(self._obs, movie[None])[0]
        if clicked:
            older, profile = self._obs[: (N_LAST - 1) * EMBEDDING_DIM], self._obs[N_LAST * EMBEDDING_DIM :]
            self._obs = np.concatenate([movie, older, profile])
            self._clicked.append(int(action))
        return self._obs.copy(), float(clicked), False, False, {}

    def render(self) -> str | np.ndarray | None:
        if self.render_mode == "rgb_array":
            return draw_bars(self._obs.reshape(-1, EMBEDDING_DIM))
        if self.render_mode == "ansi":
            last = ", ".join(map(str, self._clicked[:-4:-1]))
            return f"{len(self._clicked)} clicks, the last on the movies {last or '(none)'}"
        return None


def load(dataset: str, data_dir: str | os.PathLike | None = None, split_seed: int = 0) -> tuple[np.ndarray, dict[str, Split]]:
    """
    :param dataset: See :class:`RecSimData`
    :param data_dir: See :class:`RecSimData`
    :param split_seed: See :class:`RecSimData`
    :return: The movies' embeddings, (n_movies, 30), and both splits: fitted to the files once, then from the cache. Within a
        process, they are the same arrays for every caller.
    """
    check_integer("split_seed", split_seed, low=0)
    return _load(dataset, find_dataset(dataset, data_dir).resolve(), split_seed, cache_dir())


@functools.lru_cache
def _load(dataset: str, folder: Path, split_seed: int, cache: Path) -> tuple[np.ndarray, dict[str, Split]]:
    files = DATASETS[dataset]
    # What is made of the files depends on the source that makes it, too
    made_from = [folder / files.ratings, folder / files.movies, __file__, clicks.__file__, movielens_data.__file__]
    key = hashlib.sha256(" ".join([str(split_seed), *map(pooch.file_hash, map(str, made_from))]).encode()).hexdigest()[:16]
    path = cache / f"{dataset}-{key}.npz"
    arrays = _read_cache(path)
    if arrays is None:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            # Another process may have done it all while this one waited for the lock
            arrays = _read_cache(path)
            if arrays is None:
                arrays = fit(dataset, folder, split_seed)
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
    """None if it is not there, or damaged."""
    try:
        with np.load(path) as file:
            return dict(file)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile):
        return None


def _write_cache(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Only the holder of the lock does, and whoever reads meanwhile finds all of it or nothing."""
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    part.replace(path)


def fit(dataset: str, folder: Path, split_seed: int) -> dict[str, np.ndarray]:
    """
    Everything that is learnt from a data set. The AUC of ``train`` flatters: all its users, also those who are held out from
    the click model, have their ratings in the embeddings. That of ``eval`` does not.

    :param dataset: One of :data:`movielens_data.DATASETS`
    :param folder: The folder that holds its files
    :param split_seed: Seed of the draw of the offline users
    :return: The embeddings, and for both splits the profiles of the users and the arrays of the click model
    """
    log = movielens_data.read_log(dataset, folder)
    offline = np.zeros(log.n_users, dtype=bool)
    offline[np.random.default_rng(split_seed).permutation(log.n_users)[: round(OFFLINE_SHARE * log.n_users)]] = True
    embeddings = movielens_data.movie_embeddings(log, offline)
    weights = movielens_data.centred(log, offline)
    profiles = movielens_data.profiles(embeddings, log.users, log.movies, weights)
    arrays = {"embeddings": embeddings}
    for split, members in (("train", offline), ("eval", ~offline)):
        model = clicks.fit_click_model(log, embeddings, weights, members)
        arrays |= {f"{split}_{field}": array for field, array in model._asdict().items()}
        arrays |= {f"{split}_profiles": profiles[members], f"{split}_n_ratings": np.asarray(members[log.users].sum())}
        logger.info("%s, %s: click model with a held-out AUC of %.3f", dataset, split, model.auc)
    return arrays
