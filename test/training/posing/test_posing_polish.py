"""A reconstruction's last adjustment, on synthetic images of a lens and poses that are known."""

import shutil

import pytest

pycolmap = pytest.importorskip('pycolmap')

import numpy as np
import torch

from aprloc_ros.training.benchmarks.measures.laying import errors_after_similarity
from aprloc_ros.training.posing.joining import join
from aprloc_ros.training.posing.mapping import map_parts
from aprloc_ros.training.posing.polish import polished
from aprloc_ros.training.posing.posed import camera_poses

LENS = [500.0, 320.0, 240.0, 0.05]   # COLMAP's SIMPLE_RADIAL
POINTS, IMAGES = 300, 12


@pytest.fixture(scope='module')
def blurred(tmp_path_factory):
    """Folder, database, true poses by name, and what the mapper makes of features that are 1.5 pixels off in images of 640."""
    folder = tmp_path_factory.mktemp('synthetic')
    database = folder / 'database.db'
    pycolmap.set_random_seed(0)
    options = pycolmap.SyntheticDatasetOptions(num_rigs=1, num_frames_per_rig=IMAGES, num_points3D=POINTS, camera_width=640,
                                               camera_height=480, camera_params=LENS)
    with pycolmap.Database.open(database) as stored:
        model = pycolmap.synthesize_dataset(options, stored)
        truth = camera_poses(model)
        pycolmap.synthesize_noise(pycolmap.SyntheticNoiseOptions(point2D_stddev=1.5), model, stored)
    return folder, database, truth, map_parts(pycolmap, database, folder, folder / 'models', set(), 0, list(truth))[0]


def errors(model, truth):
    found = camera_poses(model)
    assert found.keys() == truth.keys()
    return errors_after_similarity(*(torch.stack([poses[name] for name in sorted(truth)]) for poses in (found, truth)))


def test_what_narrow_limits_bend_is_straightened(blurred):
    folder, database, truth, mapped = blurred
    before, distorted = errors(mapped, truth), abs(mapped.cameras[1].params[3] - LENS[3])
    found = polished(pycolmap, mapped, database, folder, folder / 'polished', set(), 0)
    assert all(after < 0.6 * were for after, were in zip(errors(found, truth), before, strict=True))
    assert abs(found.cameras[1].params[3] - LENS[3]) < 0.25 * distorted
    assert found.num_points3D() == pytest.approx(POINTS, rel=0.02)   # none of them twice


def test_images_find_their_place_among_the_keys(blurred, tmp_path):
    """Every second image makes the structure, the others join it."""
    folder, database, truth, _ = blurred
    keys = sorted(truth)[::2]
    made = map_parts(pycolmap, database, folder, tmp_path / 'models', set(), 0, keys)[0]
    assert camera_poses(made).keys() == set(keys)
    joined = join(pycolmap, made, database, pycolmap.IncrementalPipelineOptions(), len(truth))
    errors(joined, truth)    # all of them are there
    places, turned_deg = errors(polished(pycolmap, joined, database, folder, tmp_path, set(), 0), truth)
    whole = errors(polished(pycolmap, map_parts(pycolmap, database, folder, tmp_path / 'whole', set(), 0, list(truth))[0], database,
                            folder, tmp_path, set(), 0), truth)
    assert places < 1.5 * whole[0] and turned_deg < 1.5 * whole[1]


def test_a_lens_that_is_known_stays_and_it_ends_alike_each_time(blurred):
    folder, database, truth, mapped = blurred
    once, again = (polished(pycolmap, mapped, database, folder, folder / 'polished', {1}, 0) for _ in range(2))
    assert list(once.cameras[1].params) == list(mapped.cameras[1].params)
    assert errors(once, truth) == errors(again, truth)


def test_an_image_that_few_points_hold_is_left_out(blurred, tmp_path):
    """Its matches with the others are cut to those of 20 of its features."""
    folder, database, truth, mapped = blurred
    fewer, loose = shutil.copy(database, tmp_path / 'database.db'), 5
    with pycolmap.Database.open(fewer) as stored:
        for pair, geometry in zip(*stored.read_two_view_geometries()):
            both = pycolmap.pair_id_to_image_pair(pair)
            if loose in both:
                column = geometry.inlier_matches[:, both.index(loose)]
                geometry.inlier_matches = geometry.inlier_matches[column < 20]
                stored.update_two_view_geometry(*both, geometry)
        name = stored.read_image(loose).name
    found = polished(pycolmap, mapped, fewer, folder, tmp_path / 'polished', set(), 0)
    assert camera_poses(found).keys() == truth.keys() - {name}


def test_a_view_to_the_horizon_stays(tmp_path):
    """From twelve places so near to one another that no two of them see a point by a degree apart."""
    pycolmap.set_random_seed(0)
    options = pycolmap.SyntheticDatasetOptions(num_rigs=1, num_frames_per_rig=IMAGES, num_points3D=POINTS, camera_width=640,
                                               camera_height=480, camera_params=LENS)
    with pycolmap.Database.open(tmp_path / 'database.db') as stored:
        model = pycolmap.synthesize_dataset(options, stored)
        first = model.images[min(model.reg_image_ids())]
        eye = first.projection_center()
        reach = 0.4 * np.deg2rad(1) * min(np.linalg.norm(point.xyz - eye) for point in model.points3D.values())
        for index, number in enumerate(model.reg_image_ids()):
            image, angle = model.images[number], 2 * np.pi * index / IMAGES
            pose = first.cam_from_world()
            image.frame.set_cam_from_world(image.camera_id, pycolmap.Rigid3d(
                pose.rotation, pose.translation + reach * np.array([np.cos(angle), np.sin(angle), 0.0])))
            seen = [image.project_point(model.points3D[p.point3D_id].xyz) if p.has_point3D() else p.xy for p in image.points2D]
            assert all(xy is not None for xy in seen)
            stored.update_keypoints(number, np.array(seen, dtype=np.float32))
    found = polished(pycolmap, model, tmp_path / 'database.db', tmp_path, tmp_path / 'polished', {1}, 0)
    assert found.num_reg_images() == IMAGES
