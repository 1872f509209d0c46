"""The conformal last step: covariances that cover in each quarter of difficulty, not on average."""

import math

from torch import Tensor

from aprloc_ros.covariance import Tier
from aprloc_ros.distributions import chi2_quantile

_TIERS = 4
_COVERED = 0.95
_ALIKE = 1.05   # ratio of inflations
# The (n + 1) 0.95-th least of n distances covers 95 % of those to come, whatever their distribution; below, there is none.
FEWEST = math.ceil(_COVERED / (1 - _COVERED))


def tiers(inflations: Tensor, squared: Tensor) -> tuple[Tier, ...]:
    """From frames left out of the fit: their inflations [N] and squared Mahalanobis distances [N].

    In each tier the widening brings the distance below which 95 % of such frames lie, with the correction for n frames
    (split conformal prediction: Vovk et al. 2005; by groups as in Romano et al. 2020), to that of a Gaussian; it never
    narrows. Fewer tiers where there are fewer than FEWEST frames for each; one that reaches the farthest frame where there
    are fewer than that in all. One tier, too, where all frames are about equally hard.
    """
    alike = inflations.max() < _ALIKE * inflations.min()
    count = 1 if alike else max(1, min(_TIERS, len(squared) // FEWEST))
    groups = [group for group in inflations.argsort(stable=True).tensor_split(count) if len(group)]
    return tuple(Tier(inflations[group].max().item(), _widening(squared[group])) for group in groups)


def _widening(squared: Tensor) -> float:
    rank = min(len(squared), math.ceil((len(squared) + 1) * _COVERED))
    reached = squared.sort().values[rank - 1].item()
    return max(1.0, math.sqrt(reached / chi2_quantile(_COVERED, 6)))
