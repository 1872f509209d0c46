"""The interactive page: all in one file, its data as given, a trajectory from whatever a replay wrote."""

import base64
import json
import re
import shutil
import subprocess

import cv2
import numpy as np
import pytest
import torch
from repository import ROOT
from scipy.spatial.transform import Rotation

from aprloc_ros.camera import Camera
from aprloc_ros.cli import main
from aprloc_ros.command_line import using
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import pose_errors, se3_exp
from aprloc_ros.manifest import read_manifest
from aprloc_ros.moved_map import move_map
from aprloc_ros.similarity import Similarity
from aprloc_ros.viewing.cloud import Cloud, frustum_lines
from aprloc_ros.viewing.viewer import ESTIMATE, TRUTH, Track, map_of, read_track, write_page

CAMERA = Camera(64, 48, 60.0, 60.0, 31.5, 23.5)
GENERATOR = torch.Generator().manual_seed(0)
VIEWS = se3_exp(torch.randn(12, 6, generator=GENERATOR, dtype=torch.float64) * torch.tensor([3, 3, 3, .1, .1, .1]))
CLOUD = Cloud(4 * torch.randn(500, 3, generator=GENERATOR),
              torch.randint(0, 256, (500, 3), generator=GENERATOR).byte())
TRACK = Track([f'frame {i}' for i in range(4)], VIEWS[:4] @ se3_exp(torch.tensor([0.3, 0, 0, 0, 0, 0.1]).double()),
              VIEWS[:4])


def scene_of(page):
    return json.loads(re.search(r'<script id="scene" type="application/json">(.*?)</script>', page.read_text(),
                                re.DOTALL).group(1))


def points(layer):
    return np.frombuffer(base64.b64decode(layer['xyz']), '<f4').reshape(-1, 3)


def test_the_page_needs_no_other_file_and_no_network(tmp_path):
    text = write_page(tmp_path / 'deep/page.html', 'Map', CLOUD, CAMERA, VIEWS).read_text()
    assert not re.findall(r'https?:|//\w+\.|\bimport\b|\bfetch\b|<link|\bsrc=|XMLHttpRequest|url\(', text)
    assert '@SCENE@' not in text


def test_the_page_holds_the_cloud_and_the_cameras(tmp_path):
    scene = scene_of(write_page(tmp_path / 'page.html', 'Map', CLOUD, CAMERA, VIEWS))
    cloud, cameras = scene['layers']
    assert np.array_equal(points(cloud), CLOUD.xyz.numpy())
    assert np.array_equal(np.frombuffer(base64.b64decode(cloud['rgb']), np.uint8).reshape(-1, 3), CLOUD.rgb.numpy())
    depth_m = 0.02 * scene['radius']
    np.testing.assert_allclose(points(cameras), frustum_lines(CAMERA, VIEWS, depth_m).reshape(-1, 3), atol=1e-5)
    assert cameras['mode'] == 'lines' and cameras['shown'] and scene['frames'] == []
    inside = np.linalg.norm(points(cloud) - scene['centre'], axis=1) <= scene['radius']
    assert 0.8 < inside.mean() < 1


def test_a_map_in_coordinates_of_a_survey_looks_as_it_does_near_the_origin(tmp_path):
    """Whole kilometres are left out: in single precision points millions of metres away stand half a metre apart."""
    far = torch.tensor([500_000.0, 5_400_000.0, 0.0], dtype=torch.float64)
    moved = se3_exp(torch.cat([far, torch.zeros(3)]))
    near, there = (scene_of(write_page(tmp_path / 'page.html', 'Map', Cloud(CLOUD.xyz + shift, CLOUD.rgb), CAMERA, T @ VIEWS,
                                       Track(TRACK.names, T @ TRACK.T_estimate, T @ TRACK.T_truth)))
                   for shift, T in ((0 * far, torch.eye(4, dtype=torch.float64)), (far, moved)))
    for a, b in zip(near['layers'], there['layers'], strict=True):
        np.testing.assert_allclose(points(a), points(b), atol=1e-5)
    assert [frame['text'] for frame in near['frames']] == [frame['text'] for frame in there['frames']]
    np.testing.assert_allclose(near['centre'], there['centre'], atol=1e-5)


def test_up_is_against_the_cameras_y_axes(tmp_path):
    turn = se3_exp(torch.tensor([5.0, 0, 0, 1.2, 0.3, -0.7], dtype=torch.float64))
    scene = scene_of(write_page(tmp_path / 'page.html', 'Map', CLOUD, CAMERA, turn @ VIEWS))
    angle = np.degrees(np.arccos(np.clip(-np.dot(scene['up'], turn[:3, 1].numpy()), -1, 1)))
    assert angle < 10 and np.isclose(np.linalg.norm(scene['up']), 1)


def test_a_track_is_drawn_green_and_red_with_its_errors(tmp_path):
    scene = scene_of(write_page(tmp_path / 'page.html', 'Map', CLOUD, CAMERA, VIEWS, TRACK))
    layers = {layer['name']: layer for layer in scene['layers']}
    assert tuple(layers['truth']['colour']) == TRUTH and tuple(layers['estimate']['colour']) == ESTIMATE
    np.testing.assert_allclose(points(layers['truth']), TRACK.T_truth[:, :3, 3], atol=1e-5)
    np.testing.assert_allclose(points(layers['estimate']), TRACK.T_estimate[:, :3, 3], atol=1e-5)
    np.testing.assert_allclose(points(layers['error'])[1::2], points(layers['estimate']))
    assert [frame['text'] for frame in scene['frames']] == [f'frame {i}: off by 0.300 m, 5.73°' for i in range(4)]
    np.testing.assert_allclose(scene['frames'][2]['points'][0]['xyz'], TRACK.T_estimate[2, :3, 3])
    without_truth = scene_of(write_page(tmp_path / 'other.html', 'Map', CLOUD, CAMERA, VIEWS,
                                        Track(TRACK.names, TRACK.T_estimate, None)))
    assert [frame['text'] for frame in without_truth['frames']] == TRACK.names


def test_a_title_is_text_and_nothing_else(tmp_path):
    title = '</script><script>alert(1)</script> & "map"'
    page = write_page(tmp_path / 'page.html', title, CLOUD, CAMERA, VIEWS)
    assert scene_of(page)['title'] == title and 'alert(1)</script>' not in page.read_text()


def test_the_csv_of_a_report_is_read(tmp_path):
    from aprloc_ros.scoring.evaluation import FrameRecord
    from aprloc_ros.scoring.report import write_poses
    records = [FrameRecord(name=name, stamp_s=0.1, T_truth=T_truth, T_estimate=T_estimate, error_m=0.3, error_deg=5.7,
                           latency_ms=1.0, status='prior')
               for name, T_estimate, T_truth in zip(TRACK.names, TRACK.T_estimate, TRACK.T_truth, strict=True)]
    write_poses(tmp_path / 'poses.csv', records)
    for path in (tmp_path, tmp_path / 'poses.csv'):
        track = read_track(path)
        assert track.names == TRACK.names
        for read, written in ((track.T_estimate, TRACK.T_estimate), (track.T_truth, TRACK.T_truth)):
            assert max(error.max() for error in pose_errors(read, written)) < 1e-5


def test_of_a_replay_the_answered_frames_are_read_and_those_with_truth_if_there_are_any(tmp_path):
    pose, none = '1,2,3,1,0,0,0', ',,,,,,'
    parts = ('x', 'y', 'z', 'qw', 'qx', 'qy', 'qz')
    header = 'name,stamp_s,' + ','.join(f'{kind}_{part}' for kind in ('truth', 'estimate') for part in parts)
    rejected, without, judged = f'a,1.0,{pose},{none}', f'b,2.0,{none},{pose}', f'c,3.0,{pose},{pose}'
    (tmp_path / 'estimates.csv').write_text(f'{header}\n{rejected}\n{without}\n{judged}')
    track = read_track(tmp_path)
    assert track.names == ['c'] and track.T_truth[0, :3, 3].tolist() == [1, 2, 3]
    (tmp_path / 'estimates.csv').write_text(f'{header}\n{rejected}\n{without}')
    track = read_track(tmp_path)
    assert track.names == ['b'] and track.T_truth is None


def test_a_tum_file_is_read_as_scipy_understands_it(tmp_path):
    lines = ['# stamp x y z qx qy qz qw']
    for index, T in enumerate(TRACK.T_estimate.numpy()):
        quaternion = Rotation.from_matrix(T[:3, :3]).as_quat()
        lines.append(' '.join(map(repr, (index / 10, *T[:3, 3].tolist(), *quaternion.tolist()))))
    (tmp_path / 'estimates.tum').write_text('\n'.join(lines) + '\n')
    track = read_track(tmp_path)
    torch.testing.assert_close(track.T_estimate, TRACK.T_estimate)
    assert track.T_truth is None and track.names[3] == '0.3 s'


def test_what_an_editor_wrote_before_a_file_is_no_part_of_it(tmp_path):
    for name, content in (('a.tum', '0 1 2 3 0 0 0 1\n'), ('a.csv', 'stamp_s,' + ','.join(
            f'estimate_{part}' for part in ('x', 'y', 'z', 'qx', 'qy', 'qz', 'qw')) + '\n0,1,2,3,0,0,0,1\n')):
        (tmp_path / name).write_text(content, encoding='utf-8-sig')
        assert read_track(tmp_path / name).T_estimate[0, :3, 3].tolist() == [1, 2, 3]


@pytest.mark.parametrize('name, content, complaint', [
    ('poses.csv', 'name,stamp_s\na,1\n', 'not poses as a CSV'), ('estimates.tum', '1 2 3\n', 'not poses as a CSV'),
    ('estimates.tum', '1 2 3 nan 0 0 0 1\n', 'NaN or infinity'), ('estimates.tum', '# nothing\n', 'holds no pose'),
    ('estimates.tum', 'one two three four five six seven eight\n', 'not poses as a CSV')])
def test_what_is_no_trajectory_is_one_line(tmp_path, name, content, complaint):
    (tmp_path / name).write_text(content)
    with pytest.raises(AprlocError, match=complaint) as raised:
        read_track(tmp_path)
    assert name in str(raised.value) and '\n' not in str(raised.value)


def test_a_directory_or_file_without_a_trajectory_says_what_would_be_one(tmp_path):
    with pytest.raises(AprlocError, match='poses.csv, estimates.csv, estimates.tum'):
        read_track(tmp_path)
    with pytest.raises(AprlocError, match='absent.tum: there is no such report, replay or TUM file; make one with: aprloc replay BAG'):
        read_track(tmp_path / 'absent.tum')


@pytest.mark.parametrize('results, made_with', [
    ('{"map": "kitchen"}', 'kitchen'), ('{"title": "Map demo"}', ''), ('[]', ''), ('{"map": 1}', ''), ('no JSON', ''), (None, '')])
def test_a_replay_of_another_map_is_drawn_with_a_warning(tmp_path, monkeypatch, capsys, results, made_with):
    monkeypatch.setattr(using, 'VIEW_RAYS', 100)
    (tmp_path / 'estimates.tum').write_text('0 1 2 3 0 0 0 1\n')
    if results:
        (tmp_path / 'results.json').write_text(results)
    for replay in (tmp_path, tmp_path / 'estimates.tum'):
        assert map_of(replay) == made_with
        assert main(['view', 'demo', '--replay', str(replay), '--out', str(tmp_path / 'page.html'), '--device', 'cpu']) == 0
        warning = f'WARNING: {replay} was made with the map {made_with}: its poses are drawn as if they were of the frame of demo'
        assert capsys.readouterr().out.splitlines() == [warning, str(tmp_path / 'page.html')][not made_with:]


@pytest.mark.parametrize('is_moved', [True, False])
def test_a_replay_from_before_a_map_was_moved_is_drawn_with_a_warning(tmp_path, monkeypatch, capsys, is_moved):
    monkeypatch.setattr(using, 'VIEW_RAYS', 100)
    frame = read_manifest(ROOT / 'maps/demo/map.yaml').scene.fingerprint
    (tmp_path / 'estimates.tum').write_text('0 1 2 3 0 0 0 1\n')
    (tmp_path / 'results.json').write_text(json.dumps({'map': 'demo', 'frame': frame}))
    shutil.copytree(ROOT / 'maps/demo', tmp_path / 'maps/demo')
    if is_moved:
        move_map(tmp_path / 'maps/demo', Similarity(1.0, torch.eye(3).double(), torch.tensor([5.0, 0, 0]).double(), 0.0, 'by hand'))
    assert main(['view', 'demo', '--map-dir', str(tmp_path / 'maps'), '--replay', str(tmp_path), '--out', str(tmp_path / 'page.html'), '--device', 'cpu']) == 0
    assert ('was made before the map demo was aligned or built anew' in capsys.readouterr().out) == is_moved


@pytest.mark.skipif(not shutil.which('chromium'), reason='needs a browser to look with: chromium')
def test_a_browser_draws_it(tmp_path):
    """A wall of blue points, seen in a screenshot."""
    grid = torch.cartesian_prod(*[torch.linspace(-1, 1, 150)] * 2)
    blue = torch.tensor([[20, 40, 250]]).byte().expand(len(grid), 3)
    wall = Cloud(torch.cat([grid, torch.zeros(len(grid), 1)], 1), blue)
    page = write_page(tmp_path / 'page.html', 'Wall', wall, CAMERA, VIEWS[:1])
    command = ['chromium', '--headless', '--no-sandbox', '--use-gl=angle', '--use-angle=swiftshader',
               '--enable-unsafe-swiftshader', '--window-size=600,400', f'--user-data-dir={tmp_path}/profile',
               f'--screenshot={tmp_path}/page.png', page.as_uri()]
    subprocess.run(command, capture_output=True, timeout=300, check=True)
    blue, green, red = cv2.imread(str(tmp_path / 'page.png')).astype(int).transpose(2, 0, 1)
    assert ((blue > 240) & (green < 60) & (red < 60)).mean() > 0.05
