"""The lenses of images to be posed: what is known of them beforehand, and whether the images bear it out."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from aprloc_ros.camera import Camera, may_have_taken
from aprloc_ros.errors import AprlocError
from aprloc_ros.lens import Lens
from aprloc_ros.manifest import Manifest
from aprloc_ros.training.datasets.intrinsics import make_camera, parameter_names
from aprloc_ros.training.posing.sources.shots import Optics, Shot
from aprloc_ros.training.structure.colmap import ends_at_once
from aprloc_ros.training.structure.lens import is_far, moved_px, to_colmap

_UNKNOWN_MODEL = 'RADIAL'    # f cx cy k1 k2
_ITERATIONS = 30
_USUAL_FOCAL = 1.2           # of the longer side, to begin with: COLMAP's


def colmap_camera(pycolmap, optics: Optics):
    """COLMAP's: calibrated, or with the focal length that its maker says, or a usual one."""
    if optics.camera is not None:
        model, parameters = to_colmap(optics.camera)
        camera = pycolmap.Camera(model=model, width=optics.width, height=optics.height, params=parameters)
    else:
        focal_px = optics.focal_px or _USUAL_FOCAL * max(optics.width, optics.height)
        camera = pycolmap.Camera.create_from_model_name(0, _UNKNOWN_MODEL, focal_px, optics.width, optics.height)
    camera.has_prior_focal_length = bool(optics.camera or optics.focal_px)
    return camera


def of_the_map(shot: Shot, manifest: Manifest) -> Camera:
    """What took an image that goes into a map: without calibration what took the map's drive.

    Raises AprlocError for an image that this cannot have taken.
    """
    optics, own = shot.optics, manifest.taken_by or manifest.camera
    if optics.camera is None and not may_have_taken(own, optics.width, optics.height):
        raise AprlocError(f'{shot.name}: the image is {optics.width}x{optics.height}, not of the aspect of the map\'s camera '
                          f'({own.width}x{own.height}); put a camera.yaml of ROS with the images, or record camera_info')
    return manifest.source(optics.camera, optics.width, optics.height)


def calibrated(shots: Iterable[Shot]) -> dict[int, Camera]:
    """By COLMAP's number, which counts lenses in the order of their images."""
    lenses = dict.fromkeys(shot.optics for shot in shots)
    return {number: optics.camera for number, optics in enumerate(lenses, 1) if optics.camera is not None}


def describe(shots: Iterable[Shot]) -> Iterator[str]:
    """What is known of each lens, in words."""
    for optics, count in Counter(shot.optics for shot in shots).items():
        known = 'calibrated, kept as it is' if optics.camera else \
            f'focal length {optics.focal_px:.0f} px by EXIF, refined' if optics.focal_px else 'unknown, estimated'
        yield f'lens of {count} images of {optics.width}x{optics.height}: {known}'


def found_cameras(reconstruction) -> dict[int, Camera]:
    """The cameras of a reconstruction of pycolmap, by their number."""
    found = {}
    for number, camera in reconstruction.cameras.items():
        values = dict(zip(parameter_names(camera.model_name, ''), map(float, camera.params)))
        found[number] = make_camera(camera.model_name, camera.width, camera.height, values, f'camera {number}')
    return found


def doubts(pycolmap, reconstruction, declared: Mapping[int, Camera]) -> Iterator[str]:
    """A line for each calibrated lens that the images contradict: it moves far where bundle adjustment may move it."""
    declared = {number: camera for number, camera in declared.items() if number in reconstruction.cameras}
    if not declared:
        return
    free, config = pycolmap.Reconstruction(reconstruction), pycolmap.BundleAdjustmentConfig()
    for number in free.reg_image_ids():
        config.add_image(number)
    config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    options = pycolmap.BundleAdjustmentOptions()
    options.ceres.loss_function_type = pycolmap.LossFunctionType.CAUCHY
    options.ceres.solver_options.max_num_iterations = _ITERATIONS
    options.ceres.solver_options.num_threads = 1
    with ends_at_once():
        pycolmap.create_default_bundle_adjuster(options, config, free).solve()
    found = found_cameras(free)
    for number, camera in declared.items():
        lens = Lens(camera, found[number])
        if is_far(lens):
            yield (f'WARNING: the images say f {lens.found.fx:.1f} {lens.found.fy:.1f}, the calibration f {camera.fx:.1f} '
                   f'{camera.fy:.1f}, {moved_px(lens):.0f} pixels apart: is it of this camera and mode? the poses are bent by '
                   f'it; calibrate anew, or record without camera_info and the lens is estimated')
