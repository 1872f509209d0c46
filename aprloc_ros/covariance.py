"""How wrong a pose may be: the 6x6 covariance of xi in T_true = T_estimate @ exp(xi).

Order x y z rx ry rz (metres, radians), in the axes of the estimated frame.
"""

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import adjoint, invert, se3_log

# A regressor is never better than this, whatever few held-out frames say.
FLOOR_M = 0.01
FLOOR_DEG = 0.2
# No covariance is reported below this. Any more would have its say in the directions that an image tells best: floors
# of 0.5 mm and 0.01 degrees made half of the demo's ellipsoids hold 60 % of the frames they were fitted to.
LOWEST_M = 0.0001
LOWEST_DEG = 0.002
_SIZE = 6
_LARGEST_ENTRY = 1e100   # of a Hessian: its products must stay finite
_LARGEST_EXPONENT = 20.0
# Weight of the diagonal prior, in observations: the least whole number for which the predictive covariance exists
# without any data.
_PRIOR_COUNT = _SIZE + 2


def residuals(T_estimate: Tensor, T_truth: Tensor) -> Tensor:
    """xi in T_truth = T_estimate @ exp(xi). Both [N, 4, 4] -> [N, 6]."""
    return se3_log(invert(T_estimate) @ T_truth)


def axis_groups(translation: float, rotation: float) -> Tensor:
    """One number for the three axes of translation, one for those of rotation, [6] float64."""
    return torch.tensor([translation] * 3 + [rotation] * 3, dtype=torch.float64)


def floor_covariance(floor_m: float = FLOOR_M, floor_deg: float = FLOOR_DEG) -> Tensor:
    """The diagonal covariance of these standard deviations, [6, 6] float64: by default the least of a regressor."""
    return torch.diag(axis_groups(floor_m, math.radians(floor_deg)) ** 2)


@dataclass(frozen=True)
class Tier:
    """Queries that are about equally hard, and how much wider their covariance is for 95 % of them to lie where 95 % should."""

    most_inflation: float = field(metadata={'range': (1.0, None)})   # of HessianCovariance.inflation, in this tier
    widening: float = field(metadata={'range': (1.0, 1e6)})          # factor on the standard deviation


@dataclass(frozen=True)
class HessianCovariance:
    """How a refiner's Hessian H becomes a covariance; training.covariance_fit fits it on held-out frames.

        covariance = w(e)^2 ((K^-1 H K^-1 + (p^2 P)^-1)^-1 + F),  K = e diag(k_t k_t k_t k_r k_r k_r)
        e = exp(score_inflation (1 - score) + remoteness_inflation remoteness)

    P is the prior's covariance, F the floor. Residuals of neighbouring pixels are not independent, so H promises too
    much: K tempers it. What H does not see (a singular direction) stays as uncertain as the prior, for there the refiner
    left the pose as it was; or p times as uncertain, where refined poses turned out to stray from their priors.
    remoteness: of the pose from the views of the map (MapPoints.remoteness); errors grow with it. w: of the tier of e.
    """

    translation_scale: float = field(metadata={'range': (1e-12, 1e12)})   # k_t, factor on the standard deviation
    rotation_scale: float = field(metadata={'range': (1e-12, 1e12)})      # k_r
    prior_scale: float = field(metadata={'range': (1.0, 1e6)})            # p
    score_inflation: float = field(metadata={'range': (0.0, 100.0)})      # 0: the gate's score does not matter
    floor_m: float = field(metadata={'range': (LOWEST_M, None)})
    floor_deg: float = field(metadata={'range': (LOWEST_DEG, None)})
    frames: int = field(metadata={'range': (0, None)})                    # that it was fitted on
    outliers: int = field(metadata={'range': (0, None)})                  # of these, far outside what it says
    supported: bool                                                       # whether the frames support a claim
    remoteness_inflation: float = field(default=0.0, metadata={'range': (0.0, 100.0)})   # 0 in maps of older versions
    tiers: tuple[Tier, ...] = ()                                          # the easiest first; () in maps of older versions
    correlation_s: float = field(default=0.0, metadata={'range': (0.0, None)})   # errors dt apart correlate as exp(-dt / this)

    def inflation(self, score: float, remoteness: float) -> float:
        """e of the formula: what the circumstances of a query do to its standard deviations."""
        exponent = self.score_inflation * (1 - score) + self.remoteness_inflation * remoteness
        return math.exp(min(exponent, _LARGEST_EXPONENT))

    def widening(self, inflation: float) -> float:
        """w of the formula; what is harder than all that was seen is as the hardest."""
        fitting = (tier.widening for tier in self.tiers if inflation <= tier.most_inflation)
        return next(fitting, self.tiers[-1].widening if self.tiers else 1.0)

    def largest_scale(self, score: float, remoteness: float = 0.0) -> float:
        """How many times less certain the residuals are than their Hessian says, in standard deviation."""
        inflation = self.inflation(score, remoteness)
        return max(self.translation_scale, self.rotation_scale) * inflation * self.widening(inflation)

    def covariance(self, hessian: Tensor, prior: Tensor, score: float = 1.0, remoteness: float = 0.0) -> Tensor:
        """Of a refined pose, in its own (camera) axes: [6, 6], [6, 6] -> [6, 6] float64, valid for any Hessian.

        score: the gate's, 0 to 1. A Hessian that is not finite counts as having seen nothing.
        """
        inflation = self.inflation(score, remoteness)
        scale = axis_groups(self.translation_scale, self.rotation_scale) * inflation
        fused = fuse(usable_hessian(hessian.double().cpu()), self.prior_scale ** 2 * prior, scale)
        return self.widening(inflation) ** 2 * (fused + floor_covariance(self.floor_m, self.floor_deg))

    def no_surer_than(self, known: 'HessianCovariance') -> 'HessianCovariance':
        """What claims as much error as this one, and as much as the known one, which its frames stay."""
        largest = {name: max(getattr(self, name), getattr(known, name)) for name in (
            'translation_scale', 'rotation_scale', 'prior_scale', 'score_inflation', 'remoteness_inflation', 'floor_m', 'floor_deg',
            'correlation_s')}
        bounds = sorted({tier.most_inflation for each in (self, known) for tier in each.tiers})
        widest = tuple(Tier(bound, max(self._widest(bound), known._widest(bound))) for bound in bounds)
        return replace(known, **largest, tiers=widest)

    def _widest(self, inflation: float) -> float:
        """Of what is no harder: an inflation of larger parameters is no less."""
        return max([self.widening(inflation), *(tier.widening for tier in self.tiers if tier.most_inflation <= inflation)])

    def describe(self) -> str:
        """One line for the report of a build."""
        if self.frames == 0:
            return 'covariance of refined poses: not calibrated, too few held-out frames; the prior\'s is reported'
        doubt = '' if self.supported else '; too few frames or too heavy tails to support a claim'
        tiers = ', '.join(f'{tier.widening:.2f}' for tier in self.tiers)
        lasting = f'; errors last {self.correlation_s:.2g} s' if self.correlation_s else ''
        return (f'covariance of refined poses: Hessian x {self.translation_scale:.3g} (translation), x '
                f'{self.rotation_scale:.3g} (rotation) in standard deviation, x exp({self.score_inflation:.2g} (1 - score) + '
                f'{self.remoteness_inflation:.2g} remoteness), floor {1e3 * self.floor_m:.2g} mm and '
                f'{self.floor_deg:.2g} degrees; from the easiest to the hardest x {tiers or "1"}; from {self.frames} held-out '
                f'frames with {self.outliers} outliers{lasting}{doubt}')


def usable_hessian(hessian: Tensor) -> Tensor:
    """Symmetric and bounded, [..., 6, 6]; zero where it was not finite."""
    finite = torch.isfinite(hessian).all(-1).all(-1)[..., None, None]
    hessian = torch.where(finite, hessian, 0.0).clamp(-_LARGEST_ENTRY, _LARGEST_ENTRY)
    return (hessian + hessian.transpose(-1, -2)) / 2


def fuse(hessian: Tensor, prior: Tensor, scale: Tensor) -> Tensor:
    """(K^-1 H K^-1 + P^-1)^-1 with K = diag(scale): H [..., 6, 6], P [..., 6, 6], scale [..., 6] -> [..., 6, 6].

    Negative eigenvalues of H, which rounding leaves, count as zero. Differentiable in P and scale.
    """
    L = torch.linalg.cholesky(prior)
    whitened = L / scale[..., None]                                  # K^-1 L, so that H = 0 gives L L^T = P
    A = whitened.transpose(-1, -2) @ hessian @ whitened
    with torch.no_grad():                                            # an inverse without cancellation, singular or not
        values, vectors = torch.linalg.eigh(A)
        inverse = vectors / (1 + values.clamp_min(0))[..., None, :] @ vectors.transpose(-1, -2)
    if A.requires_grad:                                              # its first-order expansion carries the gradient
        inverse = inverse - inverse @ (A - A.detach()) @ inverse
    covariance = L @ inverse @ L.transpose(-1, -2)
    return (covariance + covariance.transpose(-1, -2)) / 2


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
    """The covariance when it is [6, 6], finite, symmetric, positive definite and not below the lowest, or AprlocError."""
    if covariance.shape != (_SIZE, _SIZE) or not torch.isfinite(covariance).all():
        raise AprlocError(f'covariance must be 6x6 finite numbers, not of shape {tuple(covariance.shape)}')
    asymmetry = (covariance - covariance.T).abs().max().item()
    if asymmetry > 1e-9 * covariance.abs().max().item():
        raise AprlocError(f'covariance must be symmetric; it differs from its transpose by {asymmetry:.3g}')
    smallest = torch.linalg.eigvalsh(covariance)[0].item()
    if smallest <= 0:
        raise AprlocError(f'covariance must be positive definite; its smallest eigenvalue is {smallest:.3g}')
    std = torch.diagonal(covariance).sqrt()
    if (torch.diagonal(covariance) < torch.diagonal(floor_covariance(LOWEST_M, LOWEST_DEG)) * (1 - 1e-6)).any():
        raise AprlocError(f'covariance has standard deviations {[float(f"{s:.3g}") for s in std]} (m, rad); they must '
                          f'be at least {LOWEST_M} m and {LOWEST_DEG} degrees')
    return covariance
