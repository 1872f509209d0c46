"""A bag driven through the real node over DDS, compared with its truth and judged by what the map promises."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from aprloc_ros.command_line.domain import free_domain, inside
from aprloc_ros.command_line.node_process import node_process
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import BODY_FROM_CV
from aprloc_ros.manifest import Manifest
from aprloc_ros.recordings.bag_images import frame_name
from aprloc_ros.refinement.refined import OUT_OF_TIME
from aprloc_ros.scoring.evaluation import FrameRecord, PoseScores, latency_p50_p95_ms, make_record
from aprloc_ros.scoring.replay import OPTIONS
from aprloc_ros.scoring.verdict import Verdict
from aprloc_ros.starter import starter_lives

TOO_SLOW_SHARE = 0.1     # of the frames without time is worth a word
# A bag may be another sample of the place than the frames that the map's accuracy was measured on (the demo's are the
# same frames without JPEG): half as much again is allowed.
ACCURACY_FACTOR = 1.5
ACCOUNTED_SHARE = 0.95   # of the frames must be answered, unless there was no time for them
ANSWERED_SHARE = 0.5     # of the frames must be answered: a node that answers less often does not localise a robot


@dataclass(frozen=True)
class DriveResult:
    """A drive's frames beside their truth, and what became of each image."""

    records: list[FrameRecord]
    sent: int
    rejected: dict[str, int]   # reason -> frames
    superseded: int

    @property
    def missed(self) -> int:
        """Frames that the machine had no time for: superseded by a newer one, or not finished."""
        return self.superseded + self.rejected.get(OUT_OF_TIME, 0)

    def slowness(self, rate: float) -> str:
        """What to say of a machine that was too slow for the rate; empty where it kept up."""
        if self.missed <= TOO_SLOW_SHARE * self.sent:
            return ''
        return (f'this machine, as busy as it was, is too slow for rate {rate:g}: it had no time for {self.missed} of '
                f'{self.sent} frames, which got no pose; --rate {rate / 2:g} answers more of them')

    def facts(self) -> dict[str, str]:
        p50, p95 = latency_p50_p95_ms(self.records)
        reasons = ', '.join(f'{count} for {reason}' for reason, count in sorted(self.rejected.items()))
        return {'frames sent': str(self.sent), 'answered': str(len(self.records)), 'rejected': reasons or '0',
                'superseded by a newer frame': str(self.superseded),
                'latency p50 / p95, image sent to pose received': f'{p50:.1f} / {p95:.1f} ms'}


def drive(bag: Path, truth: dict[int, Tensor], map_directory: Path, rate: float, log_path: Path,
          say: Callable[[str], None] = print, domain: int | None = None) -> DriveResult:
    """Play the bag into a node of its own process and compare its answers with the truth (stamp in ns -> [4, 4]).

    Node and player meet no robot: they are heard on this machine alone, and in a ROS domain that nobody uses, whatever
    ROS_DOMAIN_ID says, unless domain names one.
    """
    domain = free_domain() if domain is None else domain
    say(f'in ROS domain {domain}: to look at it, ROS_DOMAIN_ID={domain} rviz2')
    from aprloc_ros.ros.player import play

    parameters = {'map': map_directory.name, 'map_dir': str(map_directory.parent), 'reliability': 'reliable',
                  'publish_tf': 'none', 'extrinsics': 'parameters', 'diagnostics_period_s': 0.2,
                  'confirmations': OPTIONS.confirmations}
    with inside(domain), node_process(parameters, log_path) as process:
        def check_alive() -> None:
            if process.poll() is not None:
                raise AprlocError(f'the node ended with exit code {process.returncode}: {_last_line(log_path)}')
            if not starter_lives():
                raise AprlocError('the launch that started this replay is gone')

        def progress(sent: int) -> None:
            if sent % max(1, len(truth) // 10) == 0:
                say(f'  {sent} of {len(truth)} frames sent')

        playback = play(bag, rate, check_alive=check_alive, on_sent=progress, pid=process.pid)
    if not playback.answers:
        reason = playback.diagnostics.get('last rejection') or _last_line(log_path)
        raise AprlocError(f'the node answered none of {playback.sent} frames: {reason}')
    records = [_record(index, stamp_ns, playback.answers[stamp_ns], T_truth)
               for index, (stamp_ns, T_truth) in enumerate(truth.items()) if stamp_ns in playback.answers]
    return DriveResult(records, playback.sent, playback.rejected_for, playback.superseded)


def _record(index: int, stamp_ns: int, answer, T_truth: Tensor) -> FrameRecord:
    """With default extrinsics the camera is the base in optical axes, so that only axes turn."""
    T_map_cam = answer.T_map_base @ BODY_FROM_CV
    R_cam_map = torch.block_diag(T_map_cam[:3, :3], T_map_cam[:3, :3]).T
    return make_record(frame_name(index), stamp_ns / 1e9, T_truth, T_map_cam, answer.latency_s * 1000, 'answered',
                       R_cam_map @ answer.covariance @ R_cam_map.T)


def _last_line(log_path: Path) -> str:
    lines = log_path.read_text(errors='replace').strip().splitlines()
    return f'{lines[-1]} (log: {log_path})' if lines else f'its log {log_path} is empty'


def judge(result: DriveResult, ours: PoseScores, mean_pose: PoseScores, manifest: Manifest) -> Verdict:
    """Were the poses as good as the map promises?

    Good means all of: median errors within ACCURACY_FACTOR times the held-out accuracy that the map's own manifest
    states; both medians less than those of the drive's own mean pose; at least ACCOUNTED_SHARE of the frames answered
    or without time, and at least ANSWERED_SHARE answered.
    """
    checks = {}
    for unit in ('m', 'deg'):
        median, trivial = getattr(ours, f'median_{unit}'), getattr(mean_pose, f'median_{unit}')
        bound = ACCURACY_FACTOR * _promised(manifest, f'median_{unit}')
        checks[f'median error {median:.3f} {unit}, at most {bound:.3f} {unit} ({ACCURACY_FACTOR:g} times what the map '
               'states for held-out frames)'] = median <= bound
        checks[f'median error {median:.3f} {unit}, under the {trivial:.3f} {unit} of the mean pose'] = median < trivial
    answered = len(result.records) / result.sent
    accounted = answered + result.missed / result.sent
    checks[f'{accounted:.1%} of the frames answered, superseded or out of time, at least {ACCOUNTED_SHARE:.0%}'] = \
        accounted >= ACCOUNTED_SHARE
    checks[f'{answered:.1%} of the frames answered, at least {ANSWERED_SHARE:.0%}'] = answered >= ANSWERED_SHARE
    return Verdict(checks)


def _promised(manifest: Manifest, key: str) -> float:
    if key not in manifest.accuracy:
        raise AprlocError(f'the map {manifest.name} does not state its held-out {key}; rebuild it with aprloc build')
    return manifest.accuracy[key]
