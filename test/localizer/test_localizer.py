import logging
import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from tiny_map import CAMERA, T_MAP_SCENE, save_tiny_map, tiny_manifest
from torch import nn

from aprloc_ros.camera import Camera, warp_image
from aprloc_ros.device import is_out_of_memory, resolve_device
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import se3_exp
from aprloc_ros.histogram import luminance_histogram
from aprloc_ros.lens import Lens
from aprloc_ros.localizer import Localizer
from aprloc_ros.map_bundle import MapBundle, load_map


class Fixed(nn.Module):
    """A regressor that always answers the same and remembers what it was asked."""

    def __init__(self, raw):
        super().__init__()
        self.raw, self.queries, self.failures = raw, [], []

    def forward(self, image):
        self.queries.append(image)
        if self.failures:
            raise self.failures.pop()
        return self.raw[None]


def fixed_localizer(raw):
    regressor = Fixed(raw)
    return Localizer(MapBundle(tiny_manifest(), regressor, nn.Identity(), None), 'cpu'), regressor


@pytest.fixture(scope='module')
def localizer(tmp_path_factory):
    return Localizer(load_map(save_tiny_map(tmp_path_factory.mktemp('maps') / 'tiny'), 'cpu'), 'cpu')


@pytest.fixture
def image():
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return cv2.resize(noise, (64, 48), interpolation=cv2.INTER_CUBIC)


def test_the_answer_is_the_scene_pose_in_the_map(image):
    T_scene_cam = se3_exp(torch.tensor([0.5, 0.25, -1.0, 0.3, -0.2, 0.1], dtype=torch.float64))
    localizer, _ = fixed_localizer(T_scene_cam[:3].float())
    estimate = localizer.localize(image)
    expected = T_scene_cam.clone()
    expected[:3, 3] *= 2.0  # the tiny map's pose unit is 2 m
    torch.testing.assert_close(estimate.T_map_cam, T_MAP_SCENE @ expected, atol=1e-6, rtol=0)
    assert estimate.status == 'prior' and estimate.T_map_cam.dtype == torch.float64
    torch.testing.assert_close(estimate.covariance, tiny_manifest().covariance)


def test_a_camera_that_is_not_as_declared_is_taken_as_found(image):
    regressor, declared = Fixed(torch.eye(3, 4)), CAMERA
    found = replace(declared, fx=1.1 * declared.fx, model='opencv', distortion=(0.1, 0.0, 0.0, 0.0))
    manifest = replace(tiny_manifest(), lenses=(Lens(declared, found),))
    localizer = Localizer(MapBundle(manifest, regressor, nn.Identity(), None), 'cpu')
    for camera in (declared, found, replace(declared, fx=1.2 * declared.fx)):
        localizer.localize(image, camera)
    as_declared, as_found, other = regressor.queries
    assert torch.equal(as_declared, as_found) and not torch.equal(as_declared, other)
    expected = torch.tensor(warp_image(image, found, CAMERA)).permute(2, 0, 1) / 255
    torch.testing.assert_close(as_declared[0], expected)


def test_a_real_network_answers_a_rigid_pose_twice_the_same(localizer, image):
    first, second = localizer.localize(image), localizer.localize(image)
    assert torch.equal(first.T_map_cam, second.T_map_cam) and first.score == second.score
    R = first.T_map_cam[:3, :3]
    torch.testing.assert_close(R @ R.T, torch.eye(3, dtype=torch.float64), atol=1e-12, rtol=0)
    assert torch.linalg.det(R) > 0 and 0 < first.score <= 1
    assert not torch.equal(first.T_map_cam, localizer.localize(image[::-1, ::-1]).T_map_cam)
    timings = first.timings_ms
    assert 0 < timings['prepare'] + timings['regress'] == pytest.approx(timings['total'])


def test_the_network_sees_rgb_from_0_to_1(image):
    localizer, regressor = fixed_localizer(torch.eye(3, 4))
    image[..., 0], image[..., 1], image[..., 2] = 255, 51, 0
    estimate = localizer.localize(image)
    assert regressor.queries[0].shape == (1, 3, 48, 64) and regressor.queries[0].dtype == torch.float32
    torch.testing.assert_close(regressor.queries[0].mean((0, 2, 3)), torch.tensor([1.0, 0.2, 0.0]))
    assert estimate.histogram.tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0, 0]  # Y = 0.299 + 0.2 * 0.587 = 0.416


def test_a_distorted_larger_camera_is_warped_to_the_maps(image):
    localizer, regressor = fixed_localizer(torch.eye(3, 4))
    large = cv2.resize(image, (128, 96), interpolation=cv2.INTER_CUBIC)
    camera = Camera(128, 96, 110.0, 111.0, 64.0, 47.0, 'opencv', (-0.2, 0.05, 0.001, 0.0))
    estimate = localizer.localize(large, camera)
    expected = torch.tensor(warp_image(large, camera, CAMERA)).permute(2, 0, 1) / 255
    torch.testing.assert_close(regressor.queries[0][0], expected)
    torch.testing.assert_close(estimate.histogram, luminance_histogram(expected))


def test_without_a_camera_the_image_is_scaled(image):
    localizer, regressor = fixed_localizer(torch.eye(3, 4))
    localizer.localize(np.full((480, 640, 3), 128, np.uint8))
    localizer.localize(np.full((361, 480, 3), 128, np.uint8))  # 480x360 but for a rounding
    assert regressor.queries[1].shape == (1, 3, 48, 64)
    assert regressor.queries[0].min() == regressor.queries[0].max() == pytest.approx(128 / 255)


@pytest.mark.parametrize('bad, camera, complaint', [
    (None, None, 'uint8 array, not NoneType'),
    (np.zeros((48, 64, 3), np.float32), None, 'uint8 array, not float32'),
    (np.zeros((48, 64), np.uint8), None, 'not 48x64'),
    (np.zeros((48, 64, 4), np.uint8), None, 'not 48x64x4'),
    (np.zeros((0, 64, 3), np.uint8), None, 'not 0x64x3'),
    (np.zeros((64, 64, 3), np.uint8), None, "64x64, not of the aspect of the map's camera .64x48."),
    (np.zeros((48, 64, 3), np.uint8), CAMERA.resized(32, 24), 'the image is 64x48 but its camera says 32x24')])
def test_a_wrong_image_is_refused(localizer, bad, camera, complaint):
    with pytest.raises(AprlocError, match=complaint):
        localizer.localize(bad, camera)


def test_read_only_and_strided_images_are_welcome(localizer, image):
    expected = localizer.localize(image).T_map_cam
    frozen = np.frombuffer(image.tobytes(), np.uint8).reshape(image.shape)
    mirrored = np.ascontiguousarray(image[:, ::-1])[:, ::-1]
    for same in (frozen, mirrored):
        assert torch.equal(localizer.localize(same).T_map_cam, expected)


@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_an_answer_that_is_not_finite_is_refused(image, value):
    localizer, regressor = fixed_localizer(torch.full((3, 4), value))
    with pytest.raises(AprlocError, match='not finite'):
        localizer.localize(image)
    regressor.raw = torch.eye(3, 4)
    assert localizer.localize(image).score == 1.0


def test_the_score_falls_with_the_distance_from_a_rotation(image):
    localizer, _ = fixed_localizer(torch.diag(torch.tensor([1.2, 1.0, 1.0]))[:, [0, 1, 2, 2]])
    assert localizer.localize(image).score == pytest.approx(math.exp(-0.2), abs=1e-6)


@pytest.mark.parametrize('error', [
    torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB'),
    RuntimeError('cuDNN error: CUDNN_STATUS_ALLOC_FAILED')])
def test_out_of_memory_moves_to_the_cpu_and_answers_the_same_query(image, caplog, error):
    localizer, regressor = fixed_localizer(torch.eye(3, 4))
    localizer._device = torch.device('meta')  # stands for the GPU: no machine of the tests has one
    regressor.failures = [error]
    with caplog.at_level(logging.WARNING):
        estimate = localizer.localize(image)
    assert localizer.device_name == 'cpu' and regressor.queries[1].device.type == 'cpu'
    torch.testing.assert_close(estimate.T_map_cam, T_MAP_SCENE)
    localizer.localize(image)
    assert [r.message for r in caplog.records] == ['meta is out of memory: continuing on the CPU']


@pytest.mark.parametrize('device, error', [('meta', RuntimeError('a bug')), ('cpu', RuntimeError('out of memory'))])
def test_other_failures_are_not_hidden(image, device, error):
    localizer, regressor = fixed_localizer(torch.eye(3, 4))
    localizer._device = torch.device(device)
    regressor.failures = [error]
    with pytest.raises(RuntimeError, match=str(error)):
        localizer.localize(image)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
def test_a_full_gpu_is_survived(tmp_path, image):
    localizer = Localizer(load_map(save_tiny_map(tmp_path / 'tiny'), 'cuda'), 'cuda')
    expected = localizer.localize(image).T_map_cam
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-9)
    try:
        T_map_cam = localizer.localize(np.repeat(np.repeat(image, 4, 0), 4, 1)).T_map_cam
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert localizer.device_name == 'cpu' and torch.isfinite(T_map_cam).all()
    torch.testing.assert_close(localizer.localize(image).T_map_cam, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize('name', ['gpu', 'cuda:x', 'cuda:99', 'CPU', '', 3])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(AprlocError, match='device is'):
        resolve_device(name)


def test_device_names():
    assert resolve_device('cpu').type == 'cpu'
    assert resolve_device('auto').type == ('cuda' if torch.cuda.is_available() else 'cpu')
    assert not is_out_of_memory(RuntimeError('shape mismatch'))
