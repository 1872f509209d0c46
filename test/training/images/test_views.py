"""Training views: one camera for all, images and masks against an analytic pattern."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import se3_exp
from aprloc_ros.training.datasets.capture import Frame
from aprloc_ros.training.datasets.sizes import shapes
from aprloc_ros.training.images.views import common_camera, load_views

PINHOLE = Camera(80, 60, 70.0, 70.0, 39.5, 29.5)
BARREL = Camera(80, 60, 60.0, 60.0, 40.1, 29.0, 'opencv', (-0.25, 0.06, 0.001, 0.0))
PINCUSHION = Camera(80, 60, 60.0, 60.0, 40.1, 29.0, 'opencv', (0.3, 0.1, 0.0, 0.0))


def pattern(xy: np.ndarray) -> np.ndarray:
    """Smooth colours of directions (x, y, 1), [..., 2] -> [..., 3] uint8."""
    x, y = xy[..., 0], xy[..., 1]
    return np.round(127 + 100 * np.stack([np.sin(4 * x), np.cos(5 * y), np.sin(3 * x + 3 * y)], -1)).astype(np.uint8)


def photograph(path: Path, camera: Camera, index: int = 0) -> Frame:
    grid = np.stack(np.meshgrid(np.arange(camera.width), np.arange(camera.height)), -1).astype(float)
    xy = cv2.undistortPointsIter(grid.reshape(-1, 1, 2), camera.matrix, np.array(camera.distortion or (0.0,) * 4),
                                 np.eye(3), np.eye(3), (cv2.TERM_CRITERIA_COUNT, 50, 0))
    cv2.imwrite(str(path), pattern(xy.reshape(*grid.shape))[..., ::-1])
    T = se3_exp(torch.tensor([index, 2.0, 3.0, 0.1, 0.2, 0.3], dtype=torch.float64))
    return Frame(path.name, path, T, camera)


def directions(camera: Camera) -> np.ndarray:
    return camera.directions().numpy()[..., :2]


def test_the_common_camera_is_the_median_and_has_the_short_side(tmp_path):
    frames = tuple(Frame(f'{f}', tmp_path, torch.eye(4), Camera(80, 60, f, f, 39.5, 29.5)) for f in (70.0, 74.0, 200.0))
    camera = common_camera(frames, 30)
    assert (camera.width, camera.height, camera.model) == (40, 30, 'pinhole')
    assert camera.fx == pytest.approx(37.0) and camera.fy == pytest.approx(37.0)
    assert camera.cx == pytest.approx(19.5) and camera.cy == pytest.approx(14.5)   # the middle stays the middle
    assert common_camera(frames, 1000).height == 60


def test_cameras_of_another_size_count_at_the_first_ones(tmp_path):
    cameras = [Camera(w, w * 3 // 4, w * 0.9, w * 0.9, w / 2 - 0.5, w * 3 / 8 - 0.5) for w in (80, 160, 320)]
    frames = tuple(Frame(f'{c.width}', tmp_path, torch.eye(4), c) for c in cameras)
    camera = common_camera(frames, 60)
    assert (camera.width, camera.fx) == (80, pytest.approx(72.0)) and camera.cx == pytest.approx(39.5)


@pytest.mark.parametrize('source', [PINHOLE, BARREL, PINCUSHION])
def test_views_show_what_the_rectified_camera_sees(tmp_path, source):
    frames = tuple(photograph(tmp_path / f'{i}.png', source, i) for i in range(2))
    target = common_camera(frames, 30)
    views = load_views(frames, target)
    expected = torch.from_numpy(pattern(directions(target))).permute(2, 0, 1)
    error = (views.images[0].float() - expected).abs()[:, views.seen[0]]
    assert views.seen[0].float().mean() > 0.5
    assert error.median() < 1.5 and error.max() < 16
    assert torch.equal(views.T_map_cam, torch.stack([f.T_map_cam for f in frames]))
    assert views.images.dtype == torch.uint8 and len(views) == 2


def test_pixels_without_data_are_marked(tmp_path):
    """A pincushion lens sees less than the pinhole of its matrix: by OpenCV's projection of the target's rays."""
    frame = photograph(tmp_path / 'a.png', PINCUSHION)
    target = PINCUSHION.without_distortion()
    rays = np.concatenate([directions(target), np.ones((60, 80, 1), np.float32)], -1).reshape(-1, 1, 3)
    uv = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), PINCUSHION.matrix, np.array(PINCUSHION.distortion))[0]
    u, v = uv.reshape(60, 80, 2).transpose(2, 0, 1)
    inside = (u >= 0) & (u <= 79) & (v >= 0) & (v <= 59)
    outside = (u < -1) | (u > 80) | (v < -1) | (v > 60)
    seen = load_views((frame,), target).seen[0].numpy()
    assert seen[inside].mean() > 0.99 and not seen[outside].any() and outside.any()
    assert load_views((photograph(tmp_path / 'b.png', PINHOLE),), PINHOLE).seen.all()


PORTRAIT = Camera(60, 80, 70.0, 70.0, 29.5, 39.5)


@pytest.mark.parametrize('landscape, portrait', [(5, 2), (2, 5), (3, 3)])
def test_portrait_and_landscape_give_the_camera_of_most_and_the_others_are_seen_in_part(tmp_path, landscape, portrait):
    cameras = [PORTRAIT] * portrait + [PINHOLE] * landscape
    frames = tuple(photograph(tmp_path / f'{i}.png', camera, i) for i, camera in enumerate(cameras))
    most, other = (PORTRAIT, PINHOLE) if portrait > landscape else (PINHOLE, PORTRAIT)
    camera = common_camera(frames, 60)
    assert camera == most and common_camera(frames, 30).fx == common_camera(frames, 30).fy == 35
    views = load_views(frames, camera)
    expected = torch.from_numpy(pattern(directions(camera))).permute(2, 0, 1)
    for i, frame in enumerate(frames):
        share = views.seen[i].float().mean().item()
        assert share == 1 if frame.camera == most else share == pytest.approx(60 / 80, abs=0.03)
        assert (views.images[i].float() - expected).abs()[:, views.seen[i]].median() < 1.5
    note, = shapes(frames)
    assert f'{cameras.count(most)} of {len(frames)} images have the shape of {most.width}x{most.height}' in note
    assert f'{cameras.count(other)} of {other.width}x{other.height}' in note
    assert not shapes(tuple(frame for frame in frames if frame.camera == most))


def test_histograms_are_shares_of_the_loaded_image(tmp_path):
    image = np.zeros((60, 80, 3), np.uint8)
    image[:, 20:] = 255
    cv2.imwrite(str(tmp_path / 'a.png'), image)
    views = load_views((Frame('a', tmp_path / 'a.png', torch.eye(4).double(), PINHOLE),), PINHOLE)
    assert views.histograms[0].tolist() == pytest.approx([0.25, *[0.0] * 8, 0.75])


def test_indexing_keeps_the_fields_together(tmp_path):
    views = load_views(tuple(photograph(tmp_path / f'{i}.png', PINHOLE, i) for i in range(4)), PINHOLE)
    some = views[torch.tensor([3, 1])]
    assert len(some) == 2 and some.camera == PINHOLE
    assert some.T_map_cam[:, 0, 3].tolist() == pytest.approx([views.T_map_cam[i, 0, 3] for i in (3, 1)])
    assert torch.equal(some.seen, views.seen[[3, 1]]) and torch.equal(some.histograms, views.histograms[[3, 1]])


def test_a_missing_image_is_refused_by_name(tmp_path):
    frame = Frame('gone', tmp_path / 'gone.png', torch.eye(4).double(), PINHOLE)
    with pytest.raises(AprlocError, match=r'gone\.png: missing or not a readable image'):
        load_views((frame,), PINHOLE)
