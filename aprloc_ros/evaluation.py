"""Poses against truth: errors, scores, the two baselines that a map must beat, and a map's run over held-out frames."""

import time
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aprloc_ros.covariance import residuals
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import average_pose, pose_errors

# Share of frames within (metres, degrees): 7-Scenes, then the three of Long-Term Visual Localization, then coarse.
RECALL_BOUNDS = {'5cm5deg': (0.05, 5), '25cm2deg': (0.25, 2), '50cm5deg': (0.5, 5),
                 '1m5deg': (1, 5), '5m10deg': (5, 10)}


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


@dataclass(frozen=True)
class Verdict:
    """Whether poses were good: each check in words, and whether it held."""

    checks: dict[str, bool]

    @property
    def good(self) -> bool:
        return all(self.checks.values())

    def text(self) -> str:
        """A line for each check, then the whole."""
        lines = [f'{"ok    " if held else "FAILED"} {check}' for check, held in self.checks.items()]
        return '\n'.join([*lines, 'the poses were good' if self.good else 'the poses were NOT good'])


def make_record(name: str, stamp_s: float, T_truth: Tensor, T_estimate: Tensor, latency_ms: float, status: str,
                covariance: Tensor | None = None) -> FrameRecord:
    """A FrameRecord with its errors worked out."""
    error_m, error_deg = pose_errors(T_estimate, T_truth)
    return FrameRecord(name, stamp_s, T_truth, T_estimate, error_m.item(), error_deg.item(), latency_ms, status,
                       covariance)


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
    distance_m = torch.cdist(T_truth[:, :3, 3], T_train[:, :3, 3], compute_mode='donot_use_mm_for_euclid_dist')
    return T_train[distance_m.argmin(1)]


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


def score_file(path: Path) -> dict[str, PoseScores]:
    """Scores of published predictions: an npz of [N, 3, 4] or [N, 4, 4] camera-to-world arrays, one named `truth`."""
    try:
        with np.load(path, allow_pickle=False) as file:
            poses = {name: torch.from_numpy(np.asarray(file[name], np.float64)) for name in file.files}
    except (OSError, ValueError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise AprlocError(f'{path}: missing or not an npz of poses ({str(error).splitlines()[0]})') from None
    truth = poses.pop('truth', None)
    if truth is None or not poses:
        raise AprlocError(f'{path}: must hold an array named truth and others, not {", ".join(poses) or "truth alone"}')
    try:
        return {name: score_poses(estimate, truth) for name, estimate in poses.items()}
    except AprlocError as error:
        raise AprlocError(f'{path}: {error}') from None


def latency_p50_p95_ms(records: Sequence[FrameRecord]) -> tuple[float, float]:
    """Median and 95th percentile of the frames' latency."""
    p50, p95 = np.percentile([record.latency_ms for record in records], (50, 95))
    return float(p50), float(p95)


def scores_table(scores: dict[str, PoseScores]) -> str:
    """One row per named PoseScores, aligned, for a terminal."""
    header = ['', 'frames', 'median', 'p95', *RECALL_BOUNDS]
    rows = [[name, str(s.count), f'{s.median_m:.3f} m {s.median_deg:6.2f} deg', f'{s.p95_m:.3f} m {s.p95_deg:6.2f} deg',
             *(f'{s.recall[bound]:.1%}' for bound in RECALL_BOUNDS)] for name, s in scores.items()]
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    return '\n'.join('  '.join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in
                                                          zip(row[1:], widths[1:]))]) for row in (header, *rows))


def normalised_errors(records: Sequence[FrameRecord]) -> Tensor:
    """xi^T covariance^-1 xi of T_truth = T_estimate @ exp(xi), [N]: chi-square with 6 degrees of freedom if calibrated.

    Frames without a covariance are left out.
    """
    known = [record for record in records if record.covariance is not None]
    if not known:
        return torch.zeros(0, dtype=torch.float64)
    xi = residuals(torch.stack([r.T_estimate for r in known]), torch.stack([r.T_truth for r in known]))
    covariance = torch.stack([record.covariance for record in known])
    return (xi * torch.linalg.solve(covariance, xi)).sum(-1)


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
                                   estimate.status, estimate.covariance))
        if on_frame:
            on_frame(index, records[-1])
    return records
