"""Least squares that a part of its data may contradict: iteratively reweighted Gauss-Newton with an honest covariance."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

State = TypeVar('State')
Terms = Sequence[tuple[Tensor, Tensor]]   # of each kind: residuals [N, k] and their Jacobian [N, k, P]

_ITERATIONS = 60
_WIDE = 15          # of these with weights that never vanish, to come near
_CUT = 4.0          # sigmas of a row, root mean square over its numbers, beyond which it counts for nothing
_SMALL_STEP = 1e-9
_TO_SIGMA = 1.4826  # from the median of absolute values of a Gaussian


@dataclass(frozen=True, eq=False)
class RobustFit:
    """state: the parameters; covariance [P, P] of their tangent, and the inverse of the loss' second derivative that is part of
    it; of each kind of residual its weights [N] and its sigma."""

    state: object
    covariance: Tensor
    inverse: Tensor
    residuals: list[Tensor]
    weights: list[Tensor]
    sigmas: list[float]


def robust_fit(state: State, evaluate: Callable[[State], Terms], retract: Callable[[State, Tensor], State],
               precision: Tensor, clusters: Tensor, floor: float = 1e-9) -> RobustFit:
    """Minimise Tukey's biweight of several kinds of residuals, each of a spread that is found (1.4826 median |r|).

    retract: state and a step [P] -> state. precision [P]: how strongly each parameter stays where it began, 0: not at all,
    inf: it does not move. clusters [N]: rows of one number err together. The covariance is the sandwich of these clusters,
    A^-1 B A^-1 with A the second derivative of the loss and B the sum of the outer products of the clusters' gradients times
    C / (C - P) (Huber, Robust Statistics, section 6.3; Liang and Zeger 1986), so that it holds whatever the spread of which
    row.
    """
    free = torch.isfinite(precision)
    prior, moved = precision[free], torch.zeros(int(free.sum()), dtype=torch.float64)
    for iteration in range(_ITERATIONS):
        terms = [(r, J[..., free]) for r, J in evaluate(state)]
        sigmas = [_sigma(r, floor) for r, _ in terms]
        weights = [_weights(r, sigma, iteration < _WIDE) for (r, _), sigma in zip(terms, sigmas)]
        gradients = sum((J * (w[:, None] * r)[..., None]).sum(1) / s ** 2 for (r, J), s, w in zip(terms, sigmas, weights))
        normal = sum((J * w[:, None, None]).flatten(0, 1).T @ J.flatten(0, 1) / s ** 2
                     for (_, J), s, w in zip(terms, sigmas, weights))
        inverse = _inverse(normal + torch.diag(prior))
        step = -inverse @ (gradients.sum(0) + prior * moved)
        if iteration > _WIDE and step.abs().max() < _SMALL_STEP:
            break
        whole = torch.zeros_like(precision)
        whole[free] = step
        state, moved = retract(state, whole), moved + step
    inverse = _inverse(normal + torch.diag(prior) + sum(_curvature(*term, sigma) for term, sigma in zip(terms, sigmas)))
    scatter = _scatter(gradients, clusters) + torch.diag(prior)
    return RobustFit(state, _among_all(inverse @ scatter @ inverse, free), _among_all(inverse, free), [r for r, _ in evaluate(state)], weights, sigmas)


def _among_all(matrix: Tensor, free: Tensor) -> Tensor:
    """Of the free parameters -> of all, zero for the others."""
    whole = torch.zeros(len(free), len(free), dtype=matrix.dtype)
    whole[free.outer(free)] = matrix.flatten()
    return whole


def _sigma(residuals: Tensor, floor: float) -> float:
    return max(_TO_SIGMA * residuals.abs().median().item(), floor)


def _weights(residuals: Tensor, sigma: float, wide: bool) -> Tensor:
    """[N, k] -> [N]: Cauchy's that never vanish, or Tukey's."""
    squared = residuals.square().mean(1) / sigma ** 2
    return 1 / (1 + squared) if wide else (1 - squared / _CUT ** 2).clamp_min(0) ** 2


def _curvature(residuals: Tensor, jacobian: Tensor, sigma: float) -> Tensor:
    """What the weights' own slope takes from the second derivative of the loss: [N, k], [N, k, P] -> [P, P]."""
    share = 1 - residuals.square().mean(1) / (sigma * _CUT) ** 2
    slope = -4 * share.clamp_min(0) / (_CUT ** 2 * residuals.shape[1] * sigma ** 4)
    gradients = (jacobian * residuals[..., None]).sum(1)
    return (slope[:, None] * gradients).T @ gradients


def _inverse(normal: Tensor) -> Tensor:
    """Of a positive semi-definite matrix [P, P], whatever the units of its parameters: what nothing tells is left alone."""
    scale = torch.diagonal(normal).clamp_min(1e-300).sqrt()
    return torch.linalg.pinv(normal / torch.outer(scale, scale), rtol=1e-14, hermitian=True) / torch.outer(scale, scale)


def _scatter(gradients: Tensor, clusters: Tensor) -> Tensor:
    _, index = torch.unique(clusters, return_inverse=True)
    count, parameters = int(index.max()) + 1, gradients.shape[1]
    sums = torch.zeros(count, parameters, dtype=torch.float64).index_add(0, index, gradients)
    return sums.T @ sums * count / max(count - parameters, 1)
