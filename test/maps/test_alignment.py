"""A map's poses against trajectories in other frames: exact drives, known changes, known noise."""

import math
from dataclasses import replace

import pytest
import torch

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import invert, pose, pose_errors, se3_exp, so3_exp, so3_log
from aprloc_ros.placement.alignment import align
from aprloc_ros.placement.map_frame import MapFrame
from aprloc_ros.similarity import Similarity
from aprloc_ros.training.place.drive import COURSES, plan_drive

T_BASE_CAM = torch.tensor([[0, 0, 1, 0.2], [-1, 0, 0, 0.1], [0, -1, 0, 0.5], [0, 0, 0, 1.0]], dtype=torch.float64)
TO_NEW = Similarity(1.3, so3_exp(torch.tensor([0.5, -0.3, 2.0], dtype=torch.float64)),
                    torch.tensor([10.0, -4.0, 2.0], dtype=torch.float64), 0.0, '')
RIGID = Similarity(1.0, TO_NEW.rotation, TO_NEW.translation, 0.0, '')


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def back(change, T):
    """Poses in the new frame -> in the old one, whose unit may be another."""
    return pose(change.rotation.T @ T[:, :3, :3], (T[:, :3, 3] - change.translation) @ change.rotation / change.scale)


@pytest.fixture(scope='module')
def cameras():
    """T_new_cam of the demo's drive, its exact poses."""
    drive = plan_drive(next(course for course in COURSES if course.split == 'test'))
    return torch.from_numpy(drive.T_map_cam)


def in_the_plane(T_new_base, noise_m, noise_rad, seed):
    """x, y and yaw alone, as AMCL says them, with noise."""
    yaw = torch.atan2(T_new_base[:, 1, 0], T_new_base[:, 0, 0]) + noise_rad * noise(len(T_new_base), seed=seed)
    zero = torch.zeros_like(yaw)
    xy = T_new_base[:, :2, 3] + noise_m * noise(len(T_new_base), 2, seed=seed + 1)
    return pose(so3_exp(torch.stack([zero, zero, yaw], 1)), torch.cat([xy, zero[:, None]], 1))


@pytest.mark.parametrize('mount', [None, invert(T_BASE_CAM)], ids=['mount unknown', 'mount known'])
@pytest.mark.parametrize('change, with_scale', [(RIGID, False), (TO_NEW, True)], ids=['rigid', 'scaled'])
def test_an_exact_trajectory_is_found_exactly(cameras, mount, change, with_scale):
    bodies = cameras @ invert(T_BASE_CAM)
    tumbling = so3_exp(0.3 * torch.sin(0.1 * torch.arange(len(cameras))[:, None] * torch.tensor([1.0, 1.7, 0.4])).double())
    bodies = pose(bodies[:, :3, :3] @ tumbling, bodies[:, :3, 3])
    cameras = bodies @ T_BASE_CAM
    found = align(back(change, cameras), bodies, mount, with_scale, 'test').change
    assert found.scale == pytest.approx(change.scale, rel=1e-6)
    error_m, error_deg = pose_errors(found.apply(back(change, cameras)), cameras)
    assert error_m.max() < 1e-5
    assert error_deg.max() < 1e-4


@pytest.mark.parametrize('mount, with_scale', [(None, False), (invert(T_BASE_CAM), False), (invert(T_BASE_CAM), True)])
def test_a_noisy_trajectory_in_the_plane_gives_two_centimetres(cameras, mount, with_scale):
    """5 cm and 1 degree of noise; the drive is one of a robot that rolls, pitches and bumps, the map is upright. How high
    the floor lies is nothing that a trajectory in the plane tells.
    """
    upright = so3_exp(torch.tensor([0.0, 0.0, 2.0], dtype=torch.float64))
    change = replace(TO_NEW if with_scale else RIGID, rotation=upright)
    old = back(change, cameras)
    for seed in (3, 4, 5):
        trajectory = in_the_plane(cameras @ invert(T_BASE_CAM), 0.05, math.radians(1), seed)
        found = align(old, trajectory, mount, with_scale, 'test')
        moved = found.change.apply(old)
        off = moved[:, :3, 3] - cameras[:, :3, 3]
        assert off[:, :2].norm(dim=1).median() < 0.02
        assert with_scale or off[:, 2].std() < 1e-9
        assert pose_errors(moved, cameras)[1].max() < 0.3


def test_the_scale_is_as_sure_as_it_says(cameras):
    ratios = []
    for seed in range(25):
        bodies = cameras @ invert(T_BASE_CAM)
        trajectory = pose(so3_exp(0.02 * noise(len(bodies), 3, seed=seed)) @ bodies[:, :3, :3],
                          bodies[:, :3, 3] + 0.05 * noise(len(bodies), 3, seed=100 + seed))
        found = align(back(TO_NEW, cameras), trajectory, invert(T_BASE_CAM), True, 'test').change
        ratios.append((math.log(found.scale / TO_NEW.scale) / found.scale_sd) ** 2)
    assert 0.5 < sum(ratios) / len(ratios) < 1.8   # 25 of a chi-square with one degree of freedom


@pytest.mark.parametrize('was_far', [False, True])
def test_a_map_comes_into_coordinates_of_a_survey_and_is_as_sure_of_its_scale_there(cameras, was_far):
    """5400 km times the doubt of the scale is no standard deviation of anything."""
    far = replace(RIGID, translation=torch.tensor([500_000.0, 5_400_000.0, 300.0], dtype=torch.float64))
    old = back(TO_NEW, far.apply(cameras) if was_far else cameras)
    cameras, claimed, errors = far.apply(cameras), [], []
    for seed in range(8):
        bodies = cameras @ invert(T_BASE_CAM)
        trajectory = pose(so3_exp(0.02 * noise(len(bodies), 3, seed=seed)) @ bodies[:, :3, :3],
                          bodies[:, :3, 3] + 0.05 * noise(len(bodies), 3, seed=100 + seed))
        found = align(old, trajectory, invert(T_BASE_CAM), True, 'test').change
        frame = MapFrame().moved(found)
        claimed += [frame.scale_covariance(T).trace().item() for T in cameras[::10]]
        errors += (found.apply(old[::10])[:, :3, 3] - cameras[::10, :3, 3]).square().sum(1).tolist()
        assert (torch.tensor(frame.scale_about).double() - cameras[:, :3, 3].mean(0)).norm() < 0.5 * cameras[:, :3, 3].std(0).norm()
    claimed_m, error_m = (math.sqrt(sum(squares) / len(squares)) for squares in (claimed, errors))
    assert 0.1 * error_m < claimed_m < 1.5 * error_m < 0.05


def slow_noise(count, kept, seed):
    """[count, 6] of unit variance, of which a share `kept` lasts from one row to the next."""
    fresh = noise(count, 6, seed=seed)
    rows = [fresh[0]]
    for row in fresh[1:]:
        rows.append(kept * rows[-1] + math.sqrt(1 - kept ** 2) * row)
    return torch.stack(rows)


@pytest.mark.parametrize('kept', [0.0, 0.9])
def test_a_frame_is_as_sure_as_it_says_where_errors_change_slowly_too(cameras, kept):
    bodies, ratios = (cameras @ invert(T_BASE_CAM))[::2], []
    for seed in range(10):
        off = slow_noise(len(bodies), kept, seed)
        trajectory = pose(so3_exp(0.01 * off[:, :3]) @ bodies[:, :3, :3], bodies[:, :3, 3] + 0.02 * off[:, 3:])
        found = align(back(RIGID, cameras[::2]), trajectory, invert(T_BASE_CAM), False, 'test')
        ratios.append((so3_log(found.change.rotation @ RIGID.rotation.T) / found.sd[1:4]).square())
    assert 0.5 < torch.stack(ratios).mean() < 2.0   # 30 numbers of one degree of freedom each, but for their correlation


def test_poses_that_jump_do_not_matter(cameras):
    trajectory = (cameras @ invert(T_BASE_CAM)).clone()
    trajectory[20:45, :3, 3] += torch.tensor([3.0, -1.0, 0.0], dtype=torch.float64)
    found = align(back(RIGID, cameras), trajectory, invert(T_BASE_CAM), False, 'test')
    assert not found.used[20:45].any()
    assert pose_errors(found.change.apply(back(RIGID, cameras)), cameras)[0].max() < 1e-3
    assert '125 of 150 poses fit' in found.describe()


def test_what_does_not_fit_is_refused(cameras):
    old, bodies = back(RIGID, cameras), cameras @ invert(T_BASE_CAM)
    with pytest.raises(AprlocError, match='does not fit'):
        align(old, bodies.flip(0), None, True, 'test')
    with pytest.raises(AprlocError, match='times as large'):
        align(back(TO_NEW, cameras), bodies, invert(T_BASE_CAM), False, 'test')
    with pytest.raises(AprlocError, match='stays within'):
        align(old[:1].repeat(50, 1, 1), bodies[:1].repeat(50, 1, 1), None, False, 'test')
    with pytest.raises(AprlocError, match='takes 10 or more'):
        align(old[:9], bodies[:9], None, False, 'test')


@pytest.mark.parametrize('wrong', ['mirrored', 'inverse'])
def test_poses_that_no_turn_explains_do_not_fit_whatever_the_scale(cameras, wrong):
    bodies, mirror = cameras @ invert(T_BASE_CAM), torch.diag(torch.tensor([1.0, -1.0, 1.0, 1.0], dtype=torch.float64))
    trajectory = mirror @ in_the_plane(bodies, 0.0, 0.0, 0) @ mirror if wrong == 'mirrored' else invert(bodies)
    for with_scale in (False, True):
        with pytest.raises(AprlocError, match='does not fit the map'):
            align(back(RIGID, cameras), trajectory, invert(T_BASE_CAM), with_scale, 'test')


MIRROR = torch.diag(torch.tensor([1.0, -1.0, 1.0, 1.0], dtype=torch.float64))
UPRIGHT = Similarity(1.0, so3_exp(torch.tensor([0.0, 0.0, 2.0], dtype=torch.float64)), RIGID.translation, 0.0, '')


def in_north_and_east(T):
    """x is north and y east, z down, of which a trajectory in the plane tells x, y and the heading from north clockwise."""
    swapped = T[:, [1, 0, 2, 3]]
    heading = torch.pi / 2 - torch.atan2(T[:, 1, 0], T[:, 0, 0])
    return pose(so3_exp(heading[:, None] * torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)), swapped[:, :3, 3])


@pytest.mark.parametrize('axes', [lambda T: MIRROR @ T @ MIRROR, in_north_and_east], ids=['left-handed', 'north-east-down'])
@pytest.mark.parametrize('change, mount', [(UPRIGHT, None), (UPRIGHT, invert(T_BASE_CAM)), (RIGID, invert(T_BASE_CAM))])
def test_a_trajectory_of_mirrored_axes_is_named(cameras, axes, change, mount):
    bodies = in_the_plane(cameras @ invert(T_BASE_CAM), 0.01, 0.005, 0)
    with pytest.raises(AprlocError, match='does not fit the map: .* Mirrored it fits: its axes are left-handed, or x is north'):
        align(back(change, bodies @ T_BASE_CAM), axes(bodies), mount, False, 'test')


@pytest.mark.parametrize('axes, is_said', [(lambda T: T, False), (lambda T: MIRROR @ T @ MIRROR, True), (in_north_and_east, True)],
                         ids=['right', 'left-handed', 'north-east-down'])
def test_a_map_whose_z_is_not_up_would_hang_by_mirrored_axes_which_is_said(cameras, axes, is_said):
    """No mount, and a plane seen from below: the movements are the same."""
    bodies = in_the_plane(cameras @ invert(T_BASE_CAM), 0.01, 0.005, 0)
    found = align(back(RIGID, bodies @ T_BASE_CAM), axes(bodies), None, False, 'test')
    assert ('WARNING: by this the camera is upside down' in found.describe()) == is_said


@pytest.mark.parametrize('mount', [None, invert(T_BASE_CAM)], ids=['mount unknown', 'mount known'])
def test_headings_of_a_compass_are_named(cameras, mount):
    bodies = in_the_plane(cameras @ invert(T_BASE_CAM), 0.01, 0.005, 0)
    compass = pose(in_north_and_east(bodies)[:, :3, :3], bodies[:, :3, 3])
    with pytest.raises(AprlocError, match='its positions fit: are its quaternions x y z w, and its headings in radians, counter-clockwise'):
        align(back(UPRIGHT, bodies @ T_BASE_CAM), compass, mount, False, 'test')


@pytest.mark.parametrize('cut', [70, 80])
def test_a_trajectory_that_was_set_anew_half_way_is_of_no_frame(cameras, cut):
    trajectory = (cameras @ invert(T_BASE_CAM)).clone()
    trajectory[cut:] = pose(so3_exp(torch.tensor([0.0, 0.0, 1.0])).double(), torch.tensor([20.0, 3.0, 0.0]).double()) @ trajectory[cut:]
    with pytest.raises(AprlocError, match=f'{max(cut, 150 - cut)} of 150 poses fit the map in one way'):
        align(back(RIGID, cameras), trajectory, invert(T_BASE_CAM), False, 'test')


@pytest.mark.parametrize('mount, is_open', [(None, True), (invert(T_BASE_CAM), False)])
def test_a_frame_whose_height_nothing_tells_is_said_to_be_open(cameras, mount, is_open):
    old = back(Similarity(1.0, so3_exp(torch.tensor([0.0, 0.0, 2.0], dtype=torch.float64)), RIGID.translation, 0.0, ''), cameras)
    found = align(old, in_the_plane(cameras @ invert(T_BASE_CAM), 0.05, math.radians(1), 3), mount, False, 'test')
    assert (found.sd[6] > 0.1) == is_open == ('WARNING' in found.describe())


@pytest.mark.parametrize('noise_m', [0.0, 0.02])
def test_a_circle_without_a_mount_leaves_every_turn_of_the_frame_open(noise_m):
    """A frame turned about its middle is a camera that sits elsewhere on the robot: of that a circle of 2 m tells nothing, and
    who takes a mount of one metre and one radian for usual knows the turn to 1 / sqrt(1 + 2^2) radians.
    """
    angle = 0.1 * torch.arange(200, dtype=torch.float64)
    zero = torch.zeros_like(angle)
    bodies = pose(so3_exp(torch.stack([zero, zero, angle + math.pi / 2], 1)), torch.stack([2 * angle.cos(), 2 * angle.sin(), zero], 1))
    seen = bodies @ T_BASE_CAM @ se3_exp(torch.tensor([0.002] * 3 + [2e-4] * 3).double() * noise(200, 6))
    with pytest.raises(AprlocError, match=r'too little movement: the frame is only known to 2\d\.\d degrees'):
        align(seen, in_the_plane(bodies, noise_m, noise_m / 3, 1), None, False, 'test')
    known = align(seen, in_the_plane(bodies, noise_m, noise_m / 3, 1), invert(T_BASE_CAM), False, 'test')
    assert known.sd[1:4].max() < 2e-3


def test_a_straight_way_without_a_mount_leaves_too_much_open(cameras):
    straight = cameras[:1].repeat(60, 1, 1)
    straight[:, :3, 3] += torch.linspace(0, 2, 60)[:, None] * straight[:, :3, 2] + 0.002 * noise(60, 3)
    with pytest.raises(AprlocError, match='too little movement'):
        bodies = straight @ invert(T_BASE_CAM)
        bodies[:, :3, 3] += 0.02 * noise(60, 3, seed=1)
        align(back(RIGID, straight), bodies, None, False, 'test')
