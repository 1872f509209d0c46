"""Fits a Gate to trials: monotone logistic models, and thresholds that hold on frames not yet seen."""

import functools
import math

import torch
from torch import Tensor

from aprloc_ros.distributions import binomial_cdf
from aprloc_ros.gate import Gate, SignalScore
from aprloc_ros.training.calibration.trials import Outcomes

MOST_HARMFUL = 0.02   # of the refined poses: worse than their prior by more than 5 cm or 0.5 degrees
MOST_LEAKED = 0.05    # of the negatives of every kind: not rejected
RISK = 0.1           # that a bound does not hold
_PENALTY = 0.01       # on squared standardised weights, against a mean log loss of order 1
_LEAST_SPREAD = 1e-6
_MOST_MISSING = 0.5
_STEPS = 500
_FOLDS = 5


def fit_gate(found: Outcomes) -> Gate:
    """The gate of a refiner, from its outcomes on held-out frames and on images of no place.

    Thresholds are chosen on scores from models that saw neither the frame nor anything made from it, to accept as much
    as the bounds MOST_HARMFUL and MOST_LEAKED allow (see allowed_violations). A refiner that was never right is never
    accepted.
    """
    genuine, answered = found.genuine, ~found.failed
    rows = torch.ones_like(answered)
    prior_score = _left_out_scores(found, found.credible, rows)
    prior = fit_signal_score(found.signals, found.credible)
    counts = _images(found.frame[genuine]), int((~genuine).sum())
    if not found.good.any():
        keep = choose_threshold(prior_score, found.credible, torch.zeros_like(rows), found.negative, found.frame)
        return Gate(SignalScore((), (), (), 0.0), prior, 1.0, keep, *counts, False)
    refined_score = torch.where(answered, _left_out_scores(found, found.good, answered), 0.0)
    accept = choose_threshold(refined_score, genuine & answered, found.harmful & answered, found.negative, found.frame)
    refined = refined_score > accept
    # A negative that passed as refined has passed, whatever its prior's score.
    keep = choose_threshold(torch.where(refined & ~genuine, 1.0, prior_score), found.credible, torch.zeros_like(rows),
                            found.negative, found.frame)
    model = fit_signal_score(_chosen(found.signals, answered), found.good[answered])
    return Gate(model, prior, accept, keep, *counts, _supported(found, refined))


@functools.lru_cache(maxsize=4096)
def allowed_violations(count: int, share: float) -> int:
    """How many of `count` frames may violate a bound so that the share holds for frames to come, nine times of ten.

    The most that Clopper and Pearson's upper limit (1934) allows: so few would be seen in one case of ten at most if the
    share were exceeded. Holding it in expectation alone (conformal risk control) lets half of all maps exceed it. Where the
    count is too small for any, none may.
    """
    allowed = 0
    while allowed < count and binomial_cdf(allowed + 1, count, share) <= RISK:
        allowed += 1
    return allowed


def choose_threshold(score: Tensor, wanted: Tensor, harmful: Tensor, negative: list[str], frame: Tensor) -> float:
    """The threshold above which most `wanted` frames lie while both bounds hold; the least leaky of equals, then the middle.

    score [N]; wanted, harmful [N] bool, of genuine frames; negative [N] kinds, '' for genuine; frame [N] numbers of the
    images: each counts once, as harmful if any answer to it is. 1, which nothing exceeds, if the bounds allow no other.
    """
    kinds = {kind: torch.tensor([other == kind for other in negative]) for kind in sorted(set(negative))}
    genuine = kinds.pop('', torch.zeros_like(wanted))
    values = torch.unique(score)
    candidates = torch.cat([values[:1] / 2, (values[1:] + values[:-1]) / 2, torch.ones_like(values[:1])])
    best, chosen = (-1, 0), [1.0]
    for candidate in candidates.tolist():
        passed = score > candidate
        leaks = [(int((passed & kind).sum()), int(kind.sum())) for kind in kinds.values()]
        if _images(frame[passed & harmful]) > allowed_violations(_images(frame[passed & genuine]), MOST_HARMFUL) \
                or any(leaked > allowed_violations(count, MOST_LEAKED) for leaked, count in leaks):
            continue
        rank = int((passed & wanted).sum()), -sum(leaked for leaked, _ in leaks)
        if rank > best:
            best, chosen = rank, []
        if rank == best:
            chosen.append(candidate)
    return chosen[len(chosen) // 2] if best[0] > 0 else 1.0


def fit_signal_score(signals: list[dict[str, float]], label: Tensor) -> SignalScore:
    """Logistic regression with weights that are not negative, [N] signals against [N] bool.

    Both labels weigh the same in total, so 0.5 is even odds whatever their mixture; targets are Platt's (1999), which
    keep the fit finite where one signal separates all. Projected accelerated gradient (Beck and Teboulle 2009).
    """
    names, X = _table(signals)
    weight = torch.where(label, 0.5 / max(int(label.sum()), 1), 0.5 / max(int((~label).sum()), 1)).double()
    weight = weight / weight.sum()
    target = torch.where(label, 1 - 1 / (label.sum() + 2), 1 / ((~label).sum() + 2)).double()
    centre = (weight[:, None] * X).sum(0)
    spread = (weight[:, None] * (X - centre) ** 2).sum(0).sqrt()
    told = spread > _LEAST_SPREAD
    Z = torch.cat([(X - centre)[:, told] / spread[told], torch.ones(len(X), 1, dtype=torch.float64)], 1)
    penalty = torch.full((Z.shape[1],), _PENALTY, dtype=torch.float64)
    penalty[-1] = 0
    step = 1 / (torch.linalg.eigvalsh(Z.T @ (weight[:, None] * Z))[-1] / 4 + _PENALTY)
    w = ahead = torch.zeros_like(penalty)
    for iteration in range(_STEPS):
        gradient = Z.T @ (weight * (torch.sigmoid(Z @ ahead) - target)) + penalty * ahead
        moved = ahead - step * gradient
        moved[:-1].clamp_(min=0)
        ahead, w = moved + iteration / (iteration + 3) * (moved - w), moved
    used = [name for name, kept in zip(names, told.tolist()) if kept]
    return SignalScore(tuple(used), tuple(centre[told].tolist()), tuple((w[:-1] / spread[told]).tolist()), w[-1].item())


def _table(signals: list[dict[str, float]]) -> tuple[list[str], Tensor]:
    """Names of the signals that most rows have, and [N, F] values; what a row lacks is the mean of the others."""
    def value(row: dict[str, float], name: str) -> float:
        return row[name] if math.isfinite(row.get(name, math.nan)) else math.nan

    names = sorted({name for row in signals for name in row})
    X = torch.tensor([[value(row, name) for name in names] for row in signals], dtype=torch.float64)
    X = X.reshape(len(signals), len(names))
    present = torch.isnan(X).double().mean(0) <= _MOST_MISSING
    X = X[:, present]
    return [name for name, kept in zip(names, present.tolist()) if kept], torch.where(torch.isnan(X), X.nanmean(0), X)


def _left_out_scores(found: Outcomes, label: Tensor, rows: Tensor) -> Tensor:
    """For each of the rows [N] bool its score by a model of the other blocks of frames: [N], 0 where not a row."""
    score = torch.zeros(len(label), dtype=torch.float64)
    frames = torch.unique(found.frame)
    for block in frames.tensor_split(min(_FOLDS, len(frames))):
        held = torch.isin(found.frame, block)
        fit = rows & ~held if (rows & ~held).any() else rows
        model = fit_signal_score(_chosen(found.signals, fit), label[fit])
        for index in (rows & held).nonzero()[:, 0].tolist():
            score[index] = model.score(found.signals[index])
    return score


def _chosen(signals: list[dict[str, float]], rows: Tensor) -> list[dict[str, float]]:
    return [signals[index] for index in rows.nonzero()[:, 0].tolist()]


def _supported(found: Outcomes, refined: Tensor) -> bool:
    """Whether there are frames enough, and negatives of all kinds together, to show that the bounds hold."""
    return (binomial_cdf(0, _images(found.frame[refined & found.genuine]), MOST_HARMFUL) <= RISK
            and binomial_cdf(0, int((~found.genuine).sum()), MOST_LEAKED) <= RISK)


def _images(frame: Tensor) -> int:
    """How many these numbers [N] are of."""
    return len(frame.unique())
