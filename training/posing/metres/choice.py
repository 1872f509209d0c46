"""Everything that a source says of metres, up, north and origin, put together to one frame."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import so3_exp
from aprloc_ros.placement.geodesy import GeodeticOrigin, from_enu
from aprloc_ros.placement.map_frame import ARBITRARY, METRE, MapFrame
from aprloc_ros.placement.upright import rotation_between, up_of_cameras
from aprloc_ros.recordings.bag_messages import ODOMETRY, POSE, POSE_WITH_COVARIANCE
from aprloc_ros.recordings.recording import Recording
from aprloc_ros.recordings.tf_tree import TfTree
from aprloc_ros.recordings.trajectory import Trajectory
from aprloc_ros.recordings.truth import read_tf, read_topic
from aprloc_ros.similarity import Similarity
from aprloc_ros.training.posing.metres.distance import check_distance, find_image, measure_distance
from aprloc_ros.training.posing.metres.gps import NAVSATFIX, fixes_of_bag, fixes_of_photos, measure_gps
from aprloc_ros.training.posing.metres.imu import IMU, up_of_imu
from aprloc_ros.training.posing.metres.measured import Measured, Posed, upright
from aprloc_ros.training.posing.metres.odometry import MAX_GAP_S, measure_odometry
from aprloc_ros.training.posing.metres.tags import check_side, measure_tags

_UP_FLOOR_RAD = math.radians(0.1)
_CONTRADICT_SIGMAS = 4.0
_OPPOSED_RAD = math.radians(150)
_Z = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)


@dataclass(frozen=True)
class Wishes:
    """What a user may say: the side of tags, a distance between two images, and which image the origin is at.

    Raises AprlocError for numbers that are none of such.
    """

    tag_side_m: float | None = None
    distance: tuple[str, str, float] | None = None
    origin: str | None = None

    def __post_init__(self):
        if self.tag_side_m is not None:
            check_side(self.tag_side_m)
        if self.distance is not None:
            check_distance(*self.distance)

    def check_names(self, names: Sequence[str]) -> None:
        """AprlocError for an image that is not among those of these names."""
        for name in (*(self.distance or ())[:2], *filter(None, [self.origin])):
            find_image(names, name)


NO_WISHES = Wishes()


@dataclass(frozen=True, eq=False)
class Metres:
    """change: from the frame of the poses to the one that is kept; frame: for the capture's frame.yaml; lines for the user."""

    change: Similarity
    frame: MapFrame
    lines: tuple[str, ...]


def find_metres(posed: Posed, read: Callable[[int], np.ndarray], recording: Recording | None = None, frame_id: str = '',
                wishes: Wishes = NO_WISHES) -> Metres:
    """Measure all that there is, and put it together.

    read: index -> image, for tags; recording: the bag that the images come from, and the frame_id of their topic. What a
    recording holds by chance and does not fit becomes a line; AprlocError for what the user asked for and is not to be had.
    """
    found, ups, lines = _asked(posed, read, wishes), [], []
    for measure in _offers(posed, recording, frame_id):
        try:
            result = measure()
        except AprlocError as error:
            lines.append(f'not used: {error}')
            continue
        (found if isinstance(result, Measured) else ups).append(result)
    return put_together(posed, found, ups, lines, find_image(posed.names, wishes.origin) if wishes.origin else 0)


def put_together(posed: Posed, found: list[Measured], ups: Sequence[tuple[Tensor, float, str]] = (), lines: Sequence[str] = (),
                 origin: int = 0) -> Metres:
    """The scale of the surest source, the mean of what is said of up, north where there is GPS, else that image looks along x;
    the origin at that image.

    ups: direction [3], its standard deviation in radians, and who says so, besides the cameras and what was found.
    """
    ups = [(*up_of_cameras(posed.T_map_cam), 'the cameras'), *ups,
           *((one.change.rotation[2], one.up_sd_rad, one.change.source) for one in found if math.isfinite(one.up_sd_rad))]
    up, up_text, opposed = _mean_up(ups)
    best = min(found, key=lambda one: one.change.scale_sd, default=None)
    change, geodetic = _placed(posed, origin, up, best, next((one for one in found if one.geodetic), None))
    lines = [*(one.text for one in found), *_contradictions(found, best), *lines, up_text, *opposed]
    if best is None:
        lines.append('the unit is ARBITRARY, not the metre: nothing in the recording tells the scale; record odometry or GPS, or '
                     'give the side of a tag or a distance')
        return Metres(change, MapFrame(ARBITRARY, 0.0, 'nothing in the recording tells the scale'), tuple(lines))
    lines.append(f'metres from {best.change.source}, to {100 * best.change.scale_sd:.2f} %')
    return Metres(change, MapFrame(METRE, best.change.scale_sd, best.change.source, geodetic), tuple(lines))


def _asked(posed: Posed, read: Callable[[int], np.ndarray], wishes: Wishes) -> list[Measured]:
    found = []
    if wishes.tag_side_m is not None:
        found.append(measure_tags(posed, wishes.tag_side_m, read))
    if wishes.distance is not None:
        found.append(measure_distance(posed, *wishes.distance))
    return found


def _offers(posed: Posed, recording: Recording | None, frame_id: str) -> Iterator[Callable]:
    """What could be measured, each for itself."""
    if recording is None:
        photos = fixes_of_photos(posed)
        if len(photos.geodetic):
            yield lambda: measure_gps(photos)
        return
    tree, frame = read_tf(recording), frame_id
    for topic in recording.counts(ODOMETRY, POSE, POSE_WITH_COVARIANCE):
        yield lambda topic=topic: measure_odometry(posed, read_topic(recording, topic)[0], f'odometry {topic}')
    yield from _of_tf(posed, tree, frame)
    for topic in recording.counts(NAVSATFIX):
        yield lambda topic=topic: measure_gps(fixes_of_bag(recording, topic, posed, tree, frame))
    for topic in recording.counts(IMU):
        yield lambda topic=topic: (*up_of_imu(recording, topic, posed, tree, frame), f'IMU {topic}')


def _of_tf(posed: Posed, tree: TfTree, frame: str) -> Iterator[Callable]:
    """TF that moves the camera, if there is some."""
    try:
        *_, root = tree.ancestors(frame)
        if posed.stamps_s is None or root == frame or not tree.moves(root, frame):
            return
    except AprlocError:   # transforms that are no tree: whoever needs them is told where he asks for them
        return

    def measure() -> Measured:
        T, known = tree.lookup(root, frame, posed.stamps_s, MAX_GAP_S)
        source = f'TF of {frame} in {root}'
        if known.sum() < 2:
            raise AprlocError(f'{source}: it is of another clock, or of another time')
        return measure_odometry(posed, Trajectory(posed.stamps_s[known], T[known]), source)

    yield measure


def _mean_up(ups: list[tuple[Tensor, float, str]]) -> tuple[Tensor, str, list[str]]:
    """Weighted by what each is sure of, and what to say of it; one that contradicts the surest is left aside.

    Where one says that up is down, a camera hangs, or a world is mirrored: on a floor both move alike.
    """
    sds = torch.tensor([max(sd, _UP_FLOOR_RAD) for _, sd, _ in ups], dtype=torch.float64)
    directions = torch.stack([up for up, _, _ in ups])
    surest = int(sds.argmin())
    off = torch.acos((directions @ directions[surest]).clamp(-1, 1))
    kept = off <= _CONTRADICT_SIGMAS * torch.hypot(sds, sds[surest]) + 1e-9
    weights = kept / sds ** 2
    up = (weights[:, None] * directions).sum(0)
    sd_deg = math.degrees(weights.sum().item() ** -0.5)
    names = ', '.join(dict.fromkeys(name for (_, _, name), used in zip(ups, kept.tolist()) if used))
    left = ''.join(f'; {name} says otherwise, by {math.degrees(angle):.1f} degrees'
                   for (_, _, name), used, angle in zip(ups, kept.tolist(), off.tolist()) if not used)
    opposed = [f'WARNING: what is up by {name} is down by {names}, which was taken: is the camera mounted upside down, are its images mirrored '
               '(by a driver that flips them), or are axes left-handed? Only a right map comes into a right frame by aprloc align'
               for (_, _, name), angle in zip(ups, off.tolist()) if angle > _OPPOSED_RAD]
    return up / up.norm(), f'z is up by {names}, to about {sd_deg:.2f} degrees{left}', opposed


def _placed(posed: Posed, index: int, up: Tensor, best: Measured | None, gps: Measured | None,
            ) -> tuple[Similarity, GeodeticOrigin | None]:
    """The frame with that image at its origin."""
    scale, scale_sd, source = (best.change.scale, best.change.scale_sd, best.change.source) if best else (1.0, math.inf, 'nothing')
    origin = posed.T_map_cam[index, :3, 3]
    if gps:
        rotation = rotation_between(gps.change.rotation @ up, _Z) @ gps.change.rotation
    else:
        level = upright(1.0, up, 0.0, '').rotation
        ahead = level @ posed.T_map_cam[index, :3, 2]
        rotation = so3_exp(-torch.atan2(ahead[1], ahead[0]) * _Z) @ level
    change = Similarity(scale, rotation, -scale * rotation @ origin, scale_sd, source)
    if gps is None:
        return change, None
    return change, GeodeticOrigin(*from_enu(gps.geodetic, gps.change.points(origin)).tolist())


def _contradictions(found: list[Measured], best: Measured | None) -> Iterator[str]:
    """Of sources whose scale differs from the surest by more than both allow."""
    for one in found:
        off = math.log(one.change.scale / best.change.scale)
        if abs(off) > _CONTRADICT_SIGMAS * math.hypot(one.change.scale_sd, best.change.scale_sd):
            yield (f'CONTRADICTION: {one.change.source} makes the place {math.exp(off):.3f} times as large as {best.change.source}, '
                   f'which is surer and was taken')
