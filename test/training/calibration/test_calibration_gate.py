"""The fit of a gate: the logistic models, the thresholds, and the images of no place."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import binom

from aprloc_ros.training.calibration.gate_fit import allowed_violations, choose_threshold, fit_signal_score
from aprloc_ros.training.images.negatives import NEGATIVES, negatives


def drawn(count, seed):
    """Signals of which `useful` tells, `noise` does not and `contrary` is worse when it is larger."""
    rng = np.random.default_rng(seed)
    label = rng.random(count) < 0.7
    rows = [{'useful': float(good + rng.normal()), 'noise': float(3 * rng.normal()),
             'contrary': float(rng.normal() - good), 'constant': 1.0} for good in label]
    return rows, torch.from_numpy(label)


def test_the_logistic_model_is_scipys_optimum():
    rows, label = drawn(200, 0)
    model = fit_signal_score(rows, label)
    X, y = np.array([[row[name] for name in ('contrary', 'noise', 'useful')] for row in rows]), label.numpy()
    weight = np.where(y, 0.5 / y.sum(), 0.5 / (~y).sum())
    target = np.where(y, 1 - 1 / (y.sum() + 2), 1 / ((~y).sum() + 2))
    centre = weight @ X
    Z = (X - centre) / np.sqrt(weight @ (X - centre) ** 2)

    def loss(w):
        logit = Z @ w[:3] + w[3]
        return weight @ (np.logaddexp(0, logit) - target * logit) + 0.005 * (w[:3] ** 2).sum()

    best = minimize(loss, np.zeros(4), bounds=[(0, None)] * 3 + [(None, None)], tol=1e-12).x
    expected = 1 / (1 + np.exp(-(Z @ best[:3] + best[3])))
    np.testing.assert_allclose([model.score(row) for row in rows], expected, atol=1e-4)
    weights = dict(zip(model.signals, model.weights))
    assert set(weights) == {'contrary', 'noise', 'useful'}       # what never varies says nothing
    assert weights['contrary'] == 0 and weights['useful'] > 10 * weights['noise']


def test_a_signal_that_separates_all_keeps_the_model_finite():
    rows = [{'a': float(i >= 10)} for i in range(20)]
    model = fit_signal_score(rows, torch.arange(20) >= 10)
    assert model.score({'a': 1.0}) > 0.8 and model.score({'a': 0.0}) < 0.2
    assert all(math.isfinite(weight) for weight in model.weights)


@pytest.mark.parametrize('label', [True, False])
def test_one_kind_alone_is_a_model_too(label):
    model = fit_signal_score([{'a': i / 10} for i in range(10)], torch.full((10,), label))
    assert (model.score({'a': 0.5}) > 0.7) is label and 0 < model.score({'a': 0.5}) < 1


def test_signals_that_most_rows_lack_are_left_out_and_others_completed():
    rows, label = drawn(60, 1)
    for index, row in enumerate(rows):
        row['rare'] = 1.0 if index < 10 else math.nan
        if index % 3 == 0:
            del row['useful']
    model = fit_signal_score(rows, label)
    assert 'rare' not in model.signals and 'useful' in model.signals
    assert fit_signal_score([{}, {}], torch.tensor([True, False])).score({'a': 3.0}) == pytest.approx(0.5)


def test_allowed_violations_hold_the_share_nine_times_of_ten():
    """Against SciPy's binomial distribution."""
    for share in (0.02, 0.05):
        for count in (0, 10, 44, 45, 113, 114, 194, 400, 1000):
            allowed = allowed_violations(count, share)
            assert binom(count, share).cdf(allowed + 1) > 0.1 or allowed == count
            assert allowed == 0 or binom(count, share).cdf(allowed) <= 0.1
    assert [allowed_violations(n, 0.02) for n in (114, 193, 194)] == [0, 0, 1]


def threshold(scores, wanted, harmful, negative, frame=None):
    return choose_threshold(torch.tensor(scores, dtype=torch.float64), torch.tensor(wanted), torch.tensor(harmful), negative,
                            torch.tensor(frame or range(len(scores))))


def test_the_threshold_lies_amid_the_gap():
    scores, wanted = [0.9, 0.8, 0.2, 0.1], [True, True, False, False]
    assert threshold(scores, wanted, [False] * 4, ['', '', 'noise', 'noise']) == pytest.approx(0.5)


def test_harm_raises_the_threshold_above_it():
    scores = [0.9, 0.8, 0.7, 0.6, 0.5]
    assert 0.7 < threshold(scores, [True] * 5, [False, False, True, False, False], [''] * 5) < 0.8
    assert threshold(scores, [True] * 5, [True] + [False] * 4, [''] * 5) == 1.0


def test_two_answers_to_an_image_are_one_witness():
    """One harmful image of 194 is allowed, of 193 none, however often each is asked; and two harmful answers to it are one."""
    for count, bound in ((194, 0.0), (193, 0.5)):
        scores = [0.9, 0.8] * (count - 1) + [0.5, 0.4]
        chosen = threshold(scores, [True] * len(scores), [False] * (2 * count - 2) + [True] * 2, [''] * len(scores),
                           [image for image in range(count) for _ in range(2)])
        assert (chosen > 0.5) == (bound > 0)


def test_a_symmetric_front_is_no_image_of_no_place():
    """Its mirror image is the front itself: a map that recognises it is right, and its gate must not learn otherwise."""
    half = torch.rand(1, 3, 24, 16, generator=torch.Generator().manual_seed(0))
    front = torch.cat([half, half.flip(-1)], -1)
    made = list(negatives(front.expand(5, -1, -1, -1), torch.Generator().manual_seed(1)))
    assert all((image - front[0]).abs().mean() > 0.1 for _, _, image in made)


def test_every_kind_of_negative_counts_by_itself():
    """One leak is one too many of 76, but not of 77."""
    for count, expected in ((76, 0.7), (77, 0.5)):
        negative = [''] * 20 + ['flipped'] * count + ['noise'] * 200
        scores = [0.9] * 10 + [0.55] * 10 + [0.6] + [0.3] * (count - 1) + [0.01] * 200
        wanted = [not kind for kind in negative]
        chosen = threshold(scores, wanted, [False] * len(scores), negative)
        assert (chosen > 0.6) is (count == 76), chosen
        assert abs(chosen - expected) < 0.15


def test_negatives_are_no_frames_and_repeat():
    images = torch.rand(5, 3, 30, 41, generator=torch.Generator().manual_seed(0))
    made = list(negatives(images, torch.Generator().manual_seed(1), per_frame=4))
    again = list(negatives(images, torch.Generator().manual_seed(1), per_frame=4))
    assert {kind for kind, _, _ in made} == set(NEGATIVES)
    for (kind, index, image), (_, _, same) in zip(made, again, strict=True):
        assert torch.equal(image, same)
        assert image.shape == images[0].shape and 0 <= image.min() and image.max() <= 1
        assert (image - images[index]).abs().mean() > 0.1, kind
    by_kind = {kind: (index, image) for kind, index, image in made}
    index, image = by_kind['flipped']
    assert torch.equal(image.flip(-2), images[index])
    index, image = by_kind['shuffled']      # the same pixels, elsewhere
    assert torch.equal(image[:, :28, :40].flatten(1).sort().values, images[index][:, :28, :40].flatten(1).sort().values)
    assert [kind for kind, _, _ in made].count('elsewhere') == 5
