"""SIFT in COLMAP's database, the same on any number of cores.

A feature depends on its image alone; what several threads exchange is the order in which they end, so images are numbered
afterwards, in the order of their names' list.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from aprloc_ros.training.structure.colmap import answering_signals
from aprloc_ros.training.structure.space import room_for

FEATURES = 2048
_BYTES = 2 * FEATURES * (128 + 6 * 4)   # of an image: its descriptors and keypoints, in two databases until it is numbered
_LONGEST_SIDE = 1000
_IMAGES_AT_ONCE = 4 * (os.cpu_count() or 1)   # about a second or two: so often Python shows how far it is


def extract(pycolmap, database: Path, root: Path, cameras: Mapping[str, object], masks: Path | None = None):
    """SIFT of the images by name below root, into a new database that numbers them 1, 2, ... in this order.

    cameras: image -> pycolmap.Camera; images that share an object share a camera. masks: a folder that may hold NAME.png,
    black where an image has no features. Whatever an interrupted call left beside the database is taken up. Unwritten where the
    disk is too full.
    """
    found = database.with_suffix('.sift')
    with room_for(len(cameras) * _BYTES, database.parent):
        _extract_in_any_order(pycolmap, found, root, list(cameras), masks)
        _number(pycolmap, found, database, cameras)
    found.unlink()


def _number(pycolmap, found: Path, database: Path, cameras: Mapping[str, object]):
    unfinished = database.with_suffix('.part')
    unfinished.unlink(missing_ok=True)
    with pycolmap.Database.open(unfinished) as target, pycolmap.Database.open(found) as source:
        numbers = {image.name: image.image_id for image in source.read_all_images()}
        rig_of = {}
        for name, camera in cameras.items():
            if id(camera) not in rig_of:
                rig_of[id(camera)] = _add_camera(pycolmap, target, camera)
            number = _add_image(pycolmap, target, name, *rig_of[id(camera)])
            target.write_keypoints(number, source.read_keypoints(numbers[name]))
            target.write_descriptors(number, source.read_descriptors(numbers[name]))
    unfinished.replace(database)


def _extract_in_any_order(pycolmap, database: Path, root: Path, names: list[str], masks: Path | None):
    options = pycolmap.FeatureExtractionOptions()
    options.max_image_size = _LONGEST_SIDE
    options.sift.max_num_features = FEATURES
    reading = pycolmap.ImageReaderOptions()
    if masks and masks.is_dir():
        reading.mask_path = masks
    with pycolmap.Database.open(database) as stored:
        done = {image.name for image in stored.read_all_images() if stored.exists_descriptors(image.image_id)}
    with tqdm(total=len(names), initial=len(done), desc='SIFT', unit='image', leave=False, mininterval=2.0) as bar:
        for few in _in_parts([name for name in names if name not in done], _IMAGES_AT_ONCE):
            answering_signals(
                pycolmap.extract_features, database, root, image_names=few, camera_mode=pycolmap.CameraMode.PER_IMAGE,
                reader_options=reading, extraction_options=options, device=pycolmap.Device.cpu)
            bar.update(len(few))


def _in_parts(items: Sequence, count: int) -> Iterator[Sequence]:
    return (items[start:start + count] for start in range(0, len(items), count))


def _add_camera(pycolmap, database, camera) -> tuple[int, int, object]:
    """Camera and rig numbers, and the sensor, of a camera that is a rig of its own."""
    bare = pycolmap.Camera(model=camera.model, width=camera.width, height=camera.height, params=camera.params)
    bare.has_prior_focal_length = camera.has_prior_focal_length
    number = database.write_camera(bare)
    sensor = pycolmap.sensor_t(type=pycolmap.SensorType.CAMERA, id=number)
    rig = pycolmap.Rig()
    rig.add_ref_sensor(sensor)
    return number, database.write_rig(rig), sensor


def _add_image(pycolmap, database, name: str, camera: int, rig: int, sensor) -> int:
    number = database.write_image(pycolmap.Image(name=name, camera_id=camera))
    frame = pycolmap.Frame(rig_id=rig)
    frame.add_data_id(pycolmap.data_t(sensor_id=sensor, id=number))
    database.write_frame(frame)
    return number
