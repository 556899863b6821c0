"""
MovieLens (Harper and Konstan, 2015): finding, downloading and reading its files, and embeddings of its movies and users.

GroupLens allows its use for research, not for revenue without permission: see the README of each data set.
"""

import csv
import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pooch
import scipy.sparse as sp
from filelock import FileLock
from sklearn.decomposition import TruncatedSVD
from sklearn.preprocessing import MinMaxScaler

from sb3_savo.arguments import check_choice

EMBEDDING_DIM = 30

URL = "https://files.grouplens.org/datasets/movielens/{}.zip"


class Files(NamedTuple):
    """The two files of a data set that are read, and the SHA-256 of GroupLens' archive."""

    ratings: str
    movies: str
    sha256: str


DATASETS = {
    "ml-latest-small": Files("ratings.csv", "movies.csv", "696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436"),
    "ml-100k": Files("u.data", "u.item", "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229"),
    "ml-1m": Files("ratings.dat", "movies.dat", "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20"),
    "ml-25m": Files("ratings.csv", "movies.csv", "8b21cfb7eb1706b4ec0aac894368d90acf26ebdfb6aced3ebd4ad5bd1eb9c6aa"),
}

RATING_DTYPES = {"userId": np.int32, "movieId": np.int32, "rating": np.float32, "timestamp": np.int64}
N_GENRES_100K = 19


class RatingLog(NamedTuple):
    """
    Every rating of a data set, ordered by user and then by time. A movie's index is its row in the file of movies, a user's
    the place among the ids in ascending order.
    """

    users: np.ndarray  # (n_ratings,)
    movies: np.ndarray  # (n_ratings,)
    ratings: np.ndarray  # (n_ratings,), 0.5 to 5 stars
    genres: np.ndarray  # (n_movies, n_genres), 0 or 1

    @property
    def n_users(self) -> int:
        return int(self.users[-1]) + 1


def cache_dir() -> Path:
    """
    :return: Where downloads and fitted models are kept: the environment variable SB3_SAVO_CACHE, else the user's cache
    """
    return Path(os.environ.get("SB3_SAVO_CACHE") or pooch.os_cache("sb3-savo")).expanduser()


def find_dataset(dataset: str, data_dir: str | os.PathLike | None = None) -> Path:
    """
    Look for a data set in ``data_dir``; without it in the environment variable MOVIELENS_DIR and in :func:`cache_dir`, and
    then download it from GroupLens to the latter.

    :param dataset: One of :data:`DATASETS`
    :param data_dir: The folder that holds the files, or its parent
    :return: The folder that holds the files
    :raises ValueError: if the data set is unknown
    :raises FileNotFoundError: if the files are neither found nor downloaded
    """
    check_choice("dataset", dataset, DATASETS)
    files = DATASETS[dataset]
    wanted = f"{files.ratings} and {files.movies}"
    named = os.environ.get("MOVIELENS_DIR")
    for parent in (named, cache_dir()) if data_dir is None else (data_dir,):
        if parent and (folder := _folder_in(Path(parent).expanduser(), dataset)) is not None:
            return folder
    if data_dir is not None:
        raise FileNotFoundError(
            f"data_dir={os.fspath(data_dir)!r} has no {wanted} of {dataset}, nor has its folder {dataset}."
        )
    folder = cache_dir() / dataset
    try:
        _download(dataset, folder)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"{wanted} of {dataset} are missing: MOVIELENS_DIR={named!r} does not have them, nor does {folder}, and "
            f"{URL.format(dataset)} could not be downloaded ({error}). Fetch and unzip it by hand, and put the files into "
            f"{folder}, or name their folder in MOVIELENS_DIR or data_dir."
        ) from None
    return folder


def _holds(folder: Path, files: Files) -> bool:
    return (folder / files.ratings).is_file() and (folder / files.movies).is_file()


def _folder_in(parent: Path, dataset: str) -> Path | None:
    for folder in (parent / dataset, parent):
        # Several data sets have files of the same names: one's own folder is not taken for another's
        if _holds(folder, DATASETS[dataset]) and folder.resolve().name not in DATASETS.keys() - {dataset}:
            return folder
    return None


def _download(dataset: str, folder: Path) -> None:
    files = DATASETS[dataset]
    folder.mkdir(parents=True, exist_ok=True)
    # Whoever comes second finds the files, and whoever is killed leaves none half unpacked
    with FileLock(folder / ".lock"), tempfile.TemporaryDirectory(dir=folder) as unpacked:
        if not _holds(folder, files):
            members = [f"{dataset}/{name}" for name in (files.ratings, files.movies)]
            unzip = pooch.Unzip(members, extract_dir=".")
            pooch.retrieve(URL.format(dataset), f"sha256:{files.sha256}", "archive.zip", unpacked, unzip)
            for member in members:
                os.replace(Path(unpacked) / member, folder / Path(member).name)


def read_log(dataset: str, folder: Path) -> RatingLog:
    """
    :param dataset: One of :data:`DATASETS`, which says how the files are written
    :param folder: The folder that holds them
    :return: All ratings, and the genres of all movies
    :raises ValueError: if a file is malformed, or the two do not fit together
    """
    files = DATASETS[dataset]
    ratings = _read(folder / files.ratings, dataset, RATING_DTYPES, list(RATING_DTYPES))
    if files.movies == "u.item":
        flags = [f"genre{i}" for i in range(N_GENRES_100K)]
        columns = ["movieId", "title", "release", "video_release", "url", *flags]
        movies = _read(folder / files.movies, dataset, {"movieId": np.int32, **dict.fromkeys(flags, np.int8)}, columns)
        genres = movies[flags]
    else:
        movies = _read(folder / files.movies, dataset, {"movieId": np.int32, "genres": str}, ["movieId", "title", "genres"])
        genres = movies["genres"].str.get_dummies("|")

    stars = ratings["rating"]
    if not stars.between(0.5, 5).all():
        raise ValueError(f"{folder / files.ratings} has a rating of {stars[~stars.between(0.5, 5)].iloc[0]}, not 0.5 to 5.")
    if not movies["movieId"].is_unique:
        raise ValueError(f"{folder / files.movies} has two rows for one movie.")
    rows = pd.Index(movies["movieId"]).get_indexer(ratings["movieId"])
    if (rows < 0).any():
        unknown = ratings["movieId"].iloc[int(np.argmin(rows))]
        raise ValueError(f"{folder / files.ratings} rates the movie {unknown}, which {files.movies} does not have.")

    users = np.unique(ratings["userId"], return_inverse=True)[1]
    order = np.lexsort((ratings["timestamp"], users))
    return RatingLog(users[order], rows[order], stars.to_numpy()[order], genres.to_numpy(np.float32))


def _read(path: Path, dataset: str, dtypes: dict[str, Any], columns: list[str]) -> pd.DataFrame:
    """The columns that ``dtypes`` names. Only the csv files are UTF-8, and say themselves what their columns are."""
    separators = {".csv": ",", ".dat": "::", ".data": "\t", ".item": "|"}
    options: dict[str, Any] = {"sep": separators[path.suffix]}
    if path.suffix != ".csv":
        options |= {"encoding": "latin-1", "header": None, "names": columns, "index_col": False, "quoting": csv.QUOTE_NONE}
    if path.suffix == ".dat":
        options["engine"] = "python"
    try:
        table = pd.read_csv(path, usecols=list(dtypes), dtype=dtypes, **options)
    except ValueError as error:
        raise ValueError(f"{path} is not what {dataset} has under this name: {error}") from error
    if len(table) == 0 or table.isna().any(axis=None):
        raise ValueError(f"{path} is not what {dataset} has under this name: it is empty, or a value is missing.")
    return table


def centred(log: RatingLog, offline: np.ndarray) -> np.ndarray:
    """
    :param log: The ratings
    :param offline: Whether a user is in the offline log, (n_users,)
    :return: Ratings less the mean of the offline ones, (n_ratings,)
    """
    return log.ratings - log.ratings[offline[log.users]].mean(dtype=float)


def movie_embeddings(log: RatingLog, offline: np.ndarray) -> np.ndarray:
    """
    R(I): the truncated SVD of the offline ratings (mean-centred, 0 where there is none), and one dimension per genre; each
    scaled to [-1, 1] by its least and greatest value. Every movie has one, also those without a rating.

    :param log: The ratings
    :param offline: Whether a user is in the offline log, (n_users,)
    :return: Embeddings, (n_movies, 30)
    :raises ValueError: if there are too few movies or offline users for so many dimensions
    """
    n_movies, n_genres = log.genres.shape
    n_components = EMBEDDING_DIM - n_genres
    if not 1 <= n_components <= min(n_movies, offline.sum()):
        raise ValueError(
            f"{n_movies} movies of {n_genres} genres, rated by {offline.sum()} offline users, have no embedding of "
            f"{EMBEDDING_DIM} dimensions: {EMBEDDING_DIM} - n_genres must be at least 1, and at most the number of each."
        )
    seen = offline[log.users]
    values, places = centred(log, offline)[seen], (log.movies[seen], log.users[seen])
    matrix = sp.csr_matrix((values, places), shape=(n_movies, log.n_users))
    factors = TruncatedSVD(n_components, random_state=0).fit_transform(matrix)
    return MinMaxScaler((-1, 1), clip=True).fit_transform(np.hstack([factors, log.genres])).astype(np.float32)


def profiles(embeddings: np.ndarray, groups: np.ndarray, movies: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """
    A user's profile: the mean of the embeddings of the movies that they rated, weighted by their centred ratings, so that
    what they disliked counts against. It lies in [-1, 1].

    :param embeddings: (n_movies, 30)
    :param groups: Whose rating it is, ascending from 0, (n_ratings,)
    :param movies: Which movie is rated, (n_ratings,)
    :param weights: Centred ratings, (n_ratings,)
    :return: Σ w e / Σ |w| for each group, (n_groups, 30); 0 where all weights are 0
    """
    n_groups = int(groups[-1]) + 1
    sums = sp.csr_matrix((weights, (groups, movies)), shape=(n_groups, len(embeddings))) @ embeddings
    totals = np.bincount(groups, np.abs(weights), n_groups)
    return (sums / np.where(totals > 0, totals, 1)[:, None]).clip(-1, 1).astype(np.float32)
