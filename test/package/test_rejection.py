"""The shipped map on images of other places, and on what is no image of a place at all: no confident pose."""


import numpy as np
import pytest
from repository import DATA, ROOT

from aprloc_ros.localizer import Localizer
from aprloc_ros.map_bundle import load_map
from aprloc_ros.training.datasets import read_capture


@pytest.fixture(scope='module')
def localizer():
    return Localizer(load_map(ROOT / 'maps' / 'demo', 'cpu'), 'cpu')


@pytest.mark.parametrize(('name', 'every'), [('redkitchen', 4), ('fox', 1)])
def test_images_of_another_capture_are_rejected(localizer, name, every):
    if not (DATA / name).is_dir():
        pytest.skip(f'no {DATA / name}')
    capture = read_capture(DATA / name)
    frames = (*capture.test, *capture.train)[:100:every] if name == 'redkitchen' else (*capture.test, *capture.train)
    statuses = [localizer.localize(frame.read_image(), frame.camera).status for frame in frames]
    assert statuses.count('rejected') >= 0.95 * len(statuses), f'{statuses.count("rejected")} of {len(statuses)}'


@pytest.mark.parametrize('image', [
    np.zeros((240, 320, 3), np.uint8), np.full((240, 320, 3), 255, np.uint8),
    np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)], ids=['black', 'white', 'noise'])
def test_what_is_no_place_is_rejected(localizer, image):
    assert localizer.localize(image).status == 'rejected'
