"""Fits a HessianCovariance to held-out frames: robust maximum likelihood, as many parameters as the frames support."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from aprloc_ros.covariance import LOWEST_DEG, LOWEST_M, HessianCovariance, fuse, usable_hessian
from aprloc_ros.scoring.uncertainty import FEWEST_FRAMES, squared_mahalanobis
from aprloc_ros.training.calibration.tiers import tiers

FEWEST_TO_FIT = 5
OUTLIER = 60.0            # squared Mahalanobis distance; a Gaussian residual reaches it once in 10^10 frames
_HEAVIEST_TAILS = 3.0     # variance of the squared distances over the 12 of a Gaussian
_SIZE = 6
_FOLDS = 5
_DEGREES_OF_FREEDOM = 8   # of the Student-t: a frame's pull grows no further from about two sigma on
_PRIOR_SPREAD = 3.0       # of each parameter, e-folds about its start: only ties broken data into place
_LOWEST = (LOWEST_M, math.radians(LOWEST_DEG))
# Of theta: logarithms of k_t, k_r, of both floors above the lowest; roots of log p and of the inflations by score and by
# remoteness. Where the frames are too few to tell the floors, they are 0.5 mm and 0.01 degrees.
_FIXED = (0.0, 0.0, math.log(5e-4), math.log(math.radians(0.01)), 0.0, 0.0, 0.0)
_GROWING = (1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0)
# Which of these are free, simplest first; the last one only where remoteness varies.
_CANDIDATES = ((0, 1), (0, 1, 2, 3), (0, 1, 2, 3, 4), (0, 1, 2, 3, 4, 5))
_REMOTENESS = 6
_LEAST_SPREAD = 1e-3   # of remoteness


def fit_hessian_covariance(xi: Tensor, hessians: Tensor, prior: Tensor, scores: Tensor,
                           remoteness: Tensor | None = None) -> HessianCovariance:
    """From frames that were held out of the map, in the order they were taken.

    xi [N, 6] residuals of refined poses, hessians [N, 6, 6], prior [6, 6] or [N, 6, 6], scores [N] of the gate, remoteness
    [N] from the map's views (None: not known, and of no account).
    The shape (scales, floors, what prior, score and remoteness have to say) maximises a Student-t likelihood (Lange, Little
    and Taylor 1989); how much of it is free is chosen by the same likelihood of blocks of frames left out of the fit.
    One factor on all of it then makes the mean squared Mahalanobis distance of the frames *left out* 6, which pays for
    the fit as prior_covariance does; an outlier counts no more than OUTLIER there, and is reported. Tiers come last.
    Below FEWEST_TO_FIT frames nothing of the Hessian is believed.
    """
    count = len(xi)
    if count < FEWEST_TO_FIT:
        return HessianCovariance(1e12, 1e12, 1.0, 0.0, LOWEST_M, LOWEST_DEG, 0, 0, False)
    data = (xi.double(), usable_hessian(hessians.double()), prior.double().expand(count, _SIZE, _SIZE), scores.double(),
            torch.zeros(count, dtype=torch.float64) if remoteness is None else remoteness.double())
    candidates = _CANDIDATES if count >= FEWEST_FRAMES else _CANDIDATES[:1]
    if count >= FEWEST_FRAMES and data[-1].std() > _LEAST_SPREAD:
        candidates = (_CANDIDATES[0], *((*free, _REMOTENESS) for free in candidates))
    fits = [_cross_fit(data, free) for free in candidates]
    theta, left_out = max(fits, key=lambda fit: _log_likelihood(data, fit[1]).mean().item())
    factor = _factor(data, left_out)
    squared = squared_mahalanobis(data[0], _covariance(data, _grow(left_out, factor)))
    found = _named(_grow(theta, factor), squared)
    inflations = torch.tensor([found.inflation(*each) for each in zip(scores.tolist(), data[-1].tolist(), strict=True)])
    return replace(found, tiers=tiers(inflations, squared))


def _named(theta: Tensor, squared: Tensor) -> HessianCovariance:
    """theta [7] and the squared distances of the frames left out, [N]."""
    scale, floor, prior_scale, by_score, by_remoteness = (value.tolist() for value in _unpack(theta))
    tails = squared.clamp_max(OUTLIER).var().item() / (2 * _SIZE)
    supported = len(squared) >= FEWEST_FRAMES and tails <= _HEAVIEST_TAILS
    return HessianCovariance(scale[0], scale[1], prior_scale, by_score, max(floor[0], LOWEST_M),
                             max(math.degrees(floor[1]), LOWEST_DEG), len(squared), int((squared > OUTLIER).sum()), supported,
                             by_remoteness)


def _unpack(theta: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """theta [..., 7] -> scales [..., 2], floors [..., 2] (m, rad), scale of the prior [...], inflations [...], [...]."""
    floor = (theta.new_tensor(_LOWEST) ** 2 + (2 * theta[..., 2:4]).exp()).sqrt()
    return theta[..., :2].exp(), floor, theta[..., 4].square().exp(), *theta[..., 5:].square().unbind(-1)


def _covariance(data: tuple[Tensor, ...], theta: Tensor) -> Tensor:
    """[N, 6, 6] for parameters [7], or [N, 7] of each frame's own."""
    _, hessians, prior, scores, remoteness = data
    scale, floor, prior_scale, by_score, by_remoteness = _unpack(theta)
    scale = scale.repeat_interleave(3, -1) * torch.exp(by_score * (1 - scores) + by_remoteness * remoteness)[:, None]
    return fuse(hessians, prior_scale.square()[..., None, None] * prior, scale) \
        + torch.diag_embed(floor.repeat_interleave(3, -1) ** 2)


def _log_likelihood(data: tuple[Tensor, ...], theta: Tensor) -> Tensor:
    """Student-t log density of each residual, of the given covariance, up to a constant: [N]."""
    covariance, nu = _covariance(data, theta), _DEGREES_OF_FREEDOM
    squared = squared_mahalanobis(data[0], covariance)
    return -torch.linalg.slogdet(covariance).logabsdet / 2 - (nu + _SIZE) / 2 * torch.log1p(squared / (nu - 2))


def _start(data: tuple[Tensor, ...]) -> Tensor:
    """Scales that explain the residuals without a floor, floors of a third of the median error."""
    xi, hessians = data[:2]
    std = xi.abs().unflatten(1, (2, 3)).mean(2).median(0).values.clamp_min(1e-9)
    promised = torch.diagonal(hessians, dim1=1, dim2=2).unflatten(1, (2, 3)).mean(2).median(0).values
    scale = (std * promised.clamp_min(1e-30).sqrt()).clamp(1e-9, 1e9)
    return torch.cat([scale.log(), (std / 3).log(), torch.ones(3, dtype=torch.float64)])


def _fit(data: tuple[Tensor, ...], free: tuple[int, ...], begin: Tensor) -> Tensor:
    """The likeliest parameters [7], of which only the `free` move, sought from `begin` [7]."""
    index, fixed = torch.tensor(free), torch.tensor(_FIXED, dtype=torch.float64)
    usual, moved = _start(data)[index], begin[index].clone().requires_grad_()
    optimizer = torch.optim.LBFGS([moved], max_iter=30, tolerance_change=1e-5, line_search_fn='strong_wolfe')

    def loss() -> Tensor:
        optimizer.zero_grad()
        penalty = ((moved - usual) / _PRIOR_SPREAD).square().sum() / 2
        value = penalty - _log_likelihood(data, fixed.index_put((index,), moved)).sum()
        value.backward()
        return value

    optimizer.step(loss)
    return fixed.index_put((index,), moved.detach())


def _cross_fit(data: tuple[Tensor, ...], free: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The parameters of all frames, [7], and for each frame those fitted without its block, [N, 7]."""
    count = len(data[0])
    whole = _fit(data, free, _start(data))
    left_out = torch.empty(count, len(_FIXED), dtype=torch.float64)
    for block in torch.arange(count).tensor_split(min(_FOLDS, count)):
        rest = torch.ones(count, dtype=torch.bool)
        rest[block] = False
        left_out[block] = _fit(tuple(part[rest] for part in data), free, whole)
    return whole, left_out


def _grow(theta: Tensor, factor: float) -> Tensor:
    """Scales and floors times the factor."""
    return theta + math.log(factor) * theta.new_tensor(_GROWING)


def _factor(data: tuple[Tensor, ...], theta: Tensor) -> float:
    """The factor on the standard deviations that brings the mean squared distance to 6, from 1/4 to 16, by bisection.

    6 n / (6 n - 2): the mean of an inverse chi-square with 6 n degrees, as the factor itself is estimated.
    """
    count = len(data[0])
    wanted = _SIZE * (1 - 2 / (_SIZE * count))
    low, high = math.log(1 / 4), math.log(16)
    for _ in range(40):
        middle = (low + high) / 2
        squared = squared_mahalanobis(data[0], _covariance(data, _grow(theta, math.exp(middle)))).clamp_max(OUTLIER)
        low, high = (middle, high) if squared.mean() > wanted else (low, middle)
    return math.exp(high)
