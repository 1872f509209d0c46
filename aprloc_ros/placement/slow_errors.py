"""Residuals in the order of time whose errors change slowly, as those of AMCL, of SLAM and of GPS do: what they really tell."""

from itertools import product

import torch
from torch import Tensor

_KEPT = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.975, 0.99)   # of an error from one row to the next
_WHITE = (0.0, 0.25, 0.5, 0.75)                             # share of the variance that every row has anew
_CLEARLY = 2.0                                              # by which its logarithm of a likelihood exceeds that of errors without memory
_FEWEST = 20                                                # rows that say anything of it
_MOST = 200                                                 # of more rows the means of neighbours are looked at


def scatter(residuals: Tensor, jacobian: Tensor, weights: Tensor, sigma: float) -> Tensor:
    """Covariance [P, P] of the gradient sum J^T w r / sigma^2: residuals [N, k], jacobian [N, k, P], weights [N].

    The errors of rows i and j are taken to have the covariance s^2 ((1 - a) rho^|i - j| + a [i = j]); a, rho and s are those of
    the largest restricted likelihood (Patterson and Thompson 1971), which knows that the fit has followed the errors as far
    as its parameters let it; rho is 0 unless another is clearly likelier. Rows without weight are left out; zero for a few rows.
    """
    together = -(-len(residuals) // _MOST)
    if together > 1:
        return together ** 2 * scatter(*_means(residuals, jacobian, weights, together), sigma)
    rows = (weights > 0.05).nonzero()[:, 0]
    if len(rows) < _FEWEST:
        return torch.zeros(jacobian.shape[2], jacobian.shape[2], dtype=jacobian.dtype)
    r, span = residuals[rows], _span(jacobian[rows])
    apart = (rows[:, None] - rows).abs().double()
    plain, *others = (_likelihood(r, span, _shape(apart, *how)) for how in [(0.0, 1.0), *product(_KEPT, _WHITE)])
    slow = max(others, key=lambda found: found[0])
    _, variance, shape = slow if slow[0] > plain[0] + _CLEARLY else plain
    G = (jacobian[rows] * weights[rows][:, None, None]).transpose(0, 1)   # [k, N, P]
    return variance / sigma ** 4 * (G.mT @ shape @ G).sum(0)


def _means(residuals: Tensor, jacobian: Tensor, weights: Tensor, together: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of each so many neighbours, of which those without weight count for nothing, and the mean of their weights."""
    block = torch.arange(len(residuals)) // together

    def sums(values: Tensor) -> Tensor:
        return torch.zeros(int(block[-1]) + 1, *values.shape[1:], dtype=values.dtype).index_add(0, block, values)
    total = sums(weights)
    r, J = (sums(weights.reshape(-1, *[1] * (values.ndim - 1)) * values) for values in (residuals, jacobian))
    of_all = total.clamp_min(1e-300)
    return r / of_all[:, None], J / of_all[:, None, None], total / together


def _shape(apart: Tensor, kept: float, white: float) -> Tensor:
    return (1 - white) * kept ** apart + white * torch.eye(len(apart), dtype=apart.dtype)


def _span(jacobian: Tensor) -> Tensor:
    """Orthonormal columns of what the parameters can make of the residuals, [N, k, P] -> [N, k, p]."""
    columns = jacobian / jacobian.flatten(0, 1).norm(dim=0).clamp_min(1e-300)
    basis, size, _ = torch.linalg.svd(columns.flatten(0, 1), full_matrices=False)
    return basis[:, size > 1e-9 * size.max()].unflatten(0, jacobian.shape[:2])


def _likelihood(r: Tensor, span: Tensor, shape: Tensor) -> tuple[float, float, Tensor]:
    """The logarithm of the restricted likelihood, the variance s^2 of a row, and its shape [N, N] as given."""
    L = torch.linalg.cholesky(shape)
    y = torch.linalg.solve_triangular(L, r, upper=False).flatten()
    X = torch.linalg.solve_triangular(L, span.flatten(1), upper=False).reshape(len(y), -1)
    C = torch.linalg.cholesky(X.T @ X)
    followed = torch.linalg.solve_triangular(C, (X.T @ y)[:, None], upper=False)
    free = len(y) - X.shape[1]
    variance = ((y @ y - followed.square().sum()) / free).clamp_min(1e-300)
    likelihood = -(free * variance.log() / 2 + r.shape[1] * L.diagonal().log().sum() + C.diagonal().log().sum())
    return likelihood.item(), variance.item(), shape
