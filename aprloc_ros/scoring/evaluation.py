"""Poses against truth: errors, scores, the two baselines that a map must beat, and a map's run over held-out frames."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from aprloc_ros.covariance import residuals
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import average_pose, distances, pose_errors
from aprloc_ros.scoring.uncertainty import Uncertainty, measure_uncertainty
from aprloc_ros.table import aligned

# Share of frames within (metres, degrees): 7-Scenes, then the three of Long-Term Visual Localization, then coarse.
RECALL_BOUNDS = {'5cm5deg': (0.05, 5), '25cm2deg': (0.25, 2), '50cm5deg': (0.5, 5),
                 '1m5deg': (1, 5), '5m10deg': (5, 10)}
SAME_M, SAME_DEG = 1e-4, 1e-3      # rounding of messages and of sums in another order stays below
FAILED_M, FAILED_DEG = 0.25, 2.0   # an error beyond either is one that a score should have foretold


@dataclass(frozen=True)
class PoseScores:
    """Errors of N poses, as the literature reports them."""

    count: int
    median_m: float
    median_deg: float
    mean_m: float
    mean_deg: float
    p95_m: float
    p95_deg: float
    max_m: float
    max_deg: float
    recall: dict[str, float]   # share of the frames, 0..1, within each of RECALL_BOUNDS

    def to_dict(self) -> dict:
        return asdict(self)


@dataclass(frozen=True)
class FrameRecord:
    """One localised frame beside its truth."""

    name: str
    stamp_s: float
    T_truth: Tensor                     # [4, 4] map from camera
    T_estimate: Tensor                  # [4, 4] map from camera
    error_m: float
    error_deg: float
    latency_ms: float
    status: str
    covariance: Tensor | None = None    # [6, 6] of xi in T_truth = T_estimate @ exp(xi)
    score: float | None = None          # of the estimate, more is better
    reason: str = ''                    # of a rejection, and the same for the user
    text: str = ''


def make_record(name: str, stamp_s: float, T_truth: Tensor, T_estimate: Tensor, latency_ms: float, status: str,
                covariance: Tensor | None = None, score: float | None = None, reason: str = '', text: str = '') -> FrameRecord:
    """A FrameRecord with its errors worked out."""
    error_m, error_deg = pose_errors(T_estimate, T_truth)
    return FrameRecord(name, stamp_s, T_truth, T_estimate, error_m.item(), error_deg.item(), latency_ms, status,
                       covariance, score, reason, text)


def score_poses(T_estimate: Tensor, T_truth: Tensor) -> PoseScores:
    """Scores of estimated poses [N, 4, 4] or [N, 3, 4] against true ones of the same shape.

    Estimated rotations are projected to SO(3) first. Raises AprlocError for no poses, unequal shapes, NaN or infinity.
    """
    if T_estimate.shape != T_truth.shape or T_truth.ndim != 3 or T_truth.shape[1:] not in ((4, 4), (3, 4)):
        raise AprlocError(f'estimates {tuple(T_estimate.shape)} and truth {tuple(T_truth.shape)} must both be '
                          'N poses of 4x4 (or 3x4)')
    if len(T_truth) == 0:
        raise AprlocError('there is no pose to score')
    for what, poses in (('estimates', T_estimate), ('truth', T_truth)):
        bad = (~torch.isfinite(poses)).flatten(1).any(1).nonzero()
        if len(bad):
            raise AprlocError(f'{what}: pose {bad[0].item()} of {len(poses)} holds NaN or infinity')
    return score_errors(*pose_errors(T_estimate.double(), T_truth.double()))


def score_errors(error_m: Tensor, error_deg: Tensor) -> PoseScores:
    """Scores of errors [N] in metres and [N] in degrees."""
    within = {name: ((error_m <= metres) & (error_deg <= degrees)).double().mean().item()
              for name, (metres, degrees) in RECALL_BOUNDS.items()}
    return PoseScores(len(error_m), *_median_mean_p95_max(error_m, error_deg), within)


def _median_mean_p95_max(*errors: Tensor) -> list[float]:
    statistics = (lambda e: torch.quantile(e, 0.5), torch.mean, lambda e: torch.quantile(e, 0.95), torch.max)
    return [statistic(error).item() for statistic in statistics for error in errors]


def score_records(records: Sequence[FrameRecord]) -> PoseScores:
    """Scores of localised frames. Raises AprlocError if there is none."""
    if not records:
        raise AprlocError('there is no pose to score: no frame was localised')
    return score_poses(torch.stack([r.T_estimate for r in records]), torch.stack([r.T_truth for r in records]))


def nearest_training_poses(T_train: Tensor, T_truth: Tensor) -> Tensor:
    """The baseline of a perfect image retrieval: for each true pose the training pose nearest to it in metres.

    T_train [M, 4, 4], T_truth [N, 4, 4] -> [N, 4, 4].
    """
    return T_train[distances(T_truth[:, :3, 3], T_train[:, :3, 3]).argmin(1)]


def mean_training_poses(T_train: Tensor, count: int) -> Tensor:
    """The baseline that looks at no image: the average training pose, `count` times. [M, 4, 4] -> [count, 4, 4]."""
    return average_pose(T_train).expand(count, 4, 4)


def score_with_baselines(records: Sequence[FrameRecord], T_train: Sequence[Tensor], name: str) -> dict[str, PoseScores]:
    """Scores of the localised frames and, on the same frames, of the two baselines; keys are names for a table.

    T_train: M poses [4, 4].
    """
    T_train = torch.stack(list(T_train))
    T_truth = torch.stack([record.T_truth for record in records])
    return {name: score_records(records),
            'nearest training pose': score_poses(nearest_training_poses(T_train, T_truth), T_truth),
            'mean training pose': score_poses(mean_training_poses(T_train, len(records)), T_truth)}


def latency_p50_p95_ms(records: Sequence[FrameRecord]) -> tuple[float, float]:
    """Median and 95th percentile of the frames' latency."""
    p50, p95 = np.percentile([record.latency_ms for record in records], (50, 95))
    return float(p50), float(p95)


def scores_table(scores: dict[str, PoseScores]) -> str:
    """One row per named PoseScores, aligned, for a terminal."""
    statistics = ('median', 'mean', 'p95', 'max')
    rows = [['', 'frames', *statistics, *RECALL_BOUNDS]]
    for name, s in scores.items():
        errors = [f'{getattr(s, f"{key}_m"):.3f} m {getattr(s, f"{key}_deg"):6.2f} deg' for key in statistics]
        rows.append([name, str(s.count), *errors, *(f'{s.recall[bound]:.1%}' for bound in RECALL_BOUNDS)])
    return aligned(rows)


def residuals_and_covariances(records: Sequence[FrameRecord]) -> tuple[Tensor, Tensor]:
    """xi [N, 6] of T_truth = T_estimate @ exp(xi) and covariance [N, 6, 6], of the records that have one."""
    known = [record for record in records if record.covariance is not None]
    xi = residuals(torch.stack([r.T_estimate for r in known]), torch.stack([r.T_truth for r in known]))
    return xi, torch.stack([record.covariance for record in known])


def measure_records(records: Sequence[FrameRecord]) -> Uncertainty:
    """What became of the covariances and scores that were claimed of the records, each of which has both.

    A frame has failed where it was rejected, or is off by more than FAILED_M or FAILED_DEG. Raises AprlocError where all
    were rejected.
    """
    reported = [record for record in records if record.status != 'rejected']
    if not reported:
        raise AprlocError(f'all of {len(records)} frames were rejected: no covariance was claimed')
    failed = [r.status == 'rejected' or r.error_m > FAILED_M or r.error_deg > FAILED_DEG for r in records]
    return measure_uncertainty(*residuals_and_covariances(reported), torch.tensor([r.score for r in records]),
                               torch.tensor(failed))


@dataclass(frozen=True)
class Agreement:
    """Two runs over the same images, on the frames that both answered."""

    frames: int
    same: int        # of these, within SAME_M and SAME_DEG of each other
    max_m: float
    max_deg: float


def agreement(first: Sequence[FrameRecord], second: Sequence[FrameRecord]) -> Agreement:
    """How far the estimates of two runs are apart; frames are the same that have the same stamp.

    Raises AprlocError if the runs answered no frame in common.
    """
    others = {record.stamp_s: record for record in second}
    both = [(record.T_estimate, others[record.stamp_s].T_estimate) for record in first if record.stamp_s in others]
    if not both:
        raise AprlocError(f'the runs have no frame in common, of {len(first)} and {len(second)}')
    apart_m, apart_deg = pose_errors(*(torch.stack(poses) for poses in zip(*both, strict=True)))
    same = int(((apart_m <= SAME_M) & (apart_deg <= SAME_DEG)).sum())
    return Agreement(len(both), same, apart_m.max().item(), apart_deg.max().item())


def evaluate_map(localizer, frames: Iterable, on_frame: Callable[[int, FrameRecord], None] | None = None
                 ) -> list[FrameRecord]:
    """Localise each frame (aprloc_ros.training.datasets.capture.Frame) and compare it with its pose.

    on_frame(index, record), if given, is called after each. latency_ms is the whole of localize(), on the wall.
    """
    records = []
    for index, frame in enumerate(frames):
        image = frame.read_image()
        start_s = time.perf_counter()
        estimate = localizer.localize(image, frame.camera)
        latency_ms = (time.perf_counter() - start_s) * 1000
        stamp_s = float(index) if frame.stamp_s is None else frame.stamp_s
        records.append(make_record(frame.name, stamp_s, frame.T_map_cam, estimate.T_map_cam, latency_ms,
                                   estimate.status, estimate.covariance, estimate.score, estimate.reason, estimate.text))
        if on_frame:
            on_frame(index, records[-1])
    return records
