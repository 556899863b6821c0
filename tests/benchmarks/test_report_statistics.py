"""The statistics of few runs, beside slow references, rliable's formulas and the coverage of their intervals."""

import numpy as np
import pytest
from scipy import stats

from benchmarks import statistics


@pytest.fixture
def scores():
    return np.random.default_rng(3).normal(size=(8, 3))


def test_aggregates_of_rliable(scores):
    metrics = pytest.importorskip("rliable.metrics", reason="rliable is not installed, or does not import here")
    assert statistics.interquartile_mean(scores) == pytest.approx(metrics.aggregate_iqm(scores))
    assert statistics.mean(scores) == pytest.approx(metrics.aggregate_mean(scores))
    assert statistics.median_of_tasks(scores) == pytest.approx(metrics.aggregate_median(scores))
    assert statistics.optimality_gap(scores) == pytest.approx(metrics.aggregate_optimality_gap(scores))


def test_profile_and_improvement_of_rliable(scores):
    library = pytest.importorskip("rliable.library", reason="rliable is not installed, or does not import here")
    from rliable import metrics

    thresholds = np.linspace(-2, 2, 9)
    np.testing.assert_allclose(statistics.profile(scores, thresholds), library.score_distributions(scores, thresholds))
    others = scores[:5].round(1) + 0.3
    ours = scores.round(1)
    expected = metrics.probability_of_improvement(ours, others)
    assert statistics.probability_of_improvement(ours, others, paired=False).value == pytest.approx(expected)


def test_interquartile_mean_by_sorting():
    scores = np.arange(20.0).reshape(5, 4) ** 2
    assert statistics.interquartile_mean(scores) == pytest.approx(np.mean(sorted(scores.flat)[5:15]))


@pytest.mark.parametrize("statistic", [statistics.interquartile_mean, statistics.mean, statistics.median_of_tasks])
def test_aggregates_of_stacks(statistic, scores):
    stack = statistics.resample(scores, n_resamples=4)
    np.testing.assert_allclose(statistic(stack), [statistic(one) for one in stack])
    np.testing.assert_allclose(statistics.profile(stack, np.zeros(1)), [statistics.profile(one, np.zeros(1)) for one in stack])


def test_profile_by_counting():
    scores = np.array([[0.0, 1.0], [1.0, 2.0]])
    assert statistics.profile(scores, np.array([-1.0, 0.0, 1.0, 2.0])).tolist() == [1.0, 0.75, 0.25, 0.0]


def test_resamples_stay_in_their_task():
    scores = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    resamples = statistics.resample(scores, n_resamples=500)
    assert set(resamples[..., 0].flat) == {1, 2, 3} and set(resamples[..., 1].flat) == {10, 20, 30}
    # The tasks are drawn independently of each other
    assert (resamples[..., 1] != 10 * resamples[..., 0]).any()


@pytest.mark.parametrize("n_runs, n_tasks", [(5, 1), (10, 1), (5, 4)])
def test_expanded_quantiles(n_runs, n_tasks):
    """In a normal bootstrap distribution, the interval of a mean is Student's with the degrees of freedom of all tasks."""
    low, high = statistics.expanded_quantiles(n_runs, n_tasks)
    assert low == pytest.approx(1 - high)
    width = stats.norm.ppf(high) * np.sqrt((n_runs - 1) / n_runs)
    assert width == pytest.approx(stats.t.ppf(0.975, n_tasks * (n_runs - 1)))
    assert statistics.expanded_quantiles(10_000)[0] == pytest.approx(0.025, abs=1e-4)


def test_bootstrap_of_curve_by_points():
    curves = np.random.default_rng(0).normal(size=(6, 3))
    found = statistics.bootstrap_of_curve(curves, n_resamples=4_000)
    expected = [statistics.bootstrap(curves[:, [i]], statistics.mean, n_resamples=4_000) for i in range(3)]
    np.testing.assert_allclose(found.T, expected, atol=0.15)


def test_student_margin(scores):
    pairs = scores[:, :1]
    interval = stats.ttest_1samp(pairs[:, 0], 0).confidence_interval()
    assert 2 * statistics.student_margin(pairs) == pytest.approx(interval.high - interval.low)
    two = stats.ttest_ind(scores[:, 0], scores[:, 1], equal_var=False).confidence_interval()
    assert 2 * statistics.student_margin(scores[:, :1], scores[:, 1:2]) == pytest.approx(two.high - two.low)


def test_student_margin_of_tasks():
    """Equal variances have the degrees of freedom of all tasks; where one task has all the variance, its own."""
    one = np.array([1.0, 2.0, 4.0, 4.0, 9.0])
    error = one.std(ddof=1) / np.sqrt(5)
    equal = np.stack([one, one[::-1], one + 3, -one], axis=1)
    assert statistics.student_margin(equal) == pytest.approx(stats.t.ppf(0.975, 16) * error / 2)
    alone = np.stack([one, np.zeros(5), np.ones(5), np.zeros(5)], axis=1)
    assert statistics.student_margin(alone) == pytest.approx(stats.t.ppf(0.975, 4) * error / 4)
    assert statistics.student_margin(np.ones((5, 3))) == 0


@pytest.mark.parametrize("paired", [True, False])
def test_mean_difference(scores, paired):
    difference = statistics.mean_difference(scores + 1, scores, paired)
    assert difference.value == pytest.approx(1)
    assert difference.low <= difference.value <= difference.high
    # Only pairs see that every run gains the same
    assert (difference.high - difference.low < 1e-9) == paired
    assert np.isnan(statistics.mean_difference(scores[:4] + 1, scores[:4], paired).low)


def test_five_signs_are_no_proof():
    """One large and four small gains: a bootstrap of five gains never crosses 0."""
    gains = np.array([[10.0], [0.1], [0.2], [0.1], [0.3]])
    assert statistics.bootstrap(gains, statistics.mean)[0] > 0
    assert statistics.mean_difference(gains, np.zeros((5, 1)), paired=True).low < 0


@pytest.mark.parametrize("successes, n", [(0, 5), (3, 7), (20, 20)])
def test_wilson_interval(successes, n):
    expected = stats.binomtest(successes, n).proportion_ci(method="wilson")
    assert statistics.wilson_interval(successes / n, n) == pytest.approx((expected.low, expected.high))


def test_probability_of_improvement_by_counting():
    ours, theirs = np.array([[1.0], [2.0], [3.0], [3.0], [9.0]]), np.array([[0.0], [2.0], [4.0], [1.0], [1.0]])
    assert statistics.probability_of_improvement(ours, theirs, paired=True).value == (3 + 0.5) / 5
    wins = sum((a > b) + 0.5 * (a == b) for a in ours.flat for b in theirs.flat)
    unpaired = statistics.probability_of_improvement(ours, theirs, paired=False)
    assert unpaired.value == pytest.approx(wins / 25)
    assert 0 < unpaired.low < unpaired.value < unpaired.high < 1
    assert np.isnan(statistics.probability_of_improvement(ours[:4], theirs, paired=False).low)


def coverage(interval, truth, n=300):
    hits = [low <= truth <= high for low, high in map(interval, range(n))]
    return np.mean(hits)


# Of 300 intervals that cover with probability 0.95, between 0.91 and 0.985 cover in all but one of 1,000 repetitions
@pytest.mark.parametrize("n_runs", [5, 10])
def test_coverage_of_the_interquartile_mean(n_runs):
    """On 7 tasks with different means; rliable's percentiles of 5 runs cover 92 %."""
    tasks = np.linspace(0, 1, 7)
    truth = statistics.interquartile_mean(tasks + np.random.default_rng(0).normal(size=(20_000, 7)))

    def interval(i):
        scores = tasks + np.random.default_rng(i + 1).normal(size=(n_runs, 7))
        return statistics.bootstrap(scores, statistics.interquartile_mean, n_resamples=500)

    assert 0.91 < coverage(interval, truth) < 0.985


@pytest.mark.parametrize("paired", [True, False])
def test_coverage_of_a_difference(paired):
    """Without any true difference, five seeds call at most about 1 of 20 comparisons better or worse."""

    def interval(i):
        ours, theirs = np.random.default_rng(i).normal(size=(2, 5, 1))
        return statistics.mean_difference(ours, theirs, paired)[1:]

    assert 0.91 < coverage(interval, truth=0)
