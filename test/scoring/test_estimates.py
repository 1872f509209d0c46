"""What a replay leaves for other tools: covariances of a map whose metre is known only so well."""

import csv
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rosbags.highlevel import AnyReader

from aprloc_ros.geometry import invert, se3_exp, so3_log
from aprloc_ros.placement.map_frame import MapFrame
from aprloc_ros.scoring.estimates import write_csv, write_estimates_bag
from aprloc_ros.scoring.replay import ANSWERED, ReplayedFrame, Robot

T_MAP_CAM = se3_exp(torch.tensor([30.0, -10.0, 2.0, 0.4, 0.1, 2.0], dtype=torch.float64))
T_BASE_CAM = se3_exp(torch.tensor([0.5, 0.1, 1.2, -1.2, 1.0, -1.0], dtype=torch.float64))
SCALE_SD = 0.01


@pytest.fixture
def frames():
    estimate = SimpleNamespace(T_map_cam=T_MAP_CAM, covariance=1e-6 * torch.eye(6, dtype=torch.float64), status='refined', score=0.9,
                               timings_ms={})
    return [ReplayedFrame(0, 'frame 0000', 7 * 10**9, ANSWERED, estimate)]


def test_an_unsure_scale_widens_what_is_written_as_it_moves_the_camera(tmp_path, frames):
    """The camera at p is truly at (1 + e) p, e of SCALE_SD, and the robot's base as far from it as ever: a sample of such maps."""
    unit = MapFrame(scale_sd=SCALE_SD)
    write_estimates_bag(tmp_path / 'bag', frames, Robot('base', lambda stamp_ns: T_BASE_CAM), 'map', unit)
    with AnyReader([tmp_path / 'bag']) as reader:
        connection, = (c for c in reader.connections if c.topic == 'pose_with_covariance')
        (_, _, data), = reader.messages([connection])
        message = reader.deserialize(data, connection.msgtype).pose
    covariance = message.covariance.reshape(6, 6)
    e = SCALE_SD * torch.randn(100_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    cameras = T_MAP_CAM.repeat(len(e), 1, 1)
    cameras[:, :3, 3] *= 1 + e[:, None]
    cameras = cameras @ se3_exp(1e-3 * torch.randn(len(e), 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    robots, T_map_base = cameras @ invert(T_BASE_CAM), T_MAP_CAM @ invert(T_BASE_CAM)
    off = torch.cat([robots[:, :3, 3] - T_map_base[:3, 3], so3_log(robots[:, :3, :3] @ T_map_base[:3, :3].T)], 1)   # about the map's axes
    sd = np.sqrt(np.diagonal(covariance))
    np.testing.assert_allclose(np.cov(off.T.numpy()) / np.outer(sd, sd), covariance / np.outer(sd, sd), atol=0.02)

    write_csv(tmp_path / 'estimates.csv', frames, {}, unit)
    with (tmp_path / 'estimates.csv').open(newline='') as file:
        row, = csv.DictReader(file)
    p_cam = (T_MAP_CAM[:3, :3].T @ T_MAP_CAM[:3, 3]).numpy()
    assert [float(row[f'std_{axis}']) for axis in 'xyz'] == pytest.approx(np.hypot(1e-3, SCALE_SD * p_cam), rel=1e-4)


def test_the_base_is_where_the_camera_sat_when_the_image_was_taken(tmp_path, frames):
    """Whose stamp the replay found to be 0.25 s late, on a head that pans."""
    def T_base_cam(stamp_ns):
        return se3_exp(torch.tensor([0, 0, 0, 0, 0, stamp_ns / 1e9], dtype=torch.float64)) @ T_BASE_CAM

    frames = [replace(frame, late_s=0.25) for frame in frames]
    write_estimates_bag(tmp_path / 'bag', frames, Robot('base', T_base_cam), 'map', MapFrame())
    with AnyReader([tmp_path / 'bag']) as reader:
        connection, = (c for c in reader.connections if c.topic == 'pose_with_covariance')
        (_, _, data), = reader.messages([connection])
        position = reader.deserialize(data, connection.msgtype).pose.pose.position
    expected = (T_MAP_CAM @ invert(T_base_cam(6.75e9)))[:3, 3]
    assert [position.x, position.y, position.z] == pytest.approx(expected.tolist(), abs=1e-6)
