"""Can covariances and scores be believed? Measured on frames whose truth is known.

xi [N, 6] are the residuals in T_true = T_estimate @ exp(xi), covariance [N, 6, 6] what was claimed of them. All intervals
hold for independent frames; neighbouring frames of a video are not, so the truth is a little wider.
"""

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from aprloc_ros.distributions import binomial_interval, chi2_cdf, chi2_quantile
from aprloc_ros.errors import AprlocError

LEVELS = (0.50, 0.90, 0.95, 0.99)
CONFIDENCE = 0.95
FEWEST_FRAMES = 20
FIVE_SIGMA = chi2_quantile(1 - 5.733e-7, 6)   # squared distance that 6 numbers reach as seldom as one reaches 5 sigma
FEWEST_FAILURES = 5   # and as many successes: with fewer, a ranking is anecdote
_SIZE = 6


@dataclass(frozen=True)
class Coverage:
    """How many frames lie inside the confidence ellipsoid that should hold the share `nominal` of them."""

    nominal: float
    inside: int
    count: int

    @property
    def share(self) -> float:
        return self.inside / self.count

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval (Clopper-Pearson) of the true share."""
        return binomial_interval(self.inside, self.count, CONFIDENCE)

    @property
    def supported(self) -> bool:
        """Whether there are enough frames for one at least to be expected outside."""
        return self.count >= frames_needed(self.nominal)


@dataclass(frozen=True)
class CovarianceScores:
    """Residuals against the covariances that were claimed for them."""

    count: int
    anees: float                           # mean of xi^T covariance^-1 xi; 6 when right, more when overconfident
    anees_interval: tuple[float, float]    # where it lies with probability 95 % if the covariances are right
    coverage: tuple[Coverage, ...]         # at LEVELS
    nll: float                             # mean negative log-likelihood of xi, nats a frame (metres and radians)

    @property
    def consistent(self) -> bool:
        return self.anees_interval[0] <= self.anees <= self.anees_interval[1]


@dataclass(frozen=True)
class ScoreScores:
    """A score (more is better) against which frames failed."""

    count: int
    failures: int
    auroc: float | None                            # None when all or none failed
    auroc_interval: tuple[float, float] | None     # 95 %
    aurc: float                                    # area under the risk-coverage curve; the least is best

    @property
    def supported(self) -> bool:
        return min(self.failures, self.count - self.failures) >= FEWEST_FAILURES


@dataclass(frozen=True)
class Uncertainty:
    """What `aprloc evaluate` says of a localizer's honesty. Frames without a pose count in `score` alone."""

    covariance: CovarianceScores
    score: ScoreScores

    def to_dict(self) -> dict:
        return asdict(self)


def measure_uncertainty(xi: Tensor, covariance: Tensor, score: Tensor, failed: Tensor) -> Uncertainty:
    """xi [N, 6], covariance [N, 6, 6] of the frames that got a pose; score [M], failed [M] bool of all frames.

    A frame that was rejected and should have been is no failure of its pose: leave it out, or give it failed=True.
    Raises AprlocError for no frames, unequal counts, NaN, or a covariance that is not positive definite.
    """
    return Uncertainty(score_covariances(xi, covariance), score_scores(score, failed))


def squared_mahalanobis(xi: Tensor, covariance: Tensor) -> Tensor:
    """xi^T covariance^-1 xi of each: [N, 6], [N, 6, 6] -> [N], chi-square with 6 degrees of freedom when right."""
    return torch.linalg.solve_triangular(_factor(xi, covariance), xi.double()[..., None], upper=False).square().sum((1, 2))


def held_share(squared: Tensor, level: float) -> float:
    """Share of squared distances [N] that lie in the ellipsoid which should hold `level` of them."""
    return (squared <= chi2_quantile(level, _SIZE)).double().mean().item()


def score_covariances(xi: Tensor, covariance: Tensor) -> CovarianceScores:
    """ANEES and its chi-square interval (Bar-Shalom et al., Estimation with Applications, section 5.4), coverage, NLL."""
    squared, count = squared_mahalanobis(xi, covariance), len(xi)
    coverage = tuple(Coverage(level, int((squared <= chi2_quantile(level, _SIZE)).sum()), count) for level in LEVELS)
    return CovarianceScores(count, squared.mean().item(), anees_interval(count), coverage,
                            negative_log_likelihood(xi, covariance))


def anees_interval(count: int) -> tuple[float, float]:
    """Where the mean of `count` chi-square numbers of 6 degrees lies with probability CONFIDENCE."""
    tail = (1 - CONFIDENCE) / 2
    low, high = (chi2_quantile(p, _SIZE * count) / count for p in (tail, 1 - tail))
    return low, high


def negative_log_likelihood(xi: Tensor, covariance: Tensor) -> float:
    """Mean over frames of -log N(xi; 0, covariance), in nats."""
    log_det = 2 * torch.diagonal(_factor(xi, covariance), dim1=1, dim2=2).log().sum(1)
    return ((squared_mahalanobis(xi, covariance) + log_det + _SIZE * math.log(2 * math.pi)) / 2).mean().item()


def nominal_levels(squared: Tensor) -> Tensor:
    """The confidence level whose ellipsoid each frame lies on: [N] squared Mahalanobis distances -> [N] in 0..1."""
    return torch.tensor([chi2_cdf(value, _SIZE) for value in squared.tolist()], dtype=torch.float64)


def score_scores(score: Tensor, failed: Tensor) -> ScoreScores:
    """AUROC and the area under the risk-coverage curve of score [M] against failed [M] bool."""
    _check_scores(score, failed)
    failures, count = int(failed.sum()), len(score)
    area = auroc(score, failed) if 0 < failures < count else None
    interval = None if area is None else auroc_interval(area, failures, count - failures)
    return ScoreScores(count, failures, area, interval, risk_coverage(score, failed)[1].mean().item())


def auroc(score: Tensor, failed: Tensor) -> float:
    """Probability that a frame that failed has a lower score than one that did not; a tie counts half."""
    good, bad = score[~failed].sort().values, score[failed]
    below, not_above = (torch.searchsorted(good, bad, right=right) for right in (False, True))
    return 1 - ((below + not_above).double().mean() / (2 * len(good))).item()


def auroc_interval(area: float, failures: int, successes: int) -> tuple[float, float]:
    """95 % interval by the standard error of Hanley and McNeil (1982)."""
    q1, q2 = area / (2 - area), 2 * area ** 2 / (1 + area)
    variance = (area * (1 - area) + (failures - 1) * (q1 - area ** 2) + (successes - 1) * (q2 - area ** 2)) \
        / (failures * successes)
    half = 1.96 * math.sqrt(max(variance, 0.0))
    return max(0.0, area - half), min(1.0, area + half)


def risk_coverage(score: Tensor, failed: Tensor) -> tuple[Tensor, Tensor]:
    """Share of failures among the best-scored k frames, for every k (El-Yaniv and Wiener 2010).

    [M] -> coverage [M] = k / M, risk [M]. Frames of equal score count as in random order: each as their mean.
    """
    _check_scores(score, failed)
    values, group = torch.unique(-score.double(), return_inverse=True)
    counts = torch.bincount(group, minlength=len(values)).double()
    means = torch.zeros_like(counts).scatter_add_(0, group, failed.double()) / counts
    k = torch.arange(1, len(score) + 1, dtype=torch.float64, device=score.device)
    return k / len(score), means[group.sort().values].cumsum(0) / k


def frames_needed(level: float) -> int:
    """The least number of frames that can say something of a confidence level: one is expected outside."""
    return max(FEWEST_FRAMES, math.ceil(1 / (1 - level) - 1e-9))


def _factor(xi: Tensor, covariance: Tensor) -> Tensor:
    """Lower Cholesky factors [N, 6, 6], or AprlocError."""
    if xi.ndim != 2 or xi.shape[1] != _SIZE or covariance.shape != (len(xi), _SIZE, _SIZE) or len(xi) == 0:
        raise AprlocError(f'residuals {tuple(xi.shape)} and covariances {tuple(covariance.shape)} must be N x 6 and '
                          'N x 6 x 6, of at least one frame')
    if not torch.isfinite(xi).all() or not torch.isfinite(covariance).all():
        raise AprlocError('residuals and covariances must be finite; leave out frames without a pose')
    factor, info = torch.linalg.cholesky_ex(covariance.double())
    if info.any():
        raise AprlocError(f'covariance {info.nonzero()[0].item()} of {len(xi)} is not positive definite')
    return factor


def _check_scores(score: Tensor, failed: Tensor) -> None:
    if score.ndim != 1 or failed.shape != score.shape or len(score) == 0:
        raise AprlocError(f'scores {tuple(score.shape)} and failures {tuple(failed.shape)} must be N numbers each, '
                          'of at least one frame')
    if failed.dtype != torch.bool or torch.isnan(score).any():
        raise AprlocError('scores must not be NaN and failures must be true or false')
