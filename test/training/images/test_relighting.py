"""Relightings do to linear light what their names say."""

import cv2
import numpy as np
import pytest

from aprloc_ros.training.benchmarks.measures.relighting import relightings

RELIGHTINGS = relightings()


@pytest.fixture(scope='module')
def photograph():
    image = np.random.default_rng(0).integers(20, 200, (20, 16, 3), np.uint8)
    return cv2.resize(image, (160, 120), interpolation=cv2.INTER_LINEAR)


@pytest.fixture(scope='module')
def factors(photograph):
    """By name: what each pixel's linear light was multiplied by."""
    light = (photograph / 255) ** 2.2
    return {name: (relight(photograph, np.random.default_rng(1)) / 255) ** 2.2 / light for name, relight in RELIGHTINGS.items()}


def find(factors, beginning):
    return next(value for name, value in factors.items() if name.startswith(beginning))


def test_there_are_ten_and_chance_has_a_seed(photograph):
    assert len(RELIGHTINGS) == 10
    for relight in RELIGHTINGS.values():
        first, again = (relight(photograph, np.random.default_rng(1)) for _ in range(2))
        assert np.array_equal(first, again) and first.shape == photograph.shape and first.dtype == np.uint8
        assert not np.array_equal(first, photograph)


@pytest.mark.parametrize(('name', 'gains'), [('warm lamp', (0.96, 0.6, 0.21)), ('cool shade', (0.24, 0.36, 0.64)),
                                             ('dark', (0.15,) * 3), ('very dark', (0.04,) * 3)])
def test_gains_are_those_of_the_name(factors, name, gains):
    np.testing.assert_allclose(np.median(find(factors, name), axis=(0, 1)), gains, rtol=0.1)


def test_overexposure_clips(factors, photograph):
    found = find(factors, 'x4')
    dark = (photograph / 255) ** 2.2 < 0.2
    np.testing.assert_allclose(found[dark], 4, rtol=0.05)
    assert found[~dark].max() < 5 and found[(photograph / 255) ** 2.2 > 0.5].max() < 2.01


def test_local_light_and_shadows_are_local(factors):
    field = find(factors, 'local light 0.1')[..., 1]
    assert np.median(field[:8, :8]) != pytest.approx(np.median(field[-8:, -8:]), rel=0.1)
    assert field.min() < 0.2 and field.max() > 1
    shade = find(factors, 'hard')
    shaded, lit = np.abs(shade - 0.15) < 0.04, np.abs(shade - 1) < 0.01
    assert (shaded | lit).mean() > 0.97 and 0.02 < shaded.mean() < 0.9
