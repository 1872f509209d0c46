"""Days of the demo place against closed forms: shadows, lamps, snow, and what no day may change."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_place import SMALL, TEXEL_M, look, pixel_rays

from aprloc_ros.cli import main
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.place import drive
from aprloc_ros.training.place.capture import CAMERA, photograph
from aprloc_ros.training.place.court import build_court
from aprloc_ros.training.place.days import DAYS, TODAY, Light
from aprloc_ros.training.place.drive import COURSES, SECOND_DRIVE, day_course, plan_drive
from aprloc_ros.training.place.raycast import Renderer, Scene
from aprloc_ros.training.place.rays import camera_rays, camera_windows, cast
from aprloc_ros.training.place.sensor import Sensor, develop
from aprloc_ros.training.place.solids import Box, Panel
from aprloc_ros.training.place.standing import standing
from aprloc_ros.training.place.weather import SNOW_ALBEDO

GREY = ((128 / 255 + 0.055) / 1.055) ** 2.4
TEXTURES = {'grey': np.full((40, 40, 3), 128, np.uint8), 'sky': np.full((40, 40, 3), 200, np.uint8)}
GROUND = Panel('grey', (-10.0, -10.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), 20.0, 20.0)
BLOCK = Box('grey', (0.0, 0.0, 0.5), (0.4, 0.25, 0.5))
ROOF = Panel('grey', (2.0, -2.0, 2.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), 2.0, 4.0)
ABOVE = look((1.5, -2.5, 4.5), (0.3, 0.3, 0.0))
TINY = CAMERA.resized(48, 36)
SUNNY = [day for day in DAYS.values() if day.to_sun]


def seen(day, solids=(GROUND, BLOCK), T_map_cam=ABOVE, lamps=(), camera=SMALL):
    """Radiance [H, W, 3] and the points [H, W, 3] that the pixels show."""
    colour, depth = Renderer(Scene(tuple(solids), TEXTURES, 0.1, day, lamps)).render(camera, T_map_cam)
    return colour, T_map_cam[:3, 3] + depth[..., None] * pixel_rays(camera, T_map_cam)


def inner(mask):
    """Without the pixels at its rim, whose colour is mixed."""
    return cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0


def dry(day):
    return replace(day, snow=0.0, water=0.0)


def test_today_is_as_it_was():
    """Photographed before there were other days; a machine with other vector instructions rounds otherwise."""
    before = cv2.imread(str(Path(__file__).parent / 'today.png'))[..., ::-1].astype(int)
    renderer = Renderer(build_court(0, 0.2))
    strip = [image for course in (*COURSES, SECOND_DRIVE) for image, *_ in photograph(renderer, course, 0, TINY, count=2)]
    difference = np.abs(np.concatenate(strip, 1) - before)
    assert (difference > 0).mean() < 0.002 and (difference > 1).mean() < 0.0005


@pytest.mark.parametrize('day', SUNNY, ids=lambda day: day.name)
def test_a_shadow_falls_where_the_sun_says(day):
    """The ground behind a block: within the hull of its corners, moved along the sun's rays, it has the sky alone."""
    colour, point = seen(dry(replace(day, lamps=None)), camera=CAMERA.resized(160, 120))
    corners = BLOCK.corners()
    hull = cv2.convexHull((corners - corners[:, 2:] / day.to_sun[2] * day.to_sun)[:, :2].astype(np.float32))
    inside_m = np.array([[cv2.pointPolygonTest(hull, (float(x), float(y)), True) for x, y in row] for row in point[..., :2]])
    ground = inner(np.abs(point[..., 2]) < 1e-3)
    shade, sun = ground & (inside_m > 0.1), ground & (inside_m < -0.1)
    assert shade.sum() > 20 and sun.sum() > 500
    np.testing.assert_allclose(colour[shade], np.broadcast_to(GREY * day.sky.rgb, colour[shade].shape), rtol=1e-3)
    bright = GREY * (day.sky.rgb + day.to_sun[2] * day.sun.rgb)
    np.testing.assert_allclose(colour[sun], np.broadcast_to(bright, colour[sun].shape), rtol=1e-3)


def test_lamps_light_a_plane_by_the_inverse_square():
    night, lamps = replace(DAYS['night'], sky=Light((0.0, 0.0, 0.0), 0.0)), ((0.5, 0.2, 1.5), (-1.0, 1.0, 3.0))
    colour, point = seen(night, (GROUND,), lamps=lamps)
    # 1 / d2, times the cosine z / d.
    expected = sum(lamp[2] / np.linalg.norm(point - lamp, axis=-1) ** 3 for lamp in np.array(lamps))
    np.testing.assert_allclose(colour[1:-1, 1:-1], (GREY * expected[..., None] * night.lamps.rgb)[1:-1, 1:-1], rtol=0.01)
    assert seen(night, (GROUND,))[0].max() == 0


def test_night_is_dark_and_its_photographs_are_noisy():
    T_map_cam = plan_drive(day_course(DAYS['night'])).T_map_cam[0]
    night, today = (Renderer(build_court(0, TEXEL_M, day)).render(SMALL, T_map_cam)[0] for day in (DAYS['night'], TODAY))
    assert night.mean() < 0.1 * today.mean()

    def noise(level, sensor):
        image, = develop([np.full((60, 80, 3), level, np.float32)], replace(sensor, vignetting=0.0), 0.1, np.random.default_rng(0))
        return image.std(), image.mean()
    sensor = DAYS['night'].sensor
    assert noise(0.005, sensor)[0] > 2 * noise(0.5, sensor)[0]
    assert noise(0.005, sensor)[1] == pytest.approx(noise(0.5, sensor)[1], rel=0.2)    # brought up to the same brightness
    assert noise(0.0005, sensor)[1] < 0.7 * noise(0.5, sensor)[1]                      # up to where amplification ends
    assert noise(0.005, Sensor()) == pytest.approx(noise(0.5, Sensor()), rel=0.01)


def test_snow_lies_on_what_faces_up_and_is_open_to_the_sky():
    snow = DAYS['snow']
    white, point = seen(snow, (GROUND, BLOCK, ROOF), camera=CAMERA.resized(160, 120))
    bare, _ = seen(dry(snow), (GROUND, BLOCK, ROOF), camera=CAMERA.resized(160, 120))
    x, y, z = np.moveaxis(point, -1, 0)
    on_block = (np.abs(x) < 0.38) & (np.abs(y) < 0.23)
    top, side = on_block & (np.abs(z - 1) < 1e-3), (np.abs(y + 0.25) < 1e-3) & (np.abs(x) < 0.3) & (z > 0.1) & (z < 0.9)
    ground = inner(np.abs(z) < 1e-3)
    covered, open_ground = ground & (x > 2.3) & (np.abs(y) < 1.6), ground & (x < 1.5) & (y < -0.5)
    assert min(part.sum() for part in (top, inner(side), covered, open_ground)) > 10
    np.testing.assert_array_equal(white[inner(side)], bare[inner(side)])
    np.testing.assert_allclose(white[covered], bare[covered], rtol=1e-3)
    whitened = white / bare * GREY                      # the albedo that it looks to have
    for part in (inner(top), open_ground):
        assert (whitened[part].mean(0) > 0.7 * SNOW_ALBEDO).all()


def test_wet_ground_mirrors_what_stands_on_it():
    """A bright wall across wet ground: with Schlick's share of the wall, whose image has the wall's own brightness."""
    wet = replace(DAYS['wet'], lamps=None)
    T_map_cam = look((0.0, -6.0, 1.0), (0.0, 0.0, 0.3))
    wall = Panel('grey', (-10.0, 1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0), 20.0, 8.0, tint=(50.0, 50.0, 50.0))
    colour, point = seen(wet, (GROUND, wall), T_map_cam)
    ground = (np.abs(point[..., 2]) < 1e-3) & (point[..., 1] < 0.8)
    ray = pixel_rays(SMALL, T_map_cam)[ground]
    fresnel = 0.02 + 0.98 * (1 - np.abs(ray[:, 2]) / np.linalg.norm(ray, axis=1)) ** 5
    brightness = 50 * GREY * (wet.sky.rgb + wet.bounce.rgb) / 2
    share = (colour[ground] / brightness).mean(1) / fresnel
    assert 0.35 < np.percentile(share, 5) and np.percentile(share, 95) < 1.1     # a film, puddles


def test_a_seed_decides_a_day_and_a_day_differs():
    def scene(seed, name):
        return build_court(seed, 0.2, DAYS[name])
    first, again, other = scene(3, 'wet'), scene(3, 'wet'), scene(4, 'wet')
    assert first.solids == again.solids and first.solids != other.solids
    T_map_cam = look((-2.0, -4.5, 1.1), (-15.0, 2.0, 2.0))
    views = [Renderer(s).render(TINY, T_map_cam)[0] for s in (first, again)]
    np.testing.assert_array_equal(*views)
    stood = [tuple(standing(day, 0)) for day in DAYS.values()]
    assert len(set(stood)) == len(DAYS)


@pytest.mark.parametrize('name', list(DAYS))
def test_truth_is_that_of_the_solids_whatever_the_light(name):
    """The depth is today's but where something stands elsewhere, and the robot keeps clear of all that stands."""
    day = DAYS[name]
    scene, today = build_court(0, 0.2, day), build_court(0, 0.2)
    course = day_course(day)
    T_map_cam = plan_drive(course).T_map_cam
    moved = tuple(standing(day, 0) + standing(TODAY, 0))
    rays = camera_rays(SMALL, T_map_cam[40])

    def depth(solids):
        corners = np.stack([solid.corners() for solid in solids])
        return cast(solids, *rays, camera_windows(corners, SMALL, T_map_cam[40]))[0]
    np.testing.assert_array_equal(depth(scene.solids)[np.isinf(depth(moved))], depth(today.solids)[np.isinf(depth(moved))])
    lamps_lit, drawn = Renderer(scene).render(SMALL, T_map_cam[40])
    np.testing.assert_array_equal(drawn, np.where(np.isinf(depth(scene.solids)), 0, depth(scene.solids)))
    assert np.isfinite(lamps_lit).all() and (lamps_lit >= 0).all()
    centres = np.array([solid.corners().mean(0)[:2] for solid in standing(day, 0)])
    reach_m = np.array([np.ptp(solid.corners()[:, :2], axis=0).max() / 2 for solid in standing(day, 0)])
    away_m = np.linalg.norm(T_map_cam[:, None, :2, 3] - centres, axis=-1) - reach_m
    assert away_m.min() > 0.3 and (np.abs(centres) < (15, 11)).all()


def test_the_command_writes_a_drive_of_that_day(tmp_path, monkeypatch, capsys):
    short = replace(day_course(DAYS['night']), frames=8)
    monkeypatch.setattr(drive, 'day_course', lambda day: short)
    assert main(['place', str(tmp_path / 'night'), '--day', 'night']) == 0
    assert 'night' in capsys.readouterr().out
    capture = read_capture(tmp_path / 'night')
    frames = {frame.name: frame for frame in capture.train + capture.test}
    T_map_cam = plan_drive(short).T_map_cam
    for name, frame in frames.items():
        np.testing.assert_allclose(frame.T_map_cam, T_map_cam[int(Path(name).stem)], atol=1e-12)
        assert frame.depth_path.exists()
    assert main(['place', str(tmp_path / 'noon'), '--day', 'noon']) == 1
    assert "day 'noon' must be one of today, overcast" in capsys.readouterr().err
