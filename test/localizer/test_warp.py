"""What matches say of an image that was not taken at once, on points whose way into it is known exactly."""

import numpy as np
import pytest
import torch
from nre_fixtures import CAMERA, cloud, truth

from aprloc_ros.geometry import invert, se3_exp, se3_log, so3_exp
from aprloc_ros.refinement.gnc import Pinhole
from aprloc_ros.refinement.warp import Warp, warp_of_matches

SEEN_BY = Pinhole.of(CAMERA.resized(160, 120))   # in fine cells
T_MAP_CAM = truth(2)
SURE = torch.diag(torch.tensor([0.004] * 3 + [0.001] * 3).double() ** 2)


def matches(rows_turn=(0.0, 0.0, 0.0), stretch=(1.0, 1.0), shear=0.0, bend=0.0, noise=0.4, wrong=0.1, seed=0):
    """Cells [N, 2], whole as the likeliest cells are, of points [N, 3]: of a camera that turned so far, in rad, while it read as many
    rows as its focal length has, seen at T_MAP_CAM in the middle; of an image that was resampled; of a lens with that k1."""
    generator = np.random.default_rng(seed)
    xyz = cloud(900).xyz.numpy()
    cam = xyz @ invert(T_MAP_CAM)[:3, :3].numpy().T + invert(T_MAP_CAM)[:3, 3].numpy()
    rays = cam[:, :2] / cam[:, 2:]
    for _ in range(8):   # to the row that saw the point
        turns = so3_exp(torch.from_numpy(rays[:, 1:]) * torch.tensor(rows_turn).double()).numpy()
        turned = (turns.transpose(0, 2, 1) @ cam[:, :, None])[..., 0]
        rays = turned[:, :2] / turned[:, 2:]
    rays = rays * (1 + bend * (rays ** 2).sum(1, keepdims=True)) * stretch + np.stack([shear * rays[:, 1], 0 * rays[:, 0]], 1)
    cells = rays * [SEEN_BY.fx, SEEN_BY.fy] + [SEEN_BY.cx, SEEN_BY.cy]
    cells += generator.normal(0, noise, cells.shape) + 20 * generator.normal(0, 1, cells.shape) * (generator.random((len(cells), 1)) < wrong)
    inside = ((cells > 0) & (cells < [159, 119])).all(1)
    return cells[inside][:400].round(), xyz[inside][:400]


def answer(cells, xyz):
    """T_map_cam of least squares that know of no warp."""
    T_cam_map = invert(T_MAP_CAM).numpy()
    for _ in range(10):
        projected, cam, inside = SEEN_BY.project(xyz, T_cam_map)
        squared = ((projected - cells) ** 2).sum(1)
        J = SEEN_BY.jacobian(cam)
        weighted = (inside / (1 + squared / 4) ** 2)[:, None, None] * J
        step = -np.linalg.solve(np.einsum('nik,nil->kl', weighted, J), np.einsum('nik,ni->k', weighted, projected - cells))
        T_cam_map = se3_exp(torch.from_numpy(-step)).numpy() @ T_cam_map
    return invert(torch.from_numpy(T_cam_map))


def found(**image):
    cells, xyz = matches(**image)
    T = answer(cells, xyz)
    return warp_of_matches(cells, xyz, SEEN_BY, invert(T).numpy()), T


@pytest.mark.parametrize('rows_turn', [(0.06, 0.0, 0.0), (0.0, -0.06, 0.0), (0.0, 0.0, 0.1), (0.03, 0.05, 0.0)])
def test_a_camera_that_turned_while_its_rows_were_read_is_found(rows_turn):
    warp, _ = found(rows_turn=rows_turn)
    torch.testing.assert_close(warp.offsets[:3].abs(), torch.tensor(rows_turn).double().abs(), atol=0.015, rtol=0)
    assert warp.offsets[3].abs() < 0.05 and warp.probability > 0.999


def test_a_bent_image_is_told_from_rows_that_moved():
    warp, _ = found(bend=0.15)
    assert warp.offsets[:3].abs().max() < 0.02
    assert abs(warp.offsets[3] - 0.15) < 0.05


@pytest.mark.parametrize('image, word', [({'shear': 0.15}, 'sheared'), ({'stretch': (1.0, 1.2)}, 'stretched'),
                                         ({'stretch': (1.2, 1.0)}, 'stretched'), ({'rows_turn': (0.0, 0.0, 0.2)}, 'curled'),
                                         ({'bend': -0.3}, 'bent')])
def test_what_is_surely_too_much_is_named(image, word):
    warp, _ = found(**image)
    assert word in warp.problem


@pytest.mark.parametrize('seed', range(5))
def test_an_image_that_was_taken_at_once_gives_no_cause(seed):
    warp, _ = found(seed=seed)
    assert warp.probability < 0.05 and not warp.problem
    assert warp.widened(SURE).trace() < 1.2 * SURE.trace()


@pytest.mark.parametrize('image', [{'rows_turn': (0.0, 0.05, 0.0)}, {'rows_turn': (0.08, 0.0, 0.0)}, {'shear': -0.07},
                                   {'stretch': (1.0, 1.05)}])
def test_the_covariance_covers_what_the_warp_did_to_the_pose(image):
    warp, T = found(**image)
    off = se3_log(invert(T) @ T_MAP_CAM)
    before, after = (off @ torch.linalg.solve(covariance, off) for covariance in (SURE, warp.widened(SURE)))
    assert before > 41 and after < 12.6   # five standard deviations of six numbers; what 95 % stay under


def test_a_zoom_or_another_centre_is_no_warp():
    cells, xyz = matches()
    for moved in ((cells - [80, 60]) * 1.1 + [80, 60], cells + [6, 0]):
        warp = warp_of_matches(moved, xyz, SEEN_BY, invert(T_MAP_CAM).numpy())
        assert warp.probability < 0.05


def test_too_few_or_degenerate_matches_tell_nothing():
    cells, xyz = matches()
    T_cam_map = invert(T_MAP_CAM).numpy()
    assert warp_of_matches(cells[:19], xyz[:19], SEEN_BY, T_cam_map) is None
    alike = warp_of_matches(cells[:1].repeat(50, 0), xyz[:1].repeat(50, 0), SEEN_BY, T_cam_map)
    assert alike is None


def test_the_more_of_a_warp_is_seen_the_more_probable_it_is():
    information = torch.eye(4).double() / 0.005 ** 2
    odds = [Warp(torch.tensor([0.0, size, 0.0, 0.0]).double(), information, torch.ones(6, 4).double()).probability
            for size in (0.0, 0.01, 0.02, 0.04)]
    assert odds == sorted(odds) and odds[0] < 1e-3 and odds[-1] > 0.99
