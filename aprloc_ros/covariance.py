"""How wrong a pose may be: the 6x6 covariance of xi in T_true = T_estimate @ exp(xi).

Order x y z rx ry rz (metres, radians), in the axes of the estimated frame.
"""

import math

import torch
from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import adjoint, invert, se3_log

FLOOR_M = 0.01
FLOOR_DEG = 0.2
_SIZE = 6
# Weight of the diagonal prior, in observations: the least whole number for which the predictive covariance exists
# without any data.
_PRIOR_COUNT = _SIZE + 2


def residuals(T_estimate: Tensor, T_truth: Tensor) -> Tensor:
    """xi in T_truth = T_estimate @ exp(xi). Both [N, 4, 4] -> [N, 6]."""
    return se3_log(invert(T_estimate) @ T_truth)


def floor_covariance() -> Tensor:
    """The least covariance that is ever reported, [6, 6] float64: 1 cm and 0.2 degrees of standard deviation."""
    std = torch.tensor([FLOOR_M] * 3 + [math.radians(FLOOR_DEG)] * 3, dtype=torch.float64)
    return torch.diag(std ** 2)


def prior_covariance(xi: Tensor) -> Tensor:
    """Covariance to expect of the next residual after having seen N held-out ones. [N, 6] -> [6, 6] float64.

    Second moments about zero, S, so that a bias counts as error, and of every residual, so that outliers count too.
    S is shrunk towards a D that is isotropic in translation and in rotation, as if D had been observed k = 8 times (an
    inverse-Wishart prior), then inflated for the finite sample: with n = N + k observations of p = 6 numbers,

        covariance = n / (n - p - 1) * (N S + k D) / n + floor

    because E[S^-1] = n / (n - p - 1) Sigma^-1 for a Wishart S: the factor brings the mean squared Mahalanobis
    distance of a new residual down to p (Anderson, Multivariate Statistical Analysis, sections 5.2 and 7.7). D and the
    floor err on the wide side: with correlated Gaussian residuals the 95 % ellipsoid held 97.6 % at N = 30.
    Raises AprlocError without a residual, or with one that is not finite.
    """
    count = len(xi)
    if count == 0 or not torch.isfinite(xi).all():
        raise AprlocError(f'the covariance needs at least one held-out residual, all finite; there are {count}')
    xi = xi.double()
    squared_sum = xi.T @ xi
    variance = torch.diagonal(squared_sum).unflatten(0, (2, 3)).mean(1) / count
    target = torch.diag(variance.repeat_interleave(3))
    return (squared_sum + _PRIOR_COUNT * target) / (count + _PRIOR_COUNT - _SIZE - 1) + floor_covariance()


def to_base(covariance_cam: Tensor, T_cam_base: Tensor) -> Tensor:
    """The covariance of T_map_base = T_map_cam @ T_cam_base, in the axes of base. [6, 6], [4, 4] -> [6, 6]."""
    A = adjoint(invert(T_cam_base))
    covariance = A @ covariance_cam @ A.T
    return (covariance + covariance.T) / 2


def check_covariance(covariance: Tensor) -> Tensor:
    """The covariance when it is [6, 6], finite, symmetric, positive definite and not below the floor, or AprlocError."""
    if covariance.shape != (_SIZE, _SIZE) or not torch.isfinite(covariance).all():
        raise AprlocError(f'covariance must be 6x6 finite numbers, not of shape {tuple(covariance.shape)}')
    asymmetry = (covariance - covariance.T).abs().max().item()
    if asymmetry > 1e-9 * covariance.abs().max().item():
        raise AprlocError(f'covariance must be symmetric; it differs from its transpose by {asymmetry:.3g}')
    smallest = torch.linalg.eigvalsh(covariance)[0].item()
    if smallest <= 0:
        raise AprlocError(f'covariance must be positive definite; its smallest eigenvalue is {smallest:.3g}')
    std = torch.diagonal(covariance).sqrt()
    if (torch.diagonal(covariance) < torch.diagonal(floor_covariance()) * (1 - 1e-6)).any():
        raise AprlocError(f'covariance has standard deviations {[float(f"{s:.3g}") for s in std]} (m, rad); they must '
                          f'be at least {FLOOR_M} m and {FLOOR_DEG} degrees')
    return covariance
