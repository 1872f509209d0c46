"""`aprloc align` on the shipped map: bags and files of its place, from the command line."""

import json
import re
import shutil

import cv2
import numpy as np
import pytest
import torch
from court_fixtures import held_out_drive
from drive_fixtures import COUNT, FRAME, DriveBag, base_pose, picture, stamp
from repository import ROOT
from scipy.spatial.transform import Rotation

from aprloc_ros import cli
from aprloc_ros.catalogue import FILE_NAME
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import GL_FROM_CV, invert, pose_errors, so3_exp
from aprloc_ros.localizer import Localizer
from aprloc_ros.manifest import read_manifest
from aprloc_ros.map_bundle import load_map
from aprloc_ros.recordings.bag_messages import (
    camera_info_message,
    header,
    image_message,
    pose_with_covariance_message,
    tf_message,
)
from aprloc_ros.recordings.bags import new_bag
from aprloc_ros.recordings.recording import open_recording
from aprloc_ros.recordings.trajectory import write_tum
from aprloc_ros.similarity import Similarity
from aprloc_ros.training import align_map
from aprloc_ros.training.place.capture import CAMERA
from aprloc_ros.training.place.drive import COURSES, plan_drive

DEMO = ROOT / 'maps/demo'
T_BASE_CAM = torch.tensor([[0, 0, 1, 0.2], [-1, 0, 0, 0.1], [0, -1, 0, 0.5], [0, 0, 0, 1.0]], dtype=torch.float64)
CHANGE = Similarity(1.0, so3_exp(torch.tensor([0.0, 0.0, 2.2], dtype=torch.float64)),
                    torch.tensor([30.0, -7.0, 1.0], dtype=torch.float64), 0.0, '')
EVERY = 10


def stamp_ns(index):
    return 10**9 * (1_700_000_000 + index)


@pytest.fixture(scope='module')
def drive():
    """(images, T_map_cam [N, 4, 4]) of some frames of the held-out drive."""
    return held_out_drive(range(0, 150, EVERY))


@pytest.fixture(scope='module')
def bag(drive, tmp_path_factory):
    """Images with /tf_static, poses of the base in another frame at /pose, and TF of the same."""
    path = tmp_path_factory.mktemp('bags') / 'drive'
    with new_bag(path) as writer:
        writer.put('/tf_static', stamp_ns(0), tf_message(T_BASE_CAM, 'camera', header(stamp_ns(0), 'base_link')))
        for index, (image, T) in enumerate(zip(*drive)):
            T_new_base, time_ns = CHANGE.apply(T) @ invert(T_BASE_CAM), stamp_ns(index)
            writer.put('/camera_info', time_ns, camera_info_message(CAMERA, header(time_ns, 'camera')))
            writer.put('/image', time_ns, image_message(image, header(time_ns, 'camera')))
            writer.put('/tf', time_ns, tf_message(T_new_base, 'base_link', header(time_ns, 'floor')))
            covariance = torch.eye(6, dtype=torch.float64)
            writer.put('/pose', time_ns, pose_with_covariance_message(T_new_base, covariance, header(time_ns, 'floor')))
    return path


@pytest.fixture
def maps(tmp_path):
    shutil.copytree(DEMO, tmp_path / 'demo')
    return tmp_path


def run(*arguments):
    return cli.main(['align', 'demo', '--device', 'cpu', *map(str, arguments)])


@pytest.mark.parametrize('to', ['/pose', 'tf'])
def test_a_map_comes_into_the_frame_of_a_trajectory(to, bag, maps, drive, capsys):
    assert run('--map-dir', maps, '--data', bag, '--to', to) == 0
    said = capsys.readouterr().out
    assert 'poses fit to 0.0' in said and 'the map knows 15 of 15 images' in said
    estimate = Localizer(load_map(maps / 'demo', 'cpu'), 'cpu').localize(drive[0][3], CAMERA)
    error_m, error_deg = pose_errors(estimate.T_map_cam, CHANGE.apply(drive[1][3]))
    assert error_m < 0.04 and error_deg < 0.3


def test_a_trajectory_of_a_late_clock_is_found_out_and_taken_as_it_is(bag, maps, capsys):
    """It says 0.4 s later where the body was, on a drive that goes round: shifted poses turn the whole frame."""
    every = torch.from_numpy(plan_drive(next(course for course in COURSES if course.split == 'test')).T_map_cam)
    late = maps / 'late.tum'
    write_tum(late, [(stamp_ns(0) + 10**8 * (i + 4), CHANGE.apply(T)) for i, T in enumerate(every)])
    assert run('--map-dir', maps, '--data', bag, '--to', late) == 0
    said = capsys.readouterr().out
    assert re.search(r'WARNING: trajectory .*late.tum: its clock is \+0\.(39|40|41) s from that of the images', said)
    frame = read_manifest(maps / 'demo' / FILE_NAME).scene
    exact = read_manifest(DEMO / FILE_NAME).scene.moved(CHANGE)
    error_m, error_deg = pose_errors(frame.T_map_scene, exact.T_map_scene)
    assert error_m < 0.05 and error_deg < 0.3


def test_what_does_not_fit_leaves_the_map_as_it_was(bag, maps, drive, capsys):
    before = (maps / 'demo' / FILE_NAME).read_bytes()
    other = maps / 'other.tum'
    write_tum(other, [(stamp_ns(i), T) for i, T in enumerate(drive[1].flip(0))])
    late = maps / 'late.tum'
    write_tum(late, [(stamp_ns(i) + 10**13, T) for i, T in enumerate(drive[1])])
    for to, reason in ((other, 'does not fit the map'), (late, 'clocks must be the same'), ('/nothing', 'no topic of poses')):
        assert run('--map-dir', maps, '--data', bag, '--to', to) == 1
        error = capsys.readouterr().err
        assert reason in error and len(error.splitlines()) == 1
    assert (maps / 'demo' / FILE_NAME).read_bytes() == before
    assert read_manifest(maps / 'demo' / FILE_NAME).frame.unit == 'metre'


def test_images_of_a_capture_without_stamps_are_told_by_their_numbers(drive, maps, capsys):
    root = maps / 'capture'
    (root / 'images').mkdir(parents=True)
    frames = []
    for index, (image, T) in enumerate(zip(*drive)):
        cv2.imwrite(str(root / f'images/frame-{index:03d}.png'), image[..., ::-1])
        frames.append({'file_path': f'images/frame-{index:03d}.png', 'transform_matrix': (T @ GL_FROM_CV).tolist()})
    camera = {'fl_x': CAMERA.fx, 'fl_y': CAMERA.fy, 'cx': CAMERA.cx + 0.5, 'cy': CAMERA.cy + 0.5, 'w': CAMERA.width,
              'h': CAMERA.height}
    (root / 'transforms.json').write_text(json.dumps({**camera, 'frames': frames}))
    write_tum(maps / 'new.tum', [(10**9 * i, CHANGE.apply(T)) for i, T in enumerate(drive[1])])
    assert run('--map-dir', maps, '--data', root, '--to', maps / 'new.tum') == 0
    assert 'poses fit to 0.0' in capsys.readouterr().out
    assert run('--map-dir', maps, '--data', root, '--to', 'tf') == 1
    assert 'tf: no such file' in capsys.readouterr().err


def test_an_image_that_is_cut_off_is_left_out_and_said(tmp_path):
    whole, cut = cv2.imencode('.png', picture(0))[1].ravel(), 4
    with DriveBag(tmp_path / 'bag') as bag:
        bag.mounting()
        bag.tf()
        bag.info()
        for index in range(COUNT):
            data = whole[:60] if index == cut else whole
            bag.write('/camera/image_raw/compressed', bag.make('sensor_msgs/msg/CompressedImage', bag.header(stamp(index), FRAME), 'png', data),
                      stamp(index))
    with open_recording(tmp_path / 'bag') as recording:
        photos, _ = align_map._of_bag(recording, 'tf')
        assert len(list(photos.chosen(torch.arange(COUNT)))) == COUNT - 1
        assert any(f'1 of {COUNT} images cannot be used' in note for note in recording.notes)


@pytest.mark.parametrize('pans', [False, True])
def test_a_camera_that_pans_on_the_robot_goes_a_way_of_its_own(tmp_path, pans):
    def T_base_cam(index):
        turn = np.eye(4)
        turn[:3, :3] = Rotation.from_rotvec([0, 0.2 * index * pans, 0]).as_matrix()
        return T_BASE_CAM.numpy() @ turn
    with DriveBag(tmp_path / 'bag') as made:
        made.images()
        made.info()
        for index in range(COUNT):
            made.pose('/robot', stamp(index), base_pose(stamp(index)), 'Odometry', child='base_link')
            made.transform('/tf', 'base_link', FRAME, T_base_cam(index), stamp(index))
    with open_recording(tmp_path / 'bag') as recording:
        _, way = align_map._of_bag(recording, '/robot')
    poses, known = way.at(way.trajectory.stamps_s)
    expected = np.stack([base_pose(stamp(index)) @ T_base_cam(index) for index in range(COUNT)])
    assert known.all()
    np.testing.assert_allclose((poses @ np.linalg.inv(way.T_cam_body)).numpy(), expected, atol=1e-6)


def test_capture_yaml_chooses_among_the_images_of_a_bag(tmp_path):
    with DriveBag(tmp_path / 'bag') as made:
        for name in ('left', 'right'):
            made.images(f'/{name}/image_raw', frame=name)
            made.info(f'/{name}/camera_info')
        for index in range(COUNT):
            made.pose('/pose', stamp(index), torch.eye(4).numpy())
    with open_recording(tmp_path / 'bag') as recording:
        with pytest.raises(AprlocError, match='2 topics with colour images .*"image_topic: <one of them>" in capture.yaml'):
            align_map._of_bag(recording, '/pose')
        (tmp_path / 'bag' / 'capture.yaml').write_text('image_topic: /right/image_raw\n')
        photos, _ = align_map._of_bag(recording, '/pose')
    assert len(photos) == COUNT
