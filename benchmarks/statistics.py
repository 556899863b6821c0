"""
Statistics of few runs: aggregate scores, their intervals, and comparisons of two methods.

Scores are arrays of shape (n_runs, n_tasks), one column per task. The aggregates are those of rliable (Agarwal et al., 2021).
The intervals are wider than rliable's. A percentile interval of five runs is too narrow, since a resample of n runs has only
(n - 1) / n of the variance that new runs would have. :func:`expanded_quantiles` corrects this.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import stats

MIN_SEEDS = 5
N_RESAMPLES = 10_000
CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """A figure and the bounds of its interval; bounds are NaN where there are fewer than :data:`MIN_SEEDS` runs."""

    value: float
    low: float
    high: float


def interquartile_mean(scores: np.ndarray) -> np.ndarray:
    """
    :param scores: (..., n_runs, n_tasks)
    :return: Mean of the middle half of all runs of all tasks; (...)
    """
    flat = scores.reshape(*scores.shape[:-2], -1)
    return np.asarray(stats.trim_mean(flat, 0.25, axis=-1))


def mean(scores: np.ndarray) -> np.ndarray:
    """
    :param scores: (..., n_runs, n_tasks)
    :return: Mean of all runs of all tasks; (...)
    """
    return scores.mean(axis=(-2, -1))


def median_of_tasks(scores: np.ndarray) -> np.ndarray:
    """
    :param scores: (..., n_runs, n_tasks)
    :return: Median over the tasks of the mean over the runs; (...)
    """
    return np.median(scores.mean(axis=-2), axis=-1)


def optimality_gap(scores: np.ndarray) -> np.ndarray:
    """
    :param scores: Normalized scores; (..., n_runs, n_tasks)
    :return: How far the runs stay below 1 on average, where a score above 1 counts as 1; (...)
    """
    return 1 - np.minimum(scores, 1).mean(axis=(-2, -1))


def profile(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """
    :param scores: (..., n_runs, n_tasks)
    :param thresholds: (n_thresholds,)
    :return: Share of all runs of all tasks that are above each threshold; (..., n_thresholds)
    """
    flat = np.sort(scores.reshape(-1, scores.shape[-2] * scores.shape[-1]), axis=1)
    above = np.stack([1 - np.searchsorted(row, thresholds, side="right") / len(row) for row in flat])
    return above.reshape(*scores.shape[:-2], len(thresholds))


def expanded_quantiles(n_runs: int, n_tasks: int = 1) -> tuple[float, float]:
    """
    The quantiles of a bootstrap distribution that bound a 95 % interval. With many runs they approach 0.025 and 0.975. They
    are further out with few runs, so that the interval of a mean gets the width of Student's interval (Hesterberg, 2015).

    :param n_runs: Number of runs per task
    :param n_tasks: Number of tasks
    :return: Lower and upper quantile
    """
    student = stats.t.ppf((1 + CONFIDENCE) / 2, n_tasks * (n_runs - 1))
    upper = float(stats.norm.cdf(np.sqrt(n_runs / (n_runs - 1)) * student))
    return 1 - upper, upper


def resample(scores: np.ndarray, n_resamples: int = N_RESAMPLES, seed: int = 0) -> np.ndarray:
    """
    Stratified resamples: the runs of every task are drawn with replacement, independently of those of the other tasks.

    :param scores: (n_runs, n_tasks)
    :param n_resamples: Number of resamples
    :param seed: Seed of the draws
    :return: (n_resamples, n_runs, n_tasks)
    """
    n_runs, n_tasks = scores.shape
    drawn = np.random.default_rng(seed).integers(n_runs, size=(n_resamples, n_runs, n_tasks))
    return scores[drawn, np.arange(n_tasks)]


def bootstrap(
    scores: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], n_resamples: int = N_RESAMPLES, seed: int = 0
) -> np.ndarray:
    """
    :param scores: (n_runs, n_tasks)
    :param statistic: Maps scores of shape (..., n_runs, n_tasks) to (..., n_figures) or (...)
    :param n_resamples: Number of resamples
    :param seed: Seed of the resamples
    :return: Bounds of the 95 % interval of every figure, NaN with fewer than :data:`MIN_SEEDS` runs; (2, n_figures) or (2,)
    """
    if len(scores) < MIN_SEEDS:
        return np.full((2, *np.shape(statistic(scores))), np.nan)
    quantiles = expanded_quantiles(*scores.shape)
    return np.quantile(statistic(resample(scores, n_resamples, seed)), quantiles, axis=0)


def estimate(scores: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]) -> Estimate:
    """
    :param scores: (n_runs, n_tasks)
    :param statistic: One of the aggregates above
    :return: The aggregate and its stratified bootstrap interval
    """
    low, high = bootstrap(scores, statistic)
    return Estimate(float(statistic(scores)), float(low), float(high))


def bootstrap_of_curve(curves: np.ndarray, n_resamples: int = 2_000, seed: int = 0) -> np.ndarray:
    """
    :param curves: (n_runs, n_points)
    :param n_resamples: Number of resamples, each of whole runs
    :param seed: Seed of the resamples
    :return: Bounds of the 95 % interval of the mean at every point, NaN with fewer than :data:`MIN_SEEDS` runs; (2, n_points)
    """
    n_runs, n_points = curves.shape
    if n_runs < MIN_SEEDS:
        return np.full((2, n_points), np.nan)
    drawn = np.random.default_rng(seed).integers(n_runs, size=(n_resamples, n_runs))
    return np.quantile(curves[drawn].mean(axis=1), expanded_quantiles(n_runs), axis=0)


def student_margin(*samples: np.ndarray) -> float:
    """
    :param samples: Scores or differences of one or two methods, each (n_runs, n_tasks)
    :return: Half width of Student's 95 % interval of the mean over the tasks, or of the difference of two such means, with
        Satterthwaite's degrees of freedom: few where one task has most of the variance
    """
    n_tasks = samples[0].shape[1]
    variances = np.stack([sample.var(axis=0, ddof=1) / len(sample) for sample in samples])  # of each mean
    if not variances.any():
        return 0.0
    n_free = np.array([[len(sample) - 1] for sample in samples])
    degrees = variances.sum() ** 2 / (variances**2 / n_free).sum()
    return float(np.sqrt(variances.sum()) / n_tasks * stats.t.ppf((1 + CONFIDENCE) / 2, degrees))


def mean_difference(ours: np.ndarray, theirs: np.ndarray, paired: bool) -> Estimate:
    """
    The interval comes from resampled pairs, or from the two methods resampled independently of each other. Five differences of
    one sign occur by chance in 1 of 16 cases, but no bootstrap interval of them contains 0. So the interval is made as wide as
    Student's where that one is wider.

    :param ours: Scores of one method; (n_runs, n_tasks)
    :param theirs: Scores of another method; (n_other_runs, n_tasks), with as many runs if paired
    :param paired: Whether each row of the two arrays has the same seed
    :return: Difference of the means, and its interval
    """
    value = float(mean(ours) - mean(theirs))
    fewest = min(len(ours), len(theirs))
    if fewest < MIN_SEEDS:
        return Estimate(value, np.nan, np.nan)
    if paired:
        resamples, margin = mean(resample(ours - theirs)), student_margin(ours - theirs)
    else:
        # Two seeds, since equal draws would pair the runs
        resamples, margin = mean(resample(ours)) - mean(resample(theirs, seed=1)), student_margin(ours, theirs)
    low, high = np.quantile(resamples, expanded_quantiles(fewest, ours.shape[1]))
    return Estimate(value, min(float(low), value - margin), max(float(high), value + margin))


def wilson_interval(share: float, n: int) -> tuple[float, float]:
    """
    :param share: Share of successes, in [0, 1]
    :param n: Number of trials, at least 1
    :return: Bounds of Wilson's 95 % interval; unlike a bootstrap interval it has a width where the share is 0 or 1
    """
    z2 = stats.norm.ppf((1 + CONFIDENCE) / 2) ** 2
    center = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return max(0.0, float(center - half)), min(1.0, float(center + half))


def probability_of_improvement(ours: np.ndarray, theirs: np.ndarray, paired: bool) -> Estimate:
    """
    How likely a run of one method is to score above a run of another; a tie counts half.

    Paired, the runs of one row are compared. Unpaired, every run is compared with every run, as rliable does. The variance
    then depends on both distributions, but is no greater than that of as many independent pairs as the smaller number of runs
    (Birnbaum and Klose, 1957), so that the interval is conservative.

    :param ours: Scores of one method; (n_runs, n_tasks)
    :param theirs: Scores of another method; (n_other_runs, n_tasks), with as many runs if paired
    :param paired: Whether each row of the two arrays has the same seed
    :return: Mean probability over the tasks, and its interval by Wilson's formula
    """
    gains = ours - theirs if paired else ours[:, None] - theirs[None]
    value = float(((gains > 0) + 0.5 * (gains == 0)).mean())
    fewest = min(len(ours), len(theirs))
    if fewest < MIN_SEEDS:
        return Estimate(value, np.nan, np.nan)
    return Estimate(value, *wilson_interval(value, fewest * ours.shape[1]))
