"""Batched P3P against OpenCV and against the poses that the triples were made with."""

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from aprloc_ros.refinement.points.p3p import p3p


def triples(count, seed=0):
    """Points in front of random cameras: xyz [M, 3, 3], rays [M, 3, 2], T_cam_map [M, 4, 4]."""
    generator = np.random.default_rng(seed)
    cam = generator.normal(size=(count, 3, 3)) + [0, 0, 5]
    cam[..., 2] = np.maximum(cam[..., 2], 0.5)
    T = np.tile(np.eye(4), (count, 1, 1))
    T[:, :3, :3] = Rotation.random(count, random_state=seed).as_matrix()
    T[:, :3, 3] = 10 * generator.normal(size=(count, 3))
    xyz = (cam - T[:, None, :3, 3]) @ T[:, :3, :3]
    return xyz, cam[..., :2] / cam[..., 2:], T


def test_the_true_pose_is_among_the_solutions():
    xyz, rays, T = triples(400)
    poses = p3p(xyz, rays)
    nearest = np.array([np.abs(poses - each).max((1, 2)).min() for each in T])
    assert (nearest < 1e-4).mean() > 0.99 and np.median(nearest) < 1e-9
    assert len(T) <= len(poses) <= 4 * len(T)


def test_every_solution_is_a_rigid_pose_that_puts_some_triple_on_its_rays():
    xyz, rays, _ = triples(50)
    poses = p3p(xyz, rays)
    R = poses[:, :3, :3]
    np.testing.assert_allclose(R @ R.swapaxes(1, 2), np.tile(np.eye(3), (len(R), 1, 1)), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(R), 1)
    cam = np.einsum('hij,mpj->hmpi', R, xyz) + poses[:, None, None, :3, 3]
    error = np.abs(cam[..., :2] / cam[..., 2:] - rays).max((2, 3))
    assert (error.min(1) < 1e-3).all()


def test_opencv_finds_the_same_poses():
    xyz, rays, _ = triples(200, seed=1)
    same = total = 0
    for points, seen in zip(xyz, rays):
        mine = p3p(points[None], seen[None])
        count, rotations, translations = cv2.solveP3P(points, seen, np.eye(3), None, cv2.SOLVEPNP_P3P)
        for rotation, translation in zip(rotations[:count], translations[:count]):
            theirs = np.concatenate([cv2.Rodrigues(rotation)[0], translation], 1)
            if ((points @ theirs[:, :3].T + theirs[:, 3])[:, 2] > 0).all():
                total += 1
                same += len(mine) > 0 and np.abs(mine[:, :3] - theirs).max((1, 2)).min() < 1e-3
    assert total > 300 and same / total > 0.97


@pytest.mark.parametrize('what', ['one point thrice', 'two alike', 'on a line', 'nan', 'infinite'])
def test_triples_that_fix_no_pose_give_none(what):
    xyz, rays, _ = triples(4)
    if what == 'one point thrice':
        xyz[:], rays[:] = xyz[:, :1].copy(), rays[:, :1].copy()
    if what == 'two alike':
        xyz[:, 1], rays[:, 1] = xyz[:, 0], rays[:, 0]
    if what == 'on a line':
        xyz[:, 2] = 2 * xyz[:, 1] - xyz[:, 0]
    if what == 'nan':
        xyz[:] = np.nan
    if what == 'infinite':
        rays[:] = np.inf
    with np.errstate(invalid='ignore'):
        assert p3p(xyz, rays).shape == (0, 4, 4)


def test_no_triples_give_no_poses():
    assert p3p(np.zeros((0, 3, 3)), np.zeros((0, 3, 2))).shape == (0, 4, 4)
