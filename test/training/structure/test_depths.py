"""Sparse depths against points that OpenCV projects and depth images drawn from a closed form."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from capture_fixtures import pixels

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import se3_exp
from aprloc_ros.training.datasets.capture import Frame, SparsePoints
from aprloc_ros.training.structure.depths import from_depth_images, from_points

UNIT_M = 1e-4
CAMERAS = {
    'pinhole': Camera(60, 40, 50.0, 52.0, 29.2, 19.7),
    'opencv': Camera(60, 40, 50.0, 52.0, 29.2, 19.7, 'opencv', (-0.2, 0.05, 0.002, -0.001)),
    'fisheye': Camera(60, 40, 30.0, 31.0, 29.2, 19.7, 'fisheye', (0.03, -0.01, 0.002, 0.0))}
XI = torch.tensor([[0.5, -1.0, 2.0, 0.3, -0.2, 0.9], [-0.2, 0.1, 0.0, -0.5, 0.7, 0.1]], dtype=torch.float64)


def frames(camera: Camera, depth_paths=(None, None)) -> tuple[Frame, ...]:
    return tuple(Frame(f'{i}', Path(f'{i}.png'), T, camera, depth_path=path, depth_unit_m=UNIT_M)
                 for i, (T, path) in enumerate(zip(se3_exp(XI), depth_paths)))


def write_depth(path: Path, seed: int, camera: Camera = CAMERAS['pinhole'], share: float = 1.0) -> Path:
    """A depth image of 1 to 3 m with zeros and 65535 in places; `share` of its pixels are known."""
    random = np.random.default_rng(seed)
    depth = random.integers(10_000, 30_000, (camera.height, camera.width)).astype(np.uint16)
    unknown = random.random(depth.shape) >= share
    depth[unknown] = random.choice([0, 65535], unknown.sum())
    cv2.imwrite(str(path), depth)
    return path


def test_depths_of_points_by_hand():
    T = torch.tensor([[0, 0, 1, 5], [-1, 0, 0, 6], [0, -1, 0, 7], [0, 0, 0, 1]], dtype=torch.float64)   # looks along x
    frame = Frame('a', Path('a.png'), T, CAMERAS['pinhole'])
    xyz = torch.tensor([[9.0, 6.0, 7.0], [7.5, 0.0, 9.0], [4.0, 6.0, 7.0]], dtype=torch.float64)   # the last behind
    found = from_points((frame,), SparsePoints(xyz, torch.tensor([[0, 1], [0, 0], [0, 2]])))
    assert found.depth_m.tolist() == [2.5, 4.0]
    assert torch.equal(found.xyz, xyz[[1, 0]]) and found.frame.tolist() == [0, 0]


@pytest.mark.parametrize('model', CAMERAS)
def test_depth_images_give_points_that_project_back(tmp_path, model):
    """Each point projects, by OpenCV, to the centre of a pixel that holds its depth."""
    camera = CAMERAS[model]
    posed = frames(camera, [write_depth(tmp_path / f'{i}.png', i, camera) for i in range(2)])
    found = from_depth_images(posed, seed=3)
    assert torch.bincount(found.frame).tolist() == [1000, 1000]
    for i, frame in enumerate(posed):
        mine = found.frame == i
        uv = pixels(frame, found.xyz[mine].numpy())
        whole = np.round(uv).astype(int)
        assert np.abs(uv - whole).max() < 0.01
        assert len(set(map(tuple, whole))) == 1000
        stored = cv2.imread(str(frame.depth_path), cv2.IMREAD_UNCHANGED)[whole[:, 1], whole[:, 0]]
        np.testing.assert_allclose(found.depth_m[mine].numpy(), stored * UNIT_M)
        T_cam_map = np.linalg.inv(frame.T_map_cam.numpy())
        np.testing.assert_allclose(found.xyz[mine].numpy() @ T_cam_map[2, :3] + T_cam_map[2, 3], stored * UNIT_M)


def test_unknown_depths_are_ignored(tmp_path):
    posed = frames(CAMERAS['pinhole'], [write_depth(tmp_path / '0.png', 0, share=0.1), None])
    stored = cv2.imread(str(tmp_path / '0.png'), cv2.IMREAD_UNCHANGED)
    found = from_depth_images(posed, 0)
    assert sorted(found.depth_m.tolist()) == pytest.approx(sorted(stored[(stored > 0) & (stored < 65535)] * UNIT_M))
    assert set(found.frame.tolist()) == {0}


def test_the_seed_decides_the_pixels(tmp_path):
    posed = frames(CAMERAS['pinhole'], [write_depth(tmp_path / f'{i}.png', i) for i in range(2)])
    assert torch.equal(from_depth_images(posed, 1).xyz, from_depth_images(posed, 1).xyz)
    assert not torch.equal(from_depth_images(posed, 1).xyz, from_depth_images(posed, 2).xyz)


@pytest.mark.parametrize('content', [b'', b'not a picture', 'colour', 'small'])
def test_a_broken_depth_image_is_refused_by_name(tmp_path, content):
    path = tmp_path / 'broken.png'
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        cv2.imwrite(str(path), np.ones((40, 60, 3) if content == 'colour' else (20, 35), np.uint16))
    with pytest.raises(AprlocError, match=r'broken\.png: not a readable one-channel depth image') as caught:
        from_depth_images(frames(CAMERAS['pinhole'], [path, None]), 0)
    assert '\n' not in str(caught.value)


def test_no_depth_at_all_is_refused(tmp_path):
    cv2.imwrite(str(tmp_path / 'empty.png'), np.zeros((40, 60), np.uint16))
    behind = SparsePoints(torch.tensor([[0.0, 0, 0]]).double(), torch.zeros(0, 2, dtype=torch.int64))
    with pytest.raises(AprlocError, match='no training frame has a depth'):
        from_depth_images(frames(CAMERAS['pinhole']), 0)
    with pytest.raises(AprlocError, match='no training frame has a depth'):
        from_depth_images(frames(CAMERAS['pinhole'], [tmp_path / 'empty.png', None]), 0)
    with pytest.raises(AprlocError, match='no training frame has a depth'):
        from_points(frames(CAMERAS['pinhole']), behind)
