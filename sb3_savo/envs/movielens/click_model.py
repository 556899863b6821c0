"""The click model of RecSim-Data: the probability that a user clicks a movie, learned from ratings and then fixed."""

from typing import NamedTuple

import numpy as np
from scipy.special import expit
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupShuffleSplit
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from sb3_savo.envs.movielens.dataset import RatingLog, user_profiles

MIN_CLICK_STARS = 4.0
N_LAST_CLICKS = 3
N_HIDDEN = 64
MAX_FITTED_RATINGS = 300_000


class ClickModel(NamedTuple):
    """
    P(click | state, movie), from a network with one hidden layer.

    A state is the embeddings of the last 3 clicked movies, newest first and 0 where there is none, and the user's profile. The
    inputs of the network are the mean of the clicked movies, the profile, the movie's embedding, and the product of the last
    two. Products with the clicked movies did not improve the AUC on held-out users.
    """

    history_weights: np.ndarray  # (30, n_hidden)
    profile_weights: np.ndarray  # (30, n_hidden)
    movie_weights: np.ndarray  # (30, n_hidden)
    product_weights: np.ndarray  # (30, n_hidden)
    hidden_bias: np.ndarray  # (n_hidden,)
    output_weights: np.ndarray  # (n_hidden,)
    output_bias: np.ndarray  # ()
    auc: np.ndarray  # Area under the ROC curve, on held-out users, ()

    def probability(self, state: np.ndarray, movies: np.ndarray) -> np.ndarray:
        """
        :param state: One state, (120,)
        :param movies: Embeddings of the movies, (n, 30)
        :return: Probability of a click on each movie, (n,)
        """
        history, profile = split_state(state)
        # The state is the same for all movies, and given the state the hidden layer's input is linear in the movie
        slope = self.movie_weights + profile[:, None] * self.product_weights
        offset = history @ self.history_weights + profile @ self.profile_weights + self.hidden_bias
        return expit(np.maximum(movies @ slope + offset, 0) @ self.output_weights + self.output_bias)


def split_state(states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    :param states: States, (..., 120)
    :return: Mean of the embeddings of the last 3 clicked movies, (..., 30), and the user's profile, (..., 30)
    """
    blocks = states.reshape(*states.shape[:-1], N_LAST_CLICKS + 1, -1)
    return blocks[..., :N_LAST_CLICKS, :].mean(axis=-2), blocks[..., N_LAST_CLICKS, :]


def model_inputs(states: np.ndarray, movies: np.ndarray) -> np.ndarray:
    """
    :param states: States, (n, 120)
    :param movies: Embedding of one movie for each state, (n, 30)
    :return: Inputs of the network, (n, 120)
    """
    history, profile = split_state(states)
    return np.hstack([history, profile, movies, profile * movies])


def fit_click_model(log: RatingLog, embeddings: np.ndarray, weights: np.ndarray, members: np.ndarray) -> ClickModel:
    """
    Fit a network with the log loss (BCE) to predict clicks, which are ratings of at least 4 stars. A fifth of the users is
    held out for the AUC. At most 300,000 ratings are used, drawn at random.

    The log of a user is split into two episodes, the earlier and the later half. An episode starts without clicks. Its profile
    is computed from the other half, since a profile from the predicted ratings themselves would give them away.

    :param log: The ratings
    :param embeddings: Embeddings of the movies, (n_movies, 30)
    :param weights: Centered ratings, (n_ratings,)
    :param members: Whether a user is in this split, (n_users,)
    :return: The model
    :raises ValueError: if there are too few users, clicks or ratings without a click
    """
    n_ratings = np.bincount(log.users)
    ordinals = np.arange(len(log.users)) - (np.cumsum(n_ratings) - n_ratings)[log.users]
    episodes = 2 * log.users + (ordinals >= n_ratings[log.users] // 2)
    clicked = log.ratings >= MIN_CLICK_STARS

    rows = np.flatnonzero(members[log.users])
    if len(rows) > MAX_FITTED_RATINGS:
        rows = np.random.default_rng(0).choice(rows, MAX_FITTED_RATINGS, replace=False)
    last = last_clicks(episodes, clicked, rows)
    history = np.vstack([embeddings, np.zeros_like(embeddings[:1])])[np.where(last >= 0, log.movies[last], -1)]
    profile = user_profiles(embeddings, episodes, log.movies, weights)[episodes[rows] ^ 1]
    states = np.hstack([history.reshape(len(rows), -1), profile])
    return fit_network(model_inputs(states, embeddings[log.movies[rows]]), clicked[rows], log.users[rows])


def last_clicks(episodes: np.ndarray, clicked: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """
    Find the last clicks before each of the given ratings, within the rating's episode.

    :param episodes: Index of the episode of each rating, ascending, (n_ratings,)
    :param clicked: Whether each rating is a click, (n_ratings,)
    :param rows: Indices of the given ratings, (n,)
    :return: Indices of the last 3 clicks, newest first, -1 where there is none, (n, 3)
    """
    n_before = np.cumsum(clicked) - clicked
    n_before_episode = n_before[np.searchsorted(episodes, episodes[rows])]
    ordinals = n_before[rows, None] - np.arange(1, N_LAST_CLICKS + 1)
    clicks = np.append(np.flatnonzero(clicked), -1)
    return np.where(ordinals >= n_before_episode[:, None], clicks[ordinals.clip(0)], -1)


def fit_network(x: np.ndarray, y: np.ndarray, users: np.ndarray) -> ClickModel:
    """
    :param x: Inputs, see :func:`model_inputs`, (n, 120)
    :param y: Whether each rating is a click, (n,)
    :param users: User of each rating, (n,)
    :return: The model; its weights include the standardization of the inputs
    :raises ValueError: if there are too few users, clicks or ratings without a click
    """
    if len(np.unique(users)) < 5:
        raise ValueError(f"{len(np.unique(users))} users are too few for a click model, which needs at least 5 per split.")
    fitted, held_out = next(GroupShuffleSplit(1, test_size=0.2, random_state=0).split(x, y, users))
    if min(np.bincount(y[part], minlength=2).min() for part in (fitted, held_out)) < 10:
        raise ValueError(
            f"{len(y)} ratings, {y.sum()} of them of at least {MIN_CLICK_STARS:g}, are too few for a click model."
        )
    # float64, because in float32 the penalty drives weights to subnormal numbers, which makes fitting several times slower
    x = x.astype(np.float64)
    network = MLPClassifier(N_HIDDEN, alpha=3.0, early_stopping=True, n_iter_no_change=3, max_iter=50, random_state=0)
    pipeline = make_pipeline(StandardScaler(), network).fit(x[fitted], y[fitted])
    return to_click_model(pipeline, roc_auc_score(y[held_out], pipeline.predict_proba(x[held_out])[:, 1]))


def to_click_model(pipeline: Pipeline, auc: float) -> ClickModel:
    """
    :param pipeline: A ``StandardScaler`` and an ``MLPClassifier``, fitted to :func:`model_inputs`
    :param auc: Area under the ROC curve, on held-out users
    :return: The arrays of the pipeline's function
    """
    scaler, network = pipeline
    (hidden, output), (hidden_bias, output_bias) = network.coefs_, network.intercepts_
    hidden = hidden / scaler.scale_[:, None]
    arrays = (*np.split(hidden, 4), hidden_bias - scaler.mean_ @ hidden, output[:, 0], output_bias[0], auc)
    return ClickModel(*(np.asarray(array, dtype=np.float32) for array in arrays))
