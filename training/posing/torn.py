"""Images that match one another where their poses do not: of places that look alike, which may have been taken for one."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from aprloc_ros.errors import AprlocError
from aprloc_ros.training.checks.evidence import Evidence
from aprloc_ros.training.posing.posed import camera_poses
from aprloc_ros.training.posing.sources.shots import Shot
from aprloc_ros.training.structure.two_views import ViewPair

_FEWEST_MATCHES = 40
_MOST_MATCHES = 40     # of a pair: what more of them say is the same
_FOLLOWING, _FEWEST_TORN = 4, 3     # images from one to the next; pairs of such
_OUTLIER, _LEAST_RAD = 5.0, 0.01   # times the residual that a quarter of the pairs has not; and at least


def check_torn(pycolmap, reconstruction, database: Path, shots: Mapping[str, Shot], is_video: bool) -> str:
    """A warning where places that look alike seem to have been taken for one: images that follow one another, and match, came apart.
    Empty elsewhere: where only others do, such places lie apart as they should. shots: by name, as they were taken.

    AprlocError where that is sure, in a video.
    """
    place = {name: number for number, name in enumerate(shots)}
    torn = [(a, b) for a, b in torn_pairs(pycolmap, reconstruction, database)[0]
            if abs(place[a] - place[b]) <= _FOLLOWING and shots[a].sequence == shots[b].sequence]
    if len(torn) < _FEWEST_TORN:
        return ''
    text = (f'{len(torn)} pairs of images that follow one another match, but not as they were posed, {" and ".join(torn[0])} say: places '
            'that look alike were taken for one')
    if is_video:
        raise AprlocError(f'{text}; pose each of these places by itself, or record what tells them apart')
    return f'WARNING: {text}? look at the top view before you build'


def torn_pairs(pycolmap, reconstruction, database: Path) -> tuple[list[tuple[str, str]], int]:
    """Names of the pairs of images of a reconstruction whose matches its poses contradict, and how many pairs there are."""
    posed = camera_poses(reconstruction)
    names = list(posed)
    index = {name: number for number, name in enumerate(names)}
    pairs, registered = [], set(reconstruction.reg_image_ids())
    with pycolmap.Database.open(database) as stored:
        rays = {}
        for pair, geometry in zip(*stored.read_two_view_geometries()):
            numbers, matches = pycolmap.pair_id_to_image_pair(pair), geometry.inlier_matches
            if len(matches) < _FEWEST_MATCHES or not registered.issuperset(numbers):
                continue
            images = [reconstruction.images[number] for number in numbers]
            for image in images:
                if image.image_id not in rays:
                    rays[image.image_id] = _rays(reconstruction.cameras[image.camera_id], stored.read_keypoints(image.image_id))
            some = matches[np.linspace(0, len(matches) - 1, _MOST_MATCHES).round().astype(int)]
            seen = np.stack([rays[image.image_id][some[:, side]] for side, image in enumerate(images)])
            pairs.append(ViewPair(*(index[image.name] for image in images), seen, np.full((3, 3), np.nan)))
    if not pairs:
        return [], 0
    evidence = Evidence(tuple(pairs))
    off_rad = evidence.of_pairs(evidence.residuals(np.stack([posed[name].numpy() for name in names])))
    is_off = off_rad > max(_OUTLIER * float(np.nanquantile(off_rad, 0.25)), _LEAST_RAD)
    return [(names[pairs[i].first], names[pairs[i].second]) for i in np.flatnonzero(is_off)], len(pairs)


def _rays(camera, keypoints: np.ndarray) -> np.ndarray:
    """Unit directions [N, 3] of keypoints [N, 2 or more]."""
    xy = camera.cam_from_img(keypoints[:, :2].astype(np.float64))
    rays = np.concatenate([xy, np.ones_like(xy[:, :1])], 1)
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)
