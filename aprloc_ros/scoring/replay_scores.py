"""The numbers of a replay."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch

from aprloc_ros.recordings.truth import Truth
from aprloc_ros.scoring.evaluation import (
    FrameRecord,
    PoseScores,
    make_record,
    residuals_and_covariances,
    score_poses,
    score_records,
)
from aprloc_ros.scoring.replay import ANSWERED, REJECTED, SUPERSEDED, ReplayedFrame
from aprloc_ros.scoring.uncertainty import CovarianceScores, score_covariances


@dataclass(frozen=True)
class ReplayScores:
    """What became of the frames, and how good the answers were. None: there was nothing to measure it on."""

    frames: int
    answered: int
    superseded: int
    rejected: dict[str, int]               # reason -> frames
    without_truth: int                     # of the answered ones: counted, not scored
    first_fix_s: float | None              # from the first image's arrival to the first answer
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    poses: dict[str, PoseScores]           # by name, the replay itself first; empty without truth
    covariance: CovarianceScores | None

    def to_dict(self) -> dict:
        return asdict(self)

    def facts(self) -> dict[str, str]:
        """Name -> text, for people."""
        reasons = ', '.join(f'{count} for {reason}' for reason, count in sorted(self.rejected.items()))
        facts = {'frames': str(self.frames), 'answered': str(self.answered),
                 'superseded by a newer frame': str(self.superseded),
                 'rejected': f'{sum(self.rejected.values())}{f" ({reasons})" if reasons else ""}',
                 'answered without truth, not scored': str(self.without_truth)}
        if self.answered:
            facts['time to first fix'] = f'{self.first_fix_s:.3f} s'
            facts['latency p50 / p95'] = f'{self.latency_p50_ms:.1f} / {self.latency_p95_ms:.1f} ms'
        if self.covariance:
            low, high = self.covariance.anees_interval
            facts['ANEES'] = f'{self.covariance.anees:.2f} (6 is right, {low:.2f} to {high:.2f} consistent with it)'
            facts['coverage'] = ', '.join(f'{c.share:.1%} in the {c.nominal:.0%} ellipsoid'
                                          for c in self.covariance.coverage)
        return facts


def score_replay(frames: Sequence[ReplayedFrame], records: Mapping[int, FrameRecord], name: str) -> ReplayScores:
    """records: as of true_records; name: of the replay in tables."""
    answered = [frame for frame in frames if frame.outcome == ANSWERED]
    p50_ms, p95_ms = np.percentile([f.latency_ms for f in answered], (50, 95)).tolist() if answered else (None, None)
    first_s = min((frame.arrived_s + frame.latency_ms / 1e3 for frame in answered), default=None)
    return ReplayScores(
        len(frames), len(answered), sum(frame.outcome == SUPERSEDED for frame in frames),
        dict(Counter(frame.reason for frame in frames if frame.outcome == REJECTED)), len(answered) - len(records),
        first_s, p50_ms, p95_ms, _pose_scores(answered, records, name) if records else {},
        score_covariances(*residuals_and_covariances(list(records.values()))) if records else None)


def true_records(frames: Sequence[ReplayedFrame], truth: Truth | None) -> dict[int, FrameRecord]:
    """The answered frames whose truth is known beside it, by the index of the frame."""
    answered = [frame for frame in frames if frame.outcome == ANSWERED]
    if truth is None or not answered:
        return {}
    T_truth, known = truth.at([frame.stamp_ns for frame in answered])
    return {frame.index: make_record(frame.name, frame.stamp_ns / 1e9, T, frame.estimate.T_map_cam, frame.latency_ms,
                                     frame.estimate.status, frame.estimate.covariance, frame.estimate.score)
            for frame, T, is_known in zip(answered, T_truth, known.tolist(), strict=True) if is_known}


def _pose_scores(answered: Sequence[ReplayedFrame], records: Mapping[int, FrameRecord], name: str,
                 ) -> dict[str, PoseScores]:
    """Of the answers, and of the regressor alone on the same frames where a refiner had its say."""
    scores = {name: score_records(list(records.values()))}
    scored = [frame for frame in answered if frame.index in records]
    if any(frame.estimate.status != 'prior' for frame in scored):
        scores['its regressor alone'] = score_poses(
            torch.stack([frame.estimate.T_prior for frame in scored]),
            torch.stack([records[frame.index].T_truth for frame in scored]))
    return scores
