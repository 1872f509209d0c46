"""Triangulated points against the exact depth of rendered views."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from capture_fixtures import pixels
from court_fixtures import COARSE_M, court_renderer
from repository import DATA

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import invert, se3_exp
from aprloc_ros.lens import Lens
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.datasets.capture import Frame
from aprloc_ros.training.place.capture import CAMERA
from aprloc_ros.training.place.drive import camera_poses
from aprloc_ros.training.structure import features, matching
from aprloc_ros.training.structure.depths import from_points
from aprloc_ros.training.structure.lens import moved_px
from aprloc_ros.training.structure.triangulation import triangulate, view_pairs

COUNT = 12


def quiet(text: str):
    pass


@pytest.fixture(scope='module')
def court(tmp_path_factory):
    """Frames that walk sideways before a facade of the demo place, and their exact depths."""
    pytest.importorskip('pycolmap', reason='pycolmap is an extra of the training side')
    directory = tmp_path_factory.mktemp('my court')      # with a space, as people's folders have
    renderer = court_renderer(COARSE_M)
    along = np.linspace(0, 1, COUNT)
    eye = np.stack([-4 + 4 * along, -3 + 0.3 * np.sin(7 * along), 1.4 + 0.2 * along], -1)
    poses = camera_poses(eye, 1.3 + 0.25 * along, np.full(COUNT, 0.1), 0.05 * np.cos(9 * along))
    frames, depths = [], []
    for i, T in enumerate(poses):
        radiance, depth = renderer.render(CAMERA, T)
        path = directory / f'view {i}.png'
        cv2.imwrite(str(path), np.clip(255 * (radiance / 2) ** 0.45, 0, 255).astype(np.uint8)[..., ::-1])
        frames.append(Frame(path.name, path, torch.from_numpy(T), CAMERA))
        depths.append(depth)
    return tuple(frames), np.stack(depths)


def test_points_lie_on_the_surfaces(court, tmp_path, capsys):
    frames, depths = court
    said = []
    found = triangulate(frames, tmp_path / 'colmap', report=said.append)
    points = found.points
    sparse = from_points(frames, points)
    errors, seen = [], 0
    for xyz, frame, depth_m in zip(sparse.xyz, sparse.frame.tolist(), sparse.depth_m.tolist()):
        T_cam_map = invert(frames[frame].T_map_cam)
        (u, v), inside = CAMERA.project(T_cam_map[:3, :3] @ xyz + T_cam_map[:3, 3])
        seen += bool(inside)
        truth = depths[frame, min(max(round(v.item()), 0), 239), min(max(round(u.item()), 0), 319)]
        errors.append(abs(depth_m / truth - 1) if truth else 1.0)
    assert len(points.xyz) > 200 and seen == len(errors)
    assert not found.lenses and 'lens: as declared' in said
    assert np.median(errors) < 0.01
    assert np.quantile(errors, 0.8) < 0.05
    assert any(f'SIFT on {COUNT} of {COUNT}' in text for text in said)
    assert not (tmp_path / 'colmap').exists()
    shown = capsys.readouterr().err   # counts and the time that is left
    assert f'0/{COUNT} [' in shown and 'image/s' in shown and 'pair/s' in shown


@pytest.mark.parametrize('wrong', [{'fx': 1.02 * CAMERA.fx, 'fy': 1.02 * CAMERA.fy},
                                   {'model': 'opencv', 'distortion': (0.1, -0.05, 0.0, 0.0)}])
def test_a_lens_that_is_not_as_declared_is_found(court, tmp_path, wrong):
    """The images are a pinhole's, whatever their frames declare."""
    frames, _ = court
    declared, said = replace(CAMERA, **wrong), []
    found = triangulate(tuple(replace(f, camera=declared) for f in frames), tmp_path / 'colmap', report=said.append)
    assert [lens.declared for lens in found.lenses] == [declared]
    before, after = (moved_px(Lens(camera, CAMERA)) for camera in (declared, found.lenses[0].found))
    assert before > 1.5 and after < 0.15 * before
    assert sum('lens: the images say' in text for text in said) == 1


def test_observations_name_the_frames_of_an_even_subset(court, tmp_path):
    frames, _ = court
    points = triangulate(frames, tmp_path / 'colmap', max_frames=6, report=quiet).points
    seen = set(points.observations[:, 0].tolist())
    assert seen == {0, 2, 4, 7, 9, 11}
    assert torch.bincount(points.observations[:, 1]).min() >= 3


def test_wrong_poses_and_blank_images_are_refused_in_one_line(court, tmp_path):
    frames, _ = court
    blank = tmp_path / 'blank.png'
    cv2.imwrite(str(blank), np.full((CAMERA.height, CAMERA.width, 3), 90, np.uint8))
    blanks = []
    for i, frame in enumerate(frames):
        path = tmp_path / f'blank{i}.png'
        path.write_bytes(blank.read_bytes())
        blanks.append(Frame(path.name, path, frame.T_map_cam, CAMERA))
    roll = se3_exp(torch.tensor([[0.0, 0, 0, 0, 0, 1.1 * i] for i in range(COUNT)]).double())
    rolled = [Frame(f.name, f.image_path, f.T_map_cam @ R, CAMERA) for f, R in zip(frames, roll)]
    for broken in (blanks, rolled):
        with pytest.raises(AprlocError, match=r'only \d+ points could be triangulated \(at least 50') as caught:
            triangulate(tuple(broken), tmp_path / 'colmap', report=quiet)
        assert '\n' not in str(caught.value)


def patch_correlation(first, second, uv_first, uv_second) -> float:
    """Median correlation of 11 x 11 pixels around corresponding places of two grey images."""
    a, b = (np.stack([cv2.getRectSubPix(image, (11, 11), tuple(map(float, p))).ravel().astype(float) for p in uv])
            for image, uv in ((first, uv_first), (second, uv_second)))
    a, b = (x - x.mean(1, keepdims=True) for x in (a, b))
    return float(np.median((a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1) + 1e-9)))


def test_points_of_real_photographs_look_alike_in_all_that_saw_them(tmp_path):
    """fox, through its distorted lens; a few pixels aside they look alike no more."""
    pytest.importorskip('pycolmap', reason='pycolmap is an extra of the training side')
    if not (DATA / 'fox').is_dir():
        pytest.skip(f'{DATA / "fox"} is not there')
    train = read_capture(DATA / 'fox').train[:8]
    points = triangulate(train, tmp_path / 'colmap', report=quiet).points
    alike, aside = [], []
    for i in range(len(train) - 1):
        sees = [set(points.observations[points.observations[:, 0] == j, 1].tolist()) for j in (i, i + 1)]
        common = points.xyz[sorted(sees[0] & sees[1])].numpy()
        if len(common) > 20:
            images = [cv2.cvtColor(train[j].read_image(), cv2.COLOR_RGB2GRAY) for j in (i, i + 1)]
            uv = [pixels(train[j], common) for j in (i, i + 1)]
            alike.append(patch_correlation(*images, *uv))
            aside.append(patch_correlation(*images, uv[0], uv[1] + 8))
    assert len(points.xyz) > 300 and len(alike) > 2
    assert np.median(alike) > 0.85 and np.median(aside) < 0.5


def poses(*places_and_yaws) -> torch.Tensor:
    xi = torch.tensor([[x, 0.0, 0.0, 0.0, 0.0, 0.0] for x, _ in places_and_yaws], dtype=torch.float64)
    turn = torch.tensor([[0.0, 0.0, 0.0, 0.0, yaw, 0.0] for _, yaw in places_and_yaws], dtype=torch.float64)
    return se3_exp(xi) @ se3_exp(turn)


def test_pairs_look_the_same_way():
    T = poses(*[(0.1 * i, 0.0) for i in range(4)], *[(0.1 * i + 0.05, 3.0) for i in range(4)])
    pairs = view_pairs(T)
    assert pairs == sorted(set(pairs)) and all(i < j for i, j in pairs)
    assert set(pairs) <= {(i, j) for group in (range(4), range(4, 8)) for i in group for j in group if i < j}
    assert {(0, 1), (1, 2), (4, 5)} <= set(pairs)


def test_a_row_of_views_is_matched_near_and_far():
    gaps = [j - i for i, j in view_pairs(poses(*[(0.1 * i, 0.0) for i in range(60)]))]
    assert gaps.count(1) >= 55 and max(gaps) > 15 and len(gaps) < 60 * 9


def test_points_do_not_depend_on_how_many_images_colmap_gets_at_a_time(court, tmp_path, monkeypatch):
    frames = court[0][:6]
    usual = triangulate(frames, tmp_path / 'usual', report=quiet).points
    monkeypatch.setattr(features, '_IMAGES_AT_ONCE', 1)
    monkeypatch.setattr(matching, '_PAIRS_AT_ONCE', 1)
    points = triangulate(frames, tmp_path / 'other', report=quiet).points
    assert torch.equal(points.xyz, usual.xyz) and torch.equal(points.observations, usual.observations)


def test_images_of_twelve_bits_are_seen_as_those_of_eight(court, tmp_path):
    frames = court[0][:6]
    deep = []
    for i, frame in enumerate(frames):
        cv2.imwrite(str(tmp_path / f'{i}.png'), cv2.imread(str(frame.image_path)).astype(np.uint16) * 16)
        deep.append(replace(frame, image_path=tmp_path / f'{i}.png', sample_bits=12))
    counts = [len(triangulate(tuple(views), tmp_path / 'colmap', report=quiet).points.xyz) for views in (frames, deep)]
    assert counts[1] > 0.9 * counts[0] > 100


def test_files_that_colmap_cannot_read_are_seen_all_the_same(court, tmp_path):
    """WebP, as a browser saves it."""
    from PIL import Image  # after pycolmap its libraries crash

    frames, others = court[0][:6], []
    for i, frame in enumerate(frames):
        path = tmp_path / f'{i}.jpg'
        Image.open(frame.image_path).save(path, 'WEBP', lossless=True)
        others.append(replace(frame, image_path=path))
    usual, found = (triangulate(tuple(views), tmp_path / 'colmap', report=quiet).points for views in (frames, others))
    assert torch.equal(found.xyz, usual.xyz)


def test_pictures_can_be_written_after_colmap_was_loaded(tmp_path):
    pytest.importorskip('pycolmap', reason='pycolmap is an extra of the training side')
    code = ('import sys; from aprloc_ros.training.structure.colmap import load_pycolmap; load_pycolmap(); from PIL import Image; '
            'Image.effect_noise((640, 480), 50).save(sys.argv[1])')
    subprocess.run([sys.executable, '-c', code, str(tmp_path / 'a.png')], check=True, timeout=300)
    assert cv2.imread(str(tmp_path / 'a.png')).shape == (480, 640, 3)


INTERRUPTED = """
import os, sys, torch
from pathlib import Path
from aprloc_ros.camera import Camera
from aprloc_ros.training.structure.colmap import ends_at_once, load_pycolmap
from aprloc_ros.training.datasets.capture import Frame
from aprloc_ros.training.structure.triangulation import triangulate
images, work, what = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
if what == 'native':
    load_pycolmap()
    with ends_at_once():
        print('now', flush=True)
        import time
        time.sleep(600)
camera = Camera(1000, 800, 800, 800, 500, 400)
frames = [Frame(str(i), images / f'{i % 3}.png', torch.eye(4).double(), camera) for i in range(300)]
try:
    triangulate(tuple(frames), work, report=lambda text: print('now', flush=True))
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize('what, sent, codes', [
    ('SIFT', signal.SIGTERM, (-signal.SIGTERM,)), ('SIFT', signal.SIGINT, (130,)),
    ('native', signal.SIGTERM, (-signal.SIGTERM,)), ('native', signal.SIGINT, (-signal.SIGINT,))])
def test_a_signal_ends_the_work_of_colmap_without_a_stack_trace(tmp_path, what, sent, codes):
    pytest.importorskip('pycolmap', reason='pycolmap is an extra of the training side')
    for i in range(3):
        noise = np.random.default_rng(i).integers(0, 255, (800, 1000), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f'{i}.png'), cv2.GaussianBlur(noise, (0, 0), 2))
    command = [sys.executable, '-c', INTERRUPTED, str(tmp_path), str(tmp_path / 'colmap'), what]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == 'now\n'
    if what == 'SIFT':
        seen = b''
        while b'image/s' not in seen:   # the bar is there: images are at work
            more = os.read(process.stderr.fileno(), 1000)
            assert more, seen
            seen += more
    process.send_signal(sent)
    _, said = process.communicate(timeout=300)   # 300 images would take minutes
    assert process.returncode in codes
    assert '***' not in said and 'PC:' not in said and 'Traceback' not in said
