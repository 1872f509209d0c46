"""Covariances and scores over several maps and damages together: few are wrong in each, so that only all tell of the rare."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aprloc_ros.covariance import residuals
from aprloc_ros.gate import MAX_WRONG_SHARE
from aprloc_ros.geometry import pose_errors
from aprloc_ros.scoring.uncertainty import FIVE_SIGMA, held_share, score_scores, squared_mahalanobis
from aprloc_ros.training.calibration.from_trials import Calibration
from aprloc_ros.training.calibration.trials import Trial

HEADER = ('| pooled over | images | published | beyond 5 sigma | in 95 % | hardest quarter in 90 %, by distance / by score '
          '| AUROC, of 5cm5deg | median sd / median error |\n|' + '---|' * 8)
_FAILED_M, _FAILED_DEG = 0.05, 5.0


@dataclass(frozen=True, eq=False)
class Judged:
    """N answers, and what a calibration says of them."""

    published: Tensor    # [N] bool
    failed: Tensor       # [N] bool: the refined pose is more than 5 cm or 5 degrees off, or there is none
    score: Tensor        # [N] of the refined pose
    remoteness: Tensor   # [N]
    squared: Tensor      # [N] Mahalanobis distance, of meaning where it was published
    error_m: Tensor      # [N]
    sd_m: Tensor         # [N] root of the trace of the position's covariance

    @classmethod
    def of(cls, trials: Sequence[Trial], found: Calibration, prior: Tensor) -> 'Judged':
        """Trials on images of the place; prior [6, 6] of the regressor."""
        gate = found.gate.promising(MAX_WRONG_SHARE)
        judged = [gate.judge(t.refined, t.T_prior, prior, t.prior_score) for t in trials]
        published = torch.tensor([j.status == 'refined' for j in judged])
        score = torch.tensor([j.score if j.status != 'prior_kept' else 0.0 for j in judged], dtype=torch.float64)
        T, T_truth = torch.stack([t.refined.T_map_cam for t in trials]), torch.stack([t.T_truth for t in trials])
        claims = torch.stack([found.covariance.covariance(t.refined.hessian, prior, j.score, t.remoteness)
                              for t, j in zip(trials, judged, strict=True)])
        error_m, error_deg = pose_errors(T, T_truth)
        failed = (error_m > _FAILED_M) | (error_deg > _FAILED_DEG) | torch.tensor([t.refined.failed for t in trials])
        return cls(published, failed, score, torch.tensor([t.remoteness for t in trials], dtype=torch.float64),
                   squared_mahalanobis(residuals(T, T_truth), claims), error_m,
                   torch.diagonal(claims, dim1=1, dim2=2)[:, :3].sum(1).sqrt())

    @classmethod
    def together(cls, parts: Sequence['Judged']) -> 'Judged':
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))


def pooled_row(name: str, j: Judged) -> str:
    """A row under HEADER."""
    told, count = j.published, int(j.published.sum())
    if not count:
        return f'| {name} | {len(told)} | 0 | - | - | - | - | - |'
    beyond = int((j.squared[told] > FIVE_SIGMA).sum())
    hard = ' / '.join(f'{_hardest(difficulty[told], j.squared[told]):.0%}' for difficulty in (j.remoteness, -j.score))
    area = score_scores(j.score, j.failed).auroc
    held, ranked = f'{held_share(j.squared[told], 0.95):.0%}', '-' if area is None else f'{area:.3f}'
    return (f'| {name} | {len(told)} | {count} | {beyond} ({beyond / count:.2%}) | {held} | {hard} | {ranked} '
            f'({int(j.failed.sum())} failed) | {(j.sd_m[told].median() / j.error_m[told].median()).item():.2f} |')


def _hardest(difficulty: Tensor, squared: Tensor) -> float:
    """Share of the most difficult quarter that lies in the ellipsoid of 90 %."""
    return held_share(squared[difficulty.argsort(stable=True).tensor_split(4)[-1]], 0.9)
