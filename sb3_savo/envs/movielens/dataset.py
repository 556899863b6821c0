"""
The MovieLens data sets (Harper and Konstan, 2015): find, download and read the files, and embed the movies and users.

GroupLens allows research with the data, but no commercial use without permission: see the README of each data set.
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


class DatasetFiles(NamedTuple):
    """Names of the ratings file and the movies file of a data set, and the SHA-256 of GroupLens' archive."""

    ratings: str
    movies: str
    sha256: str


DATASETS = {
    "ml-latest-small": DatasetFiles(
        "ratings.csv", "movies.csv", "696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436"
    ),
    "ml-100k": DatasetFiles("u.data", "u.item", "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229"),
    "ml-1m": DatasetFiles("ratings.dat", "movies.dat", "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20"),
    "ml-25m": DatasetFiles("ratings.csv", "movies.csv", "8b21cfb7eb1706b4ec0aac894368d90acf26ebdfb6aced3ebd4ad5bd1eb9c6aa"),
}

RATING_DTYPES = {"userId": np.int32, "movieId": np.int32, "rating": np.float32, "timestamp": np.int64}
N_GENRES_100K = 19


class RatingLog(NamedTuple):
    """
    Every rating of a data set, ordered by user and then by time. The index of a movie is its row in the movies file. The index
    of a user is the rank of the user's ID.
    """

    users: np.ndarray  # Index of the user of each rating, (n_ratings,)
    movies: np.ndarray  # Index of the movie of each rating, (n_ratings,)
    ratings: np.ndarray  # 0.5 to 5 stars, (n_ratings,)
    genres: np.ndarray  # 1 if the movie has the genre, else 0, (n_movies, n_genres)

    @property
    def n_users(self) -> int:
        return int(self.users[-1]) + 1


def cache_dir() -> Path:
    """
    :return: The folder for downloads and fitted models: the environment variable SB3_SAVO_CACHE, else the user's cache
    """
    return Path(os.environ.get("SB3_SAVO_CACHE") or pooch.os_cache("sb3-savo")).expanduser()


def find_dataset(dataset: str, data_dir: str | os.PathLike | None = None) -> Path:
    """
    Look for a data set in ``data_dir``. If that is None, look in the environment variable MOVIELENS_DIR, then in
    :func:`cache_dir`, and finally download the data set from GroupLens to the cache.

    :param dataset: One of :data:`DATASETS`
    :param data_dir: The folder that holds the files, its parent, or None
    :return: The folder that holds the files
    :raises ValueError: if the data set is unknown
    :raises FileNotFoundError: if the files are not found and cannot be downloaded
    """
    check_choice("dataset", dataset, DATASETS)
    files = DATASETS[dataset]
    file_names = f"{files.ratings} and {files.movies}"
    movielens_dir = os.environ.get("MOVIELENS_DIR")
    for parent in (movielens_dir, cache_dir()) if data_dir is None else (data_dir,):
        if parent and (folder := _find_folder(Path(parent).expanduser(), dataset)) is not None:
            return folder
    if data_dir is not None:
        raise FileNotFoundError(
            f"data_dir={os.fspath(data_dir)!r} has no {file_names} of {dataset}, and no folder {dataset} that has them."
        )
    folder = cache_dir() / dataset
    try:
        _download(dataset, folder)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"{file_names} of {dataset} are missing: they are neither in MOVIELENS_DIR={movielens_dir!r} nor in {folder}, and "
            f"{URL.format(dataset)} could not be downloaded ({error}). Download and unzip it by hand, and put the files into "
            f"{folder}, or name their folder in MOVIELENS_DIR or data_dir."
        ) from None
    return folder


def _has_files(folder: Path, files: DatasetFiles) -> bool:
    return (folder / files.ratings).is_file() and (folder / files.movies).is_file()


def _find_folder(parent: Path, dataset: str) -> Path | None:
    for folder in (parent / dataset, parent):
        # Several data sets use the same file names, so a folder named after another data set does not count
        if _has_files(folder, DATASETS[dataset]) and folder.resolve().name not in DATASETS.keys() - {dataset}:
            return folder
    return None


def _download(dataset: str, folder: Path) -> None:
    files = DATASETS[dataset]
    folder.mkdir(parents=True, exist_ok=True)
    # The lock lets only one process download. Files are moved when complete, so a killed process leaves no partial files
    with FileLock(folder / ".lock"), tempfile.TemporaryDirectory(dir=folder) as unpacked:
        if not _has_files(folder, files):
            members = [f"{dataset}/{name}" for name in (files.ratings, files.movies)]
            unzip = pooch.Unzip(members, extract_dir=".")
            pooch.retrieve(URL.format(dataset), f"sha256:{files.sha256}", "archive.zip", unpacked, unzip)
            for member in members:
                os.replace(Path(unpacked) / member, folder / Path(member).name)


def read_rating_log(dataset: str, folder: Path) -> RatingLog:
    """
    Read the files of a data set.

    :param dataset: One of :data:`DATASETS`, which determines the file format
    :param folder: The folder that holds the files
    :return: All ratings, and the genres of all movies
    :raises ValueError: if a file is malformed, or a rated movie is not in the movies file
    """
    files = DATASETS[dataset]
    ratings = _read_table(folder / files.ratings, dataset, RATING_DTYPES, list(RATING_DTYPES))
    if files.movies == "u.item":
        flags = [f"genre{i}" for i in range(N_GENRES_100K)]
        columns = ["movieId", "title", "release", "video_release", "url", *flags]
        movies = _read_table(folder / files.movies, dataset, {"movieId": np.int32, **dict.fromkeys(flags, np.int8)}, columns)
        genres = movies[flags]
    else:
        movies = _read_table(
            folder / files.movies, dataset, {"movieId": np.int32, "genres": str}, ["movieId", "title", "genres"]
        )
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


def _read_table(path: Path, dataset: str, dtypes: dict[str, Any], columns: list[str]) -> pd.DataFrame:
    """Read the columns that ``dtypes`` names. Only the csv files are in UTF-8 and have a header with the column names."""
    separators = {".csv": ",", ".dat": "::", ".data": "\t", ".item": "|"}
    options: dict[str, Any] = {"sep": separators[path.suffix]}
    if path.suffix != ".csv":
        options |= {"encoding": "latin-1", "header": None, "names": columns, "index_col": False, "quoting": csv.QUOTE_NONE}
    if path.suffix == ".dat":
        options["engine"] = "python"
    try:
        table = pd.read_csv(path, usecols=list(dtypes), dtype=dtypes, **options)
    except ValueError as error:
        raise ValueError(f"{path} does not have the format of {dataset}: {error}") from error
    if len(table) == 0 or table.isna().any(axis=None):
        raise ValueError(f"{path} does not have the format of {dataset}: it is empty, or a value is missing.")
    return table


def centered_ratings(log: RatingLog, offline: np.ndarray) -> np.ndarray:
    """
    :param log: The ratings
    :param offline: Whether a user is in the offline log, (n_users,)
    :return: Ratings minus the mean of the offline ratings, (n_ratings,)
    """
    return log.ratings - log.ratings[offline[log.users]].mean(dtype=float)


def movie_embeddings(log: RatingLog, offline: np.ndarray) -> np.ndarray:
    """
    Embed every movie, even one without ratings: R(I) is the truncated SVD of the centered offline ratings, with 0 for a
    missing rating, followed by one dimension per genre. Every dimension is scaled to [-1, 1] (min-max).

    :param log: The ratings
    :param offline: Whether a user is in the offline log, (n_users,)
    :return: Embeddings, (n_movies, 30)
    :raises ValueError: if there are too few movies or offline users, or too many genres, for 30 dimensions
    """
    n_movies, n_genres = log.genres.shape
    n_components = EMBEDDING_DIM - n_genres
    if not 1 <= n_components <= min(n_movies, offline.sum()):
        raise ValueError(
            f"{n_movies} movies of {n_genres} genres, rated by {offline.sum()} offline users, have no embedding of "
            f"{EMBEDDING_DIM} dimensions: {EMBEDDING_DIM} - n_genres must be at least 1, and at most the number of movies and "
            "of offline users."
        )
    is_offline_rating = offline[log.users]
    values = centered_ratings(log, offline)[is_offline_rating]
    indices = log.movies[is_offline_rating], log.users[is_offline_rating]
    matrix = sp.csr_matrix((values, indices), shape=(n_movies, log.n_users))
    factors = TruncatedSVD(n_components, random_state=0).fit_transform(matrix)
    return MinMaxScaler((-1, 1), clip=True).fit_transform(np.hstack([factors, log.genres])).astype(np.float32)


def user_profiles(embeddings: np.ndarray, groups: np.ndarray, movies: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """
    Compute the profile of each group of ratings: the mean of the rated movies' embeddings, weighted by the centered ratings,
    so that disliked movies have negative weights.

    :param embeddings: Embeddings of the movies, (n_movies, 30)
    :param groups: Index of the group of each rating, such as its user; ascending from 0, (n_ratings,)
    :param movies: Index of the movie of each rating, (n_ratings,)
    :param weights: Centered ratings, (n_ratings,)
    :return: Σ w e / Σ |w| for each group, (n_groups, 30) in [-1, 1]; 0 for a group whose weights are all 0
    """
    n_groups = int(groups[-1]) + 1
    sums = sp.csr_matrix((weights, (groups, movies)), shape=(n_groups, len(embeddings))) @ embeddings
    totals = np.bincount(groups, np.abs(weights), n_groups)
    return (sums / np.where(totals > 0, totals, 1)[:, None]).clip(-1, 1).astype(np.float32)
