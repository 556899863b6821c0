"""The click model of RecSim-Data: how likely a user clicks a movie, learnt from ratings and then frozen."""

from typing import NamedTuple

import numpy as np
from scipy.special import expit
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupShuffleSplit
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from sb3_savo.envs.movielens.dataset import RatingLog, profiles

CLICK_STARS = 4.0
N_LAST = 3
N_HIDDEN = 64
MAX_RATINGS = 300_000


class ClickModel(NamedTuple):
    """
    P(click | state, movie) for states of the last 3 clicked movies' embeddings, newest first and 0 where there is none, and
    the user's profile. It is a network with one hidden layer over the mean of the three, the profile, the movie's embedding
    and the product of the last two. (Products with the clicked movies, too, did no better on held-out users.)
    """

    history_weights: np.ndarray  # (30, n_hidden)
    profile_weights: np.ndarray  # (30, n_hidden)
    movie_weights: np.ndarray  # (30, n_hidden)
    product_weights: np.ndarray  # (30, n_hidden)
    hidden_bias: np.ndarray  # (n_hidden,)
    output_weights: np.ndarray  # (n_hidden,)
    output_bias: np.ndarray  # ()
    auc: np.ndarray  # (): area under the ROC curve, on users whom it was not fitted to

    def probability(self, state: np.ndarray, movies: np.ndarray) -> np.ndarray:
        """
        :param state: One state, (120,)
        :param movies: Embeddings of the movies that are asked for, (n, 30)
        :return: Probability of a click on each, (n,)
        """
        history, profile = split_state(state)
        # Given the state, what enters the hidden layer is linear in the movie
        slope = self.movie_weights + profile[:, None] * self.product_weights
        offset = history @ self.history_weights + profile @ self.profile_weights + self.hidden_bias
        return expit(np.maximum(movies @ slope + offset, 0) @ self.output_weights + self.output_bias)


def split_state(states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    :param states: (..., 120)
    :return: Mean of the last 3 clicked movies, (..., 30), and the profile, (..., 30)
    """
    blocks = states.reshape(*states.shape[:-1], N_LAST + 1, -1)
    return blocks[..., :N_LAST, :].mean(axis=-2), blocks[..., N_LAST, :]


def model_inputs(states: np.ndarray, movies: np.ndarray) -> np.ndarray:
    """
    :param states: (n, 120)
    :param movies: Embedding of one movie for each, (n, 30)
    :return: What the network is fitted to, (n, 120)
    """
    history, profile = split_state(states)
    return np.hstack([history, profile, movies, profile * movies])


def fit_click_model(log: RatingLog, embeddings: np.ndarray, weights: np.ndarray, members: np.ndarray) -> ClickModel:
    """
    Fit a network with the log loss (BCE) to clicks, which are ratings of at least 4, of four fifths of the users; the last
    fifth is held out for the AUC. At most 300,000 ratings are used, drawn at random.

    A user's log is two episodes, its earlier and its later half. An episode starts without clicks, and its profile is that
    of the other half, since one of the very ratings that are to be predicted would give them away.

    :param log: The ratings
    :param embeddings: Of the movies, (n_movies, 30)
    :param weights: Centred ratings, (n_ratings,)
    :param members: Whether a user is one of this split, (n_users,)
    :return: The model
    :raises ValueError: if the users are too few
    """
    n_of_user = np.bincount(log.users)
    place = np.arange(len(log.users)) - (np.cumsum(n_of_user) - n_of_user)[log.users]
    episodes = 2 * log.users + (place >= n_of_user[log.users] // 2)
    clicked = log.ratings >= CLICK_STARS

    rows = np.flatnonzero(members[log.users])
    if len(rows) > MAX_RATINGS:
        rows = np.random.default_rng(0).choice(rows, MAX_RATINGS, replace=False)
    last = last_clicks(episodes, clicked, rows)
    history = np.vstack([embeddings, np.zeros_like(embeddings[:1])])[np.where(last >= 0, log.movies[last], -1)]
    profile = profiles(embeddings, episodes, log.movies, weights)[episodes[rows] ^ 1]
    states = np.hstack([history.reshape(len(rows), -1), profile])
    return fit_network(model_inputs(states, embeddings[log.movies[rows]]), clicked[rows], log.users[rows])


def last_clicks(episodes: np.ndarray, clicked: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """
    :param episodes: Which episode a rating is of, ascending, (n_ratings,)
    :param clicked: Whether it is a click, (n_ratings,)
    :param rows: Some of the ratings, (n,)
    :return: The last 3 clicks before each of them in its episode, newest first, -1 where there is none, (n, 3)
    """
    n_before = np.cumsum(clicked) - clicked
    n_before_episode = n_before[np.searchsorted(episodes, episodes[rows])]
    ordinals = n_before[rows, None] - np.arange(1, N_LAST + 1)
    clicks = np.append(np.flatnonzero(clicked), -1)
    return np.where(ordinals >= n_before_episode[:, None], clicks[ordinals.clip(0)], -1)


def fit_network(x: np.ndarray, y: np.ndarray, users: np.ndarray) -> ClickModel:
    """
    :param x: :func:`model_inputs`, (n, 120)
    :param y: Whether each is a click, (n,)
    :param users: Whose it is, (n,)
    :return: The model, the standardization of its inputs within its weights
    :raises ValueError: if there are too few users, clicks or skips
    """
    if len(np.unique(users)) < 5:
        raise ValueError(f"{len(np.unique(users))} users are too few for a click model, which needs 5 of each split.")
    fitted, held_out = next(GroupShuffleSplit(1, test_size=0.2, random_state=0).split(x, y, users))
    if min(np.bincount(y[part], minlength=2).min() for part in (fitted, held_out)) < 10:
        raise ValueError(f"{len(y)} ratings, {y.sum()} of them of at least {CLICK_STARS:g}, are too few for a click model.")
    # In float32, weights that the penalty drives to 0 become subnormal, which makes fitting several times slower
    x = x.astype(np.float64)
    network = MLPClassifier(N_HIDDEN, alpha=3.0, early_stopping=True, n_iter_no_change=3, max_iter=50, random_state=0)
    pipeline = make_pipeline(StandardScaler(), network).fit(x[fitted], y[fitted])
    return frozen(pipeline, roc_auc_score(y[held_out], pipeline.predict_proba(x[held_out])[:, 1]))


def frozen(pipeline: Pipeline, auc: float) -> ClickModel:
    """
    :param pipeline: A ``StandardScaler`` and an ``MLPClassifier``, fitted to :func:`model_inputs`
    :param auc: That of held-out users
    :return: The same function
    """
    scaler, network = pipeline
    (hidden, output), (hidden_bias, output_bias) = network.coefs_, network.intercepts_
    hidden = hidden / scaler.scale_[:, None]
    arrays = (*np.split(hidden, 4), hidden_bias - scaler.mean_ @ hidden, output[:, 0], output_bias[0], auc)
    return ClickModel(*(np.asarray(array, dtype=np.float32) for array in arrays))
