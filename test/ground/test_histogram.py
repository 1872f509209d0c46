import cv2
import numpy as np
import pytest
import torch

from aprloc_ros.histogram import BINS, luminance, luminance_histogram


def random_image(*shape, seed=0):
    """Brighter towards its end, so that no two images of a batch have the same histogram."""
    image = np.random.default_rng(seed).random(shape)
    return torch.from_numpy(image ** np.linspace(3, 0.3, shape[0]).reshape(-1, *[1] * (len(shape) - 1))).float()


def numpy_histogram(image):
    luma = 0.299 * image[0].double() + 0.587 * image[1].double() + 0.114 * image[2].double()
    counts, _ = np.histogram(luma.numpy(), bins=10, range=(0.0, 1.0))
    return np.round(100 * counts / luma.numel()) / 100


def test_luminance_is_opencvs_y():
    image = np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    truth = cv2.cvtColor(image, cv2.COLOR_RGB2YUV)[..., 0]
    ours = luminance(torch.from_numpy(image).permute(2, 0, 1) / 255)
    assert np.abs(255 * ours.numpy() - truth).max() < 0.52


@pytest.mark.parametrize('seed', range(5))
def test_against_numpys_histogram(seed):
    image = random_image(3, 37, 41, seed=seed)
    np.testing.assert_allclose(luminance_histogram(image).numpy(), numpy_histogram(image), atol=1e-6)


def test_every_image_of_a_batch_has_its_own():
    images = random_image(2, 4, 3, 16, 20)
    histograms = luminance_histogram(images)
    assert histograms.shape == (2, 4, BINS) and histograms.dtype == torch.float32
    for index in np.ndindex(2, 4):
        np.testing.assert_allclose(histograms[index].numpy(), numpy_histogram(images[index]), atol=1e-6)
    assert not torch.equal(histograms[0, 0], histograms[1, 0])


@pytest.mark.parametrize('grey, full_bin', [(0.0, 0), (0.05, 0), (0.31, 3), (0.99, 9), (1.0, 9)])
def test_a_plain_image_fills_one_bin(grey, full_bin):
    histogram = luminance_histogram(torch.full((3, 8, 8), grey))
    assert histogram.tolist() == [float(i == full_bin) for i in range(BINS)]


def test_colours_weigh_as_bt601_says():
    red, green, blue = (luminance_histogram(colour.view(3, 1, 1).expand(3, 4, 4)) for colour in torch.eye(3))
    assert [h.argmax().item() for h in (red, green, blue)] == [2, 5, 1]


def test_shares_are_rounded_to_per_cent():
    image = torch.zeros(3, 1, 300)
    image[..., 0] = 1  # one pixel in 300 is a third of a per cent
    image[..., 1:6] = 0.55  # five are 1.67 per cent
    histogram = luminance_histogram(image)
    np.testing.assert_allclose(histogram.numpy(), [0.98, 0, 0, 0, 0, 0.02, 0, 0, 0, 0], atol=1e-7)


@pytest.mark.parametrize('seed', range(5))
def test_sums_to_one_within_rounding(seed):
    histogram = luminance_histogram(random_image(3, 23, 29, seed=seed))
    assert abs(histogram.sum().item() - 1) <= BINS * 0.005 + 1e-6
    np.testing.assert_allclose(100 * histogram.numpy(), np.round(100 * histogram.numpy()), atol=1e-4)


def test_half_precision_images_have_nearly_the_same():
    image = random_image(3, 40, 40)
    assert (luminance_histogram(image.half()) - luminance_histogram(image)).abs().max() <= 0.02
