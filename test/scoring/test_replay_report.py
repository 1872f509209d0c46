"""`aprloc replay` from the command line: what it writes, read back by other tools; the same twice."""

import csv
import dataclasses
import json
import re
import types

import cv2
import drive_fixtures as fixtures
import numpy as np
import pytest
from drive_fixtures import COUNT, FRAME, SQLITE3, T_BASE_CAM, DriveBag, base_pose, camera_pose, picture, stamp
from rosbags.highlevel import AnyReader
from scipy.spatial.transform import Rotation
from tiny_map import CAMERA

from aprloc_ros.cli import main
from aprloc_ros.errors import AprlocError
from aprloc_ros.localizer import Localizer
from aprloc_ros.manifest import read_manifest
from aprloc_ros.map_bundle import load_map
from aprloc_ros.scoring.rejections import SHOWN, rejected_figure, rejected_frames, rejection_verdict
from aprloc_ros.scoring.replay import REJECTED, ReplayedFrame

BLANK_TRUTH = 7   # this image has no truth
CORRUPT = 4


def write_drive(path):
    """A robot's bag: compressed pictures of which one is damaged, base_link's true pose but for one image."""
    with DriveBag(path, SQLITE3) as bag:
        bag.info()
        bag.mounting()
        for index in range(COUNT):
            data = cv2.imencode('.png', picture(index)[..., ::-1])[1].ravel()
            data = data[:len(data) // 2].copy() if index == CORRUPT else data
            bag.write('/camera/image_raw/compressed', bag.make(
                'sensor_msgs/msg/CompressedImage', bag.header(stamp(index), FRAME), 'png', data), stamp(index))
            if index != BLANK_TRUTH:
                bag.pose('/ground_truth', stamp(index), base_pose(stamp(index)), 'Odometry', child='base_link')
    return path


def run(bag, tiny_map, out, *options):
    return main(['replay', str(bag), '--map', tiny_map.name, '--map-dir', str(tiny_map.parent), '--out', str(out),
                 '--device', 'cpu', *options])


@pytest.fixture(scope='module')
def replayed(tmp_path_factory, tiny_map):
    directory = tmp_path_factory.mktemp('replay')
    bag = write_drive(directory / 'bag')
    assert run(bag, tiny_map, directory / 'out') == 0
    return bag, directory / 'out'


@pytest.fixture(scope='module')
def expected(tiny_map):
    """What the localizer says of each picture, and of its covariance."""
    localizer = Localizer(load_map(tiny_map, 'cpu'), 'cpu')
    estimates = [localizer.localize(picture(index), CAMERA) for index in range(COUNT)]
    return [e.T_map_cam.numpy() for e in estimates], estimates[0].covariance.numpy()


def answered():
    return [index for index in range(COUNT) if index != CORRUPT]


def scored():
    return [index for index in answered() if index != BLANK_TRUTH]


def test_results_are_those_of_the_poses(replayed, expected, tiny_map):
    expected_frame = read_manifest(tiny_map / 'map.yaml').scene.fingerprint
    results = json.loads((replayed[1] / 'results.json').read_text())
    assert results['frame'] == expected_frame
    assert {key: results[key] for key in ('frames', 'answered', 'superseded', 'rejected', 'without_truth')} == {
        'frames': COUNT, 'answered': COUNT - 1, 'superseded': 0, 'rejected': {'image': 1}, 'without_truth': 1}
    metres, degrees = [], []
    for index in scored():
        error = np.linalg.inv(expected[0][index]) @ camera_pose(stamp(index))
        metres.append(np.linalg.norm(error[:3, 3]))
        degrees.append(np.degrees(Rotation.from_matrix(error[:3, :3]).magnitude()))
    scores = results['poses'][f'replay, map {results["map"]}']
    assert scores['count'] == COUNT - 2
    for name, values in (('m', metres), ('deg', degrees)):
        assert scores[f'median_{name}'] == pytest.approx(np.median(values), rel=1e-6)
        assert scores[f'p95_{name}'] == pytest.approx(np.percentile(values, 95), rel=1e-6)
    assert results['covariance']['count'] == COUNT - 2
    assert 0 < results['first_fix_s'] and 0 < results['latency_p50_ms'] <= results['latency_p95_ms']


def test_the_table_has_a_row_for_each_frame(replayed, expected):
    with open(replayed[1] / 'estimates.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert [row['outcome'] for row in rows] == ['rejected' if i == CORRUPT else 'answered' for i in range(COUNT)]
    assert [row['stamp_s'] for row in rows] == [f'{stamp(i) // 10**9}.{stamp(i) % 10**9:09d}' for i in range(COUNT)]
    assert rows[CORRUPT]['reason'] == 'image' and rows[CORRUPT]['estimate_x'] == '' == rows[CORRUPT]['error_m']
    assert rows[BLANK_TRUTH]['truth_x'] == '' and rows[BLANK_TRUTH]['estimate_x'] != ''
    for index in scored():
        xyz = [float(rows[index][f'estimate_{axis}']) for axis in 'xyz']
        np.testing.assert_allclose(xyz, expected[0][index][:3, 3], atol=1e-6)
        xyz = [float(rows[index][f'truth_{axis}']) for axis in 'xyz']
        np.testing.assert_allclose(xyz, camera_pose(stamp(index))[:3, 3], atol=1e-6)


def test_evo_reads_the_trajectory(replayed, expected):
    file_interface = pytest.importorskip('evo.tools.file_interface')
    trajectory = file_interface.read_tum_trajectory_file(str(replayed[1] / 'estimates.tum'))
    np.testing.assert_allclose(trajectory.timestamps, [stamp(i) / 1e9 for i in answered()], atol=1e-6)
    for T, index in zip(trajectory.poses_se3, answered(), strict=True):
        np.testing.assert_allclose(T, expected[0][index], atol=1e-7)


def rotated(covariance, T):
    R = np.kron(np.eye(2), T[:3, :3])
    return R @ covariance @ R.T


def test_the_estimates_are_a_bag_of_the_base(replayed, expected):
    """Poses, TF and diagnostics as the node would publish them; the base's covariance by moving the camera's error."""
    with AnyReader([replayed[1] / 'estimates']) as reader:
        messages = {}
        for connection, time_ns, data in reader.messages():
            messages.setdefault(connection.topic, []).append((time_ns, reader.deserialize(data, connection.msgtype)))
        types = {connection.topic: connection.msgtype for connection in reader.connections}
    assert types == {'pose_with_covariance': 'geometry_msgs/msg/PoseWithCovarianceStamped',
                     '/tf': 'tf2_msgs/msg/TFMessage', '/diagnostics': 'diagnostic_msgs/msg/DiagnosticArray'}
    assert [time_ns for time_ns, _ in messages['/diagnostics']] == [stamp(i) for i in range(COUNT)]
    statuses = [message.status[0] for _, message in messages['/diagnostics']]
    assert [status.level for status in statuses] == [1 if i == CORRUPT else 0 for i in range(COUNT)]
    assert statuses[CORRUPT].message.startswith('image: ')
    T_cam_base = np.linalg.inv(T_BASE_CAM)
    for (time_ns, message), (_, tf), index in zip(messages['pose_with_covariance'], messages['/tf'], answered(), strict=True):
        assert time_ns == stamp(index) == message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        T_map_base = expected[0][index] @ T_cam_base
        p, q = message.pose.pose.position, message.pose.pose.orientation
        np.testing.assert_allclose([p.x, p.y, p.z], T_map_base[:3, 3], atol=1e-9)
        np.testing.assert_allclose(Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix(), T_map_base[:3, :3], atol=1e-9)
        # xi of the camera at c in the base moves the base by rho + c x phi (both in the base's axes).
        in_base = rotated(expected[1], T_BASE_CAM)
        c = T_BASE_CAM[:3, 3]
        lever = np.eye(6)
        lever[:3, 3:] = [[0, -c[2], c[1]], [c[2], 0, -c[0]], [-c[1], c[0], 0]]
        np.testing.assert_allclose(message.pose.covariance.reshape(6, 6), rotated(
            lever @ in_base @ lever.T, T_map_base), atol=1e-9)
        assert (tf.transforms[0].header.frame_id, tf.transforms[0].child_frame_id) == ('map', 'base_link')
        np.testing.assert_allclose(tf.transforms[0].transform.translation.x, T_map_base[0, 3], atol=1e-9)


def test_the_page_shows_everything(replayed):
    out = replayed[1]
    page = (out / 'index.html').read_text()
    links = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert {'trajectory.png', 'errors.png', 'distribution.png', 'calibration.png', 'worst.png', 'results.json',
            'estimates.csv', 'estimates.tum'} == set(links)
    assert all((out / link).is_file() for link in links)
    assert 'answered without truth' in page and '1 for image' in page
    worst = cv2.imread(str(out / 'worst.png'))
    assert worst.shape[0] > worst.shape[1]    # a row for each of the eight


def test_the_same_again_is_the_same(replayed, tiny_map, tmp_path):
    bag, out = replayed
    assert run(bag, tiny_map, tmp_path) == 0
    assert (tmp_path / 'estimates.tum').read_bytes() == (out / 'estimates.tum').read_bytes()
    assert run(bag, tiny_map, tmp_path) == 0      # over its own output
    assert (tmp_path / 'estimates.tum').read_bytes() == (out / 'estimates.tum').read_bytes()


@pytest.mark.usefixtures('undrawn')
def test_real_time_answers_a_part_of_the_same(replayed, tiny_map, tmp_path):
    bag, out = replayed
    assert run(bag, tiny_map, tmp_path, '--realtime') == 0
    results = json.loads((tmp_path / 'results.json').read_text())
    assert results['realtime'] and results['answered'] + results['superseded'] + results['rejected'].get('image', 0) == COUNT
    assert set((tmp_path / 'estimates.tum').read_text().splitlines()) <= set(
        (out / 'estimates.tum').read_text().splitlines())


def test_without_truth_there_are_estimates_and_no_scores(tiny_map, tmp_path, capsys):
    with DriveBag(tmp_path / 'bag') as bag:
        bag.images(count=3)
    assert run(tmp_path / 'bag', tiny_map, tmp_path / 'out') == 0
    assert 'truth from nowhere' in capsys.readouterr().out
    results = json.loads((tmp_path / 'out/results.json').read_text())
    assert (results['answered'], results['without_truth'], results['poses'], results['covariance']) == (3, 3, {}, None)
    assert (tmp_path / 'out/trajectory.png').is_file() and not (tmp_path / 'out/errors.png').exists()
    with AnyReader([tmp_path / 'out/estimates']) as reader:    # no TF: the pose is the camera's
        tf = next(reader.deserialize(data, c.msgtype) for c, _, data in reader.messages() if c.topic == '/tf')
    assert tf.transforms[0].child_frame_id == FRAME


@pytest.mark.usefixtures('undrawn')
def test_a_tum_file_is_truth(tiny_map, tmp_path):
    with DriveBag(tmp_path / 'bag') as bag:
        bag.images(count=3)
    truth = fixtures.write_tum_file(tmp_path / 'truth.tum', fixtures.even_camera_pose)
    assert run(tmp_path / 'bag', tiny_map, tmp_path / 'out', '--truth', str(truth)) == 0
    assert json.loads((tmp_path / 'out/results.json').read_text())['poses']['replay, map tiny']['count'] == 3


@pytest.mark.parametrize('options, says', [
    ((), 'none of the 2 frames was answered'),
    (('--image', '/nothing'), 'no image topic /nothing'),
    (('--truth', 'nowhere'), 'no TUM file or topic of poses nowhere'),
    (('--max-gap-s', '-1'), '--max-gap-s -1 is outside 0 to 10 s')])
def test_mistakes_are_one_line(tiny_map, tmp_path, capsys, options, says):
    with DriveBag(tmp_path / 'bag') as bag:
        for index in range(2):
            bag.image(stamp(index), np.zeros((9, 40, 3), np.uint8))    # of no aspect that the map's camera has
    assert run(tmp_path / 'bag', tiny_map, tmp_path / 'out', *options) == 1
    error = capsys.readouterr().err
    assert says in error and error.count('\n') == 1


@pytest.mark.parametrize('name, out', [('bag', 'bag'), ('estimates', '.')])
def test_a_replay_does_not_write_into_its_bag(tiny_map, tmp_path, capsys, name, out):
    with DriveBag(tmp_path / name) as bag:
        bag.images(count=2)
    before = sorted(tmp_path.rglob('*'))
    assert run(tmp_path / name, tiny_map, tmp_path / out) == 1
    assert 'would write into the bag' in capsys.readouterr().err and sorted(tmp_path.rglob('*')) == before


@pytest.fixture
def doubting_map(tmp_path, monkeypatch):
    """The localizer believes nothing, the less the later the frame."""
    answer, scores = Localizer.localize, iter(np.linspace(0.4, 0.1, 40))

    def doubt(self, image, camera=None, starts=None):
        return dataclasses.replace(answer(self, image, camera, starts), status='rejected', score=next(scores), reason='unsure',
                                   text='the map does not believe its own answer')
    monkeypatch.setattr(Localizer, 'localize', doubt)


def test_a_replay_without_an_answer_says_why_shows_the_worst_and_what_to_do(doubting_map, tiny_map, tmp_path, capsys):
    write_drive(tmp_path / 'bag')
    assert run(tmp_path / 'bag', tiny_map, tmp_path / 'out') == 1
    said, page = capsys.readouterr().out, (tmp_path / 'out/index.html').read_text()
    assert 'No frame was answered.' in page and 'poses were' not in page
    unsure = COUNT - 1
    assert f'{unsure} of {COUNT} frames rejected, unsure: the map does not believe' in page
    assert f'1 of {COUNT} frames rejected, image: ' in page
    assert page.index('rejected, unsure') < page.index('rejected, image')   # the most frequent first
    for advice in ('record this stretch and build again', 'and at the lens'):
        assert advice in page and advice in said
    assert set(re.findall(r'src="([^"]+)"', page)) == {'rejected.png'}
    sheet = cv2.imread(str(tmp_path / 'out/rejected.png'))
    assert sheet.shape[0] > sheet.shape[1] / 2 and sheet.std() > 10


def test_the_least_believed_frames_are_shown_and_those_without_a_picture_are_not():
    frames = [ReplayedFrame(index, str(index), index, REJECTED, types.SimpleNamespace(score=1 - index / 200), 'unsure', 'no')
              for index in range(100)]
    frames += [ReplayedFrame(100, '100', 100, REJECTED, None, 'image', 'damaged', is_readable=False)]
    shown = [frame.index for frame in rejected_frames(frames)]
    assert len(shown) == SHOWN and shown[0] == 99 and min(-np.diff(shown)) > 1
    assert rejection_verdict(frames).checks == {'100 of 101 frames rejected, unsure: no': False,
                                                '1 of 101 frames rejected, image: damaged': False}
    assert rejected_figure(frames[-1:], {'100': Unreadable()}, None) is None


class Unreadable:
    def pixels(self):
        raise AprlocError('damaged')
