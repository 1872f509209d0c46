"""The benchmark of metres on exact drives of the demo place, without images."""

import math
from pathlib import Path

import pytest
import torch

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.training.benchmarks import metres
from aprloc_ros.training.datasets.capture import Frame
from aprloc_ros.training.place.drive import COURSES, plan_drive

CAMERA = Camera(320, 240, 252.0, 252.0, 160.7, 118.4)


def frames(name):
    drive = plan_drive(next(course for course in COURSES if course.name == name))
    return [Frame(f'{name}/{index}.jpg', Path('nowhere'), torch.from_numpy(T), CAMERA, stamp_s, name)
            for index, (T, stamp_s) in enumerate(zip(drive.T_map_cam, drive.stamps_s.tolist()))]


def test_odometry_and_gps_keep_what_is_promised():
    drive = frames('drive_1')
    for measure in (metres._by_odometry, metres._by_gps):
        found, _ = measure(drive, 0)
        assert abs(math.log(found.change.scale * metres._TO_SFM.scale)) < 0.01
        assert metres._turn_deg(found.change)[0] < 0.3


def test_the_row_of_a_map_that_is_aligned():
    cells = metres._aligned('plane', frames('held_out'), 2).split('|')
    assert float(cells[-2].split('/')[1].split()[0]) < 2     # cm
    assert float(cells[-3].split('/')[1].strip(' °')) < 0.3


def test_another_capture_is_refused(tmp_path):
    with pytest.raises(AprlocError):
        metres.metres_table(tmp_path)
