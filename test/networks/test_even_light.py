"""What the extractor sees of an image does not change with exposure, the light's colour, slow light and the tone curve."""

import pytest
import torch
from torch.nn import functional as F

from aprloc_ros.errors import AprlocError
from aprloc_ros.networks.even_light import even_light
from aprloc_ros.networks.extractor import Extractor, build_extractor


@pytest.fixture(scope='module')
def image():
    """[1, 3, 96, 128]: coloured blobs of a strong contrast, dark enough to be lit twice as brightly."""
    u = torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(0))
    return 0.05 + 0.35 * F.interpolate(u, (96, 128), mode='bilinear', align_corners=False)


@pytest.mark.parametrize('light', [(2.0, 2.0, 2.0), (0.3, 0.3, 0.3), (1.6, 1.0, 0.35), (0.6, 0.9, 1.6)])
def test_exposure_and_the_lights_colour_change_nothing(image, light):
    lit = image * torch.tensor(light).view(1, 3, 1, 1)
    torch.testing.assert_close(even_light(lit), even_light(image), atol=1e-4, rtol=1e-4)


def test_a_tone_curve_and_slow_light_hardly_change_the_contrast(image):
    seen = even_light(image)[:, 0]
    x = torch.linspace(0.25, 1.0, 128).expand(96, 128)
    for lit in (image ** 0.7, image ** 1.4, image * x):
        found = even_light(lit)[:, 0]
        assert (found - seen).std() < 0.25 * seen.std()
        assert torch.corrcoef(torch.stack([found.flatten(), seen.flatten()]))[0, 1] > 0.97
        assert (lit - image).abs().mean() > 0.05


def test_a_pattern_that_moves_moves_what_is_seen(image):
    """Windows are laid on every fourth pixel: they move with it."""
    wide = torch.cat([image, image.flip(-1)], -1)      # goes on as it began when it is rolled
    seen, moved = even_light(wide), even_light(wide.roll(8, -1))
    torch.testing.assert_close(moved[..., 48:-48], seen.roll(8, -1)[..., 48:-48], atol=1e-4, rtol=1e-4)


def test_an_even_grey_wall_shows_nothing():
    assert even_light(torch.full((1, 3, 64, 80), 0.4)).abs().max() < 1e-2


@pytest.mark.parametrize('level', [0.0, 1.0])
def test_black_and_white_are_finite_and_so_are_their_slopes(level):
    image = torch.full((1, 3, 32, 48), level, requires_grad=True)
    seen = even_light(image)
    seen.square().sum().backward()
    assert torch.isfinite(seen).all() and torch.isfinite(image.grad).all()


def test_its_slopes_are_those_of_differences(image):
    small = image[..., :32, :32].double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: even_light(x)[..., ::7, ::7], small, nondet_tol=0, fast_mode=True)


def test_an_extractor_sees_colours_unless_it_is_told_otherwise(image):
    assert build_extractor('nre', {}).input == 'rgb'
    torch.manual_seed(0)
    model = build_extractor('nre', {'input': 'even_light'}).eval()
    torch.testing.assert_close(model(2 * image).fine, model(image).fine, atol=1e-3, rtol=1e-3)
    with pytest.raises(AprlocError, match='input is .hsv.; it must be rgb or even_light'):
        Extractor(input='hsv')
