from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from aprloc_ros.camera import Camera, may_have_taken, warp_image
from aprloc_ros.errors import AprlocError

CAMERA = Camera(64, 48, 50.0, 55.0, 30.2, 24.9)
PLUMB_BOB = Camera(320, 240, 260.0, 255.0, 161.3, 117.8, 'opencv', (-0.28, 0.09, 0.002, -0.003, -0.01))
RATIONAL = replace(PLUMB_BOB, distortion=(0.4, -0.3, 0.001, 0.002, 0.1, 0.7, -0.25, 0.05))
FISHEYE = replace(PLUMB_BOB, model='fisheye', distortion=(-0.02, 0.01, -0.004, 0.001))


def pixels(camera):
    """u, v of every pixel centre, each [H, W]."""
    return np.meshgrid(np.arange(camera.width), np.arange(camera.height))


def ramps(camera):
    """An image that says where it was sampled: red is u, green v. Unrounded, to measure parts of a pixel."""
    u, v = pixels(camera)
    return np.stack([u, v, np.zeros_like(u)], -1).astype(np.float32)


def smooth_noise(camera, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (camera.height, camera.width, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 4)


def distorted_pixels(source, x, y):
    """Where a ray (x, y, 1) meets a distorted camera's image, from OpenCV's manual."""
    r2 = x * x + y * y
    if source.model == 'fisheye':
        theta = np.arctan(np.sqrt(r2))
        k1, k2, k3, k4 = source.distortion
        scale = theta * (1 + k1 * theta ** 2 + k2 * theta ** 4 + k3 * theta ** 6 + k4 * theta ** 8) / np.sqrt(r2)
        x, y = scale * x, scale * y
    else:
        k1, k2, p1, p2, k3, k4, k5, k6 = (*source.distortion, 0, 0, 0, 0)[:8]
        radial = (1 + k1 * r2 + k2 * r2 ** 2 + k3 * r2 ** 3) / (1 + k4 * r2 + k5 * r2 ** 2 + k6 * r2 ** 3)
        x, y = (x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
                y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y)
    return source.fx * x + source.cx, source.fy * y + source.cy


def test_projection_undoes_directions():
    depth = 0.1 + 9 * torch.rand(48, 64, 1, generator=torch.Generator().manual_seed(0))
    uv, in_view = CAMERA.project(depth * CAMERA.directions())
    np.testing.assert_allclose(uv.numpy(), np.stack(pixels(CAMERA), -1), atol=1e-4)
    assert in_view.all()


def test_projection_is_opencvs():
    points = np.random.default_rng(0).uniform((-2, -2, 1), (2, 2, 5), (50, 3))
    truth, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), CAMERA.matrix, None)
    np.testing.assert_allclose(CAMERA.project(torch.from_numpy(points))[0].numpy(), truth[:, 0], atol=1e-9)


def test_in_view_ends_at_the_borders_of_the_outer_pixels():
    u = torch.tensor([-0.51, -0.49, 63.49, 63.51, 30.0, 30.0], dtype=torch.float64)
    v = torch.tensor([10.0, 10.0, 10.0, 10.0, -0.51, 47.49], dtype=torch.float64)
    points = torch.stack([(u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy, torch.ones_like(u)], -1)
    assert CAMERA.project(3 * points)[1].tolist() == [False, True, True, False, False, True]


def test_points_behind_or_at_the_camera_are_out_of_view_and_finite():
    uv, in_view = CAMERA.project(torch.tensor([[0.0, 0.0, -1.0], [0.1, 0.1, 0.0], [-0.02, -0.01, -0.1]]))
    assert not in_view.any() and torch.isfinite(uv).all()


@pytest.mark.parametrize('size', [(32, 24), (128, 96), (31, 77), (64, 48)])
def test_resizing_commutes_with_projecting(size):
    points = torch.rand(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.2
    uv, in_view = CAMERA.project(points)
    scale = torch.tensor([size[0] / 64, size[1] / 48], dtype=torch.float64)
    small_uv, small_in_view = CAMERA.resized(*size).project(points)
    torch.testing.assert_close(small_uv, (uv + 0.5) * scale - 0.5)  # pixel borders, not centres, are what scales
    assert torch.equal(small_in_view, in_view)


def test_resizing_keeps_distortion_and_goes_back():
    small = FISHEYE.resized(80, 60)
    assert (small.model, small.distortion) == (FISHEYE.model, FISHEYE.distortion)
    np.testing.assert_allclose(small.resized(320, 240).matrix, FISHEYE.matrix)


def test_with_short_side():
    assert (PLUMB_BOB.with_short_side(60).width, PLUMB_BOB.with_short_side(60).height) == (80, 60)
    portrait = Camera(1080, 1920, 1500.0, 1500.0, 539.5, 959.5).with_short_side(120)
    assert (portrait.width, portrait.height) == (120, 213)


def test_the_same_camera_gets_the_same_image():
    image = ramps(CAMERA)
    assert warp_image(image, CAMERA, CAMERA) is image


def test_zero_distortion_changes_nothing():
    source = replace(CAMERA, model='opencv', distortion=(0.0,) * 5)
    assert not source.is_distorted
    np.testing.assert_array_equal(warp_image(smooth_noise(source), source, CAMERA), smooth_noise(source))


@pytest.mark.parametrize('source', [PLUMB_BOB, RATIONAL], ids=['plumb_bob', 'rational'])
def test_undistortion_is_opencvs(source):
    image = smooth_noise(source)
    truth = cv2.undistort(image, source.matrix, np.array(source.distortion))
    ours = warp_image(image, source, source.without_distortion())
    assert np.abs(ours.astype(int) - truth).max() <= 2


def test_fisheye_undistortion_is_opencvs():
    image = smooth_noise(FISHEYE)
    truth = cv2.fisheye.undistortImage(image, FISHEYE.matrix, np.array(FISHEYE.distortion), Knew=FISHEYE.matrix)
    ours = warp_image(image, FISHEYE, FISHEYE.without_distortion())
    assert np.abs(ours.astype(int) - truth).max() <= 2


@pytest.mark.parametrize('camera', [CAMERA, PLUMB_BOB, FISHEYE], ids=['pinhole', 'plumb_bob', 'fisheye'])
def test_rays_of_undoes_pixels_of(camera):
    rays = np.array([[0.0, 0.0], [0.3, -0.2], [-0.25, 0.1]])
    np.testing.assert_allclose(camera.rays_of(camera.pixels_of(np.insert(rays, 2, 1, axis=1))), rays, atol=1e-4)
    assert camera.rays_of(np.zeros((0, 2))).shape == (0, 2)


@pytest.mark.parametrize('shrink', [1, 2, 3.2])
@pytest.mark.parametrize('source', [PLUMB_BOB, RATIONAL, FISHEYE], ids=['plumb_bob', 'rational', 'fisheye'])
def test_every_pixel_comes_from_where_the_lens_put_its_ray(source, shrink):
    target = source.without_distortion().resized(round(320 / shrink), round(240 / shrink))
    u, v = distorted_pixels(source, *np.moveaxis(target.directions().numpy()[..., :2].astype(float), -1, 0))
    margin = 2 * shrink
    inside = (u > margin) & (v > margin) & (u < source.width - 1 - margin) & (v < source.height - 1 - margin)
    error = warp_image(ramps(source), source, target)[inside] - np.stack([u, v, np.zeros_like(u)], -1)[inside]
    assert inside.mean() > 0.7 and np.abs(error).max() < 0.1


def test_a_crop_is_a_shift_and_what_was_not_seen_is_black():
    image = smooth_noise(CAMERA)
    crop = replace(CAMERA, width=40, height=30, cx=CAMERA.cx - 10, cy=CAMERA.cy - 7)
    np.testing.assert_array_equal(warp_image(image, CAMERA, crop), image[7:37, 10:50])
    shifted = warp_image(image, CAMERA, replace(CAMERA, cx=CAMERA.cx + 10))
    np.testing.assert_array_equal(shifted[:, 10:], image[:, :-10])
    assert not shifted[:, :10].any()


def test_shrinking_averages_areas():
    image = smooth_noise(PLUMB_BOB)
    source = PLUMB_BOB.without_distortion()
    truth = image.reshape(60, 4, 80, 4, 3).mean((1, 3))
    assert np.abs(warp_image(image, source, source.resized(80, 60)) - truth).max() <= 0.51


SHRUNK = PLUMB_BOB.without_distortion().resized(80, 60)
SMALLER = {
    'resized': SHRUNK,
    'crop': replace(SHRUNK, width=40, cx=19.5),
    'wide': replace(SHRUNK, width=160, height=120, cx=79.5, cy=59.5),   # as many degrees a pixel, more of them
    'flat': PLUMB_BOB.without_distortion().resized(320, 60),
    'thin': PLUMB_BOB.without_distortion().resized(80, 240)}


@pytest.mark.parametrize('stripes, target', [
    *(('u', target) for target in ('resized', 'crop', 'wide', 'thin')),
    *(('v', target) for target in ('resized', 'crop', 'wide', 'flat')),
    *(('both', target) for target in SMALLER)])
@pytest.mark.parametrize('source', [PLUMB_BOB.without_distortion(), FISHEYE], ids=['pinhole', 'fisheye'])
def test_shrinking_does_not_alias(source, target, stripes):
    """Stripes finer than the target's pixels, across an axis that shrinks, become plain grey."""
    u, v = pixels(source)
    pattern = {'u': u, 'v': v, 'both': u + v}[stripes]
    image = np.repeat((255 * (pattern // 2 % 2))[..., None], 3, 2).astype(np.uint8)
    seen = warp_image(np.full_like(image, 255), source, SMALLER[target]) > 254
    warped = warp_image(image, source, SMALLER[target])[seen].astype(int)
    assert seen.mean() > 0.15 and np.abs(warped - 127).max() <= 24


@pytest.mark.parametrize('change, complaint', [
    ({'model': 'omni'}, "camera model 'omni' is not one of pinhole, opencv, fisheye"),
    ({'distortion': (0.1,) * 4}, 'camera model pinhole takes .* not 4'),
    ({'model': 'opencv'}, 'camera model opencv takes .* not 0'),
    ({'model': 'fisheye', 'distortion': (0.1,) * 5}, 'camera model fisheye takes .* not 5'),
    ({'width': 0}, 'camera size 0x48 is outside 1 to 16384'),
    ({'height': 20_000}, 'camera size 64x20000 is outside'),
    ({'fx': 0.0}, 'positive focal lengths, not fx=0.0'),
    ({'fy': -3.0}, 'fy=-3.0'),
    ({'cx': float('nan')}, 'must be finite .* cx=nan'),
    ({'model': 'opencv', 'distortion': (0.0, float('inf'), 0.0, 0.0)}, 'must be finite')])
def test_what_is_no_camera_is_refused(change, complaint):
    with pytest.raises(AprlocError, match=complaint) as refusal:
        replace(CAMERA, **change)
    assert '\n' not in str(refusal.value)


def test_an_image_that_contradicts_its_camera_is_refused():
    with pytest.raises(AprlocError, match='the image is 48x64 but its camera says 64x48; check camera_info'):
        warp_image(np.zeros((64, 48, 3), np.uint8), CAMERA, CAMERA.resized(32, 24))


@pytest.mark.parametrize('call', [lambda c: c.directions(), lambda c: c.project(torch.ones(3))])
def test_a_distorted_camera_has_no_straight_rays(call):
    with pytest.raises(AssertionError, match='rectified'):
        call(FISHEYE)


@pytest.mark.parametrize(('size', 'of', 'whole'), [
    ((360, 640), (240, 432), True), ((1920, 1080), (432, 240), True), ((640, 360), (432, 240), True),   # in whole cells of 16
    ((320, 240), (320, 240), True), ((641, 480), (320, 240), True),
    ((640, 400), (432, 240), False), ((640, 480), (432, 240), False), ((640, 360), (240, 432), False), ((1280, 1024), (320, 240), False)])
def test_an_image_is_the_whole_of_a_resampled_camera_by_its_aspect(size, of, whole):
    """The originals had square pixels of 1.2 widths' focal length: 16:9 where the sides are 432x240, 4:3 where 320x240."""
    original = {(432, 240): (16, 9), (240, 432): (9, 16), (320, 240): (4, 3)}[of]
    taken = Camera(100 * original[0], 100 * original[1], 1200.0, 1200.0, 50.0 * original[0], 50.0 * original[1])
    assert may_have_taken(taken.resized(*of), *size) is whole


def test_pixels_that_are_not_square_keep_their_sides():
    camera = Camera(720, 576, 700.0, 750.0, 360.0, 288.0)
    assert may_have_taken(camera, 720, 576) and may_have_taken(camera, 360, 288) and not may_have_taken(camera, 640, 360)


def test_a_camera_of_whole_numbers_is_like_any_other():
    whole = Camera(64, 48, 50, 50, 32, 24, 'fisheye', (0.0,) * 4)
    image = np.zeros((48, 64, 3), np.uint8)
    assert whole.matrix.dtype == np.float64
    np.testing.assert_array_equal(warp_image(image, whole, Camera(32, 24, 25, 25, 16, 12)), np.zeros((24, 32, 3), np.uint8))
