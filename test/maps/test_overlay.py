"""The picture of query, rendering and error map."""

import numpy as np

from aprloc_ros.viewing.overlay import PANEL_HEIGHT, error_map, overlay_image


def flat(colour, height=60, width=80):
    return np.full((height, width, 3), colour, np.uint8)


def panels(picture):
    """The three panels of equal width, without the gaps."""
    width = (picture.shape[1] - 8) // 3
    return [picture[:, start:start + width] for start in (0, width + 4, 2 * width + 8)]


def test_the_panels_show_query_rendering_and_their_difference():
    picture = overlay_image(flat((200, 40, 90)), flat((20, 160, 30)))
    assert picture.dtype == np.uint8 and picture.flags.c_contiguous
    assert picture.shape == (PANEL_HEIGHT, 3 * 320 + 8, 3)
    query, rendering, error = panels(picture)
    below_the_word = slice(40, None)
    assert (query[below_the_word] == (200, 40, 90)).all()
    assert (rendering[below_the_word] == (20, 160, 30)).all()
    assert (error[below_the_word] == error_map(flat((200, 40, 90)), flat((20, 160, 30)))[0, 0]).all()


def test_equal_pictures_have_a_black_error_map_and_opposite_ones_a_white_one():
    grey = flat((120, 130, 140))
    assert error_map(grey, grey).max() == 0
    assert error_map(flat((0, 0, 0)), flat((255, 255, 255))).min() == 255


def test_the_error_map_is_brighter_where_the_difference_is_larger_and_takes_both_signs_alike():
    query, rendering = np.random.default_rng(0).integers(0, 256, (2, 20, 30, 3)).astype(np.uint8)
    error = np.abs(query.astype(int) - rendering.astype(int)).sum(2)
    shown = error_map(query, rendering).astype(int).sum(2)
    order = np.argsort(error, axis=None)
    assert (np.diff(shown.ravel()[order]) >= 0).all()
    assert np.array_equal(error_map(query, rendering), error_map(rendering, query))


def test_large_and_portrait_pictures_are_brought_to_the_height_of_a_panel():
    assert overlay_image(flat((1, 2, 3), 960, 1280), flat((1, 2, 3), 960, 1280)).shape == (240, 3 * 320 + 8, 3)
    assert overlay_image(flat((1, 2, 3), 160, 90), flat((1, 2, 3), 160, 90)).shape == (240, 3 * 135 + 8, 3)


def test_the_inputs_are_left_as_they_were():
    query = flat((10, 20, 30), 240, 320)
    overlay_image(query, flat((0, 0, 0), 240, 320))
    assert (query == (10, 20, 30)).all()
