"""
RecSim-Data, on a small synthetic data set in MovieLens' formats, and on the real ml-latest-small if its files are in
MOVIELENS_DIR or in ../shared/data beside the repository.
"""

import functools
import hashlib
import http.server
import logging
import os
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from scipy.special import expit
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from sb3_savo import SAVO
from sb3_savo.actions.spaces import EmbeddedDiscrete
from sb3_savo.envs.movielens import RecSimData
from sb3_savo.envs.movielens import env as movielens
from sb3_savo.envs.movielens.__main__ import POLICIES, main, play_episode
from sb3_savo.envs.movielens.click_model import N_LAST_CLICKS, fit_click_model, last_clicks, model_inputs, to_click_model
from sb3_savo.envs.movielens.dataset import (
    DATASETS,
    RatingLog,
    centered_ratings,
    find_dataset,
    movie_embeddings,
    read_rating_log,
    user_profiles,
)
from tests.models import SMALL

# In alphabetical order, as the genres are read
GENRES = [
    "Action", "Adventure", "Animation", "Children", "Comedy", "Crime", "Documentary", "Drama",
    "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
]  # fmt: skip
N_USERS, N_MOVIES, N_RATINGS_PER_USER = 200, 80, 30


@functools.cache
def tiny_log():
    """:return: Ratings of users with random tastes in genres, and different kindness"""
    rng = np.random.default_rng(0)
    genres = rng.random((N_MOVIES, len(GENRES))) < 0.15
    genres[np.arange(N_MOVIES), rng.integers(len(GENRES), size=N_MOVIES)] = True
    users = np.repeat(np.arange(N_USERS), N_RATINGS_PER_USER)
    movies = np.concatenate([rng.choice(N_MOVIES, N_RATINGS_PER_USER, replace=False) for _ in range(N_USERS)])
    taste, kindness, quality = rng.normal(size=(N_USERS, len(GENRES))), rng.normal(size=N_USERS), rng.normal(size=N_MOVIES)
    liked = (taste[users] * genres[movies]).sum(axis=1) + kindness[users] + quality[movies]
    ratings = (3.4 + 0.8 * liked + 0.3 * rng.normal(size=len(users))).round().clip(1, 5)
    return RatingLog(users, movies, ratings.astype(np.float32), genres.astype(np.float32))


def write_files(log, folder, dataset):
    """Write the log in a format of MovieLens, in random order, with IDs that differ from the indices; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    files = DATASETS[dataset]
    # Two ratings per second: time orders the pairs, the order in the file decides within a pair
    seconds = 900_000_000 + np.arange(len(log.users)) // 2
    rows = [
        (7 * user + 3, 5 * movie + 11, f"{rating:g}" if files.ratings.startswith("u") else f"{rating:.1f}", second)
        for user, movie, rating, second in zip(log.users, log.movies, log.ratings, seconds, strict=True)
    ]
    order = np.random.default_rng(1).permutation(len(rows) // 2)
    rows = [rows[i] for pair in order for i in (2 * pair, 2 * pair + 1)]
    titles = [f'"{i}, la fiancée: (1999)' for i in range(len(log.genres))]
    if files.ratings.endswith(".csv"):
        (folder / files.ratings).write_text(
            "userId,movieId,rating,timestamp\n" + "".join("{},{},{},{}\n".format(*row) for row in rows), encoding="utf-8"
        )
        quoted = [title.replace('"', '""') for title in titles]
        lines = [f'{5 * i + 11},"{quoted[i]}",{"|".join(genre_names(log.genres[i]))}\n' for i in range(len(titles))]
        (folder / files.movies).write_text("movieId,title,genres\n" + "".join(lines), encoding="utf-8")
    elif files.ratings == "ratings.dat":
        lines = ["{}::{}::{}::{}\n".format(*row) for row in rows]
        (folder / files.ratings).write_text("".join(lines), encoding="latin-1")
        lines = [f"{5 * i + 11}::{titles[i]}::{'|'.join(genre_names(log.genres[i]))}\n" for i in range(len(titles))]
        (folder / files.movies).write_text("".join(lines), encoding="latin-1")
    else:
        lines = ["{}\t{}\t{}\t{}\n".format(*row) for row in rows]
        (folder / files.ratings).write_text("".join(lines), encoding="latin-1")
        lines = [
            "|".join([str(5 * i + 11), titles[i], "01-Jan-1999", "", "http://imdb", "0", *(f"{g:.0f}" for g in log.genres[i])])
            for i in range(len(titles))
        ]
        (folder / files.movies).write_text("\n".join(lines) + "\n", encoding="latin-1")
    return folder


def genre_names(flags):
    return [name for name, flag in zip(GENRES, flags, strict=True) if flag]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache for every test, and no internet access; returns the cache's folder."""
    monkeypatch.setenv("SB3_SAVO_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MOVIELENS_DIR", raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    movielens._load.cache_clear()
    yield tmp_path / "cache"
    movielens._load.cache_clear()


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """The folder of a tiny ml-latest-small, and a cache that holds its fit."""
    folder, cache = tmp_path_factory.mktemp("data") / "ml-latest-small", tmp_path_factory.mktemp("cache")
    write_files(tiny_log(), folder, "ml-latest-small")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SB3_SAVO_CACHE", str(cache))
        movielens.load_splits("ml-latest-small", folder)
    return folder, cache


@pytest.fixture
def tiny(fitted, monkeypatch):
    """The folder of a tiny ml-latest-small; the cache holds its fit."""
    monkeypatch.setenv("SB3_SAVO_CACHE", str(fitted[1]))
    return fitted[0]


# Files


@pytest.mark.parametrize("dataset", DATASETS)
def test_formats(dataset, tmp_path):
    expected, log = tiny_log(), read_rating_log(dataset, write_files(tiny_log(), tmp_path, dataset))
    np.testing.assert_array_equal(log.users, expected.users)
    np.testing.assert_array_equal(log.movies, expected.movies)
    np.testing.assert_array_equal(log.ratings, expected.ratings)
    named = log.genres[:, 1:] if dataset == "ml-100k" else log.genres  # the first genre of ml-100k is "unknown"
    np.testing.assert_array_equal(named, expected.genres)
    assert log.n_users == N_USERS


@pytest.mark.parametrize(
    "dataset, name, text, message",
    [
        ("ml-latest-small", "ratings.csv", "", "does not have the format of ml-latest-small"),
        ("ml-latest-small", "ratings.csv", "userId,movieId,rating,timestamp\n", "empty"),
        ("ml-latest-small", "ratings.csv", "user,movie,stars,when\n1,11,4,9\n", "Usecols do not match"),
        (
            "ml-latest-small",
            "ratings.csv",
            "userId,movieId,rating,timestamp\n3,11,4.0,9\n3,16",
            "ratings.csv does not have the format",
        ),
        (
            "ml-latest-small",
            "ratings.csv",
            "userId,movieId,rating,timestamp\n3,11,good,9\n",
            "ratings.csv does not have the format",
        ),
        ("ml-latest-small", "ratings.csv", "userId,movieId,rating,timestamp\n3,11,,9\n", "a value is missing"),
        ("ml-latest-small", "ratings.csv", "userId,movieId,rating,timestamp\n3,11,40,9\n", "a rating of 40.0"),
        ("ml-latest-small", "ratings.csv", "userId,movieId,rating,timestamp\n3,12,4.0,9\n", "rates the movie 12"),
        ("ml-latest-small", "movies.csv", "movieId,title,genres\n11,A,Drama\n11,B,Drama\n", "two rows for one movie"),
        ("ml-latest-small", "movies.csv", "movieId,title,genres\n11,A\n", "a value is missing"),
        ("ml-1m", "ratings.dat", "3,11,4,9\n", "ratings.dat does not have the format of ml-1m"),
        ("ml-1m", "ratings.dat", "3::11::4\n", "ratings.dat does not have the format of ml-1m"),
        ("ml-1m", "movies.dat", "11::A\n", "a value is missing"),
        ("ml-100k", "u.data", "3 11 4 9\n", "u.data does not have the format of ml-100k"),
        ("ml-100k", "u.item", "11|A|1999||http|0|1\n", "u.item does not have the format of ml-100k"),
    ],
)
def test_malformed_files(dataset, name, text, message, tmp_path):
    (write_files(tiny_log(), tmp_path, dataset) / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        RecSimData(dataset, tmp_path)


def test_order_of_search(tmp_path, cache, monkeypatch):
    in_cache = write_files(tiny_log(), cache / "ml-1m", "ml-1m")
    assert find_dataset("ml-1m") == in_cache
    in_env_dir = write_files(tiny_log(), tmp_path / "env" / "ml-1m", "ml-1m")
    for path in (in_env_dir, in_env_dir.parent):
        monkeypatch.setenv("MOVIELENS_DIR", str(path))
        assert find_dataset("ml-1m") == in_env_dir
    in_data_dir = write_files(tiny_log(), tmp_path / "anything", "ml-1m")
    assert find_dataset("ml-1m", in_data_dir) == find_dataset("ml-1m", str(in_data_dir)) == in_data_dir
    monkeypatch.setenv("MOVIELENS_DIR", str(tmp_path))
    assert find_dataset("ml-1m") == in_cache


def test_folders_named_after_other_data_sets_do_not_count(tmp_path):
    small = write_files(tiny_log(), tmp_path / "ml-latest-small", "ml-latest-small")
    assert find_dataset("ml-latest-small", small) == small
    with pytest.raises(FileNotFoundError, match=r"has no ratings\.csv and movies\.csv of ml-25m"):
        find_dataset("ml-25m", small)


def test_missing_files(tmp_path, cache, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"data_dir='.*empty' has no u.data and u.item of ml-100k"):
        RecSimData("ml-100k", data_dir=tmp_path / "empty")
    monkeypatch.setenv("MOVIELENS_DIR", str(tmp_path))
    for _ in range(2):
        with pytest.raises(FileNotFoundError, match=r"ratings\.dat and movies\.dat of ml-1m are missing") as raised:
            RecSimData("ml-1m")
        assert f"MOVIELENS_DIR={str(tmp_path)!r}" in str(raised.value)
        assert f"put the files into {cache / 'ml-1m'}, or name their folder in MOVIELENS_DIR or data_dir" in str(raised.value)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serve an archive as GroupLens does; returns a list of the requested paths."""
    folder = write_files(tiny_log(), tmp_path / "grouplens" / "ml-1m", "ml-1m")
    (folder / "README").write_text("A file that is not extracted")
    with zipfile.ZipFile(tmp_path / "grouplens" / "ml-1m.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, f"ml-1m/{path.name}")
    requested_paths = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_request(self, *args):
            requested_paths.append(self.path)

    handler = functools.partial(Handler, directory=tmp_path / "grouplens")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setattr("sb3_savo.envs.movielens.dataset.URL", f"http://127.0.0.1:{httpd.server_port}/{{}}.zip")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield requested_paths
        httpd.shutdown()


def test_download(tmp_path, cache, server, monkeypatch):
    digest = hashlib.sha256((tmp_path / "grouplens" / "ml-1m.zip").read_bytes()).hexdigest()
    monkeypatch.setitem(DATASETS, "ml-1m", DATASETS["ml-1m"]._replace(sha256=digest))
    folder = cache / "ml-1m"
    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(find_dataset, ["ml-1m"] * 4)) == {folder}
    np.testing.assert_array_equal(read_rating_log("ml-1m", folder).movies, tiny_log().movies)
    assert server == ["/ml-1m.zip"]
    assert {path.name for path in folder.iterdir()} == {"ratings.dat", "movies.dat", ".lock"}


def test_a_changed_download_is_refused(cache, server):
    with pytest.raises(FileNotFoundError, match="does not match the known hash"):
        find_dataset("ml-1m")
    assert server == ["/ml-1m.zip"]
    assert not [path for path in (cache / "ml-1m").rglob("*") if path.name != ".lock"]


# Embeddings, profiles and the click model


def test_embeddings():
    log, offline = tiny_log(), np.arange(N_USERS) % 5 < 3
    embeddings = movie_embeddings(log, offline)
    assert embeddings.shape == (N_MOVIES, 30) and embeddings.dtype == np.float32
    np.testing.assert_array_equal(embeddings.min(axis=0), -1)
    np.testing.assert_array_equal(embeddings.max(axis=0), 1)
    np.testing.assert_array_equal(embeddings[:, 12:], 2 * log.genres - 1)

    matrix = np.zeros((N_MOVIES, N_USERS))
    matrix[log.movies, log.users] = log.ratings - log.ratings[offline[log.users]].mean(dtype=float)
    u, s, _ = np.linalg.svd(matrix[:, offline], full_matrices=False)
    for k in range(3):
        assert abs(np.corrcoef(u[:, k] * s[k], embeddings[:, k])[0, 1]) > 0.999


def test_embeddings_ignore_the_evaluation_users():
    log, offline = tiny_log(), np.arange(N_USERS) % 5 < 3
    other = log._replace(ratings=np.where(offline[log.users], log.ratings, 1).astype(np.float32))
    np.testing.assert_array_equal(movie_embeddings(log, offline), movie_embeddings(other, offline))
    assert not np.array_equal(movie_embeddings(log, offline), movie_embeddings(log, ~offline))


def test_a_movie_without_ratings_has_an_embedding():
    log, offline = tiny_log(), np.ones(N_USERS, dtype=bool)
    longer = log._replace(genres=np.vstack([log.genres, log.genres[:1]]))
    embeddings = movie_embeddings(longer, offline)
    np.testing.assert_array_equal(embeddings[-1, 12:], embeddings[0, 12:])
    assert np.isfinite(embeddings).all()


@pytest.mark.parametrize("n_movies, n_genres", [(N_MOVIES, 30), (10, 18)])
def test_too_small_for_embeddings(n_movies, n_genres):
    genres = np.zeros((n_movies, n_genres))
    log = RatingLog(np.arange(20), np.arange(20) % len(genres), np.ones(20), genres)
    with pytest.raises(ValueError, match="have no embedding of 30 dimensions"):
        movie_embeddings(log, np.ones(20, dtype=bool))


def test_profiles():
    embeddings = np.array([[1.0, -1.0], [0.5, 1.0], [-1.0, 0.0]], dtype=np.float32)
    groups, movies, weights = np.array([0, 0, 1, 3]), np.array([0, 2, 1, 1]), np.array([1.0, -3.0, 0.0, -0.5])
    expected = [[(1 + 3) / 4, -1 / 4], [0, 0], [0, 0], [-0.5, -1]]
    np.testing.assert_allclose(user_profiles(embeddings, groups, movies, weights), expected)


def test_last_clicks():
    rng = np.random.default_rng(0)
    episodes, clicked = np.sort(rng.integers(40, size=300)), rng.random(300) < 0.4
    for chosen in (np.arange(300), rng.permutation(300)[:50]):
        for row, last in zip(chosen, last_clicks(episodes, clicked, chosen), strict=True):
            before = [i for i in range(row - 1, -1, -1) if clicked[i] and episodes[i] == episodes[row]]
            assert last.tolist() == [*before, -1, -1, -1][:3]
    assert (last_clicks(episodes, np.zeros(300, dtype=bool), np.arange(300)) == -1).all()


def test_the_click_model_equals_the_fitted_pipeline():
    rng = np.random.default_rng(0)
    states, movies = rng.uniform(-1, 1, (400, 120)).astype(np.float32), rng.uniform(-1, 1, (400, 30)).astype(np.float32)
    x, y = model_inputs(states, movies), rng.random(400) < expit(3 * (states[:, 90:] * movies).sum(axis=1))
    np.testing.assert_allclose(x[:, :30], (states[:, :30] + states[:, 30:60] + states[:, 60:90]) / 3, atol=1e-6)
    np.testing.assert_array_equal(x[:, 30:], np.hstack([states[:, 90:], movies, states[:, 90:] * movies]))
    pipeline = make_pipeline(StandardScaler(), MLPClassifier(16, early_stopping=True, random_state=0)).fit(x, y)
    model = to_click_model(pipeline, 0.5)
    for state in states[:5]:
        expected = pipeline.predict_proba(model_inputs(np.tile(state, (400, 1)), movies))[:, 1]
        np.testing.assert_allclose(model.probability(state, movies), expected, atol=1e-5)


def held_out_auc(log, members):
    offline = ~members
    embeddings = movie_embeddings(log, offline)
    return fit_click_model(log, embeddings, centered_ratings(log, offline), members).auc


def test_the_click_model_learns_tastes_only():
    """Random ratings cannot be predicted, unless the inputs give them away."""
    members = np.arange(N_USERS) % 5 >= 3
    assert held_out_auc(tiny_log(), members) > 0.7
    noise = np.random.default_rng(0).integers(1, 6, len(tiny_log().ratings)).astype(np.float32)
    assert 0.4 < held_out_auc(tiny_log()._replace(ratings=noise), members) < 0.6


@pytest.mark.parametrize("ratings, n_members, message", [(5, N_USERS, "too few for a click model"), (None, 4, "4 users are")])
def test_too_small_for_a_click_model(ratings, n_members, message):
    log, members = tiny_log(), np.arange(N_USERS) < n_members
    if ratings is not None:
        log = log._replace(ratings=np.full_like(log.ratings, ratings))
    embeddings = movie_embeddings(tiny_log(), ~members if n_members == 4 else members)
    with pytest.raises(ValueError, match=message):
        fit_click_model(log, embeddings, log.ratings - 3, members)


@pytest.fixture
def training_sets(monkeypatch):
    """A list of the training sets of the click models, which are not fitted."""
    sets = []
    monkeypatch.setattr("sb3_savo.envs.movielens.click_model.fit_network", lambda *arrays: sets.append(arrays))
    return sets


def test_the_training_set_of_the_click_model(training_sets):
    log, members = tiny_log(), np.arange(N_USERS) % 3 == 0
    embeddings, weights = movie_embeddings(log, members), centered_ratings(log, members)
    fit_click_model(log, embeddings, weights, members)
    x, y, users = training_sets[0]
    assert np.unique(users).tolist() == np.flatnonzero(members).tolist() and len(y) == members.sum() * N_RATINGS_PER_USER
    np.testing.assert_array_equal(y, log.ratings[members[log.users]] >= 4)
    for user in np.unique(users)[:5]:
        movies, ratings, own = (array[log.users == user] for array in (log.movies, log.ratings, weights))
        for start, other in ((0, slice(15, 30)), (15, slice(0, 15))):
            profile = own[other] @ embeddings[movies[other]] / abs(own[other]).sum()
            for i in range(start, start + 15):
                last = [embeddings[movies[j]] for j in range(start, i) if ratings[j] >= 4][: -N_LAST_CLICKS - 1 : -1]
                movie = embeddings[movies[i]]
                expected = np.concatenate([np.sum([np.zeros(30), *last], axis=0) / 3, profile, movie, profile * movie])
                np.testing.assert_allclose(x[users == user][i], expected, atol=1e-5)


def test_many_ratings_are_sampled(training_sets, monkeypatch):
    monkeypatch.setattr("sb3_savo.envs.movielens.click_model.MAX_FITTED_RATINGS", 1000)
    everyone = np.ones(N_USERS, dtype=bool)
    fit_click_model(tiny_log(), movie_embeddings(tiny_log(), everyone), centered_ratings(tiny_log(), everyone), everyone)
    x, y, users = training_sets[0]
    assert x.shape == (1000, 120) and y.shape == users.shape == (1000,)
    assert len(np.unique(users)) > 0.9 * N_USERS


# The environment


@pytest.mark.parametrize("split", ["train", "eval"])
def test_checkers_and_spaces(tiny, split):
    env = gym.make("RecSimData-v0", data_dir=tiny, split=split)
    assert env.spec.max_episode_steps == 80
    assert isinstance(env.unwrapped.action_space, EmbeddedDiscrete)
    assert env.unwrapped.action_space.embeddings.shape == (N_MOVIES, 30)
    assert env.observation_space == gym.spaces.Box(-1, 1, (120,), np.float32)
    gymnasium_check_env(env.unwrapped)
    sb3_check_env(env)


def test_episodes(tiny):
    """Only clicks change the history; the profile belongs to a user of the split."""
    env = gym.make("RecSimData-v0", data_dir=tiny, repeats=True)
    data = env.unwrapped
    embeddings = data.action_space.embeddings
    seen = set()
    for seed in range(3):
        obs, info = env.reset(seed=seed)
        assert info == {} and not obs[:90].any()
        assert (obs[90:] == data.profiles).all(axis=1).any()
        history, profile = [np.zeros(30)] * 3, obs[90:]
        rng = np.random.default_rng(seed)
        for step in range(80):
            movie = rng.integers(N_MOVIES)
            before = obs.copy()
            next_obs, reward, terminated, truncated, info = env.step(movie)
            np.testing.assert_array_equal(obs, before)
            obs = next_obs
            if reward:
                history = [embeddings[movie], *history[:2]]
            np.testing.assert_array_equal(obs, np.concatenate([*history, profile]))
            # The RL Zoo, which another test may have imported, notes the time limit
            assert obs in env.observation_space and info.keys() <= {"TimeLimit.truncated"}
            assert not terminated and truncated == (step == 79)
            seen.add(reward)
    assert seen == {0.0, 1.0}


def test_a_movie_is_recommended_once_per_episode(tiny):
    env = gym.make("RecSimData-v0", data_dir=tiny)
    assert is_masking_supported(env) and is_masking_supported(DummyVecEnv([lambda: env]))
    for seed in range(3):
        _, info = env.reset(seed=seed)
        allowed = np.ones(N_MOVIES, dtype=bool)
        clicks, movie = [], 0
        for step in range(80):
            np.testing.assert_array_equal(get_action_masks(env), allowed)
            # Every movie twice
            if step % 2 == 0:
                movie = np.flatnonzero(allowed)[0]
            _, reward, _, truncated, info = env.step(movie)
            clicks.append(reward)
            allowed[movie] = False
            allowed = allowed if allowed.any() else ~allowed
            np.testing.assert_array_equal(info["action_masks"], allowed)
        assert truncated and any(clicks[::2]) and not any(clicks[1::2]), "a repeated movie is never clicked"


def test_the_mask_when_every_movie_was_recommended(tiny):
    """Some item must be allowed, since the state is not terminal."""
    env = RecSimData(data_dir=tiny)
    env.reset(seed=0)
    for movie in range(N_MOVIES):
        env.step(movie)
    assert env.action_masks().all()
    assert not any(env.step(movie)[1] for movie in range(N_MOVIES))


def test_a_step_needs_a_reset(tiny):
    env = RecSimData(data_dir=tiny)
    with pytest.raises(ResetNeeded, match="call reset"):
        env.step(0)
    env.reset(seed=0)
    env.step(0)


def test_repeats_have_no_masks(tiny):
    env = gym.make("RecSimData-v0", data_dir=tiny, repeats=True)
    assert not is_masking_supported(env) and not is_masking_supported(DummyVecEnv([lambda: env]))
    env.reset(seed=0)
    assert sum(env.step(0)[1] for _ in range(80)) > 1


def test_agents_keep_to_the_masks(tiny, monkeypatch):
    """Whatever is recommended in an episode is recommended once, also at random and with the noise of learning."""
    taken, step = [], RecSimData.step

    def noting_step(env, action):
        assert env.action_masks()[action]
        taken.append(action)
        return step(env, action)

    monkeypatch.setattr(RecSimData, "step", noting_step)
    env = gym.make("RecSimData-v0", data_dir=tiny)
    SAVO("MlpPolicy", env, **{**SMALL, "learning_starts": 20}).learn(100)
    assert len(taken) == 100


def test_rendering(tiny):
    env = gym.make("RecSimData-v0", data_dir=tiny, render_mode="ansi", repeats=True).unwrapped
    env.reset(seed=0)
    assert env.render() == "0 clicks, the last on the movies (none)"
    clicked = [movie for movie in range(20) if env.step(movie)[1]]
    assert len(clicked) > 3
    assert env.render() == f"{len(clicked)} clicks, the last on the movies {', '.join(map(str, clicked[:-4:-1]))}"

    picture = gym.make("RecSimData-v0", data_dir=tiny, render_mode="rgb_array", repeats=True).unwrapped
    picture.reset(seed=0)
    empty = picture.render()
    assert empty.shape == (384, 240, 3) and empty.dtype == np.uint8
    assert len(np.unique(empty[:288].reshape(-1, 3), axis=0)) == 2 < len(np.unique(empty[288:].reshape(-1, 3), axis=0))
    while not picture.step(0)[1]:
        pass
    assert (picture.render()[:96] != empty[:96]).any() and (picture.render()[96:] == empty[96:]).all()
    picture.render_mode = None
    assert picture.render() is None


def test_clicks_have_the_models_probability(tiny):
    env = RecSimData(data_dir=tiny, repeats=True)
    obs, _ = env.reset(seed=0)
    rng = np.random.default_rng(0)
    probabilities, clicked = [], []
    for step in range(1, 4001):
        movie = rng.integers(N_MOVIES)
        probabilities.append(env.click_model.probability(obs, env.action_space.embeddings[movie][None])[0])
        obs, reward, *_ = env.step(movie)
        clicked.append(reward)
        if step % 20 == 0:
            obs, _ = env.reset()
    probabilities, clicked = np.array(probabilities), np.array(clicked)
    order = np.argsort(probabilities)
    for part in np.array_split(order, 4):
        error = np.sqrt((probabilities[part] * (1 - probabilities[part])).mean() / len(part))
        assert abs(clicked[part].mean() - probabilities[part].mean()) < 4 * error
    assert probabilities[order[:1000]].mean() < probabilities[order[-1000:]].mean() - 0.2


def test_seeds(tiny):
    def trajectory(seed):
        env = RecSimData(data_dir=tiny)
        obs, _ = env.reset(seed=seed)
        rewards = []
        for movie in range(N_MOVIES):
            obs, reward, *_ = env.step(movie)
            rewards.append(reward)
        return rewards, obs.tolist(), env.reset()[0].tolist()

    assert trajectory(3) == trajectory(3)
    assert trajectory(3) != trajectory(4)


@pytest.mark.parametrize("action", [-1, N_MOVIES, 1.5, np.array([1, 2]), None])
def test_bad_action(tiny, action):
    env = RecSimData(data_dir=tiny)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=f"is not a movie: it must be an integer from 0 to {N_MOVIES - 1}"):
        env.step(action)


@pytest.mark.parametrize(
    "kwargs, error, message",
    [
        ({"dataset": "ml-20m"}, ValueError, "dataset='ml-20m' is not known"),
        ({"split": "test"}, ValueError, "split='test' is not known"),
        ({"split_seed": -1}, ValueError, "split_seed=-1"),
        ({"split_seed": 0.5}, TypeError, "split_seed=0.5"),
        ({"repeats": "no"}, ValueError, "repeats='no'"),
    ],
)
def test_bad_arguments(tiny, kwargs, error, message):
    with pytest.raises(error, match=message):
        RecSimData(**{"data_dir": tiny, **kwargs})


def test_splits(tiny):
    train, evaluation = RecSimData(data_dir=tiny), RecSimData(data_dir=tiny, split="eval")
    assert len(train.profiles) == 0.6 * N_USERS and len(evaluation.profiles) == 0.4 * N_USERS
    assert not {row.tobytes() for row in train.profiles} & {row.tobytes() for row in evaluation.profiles}
    assert train.action_space == evaluation.action_space
    obs, _ = train.reset(seed=0)
    movies = train.action_space.embeddings
    assert not np.allclose(train.click_model.probability(obs, movies), evaluation.click_model.probability(obs, movies))
    assert 0.6 < train.click_model.auc < 1 and 0.6 < evaluation.click_model.auc < 1
    other = RecSimData(data_dir=tiny, split_seed=1)
    assert train.action_space != other.action_space


def test_profiles_are_computed_from_the_users_own_ratings(tiny):
    log = tiny_log()
    offline = np.zeros(N_USERS, dtype=bool)
    offline[np.random.default_rng(0).permutation(N_USERS)[: round(0.6 * N_USERS)]] = True
    env = RecSimData(data_dir=tiny, split="eval")
    mean = log.ratings[offline[log.users]].mean()
    for user, profile in zip(np.flatnonzero(~offline), env.profiles, strict=True):
        own = log.users == user
        weights, embeddings = log.ratings[own] - mean, env.action_space.embeddings[log.movies[own]]
        np.testing.assert_allclose(profile, (weights[:, None] * embeddings).sum(axis=0) / abs(weights).sum(), atol=1e-5)


def test_environments_of_a_process_share_their_arrays(tiny):
    vec_env = DummyVecEnv([lambda: RecSimData(data_dir=tiny)] * 3 + [lambda: RecSimData(data_dir=str(tiny), split="eval")])
    ids = {id(env.action_space.embeddings) for env in vec_env.envs}
    assert len(ids) == 1
    assert not vec_env.envs[0].action_space.embeddings.flags.writeable
    assert not vec_env.envs[0].profiles.flags.writeable


# The cache


def fitted_arrays(env):
    return [env.action_space.embeddings, env.profiles, *env.click_model]


def assert_same(env, other):
    for array, expected in zip(fitted_arrays(env), fitted_arrays(other), strict=True):
        np.testing.assert_array_equal(array, expected)


def test_the_rl_zoo_trains_and_the_zip_needs_no_data(tiny, tmp_path, monkeypatch):
    from rl_zoo3.train import train  # takes seconds to import

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOVIELENS_DIR", str(tiny))
    arguments = ["train", "--algo", "savo", "--env", "RecSimData-v0", "-n", "60", "--eval-freq", "-1", "--device", "cpu"]
    options = ["--hyperparams", "learning_starts:40", "n_envs:2", "train_freq:5", "gradient_steps:2", "buffer_size:5000"]
    monkeypatch.setattr("sys.argv", [*arguments, *options])
    train()
    expected = np.array(RecSimData().action_space.embeddings)

    # Without the data and the cache, no RecSimData can be made
    monkeypatch.delenv("MOVIELENS_DIR")
    monkeypatch.setenv("SB3_SAVO_CACHE", str(tmp_path / "nothing"))
    movielens._load.cache_clear()
    with pytest.raises(FileNotFoundError):
        RecSimData()
    model = SAVO.load(tmp_path / "logs" / "savo" / "RecSimData-v0_1" / "RecSimData-v0.zip", device="cpu")
    assert model.num_timesteps == 60 and model._n_updates > 0
    np.testing.assert_array_equal(model.action_space.embeddings, expected)
    masks = np.ones((20, model.action_space.n), bool)
    items, _ = model.predict(np.stack([model.observation_space.sample() for _ in range(20)]), action_masks=masks)
    assert all(model.action_space.contains(item) for item in items)


@pytest.fixture
def fits(monkeypatch):
    """A list that grows with every fit."""
    calls = []
    fit_splits = movielens.fit_splits
    monkeypatch.setattr(movielens, "fit_splits", lambda *args: calls.append(args) or fit_splits(*args))
    return calls


def test_a_fit_is_cached(tmp_path, cache, fits, caplog):
    folder = write_files(tiny_log(), tmp_path / "data", "ml-1m")
    with caplog.at_level(logging.INFO, logger="sb3_savo.envs.movielens"):
        first = RecSimData("ml-1m", folder)
    assert [record.message[:40] for record in caplog.records] == [
        f"ml-1m, {split}: click model with a held-out AUC of"[:40] for split in ("train", "eval")
    ]
    (cache_file,) = cache.glob("*.npz")
    written = cache_file.stat().st_mtime_ns
    movielens._load.cache_clear()
    second = RecSimData("ml-1m", folder)
    assert first.profiles is not second.profiles
    assert_same(first, second)
    assert len(fits) == 1 and cache_file.stat().st_mtime_ns == written

    # Another split seed, or other ratings, need another fit
    RecSimData("ml-1m", folder, split_seed=1)
    ratings = tiny_log().ratings[::-1]
    write_files(tiny_log()._replace(ratings=ratings), folder, "ml-1m")
    movielens._load.cache_clear()
    assert not np.array_equal(RecSimData("ml-1m", folder).profiles, first.profiles)
    assert len(fits) == 3 and len(list(cache.glob("*.npz"))) == 3


@pytest.mark.parametrize(
    "damage",
    [lambda content: b"", lambda content: b"nothing", lambda content: content[: len(content) // 2]],
    ids=["empty", "garbage", "truncated"],
)
def test_a_damaged_cache_file_is_replaced(tmp_path, cache, fits, damage):
    folder = write_files(tiny_log(), tmp_path, "ml-latest-small")
    intact = RecSimData(data_dir=folder)
    (cache_file,) = cache.glob("*.npz")
    cache_file.write_bytes(damage(cache_file.read_bytes()))
    for _ in range(2):
        movielens._load.cache_clear()
        assert_same(RecSimData(data_dir=folder), intact)
        assert len(fits) == 2


def test_only_one_of_several_threads_fits(tmp_path, cache, fits):
    folder = write_files(tiny_log(), tmp_path, "ml-latest-small")
    with ThreadPoolExecutor(3) as threads:
        first, *others = threads.map(RecSimData, ["ml-latest-small"] * 3, [folder] * 3)
    for env in others:
        assert_same(env, first)
    assert len(fits) == 1
    assert {path.suffix for path in cache.iterdir()} == {".npz", ".lock"}


def test_workers_may_start_at_once(tiny, cache, monkeypatch):
    monkeypatch.setenv("SB3_SAVO_CACHE", str(cache))
    # Forked workers start at once; other start methods would import torch in every worker
    vec_env = SubprocVecEnv([lambda: RecSimData(data_dir=tiny)] * 2, start_method="fork")
    first, second = vec_env.get_attr("action_space")
    assert first == second == RecSimData(data_dir=tiny).action_space
    vec_env.close()
    assert len(list(cache.glob("*.npz"))) == 1


def test_main(tiny, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["movielens", "ml-latest-small", "--data-dir", str(tiny), "--episodes", "2"])
    main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"ml-latest-small: {N_MOVIES} movies"
    assert lines[1].startswith(
        f"train: {0.6 * N_USERS:.0f} users, {0.6 * N_USERS * N_RATINGS_PER_USER:.0f} ratings, held-out AUC 0."
    )
    assert lines[10].startswith(
        f"eval: {0.4 * N_USERS:.0f} users, {0.4 * N_USERS * N_RATINGS_PER_USER:.0f} ratings, held-out AUC 0."
    )
    blocks = (lines[2:6], lines[6:10], lines[11:15], lines[15:])
    for repeats, (first, *policies) in zip((False, True) * 2, blocks, strict=True):
        assert first == f"  repeats={repeats}"
        clicks = {line.split(":")[0].strip(): float(line.split()[1]) for line in policies}
        assert clicks["random"] < clicks["greedy"] and (clicks["repeat"] > clicks["random"]) == repeats


# The real files

PARENT_FOLDERS = [os.environ.get("MOVIELENS_DIR"), Path(__file__).parents[3] / "shared" / "data"]


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The folder of the real ml-latest-small, and an empty cache for it."""
    for parent in filter(None, PARENT_FOLDERS):
        try:
            return find_dataset("ml-latest-small", parent), tmp_path_factory.mktemp("real")
        except FileNotFoundError:
            pass
    pytest.skip("ml-latest-small is neither in MOVIELENS_DIR nor in ../shared/data")


def test_real_files(real):
    log = read_rating_log("ml-latest-small", real[0])
    assert len(log.genres) == 9742 and log.n_users == 610 and len(log.ratings) == 100_836
    # Toy Story (1995) has the genres Adventure|Animation|Children|Comedy|Fantasy; the first user rated it 4
    assert log.genres[0].sum() == 5 and log.genres.shape[1] == 20
    assert log.ratings[(log.users == 0) & (log.movies == 0)].tolist() == [4]


@pytest.mark.parametrize("split, n_users, min_auc", [("train", 366, 0.74), ("eval", 244, 0.68)])
def test_real_environment(real, monkeypatch, split, n_users, min_auc):
    monkeypatch.setenv("SB3_SAVO_CACHE", str(real[1]))
    env = gym.make("RecSimData-v0", data_dir=real[0], split=split)
    sb3_check_env(env)
    gymnasium_check_env(env.unwrapped)
    data = env.unwrapped
    assert data.action_space.embeddings.shape == (9742, 30) and len(data.profiles) == n_users
    assert min_auc < data.click_model.auc < 0.85
    clicks = {policy: np.mean([play_episode(data, policy, seed) for seed in range(20)]) for policy in POLICIES}
    assert 33 < clicks["random"] < 47 and clicks["repeat"] <= 1 and 55 < clicks["greedy"] < 72
