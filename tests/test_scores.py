"""Scores, calibration and logistic regression beside scikit-learn, on data that hypothesis makes up."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import linear_model, metrics

from poster_genres.lib import metrics as ours
from poster_genres.lib.calibration import fit_platt, logistic_regression

exactly = dict(rtol=1e-9, atol=1e-12)


@st.composite
def answers(draw, fewest=2):
    "Some movies with at least one genre that some have: truth, probabilities (with ties), weights."
    seed, movies, genres = draw(st.integers(0, 2**32 - 1)), draw(st.integers(fewest, 60)), draw(st.integers(1, 6))
    random = np.random.default_rng(seed)
    y_true = (random.random((movies, genres)) < random.uniform(0.05, 0.9, genres)).astype(int)
    y_true[0, 0] = 1
    y_prob = random.random((movies, genres)).round(draw(st.sampled_from([1, 2, 15])))
    return y_true, y_prob, random.integers(1, 4, movies) if draw(st.booleans()) else np.ones(movies, int)


@settings(deadline=None, derandomize=True)
@given(answers())
def test_average_precision(case):
    y_true, y_prob, weights = case
    for genre, value in enumerate(ours.average_precision(y_true, y_prob, weights)):
        if y_true[:, genre].any():
            np.testing.assert_allclose(value, metrics.average_precision_score(y_true[:, genre], y_prob[:, genre], sample_weight=weights), **exactly)
        else:
            assert np.isnan(value)


@settings(deadline=None, derandomize=True)
@given(answers(), st.floats(0.05, 0.95))
def test_f1(case, threshold):
    y_true, y_prob, weights = case
    y_pred = (y_prob >= threshold).astype(int)
    known = y_true.any(0)
    theirs = lambda average, columns=slice(None): metrics.f1_score(
        y_true[:, columns], y_pred[:, columns], average=average, sample_weight=weights, zero_division=0)
    np.testing.assert_allclose(ours.f1(y_true, y_pred, weights, "micro"), theirs("micro") if y_true.shape[1] > 1 else theirs("binary"), **exactly)
    if known.sum() > 1:
        np.testing.assert_allclose(ours.f1(y_true, y_pred, weights, "macro"), theirs("macro", known), **exactly)
    if y_true.shape[1] > 1:
        np.testing.assert_allclose(ours.f1(y_true, y_pred, weights, "samples"), theirs("samples"), **exactly)


@settings(deadline=None, derandomize=True)
@given(answers())
def test_log_loss_and_brier_score(case):
    y_true, y_prob, weights = case
    inside = np.clip(y_prob, 1e-6, 1 - 1e-6)
    columns = range(y_true.shape[1])
    loss = [metrics.log_loss(y_true[:, genre], inside[:, genre], sample_weight=weights, labels=[0, 1]) for genre in columns]
    brier = [metrics.brier_score_loss(y_true[:, genre], y_prob[:, genre], sample_weight=weights, pos_label=1) for genre in columns]
    np.testing.assert_allclose(ours.log_loss(y_true, inside, weights), np.mean(loss), rtol=1e-6)
    np.testing.assert_allclose(ours.brier(y_true, y_prob, weights), np.mean(brier), **exactly)


@settings(deadline=None, derandomize=True)
@given(answers(), st.integers(0, 1000))
def test_a_resample_is_its_movies(case, seed):
    "The scores of a row of weights are those of the movies that it counts, each as often."
    y_true, y_prob, _ = case
    thresholds = ours.choose_thresholds(y_true, y_prob)
    drawn = ours.bootstrap_weights(len(y_true), 3, seed)
    scores = ours.all_scores(y_true, y_prob, thresholds, drawn)
    for row, counts in enumerate(drawn.astype(int)):
        for name, value in ours.all_scores(y_true.repeat(counts, 0), y_prob.repeat(counts, 0), thresholds).items():
            np.testing.assert_allclose(scores[name][row], value, rtol=1e-9, atol=1e-9, err_msg=name)


@settings(deadline=None, derandomize=True, max_examples=20)
@given(answers(fewest=20), st.sampled_from([0.001, 0.01, 0.1]))
def test_logistic_regression(case, penalty):
    "Each genre's weights are those of scikit-learn, whose C is 1 / (penalty x movies)."
    y_true, features, weights = case
    kernel, bias = logistic_regression(features, y_true, weights, penalty)
    theirs = linear_model.LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=10_000)
    for genre in range(y_true.shape[1]):
        if 0 < y_true[:, genre].sum() < len(y_true):
            theirs.fit(features, y_true[:, genre], sample_weight=weights / weights.sum())
            found = np.r_[kernel[:, genre], bias[genre]]
            np.testing.assert_allclose(found, np.r_[theirs.coef_[0], theirs.intercept_], atol=2e-2)
            loss = lambda values: metrics.log_loss(y_true[:, genre], 1 / (1 + np.exp(-features @ values[:-1] - values[-1])), sample_weight=weights,
                                                   labels=[0, 1]) + penalty / 2 * (values[:-1] ** 2).sum()
            assert loss(found) < loss(np.r_[theirs.coef_[0], theirs.intercept_]) + 1e-5


@pytest.mark.parametrize("seed", range(3))
def test_platt_scaling_without_shrinkage_is_logistic_regression(seed):
    "One genre by itself: slope and shift are those of scikit-learn's logistic regression on the logit."
    random = np.random.default_rng(seed)
    y_prob = random.uniform(0.01, 0.99, (400, 1))
    y_true = (random.random((400, 1)) < y_prob**2).astype(int)
    scaling = fit_platt(y_true, y_prob, np.ones(400), np.inf)
    theirs = linear_model.LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000).fit(ours.logits(y_prob), y_true[:, 0])
    np.testing.assert_allclose([scaling.slopes[0], scaling.shifts[0]], [theirs.coef_[0, 0], theirs.intercept_[0]], atol=1e-3)
    np.testing.assert_allclose(scaling(y_prob)[:, 0], theirs.predict_proba(ours.logits(y_prob))[:, 1], atol=1e-3)
