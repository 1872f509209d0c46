"""The last word on a reconstruction: its points found anew, then everything adjusted together."""

from pathlib import Path

from aprloc_ros.training.structure.colmap import answering_signals, ends_at_once, repeatable

PARALLAX_DEG = 0.5    # of a point; COLMAP's 1.5 leaves a view to the horizon without any
_ITERATIONS = 50      # as COLMAP's mapper does
_FEWEST_POINTS = 30   # of an image, as COLMAP wants for a pose: one that the mapper placed by fewer may belong elsewhere


def polished(pycolmap, reconstruction, database: Path, root: Path, work_dir: Path, fixed: set[int], seed: int):
    """The reconstruction with points found anew, and poses, points and all lenses but the fixed ones as these ask.

    These are within COLMAP's own limits, but for the parallax. The mapper's narrow limits keep what belongs elsewhere out while
    images come in one by one. Of blurred images they also cut off the larger half of the errors, which bends lens and poses; where
    all have their place, that can be undone. Images that even then see too few points are not in it any more.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    found = answering_signals(pycolmap.triangulate_points, reconstruction, database, root, work_dir, clear_points=True,
                              options=_points(pycolmap, seed))
    while loose := [image for number in found.reg_image_ids() if (image := found.images[number]).num_points3D < _FEWEST_POINTS]:
        for image in loose:
            found.deregister_frame(image.frame_id)
    config = pycolmap.BundleAdjustmentConfig()
    for number in found.reg_image_ids():
        config.add_image(number)
    for number in fixed.intersection(found.cameras):
        config.set_constant_cam_intrinsics(number)
    config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    with ends_at_once():
        pycolmap.create_default_bundle_adjuster(_options(pycolmap), config, found).solve()
    return found


def _points(pycolmap, seed: int):
    options = repeatable(pycolmap, seed)
    options.mapper.filter_min_tri_angle = options.triangulation.min_angle = PARALLAX_DEG
    return options


def _options(pycolmap):
    """Sums in a fixed order: the same on any machine's number of cores."""
    options = pycolmap.BundleAdjustmentOptions()
    options.ceres.solver_options.max_num_iterations = _ITERATIONS
    options.ceres.solver_options.num_threads = 1
    return options
