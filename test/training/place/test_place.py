"""The demo place against closed forms that the ray caster does not use."""

import hashlib
import itertools
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from aprloc_ros.camera import Camera
from aprloc_ros.geometry import invert, pose_errors
from aprloc_ros.histogram import luminance_histogram
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.place.atlas import Atlas
from aprloc_ros.training.place.capture import CAMERA, photograph, write_capture
from aprloc_ros.training.place.court import FOUNTAIN_RADIUS_M, build_court
from aprloc_ros.training.place.days import TODAY
from aprloc_ros.training.place.drive import COURSES, PERSONAL_SPACE_M, SECOND_DRIVE, camera_poses, plan_drive
from aprloc_ros.training.place.raycast import Renderer
from aprloc_ros.training.place.rays import camera_rays, camera_windows, cast
from aprloc_ros.training.place.sensor import develop
from aprloc_ros.training.place.shadow import Shadow

TEXEL_M = 0.1
SMALL = CAMERA.resized(80, 60)
HELD_OUT = next(course for course in COURSES if course.name == 'held_out')


@pytest.fixture(scope='module')
def renderer() -> Renderer:
    return Renderer(build_court(0, TEXEL_M))


def look(eye, target, roll: float = 0.0) -> np.ndarray:
    """T_map_cam [4, 4] of a camera at eye that looks at target."""
    x, y, z = np.subtract(target, eye)
    yaw, pitch = np.arctan2(y, x), np.arctan2(z, np.hypot(x, y))
    return camera_poses(np.array([eye], float), *(np.array([float(a)]) for a in (yaw, pitch, roll)))[0]


def pixel_rays(camera: Camera, T_map_cam: np.ndarray) -> np.ndarray:
    """Directions [H, W, 3] with depth 1, by the library's own camera."""
    return camera.directions().double().numpy() @ T_map_cam[:3, :3].T


def project(camera: Camera, T_map_cam: np.ndarray, points) -> np.ndarray:
    T_cam_map = invert(torch.tensor(T_map_cam))
    local = torch.tensor(np.asarray(points, float)) @ T_cam_map[:3, :3].T + T_cam_map[:3, 3]
    return torch.cat([camera.project(local)[0], local[..., 2:]], -1).numpy()


def fingerprint(seed: int) -> str:
    frames = photograph(Renderer(build_court(seed, 0.2)), HELD_OUT, seed, SMALL, count=3)
    return hashlib.sha256(b''.join(part.tobytes() for image, depth, T, _ in frames for part in (image, depth, T))
                          ).hexdigest()


def test_a_seed_decides_everything():
    first = fingerprint(4)
    assert fingerprint(4) == first
    assert fingerprint(5) != first


def test_ground_depth_is_that_of_the_plane(renderer):
    T_map_cam = look((2.0, 3.2, 1.2), (4.6, 3.2, 0.0), roll=0.1)
    _, depth = renderer.render(SMALL, T_map_cam)
    rays = pixel_rays(SMALL, T_map_cam)
    expected = -T_map_cam[2, 3] / rays[..., 2]
    x, y = (T_map_cam[i, 3] + expected * rays[..., i] for i in (0, 1))
    bare_lawn = (rays[..., 2] < 0) & (x > 2.2) & (x < 5.0) & (y > 2.0) & (y < 4.2)
    assert bare_lawn.mean() > 0.2
    np.testing.assert_allclose(depth[bare_lawn], expected[bare_lawn], atol=5e-4)


def test_sphere_and_cylinder_depths_are_those_of_the_quadratics(renderer):
    """The bronze sphere on its plinth and the post of the sundial, one root per pixel by numpy.roots."""
    for eye, centre, radius, plane in (((7.4, 0.4, 1.3), (9.8, 1.0, 1.2), 0.36, False),
                                       ((-8.2, 0.3, 0.9), (-10.2, -0.4, 0.6), 0.22, True)):
        T_map_cam = look(eye, centre)
        _, depth = renderer.render(SMALL, T_map_cam)
        axes = slice(0, 2) if plane else slice(0, 3)
        checked = 0
        for ray, seen in zip(pixel_rays(SMALL, T_map_cam)[28:36].reshape(-1, 3), depth[28:36].ravel()):
            start = np.subtract(eye, centre)
            roots = np.roots([ray[axes] @ ray[axes], 2 * start[axes] @ ray[axes],
                              start[axes] @ start[axes] - radius ** 2])
            if np.isreal(roots).all() and abs(roots[0] - roots[1]) > 0.05:
                assert seen == pytest.approx(roots.real.min(), abs=1e-3)
                checked += 1
        assert checked > 30


def test_box_edges_lie_where_its_corners_project(renderer):
    """The plinth at (9.8, 1.0) from the west: its near face spans y from 0.7 to 1.3 at x = 9.5."""
    T_map_cam = look((7.0, 1.0, 0.5), (9.5, 1.0, 0.5))
    _, depth = renderer.render(CAMERA, T_map_cam)
    left, right = project(CAMERA, T_map_cam, [(9.5, 1.3, 0.5), (9.5, 0.7, 0.5)])
    row = depth[round(left[1])]
    on_box = np.flatnonzero(np.abs(row - 2.5) < 0.01)
    assert on_box[0] == np.ceil(left[0]) and on_box[-1] == np.floor(right[0])


def test_the_colour_edge_falls_on_the_depth_edge(renderer):
    """The red post box before the wall: where the image turns red is where its outline projects."""
    eye, centre, radius = np.array([-10.0, 7.0, 1.0]), np.array([-13.9, 7.4, 1.0]), 0.28
    T_map_cam = look(eye, centre)
    colour, _ = renderer.render(CAMERA, T_map_cam)
    row = colour[round(CAMERA.cy)]
    red = np.flatnonzero(row[:, 0] > 3 * row[:, 2])
    distance = np.linalg.norm(centre - eye)
    half_width_px = CAMERA.fx * np.tan(np.arcsin(radius / distance))
    near = red[np.abs(red - CAMERA.cx) < 2 * half_width_px]
    assert near[0] == pytest.approx(CAMERA.cx - half_width_px, abs=1)
    assert near[-1] == pytest.approx(CAMERA.cx + half_width_px, abs=1)


def test_two_views_of_a_point_have_one_colour(renderer):
    first, second = look((-2.0, -4.5, 1.1), (-15.0, 2.0, 2.0)), look((-3.2, -4.0, 1.2), (-15.0, 2.5, 2.2))
    colour, depth = renderer.render(CAMERA, first)
    other, other_depth = renderer.render(CAMERA, second)
    v, u = (c.ravel() for c in np.mgrid[4:236:4, 4:316:4])
    keep = depth[v, u] > 0
    v, u = v[keep], u[keep]
    points = first[:3, 3] + depth[v, u][:, None] * pixel_rays(CAMERA, first)[v, u]
    seen = project(CAMERA, second, points)
    inside = (seen[:, 0] > 1) & (seen[:, 0] < 318) & (seen[:, 1] > 1) & (seen[:, 1] < 238)
    u2, v2 = seen[inside, 0].astype(np.float32), seen[inside, 1].astype(np.float32)
    visible = np.abs(other_depth[np.round(v2).astype(int), np.round(u2).astype(int)] - seen[inside, 2]) < 0.05
    assert visible.sum() > 500
    there = cv2.remap(other, u2[None], v2[None], cv2.INTER_LINEAR)[0][visible]
    here = colour[v, u][inside][visible]
    difference = np.abs(there - here).mean(1) / here.mean(1)
    assert np.median(difference) < 0.06
    shuffled = np.abs(there[::-1] - here).mean(1) / here.mean(1)
    assert np.median(shuffled) > 4 * np.median(difference)


def test_shadows_agree_with_rays_to_the_sun(renderer):
    rng = np.random.default_rng(0)
    x, y = (rng.uniform(-h, h, (40, 50)).astype(np.float32) for h in (12, 8))
    point = x, y, np.full_like(x, 0.0)
    lit = Shadow(renderer.scene.solids, TODAY.to_sun).lit(point)
    with np.errstate(divide='ignore', invalid='ignore'):
        blocked = np.any([np.isfinite(solid.intersect(point, TODAY.to_sun)) for solid in renderer.scene.solids], axis=0)
    outside = np.hypot(x, y) > FOUNTAIN_RADIUS_M + 0.3
    assert 0.1 < blocked[outside].mean() < 0.9
    assert np.mean(((lit < 0.5) == blocked)[outside]) > 0.98


def test_moving_bodies_are_seen_but_not_in_the_depth(renderer):
    drive = plan_drive(HELD_OUT)
    seen = coloured = 0
    for frame in range(0, 150, 10):
        T_map_cam, actors = drive.T_map_cam[frame], drive.actors(frame)
        colour, depth = renderer.render(SMALL, T_map_cam, actors)
        empty_colour, empty_depth = renderer.render(SMALL, T_map_cam)
        masked = (depth == 0) & (empty_depth > 0)
        np.testing.assert_array_equal(depth[~masked], empty_depth[~masked])
        seen += masked.sum()
        coloured += (np.abs(colour - empty_colour).sum(-1)[masked] > 1e-3).sum()
    assert seen > 100
    assert coloured > 0.9 * seen


def test_moving_bodies_keep_their_distance_and_differ_between_drives():
    places = []
    for course in (*COURSES, SECOND_DRIVE):
        drive = plan_drive(course)
        for frame in range(course.frames):
            centres = np.array([solid.corners().mean(0) for solid in drive.actors(frame)])
            away_m = np.linalg.norm(centres[:, :2] - drive.T_map_cam[frame, :2, 3], axis=1)
            assert away_m.min() > PERSONAL_SPACE_M - 0.5
        places.append(centres)
    assert all(np.abs(a - b).max() > 0.5 for a, b in itertools.pairwise(places))


def test_the_robot_stays_clear_of_everything(renderer):
    wide = Camera(24, 10, 6.0, 6.0, 11.5, 4.5)
    corners = np.stack([solid.corners() for solid in renderer.scene.solids])
    for course in (*COURSES, SECOND_DRIVE):
        for T_map_cam in plan_drive(course).T_map_cam[::2]:
            windows = camera_windows(corners, wide, T_map_cam)
            origin, direction = camera_rays(wide, T_map_cam)
            distance_m, _ = cast(renderer.scene.solids, origin, direction, windows)
            assert distance_m.min() > 0.15


def test_the_held_out_drive_is_hard_but_fair():
    train, test = (torch.tensor(np.concatenate([plan_drive(course).T_map_cam for course in COURSES
                                                if course.split == split])) for split in ('train', 'test'))
    shape = len(test), len(train), 4, 4
    error_m, error_deg = pose_errors(train[None].expand(shape), test[:, None].expand(shape))
    nearest = (error_m + error_deg / 20).argmin(1, keepdim=True)
    assert 0.4 < error_m.gather(1, nearest).median() < 1.0
    assert 5 < error_deg.gather(1, nearest).median() < 30
    assert error_m.min(1).values.max() < 2.5


def test_exposure_moves_the_histogram_of_one_view(renderer):
    view, _ = renderer.render(SMALL, plan_drive(HELD_OUT).T_map_cam[20])
    histograms, steady = {}, {}
    for course in (*COURSES, SECOND_DRIVE):
        images = list(develop([view] * 40, course.sensor, 0.2, np.random.default_rng(0)))
        tensors = torch.tensor(np.stack(images)).permute(0, 3, 1, 2) / 255
        histograms[course.name] = luminance_histogram(tensors)
        steady[course.name] = tensors[-1].mean().item()
    assert steady['drive_2'] < steady['drive_1'] - 0.05
    for first, second in (('drive_1', 'drive_2'), ('drive_2', 'held_out')):
        assert (histograms[first][-1] - histograms[second][-1]).abs().sum() / 2 > 0.1
    settling = histograms['held_out']
    assert (settling[0] - settling[-1]).abs().sum() / 2 > 0.15      # it starts overexposed
    assert (settling[-5] - settling[-1]).abs().sum() / 2 < 0.05     # and settles


def test_exposure_follows_a_darkening_view_slowly():
    bright, dark = np.full((8, 8, 3), 0.4, np.float32), np.full((8, 8, 3), 0.1, np.float32)
    sensor = replace(HELD_OUT.sensor, start=1.0, adaptation_s=1.0)
    levels = [image.mean() for image in develop([bright] + [dark] * 30, sensor, 0.2, np.random.default_rng(0))]
    assert levels[1] < 0.7 * levels[0]
    assert levels[1] < levels[5] < levels[30] == pytest.approx(levels[0], rel=0.05)


def test_distant_textures_fade_to_their_mean_in_linear_light():
    checks = np.kron(np.indices((16, 16)).sum(0) % 2, np.ones((4, 4))).astype(np.uint8)[..., None] * [[[255, 255, 255]]]
    atlas = Atlas({'plain': np.full((20, 30, 3), 128, np.uint8), 'checks': checks.astype(np.uint8)}, 0.1)
    u, v = (c.astype(np.float32) for c in np.mgrid[-3:3:20j, -3:3:20j])
    plain = atlas.lookup(np.zeros(u.shape, int), u, v, np.full_like(u, 0.1))
    np.testing.assert_allclose(plain, ((128 / 255 + 0.055) / 1.055) ** 2.4, atol=1e-3)
    near = atlas.lookup(np.ones(u.shape, int), u, v, np.full_like(u, 0.01))
    far = atlas.lookup(np.ones(u.shape, int), u, v, np.full_like(u, 50.0))
    assert near.std() > 0.4 and far.std() < 0.01


def test_a_written_drive_reads_back_exactly(tmp_path):
    steps = []
    course = replace(HELD_OUT, frames=8, split='train')
    write_capture(tmp_path, progress=lambda done, total: steps.append((done, total)), courses=[course], height=120)
    assert steps == [(done, 8) for done in range(1, 9)]
    capture = read_capture(tmp_path)
    frames = {frame.name: frame for frame in capture.train + capture.test}
    drive = plan_drive(course)
    assert len(frames) >= 5     # the others guard the split
    for name, frame in frames.items():
        index = int(name.split('/')[-1].split('.')[0])
        T_map_cam, stamp_s = drive.T_map_cam[index], drive.stamps_s[index]
        R = frame.T_map_cam[:3, :3]
        torch.testing.assert_close(R.T @ R, torch.eye(3, dtype=torch.float64), atol=1e-12, rtol=0)
        assert torch.linalg.det(R).item() == pytest.approx(1)
        np.testing.assert_allclose(frame.T_map_cam.numpy(), T_map_cam, atol=1e-12)
        assert frame.stamp_s == stamp_s
        assert frame.camera == CAMERA.resized(160, 120)
        depth_m = cv2.imread(str(frame.depth_path), cv2.IMREAD_UNCHANGED) * frame.depth_unit_m
        assert frame.read_image().shape == (*depth_m.shape, 3)
        ray = pixel_rays(frame.camera, T_map_cam)
        heights = T_map_cam[2, 3] + depth_m * ray[..., 2]
        assert heights.min() > -0.005       # nothing lies under the ground
