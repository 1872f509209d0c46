"""What a replay answered, for other tools: a TUM file, a table, and a rosbag2 with the topics of the node."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from aprloc_ros.covariance import to_base
from aprloc_ros.geometry import invert
from aprloc_ros.placement.map_frame import MapFrame
from aprloc_ros.recordings.bag_messages import (
    OK,
    WARN,
    diagnostics_message,
    header,
    pose_with_covariance_message,
    tf_message,
)
from aprloc_ros.recordings.bags import new_bag
from aprloc_ros.recordings.message_fields import covariance_about_map_axes
from aprloc_ros.recordings.trajectory import POSE_CELLS, pose_cells, stamp_text, write_tum
from aprloc_ros.scoring.evaluation import FrameRecord
from aprloc_ros.scoring.replay import ANSWERED, ReplayedFrame, Robot

TUM_FILE, CSV_FILE, BAG = 'estimates.tum', 'estimates.csv', 'estimates'
_STD = ('std_x', 'std_y', 'std_z', 'std_rx', 'std_ry', 'std_rz')


def write_tum_file(path: Path, frames: Sequence[ReplayedFrame]) -> None:
    """Poses of the camera in the map, of the answered frames."""
    write_tum(path, [(f.stamp_ns, f.estimate.T_map_cam) for f in frames if f.outcome == ANSWERED])


def write_csv(path: Path, frames: Sequence[ReplayedFrame], records: Mapping[int, FrameRecord], unit: MapFrame) -> None:
    """A row for each frame; what is not known stays empty. records: of the frames with truth, by index.

    Poses are of the camera in the map, std along the camera's axes in metres and radians. unit: of the map, whose unsure scale
    counts as it does in the node.
    """
    with open(path, 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['name', 'stamp_s', 'outcome', 'reason', 'status', 'score', 'latency_ms', 'error_m', 'error_deg',
                         *(f'truth_{part}' for part in POSE_CELLS), *(f'estimate_{part}' for part in POSE_CELLS), *_STD])
        writer.writerows(_row(frame, records.get(frame.index), unit) for frame in frames)


def _row(frame: ReplayedFrame, record: FrameRecord | None, unit: MapFrame) -> list[str]:
    answer = frame.estimate if frame.outcome == ANSWERED else None
    covariance = answer and answer.covariance + unit.scale_covariance(answer.T_map_cam)
    return [frame.name, stamp_text(frame.stamp_ns), frame.outcome, frame.reason,
            *([frame.estimate.status, f'{frame.estimate.score:.6f}'] if frame.estimate else ['', '']),
            f'{frame.latency_ms:.3f}' if frame.latency_ms else '',
            *([f'{record.error_m:.6f}', f'{record.error_deg:.6f}'] if record else ['', '']),
            *pose_cells(record and record.T_truth), *pose_cells(answer and answer.T_map_cam),
            *([f'{std:.6g}' for std in covariance.diagonal().sqrt().tolist()] if answer else [''] * 6)]


def write_estimates_bag(path: Path, frames: Sequence[ReplayedFrame], robot: Robot, map_frame: str, unit: MapFrame) -> None:
    """`pose_with_covariance`, `/tf` and `/diagnostics` as the node publishes them, at the stamps of the images.

    unit: of the map. A bag of before is replaced.
    """
    with new_bag(path, replaces=True) as bag:
        for frame in frames:
            head = header(frame.stamp_ns, map_frame)
            bag.put('/diagnostics', frame.stamp_ns, _diagnostics(frame))
            if frame.outcome != ANSWERED:
                continue
            T_cam_frame = invert(robot.T_base_cam(frame.taken_ns))
            T_map_frame = frame.estimate.T_map_cam @ T_cam_frame
            covariance = frame.estimate.covariance + unit.scale_covariance(frame.estimate.T_map_cam)
            covariance = covariance_about_map_axes(to_base(covariance, T_cam_frame), T_map_frame)
            bag.put('pose_with_covariance', frame.stamp_ns, pose_with_covariance_message(T_map_frame, covariance, head))
            bag.put('/tf', frame.stamp_ns, tf_message(T_map_frame, robot.frame, head))


def _diagnostics(frame: ReplayedFrame):
    values = {'frame': frame.name, 'outcome': frame.outcome}
    if frame.estimate:
        values |= {'status': frame.estimate.status, 'score': f'{frame.estimate.score:.3f}'}
        values |= {f'{name} ms': f'{ms:.1f}' for name, ms in frame.estimate.timings_ms.items()}
    if frame.outcome == ANSWERED:
        return diagnostics_message(OK, 'aprloc replay', 'localising', values, header(frame.stamp_ns, ''))
    text = f'{frame.reason}: {frame.text}' if frame.text else frame.outcome
    return diagnostics_message(WARN, 'aprloc replay', text, values, header(frame.stamp_ns, ''))
