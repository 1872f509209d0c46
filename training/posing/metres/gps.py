"""Metres, up, north and a place on Earth from GPS: fixes of a bag, or those in the EXIF of photos."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import nearest_rotation, skew, so3_exp
from aprloc_ros.placement.geodesy import GeodeticOrigin, from_enu, to_enu
from aprloc_ros.placement.robust_fit import robust_fit
from aprloc_ros.placement.slow_errors import scatter
from aprloc_ros.placement.upright import rotation_between, up_of_cameras
from aprloc_ros.recordings.message_fields import stamp_ns
from aprloc_ros.recordings.recording import Recording
from aprloc_ros.recordings.tf_tree import TfTree
from aprloc_ros.recordings.trajectory import make_trajectory
from aprloc_ros.similarity import Similarity
from aprloc_ros.training.posing.metres.measured import Measured, Posed

NAVSATFIX = 'sensor_msgs/msg/NavSatFix'
_MAX_GAP_S = 3.0        # between two images that a fix is interpolated between
_FEWEST = 10            # fixes
_TOGETHER_S = 2.0       # fixes so near in time err together
_LEVER_SD_M = 0.3       # of the antenna's place beside the camera, where nobody says; of a phone's; as TF says it
_PHONE_LEVER_SD_M, _TF_LEVER_SD_M = 0.05, 0.01
_UP_SD_RAD = 0.009      # how far the cameras' word on up is trusted, at best
_MOST_DOUBT, _MOST_DOUBT_DEG = 0.05, 5.0
_GPS_IFD = 0x8825       # Exif 2.32, section 4.6.6: 1-2 latitude, 3-4 longitude, 5-6 altitude


@dataclass(frozen=True, eq=False)
class Fixes:
    """geodetic [M, 3] (degrees, degrees, metres) and the cameras [M, 4, 4] of the map that they belong to."""

    geodetic: Tensor
    T_map_cam: Tensor
    clusters: Tensor     # [M] int64: fixes of one number err together
    source: str
    lever: Tensor        # [3] metres: the antenna in the camera's axes
    lever_sd_m: float    # how far that is trusted

    @property
    def is_flat(self) -> bool:
        """Whether no altitude is known (NaN in all)."""
        return bool(self.geodetic[:, 2].isnan().all())


@dataclass(frozen=True, eq=False)
class _Place:
    change: Similarity
    lever: Tensor        # [3] metres: the antenna in the camera's axes

    def moved(self, step: Tensor) -> '_Place':
        """step [10]: log scale, rotation, translation, lever."""
        c = self.change
        change = replace(c, scale=c.scale * math.exp(step[0].item()), translation=c.translation + step[4:7],
                         rotation=nearest_rotation(so3_exp(step[1:4]) @ c.rotation))
        return _Place(change, self.lever + step[7:])


def measure_gps(fixes: Fixes) -> Measured:
    """The map in east, north, up of its first camera.

    Least squares of all fixes, along the ground and upwards each with its own spread, robustly, with an antenna that may sit
    beside the camera. Up is mostly the cameras' word: GPS is worst there; without altitudes it is theirs alone. Raises
    AprlocError where the fixes are too few, or too coarse for the drive.
    """
    fixes, said = _with_altitudes(fixes)
    if len(fixes.geodetic) < _FEWEST:
        raise AprlocError(f'{fixes.source}: {len(fixes.geodetic)} fixes belong to images; it takes {_FEWEST}')
    geodetic = fixes.geodetic.nan_to_num(0.0)
    if (geodetic[:, :2] == geodetic[0, :2]).all():
        raise AprlocError(f'{fixes.source} is silent: all of its fixes are the same place, while the images move')
    origin = _origin(geodetic.median(0).values)
    first = _fitted(fixes, to_enu(origin, geodetic))[0].change.points(fixes.T_map_cam[0, :3, 3])
    origin = _origin(from_enu(origin, first))   # the first camera, so that z is up there
    place, sd, spread_m = _fitted(fixes, to_enu(origin, geodetic))
    scale_sd, turn_sd = sd[0].item(), sd[1:4]
    heading_deg = math.degrees(turn_sd[2].item())
    if not (scale_sd < _MOST_DOUBT and heading_deg < _MOST_DOUBT_DEG):
        raise AprlocError(f'{fixes.source} is too coarse for this drive: its fixes stray by {spread_m:.2f} m, so that the scale is '
                          f'known to {scale_sd:.1%} and north to {heading_deg:.1f} degrees (at most {_MOST_DOUBT:.0%} and '
                          f'{_MOST_DOUBT_DEG:g}); drive farther, or use odometry or tags')
    text = (f'{fixes.source}: {len(fixes.geodetic)} fixes that stray by {spread_m:.2f} m; scale known to {100 * scale_sd:.2f} %, '
            f'north to {heading_deg:.2f} degrees{said}')
    change = replace(place.change, scale_sd=scale_sd, source=fixes.source)
    return Measured(change, turn_sd[:2].max().item(), text, origin)


def fixes_of_bag(recording: Recording, topic: str, posed: Posed, tree: TfTree, camera_frame: str) -> Fixes:
    """Those of a NavSatFix topic within the time of the images, NaN for an altitude that it does not know. Fixes without a fix
    are left out. Where TF says where the antenna sits on the camera, that counts: a metre on a small round looks like a larger one.
    """
    stamps_s, geodetic, without = [], [], 0
    antenna = recording.first(topic).body.header.frame_id.strip('/')
    for message in recording.messages(topic):
        fix = message.body
        numbers = (fix.latitude, fix.longitude, fix.altitude)
        if fix.status.status < 0 or not _is_place(*numbers[:2]):
            without += 1
            continue
        stamps_s.append(stamp_ns(fix.header.stamp) / 1e9)
        geodetic.append(numbers)
    source = f'GPS {topic}'
    if not stamps_s:
        raise AprlocError(f'{source}: none of its {without} messages has a fix; was the sky free, and are they in degrees?')
    when = torch.tensor(stamps_s, dtype=torch.float64)
    found = fixes_at(when, torch.tensor(geodetic, dtype=torch.float64), posed, source)
    if not (antenna and tree.connects(camera_frame, antenna)):
        return found
    T_cam_antenna, known = tree.lookup(camera_frame, antenna, when[:1], _MAX_GAP_S)
    return replace(found, lever=T_cam_antenna[0, :3, 3], lever_sd_m=_TF_LEVER_SD_M) if known.all() else found


def fixes_at(stamps_s: Tensor, geodetic: Tensor, posed: Posed, source: str) -> Fixes:
    """Stamps [M] and fixes [M, 3] of an antenna somewhere near -> those for which images tell where the camera was."""
    if posed.stamps_s is None:
        raise AprlocError(f'{source}: the images have no stamps that it could be compared by')
    T, known = make_trajectory(posed.stamps_s.tolist(), list(posed.T_map_cam)).at(stamps_s, _MAX_GAP_S)
    if not known.any():
        raise AprlocError(f'{source} is from {stamps_s.min():.3f} to {stamps_s.max():.3f} s, the images from '
                          f'{posed.stamps_s.min():.3f} to {posed.stamps_s.max():.3f} s: it is of another clock, or another time')
    return Fixes(geodetic[known], T[known], (stamps_s[known] / _TOGETHER_S).floor().long(), source, _nowhere(), _LEVER_SD_M)


def fixes_of_photos(posed: Posed) -> Fixes:
    """Those in the EXIF of the images, NaN for none; altitudes there are above the sea, and taken as above the ellipsoid."""
    found = [(index, exif_position(path)) for index, path in enumerate(posed.paths)]
    found = [(index, position) for index, position in found if position is not None]
    indices = torch.tensor([index for index, _ in found], dtype=torch.int64)
    geodetic = torch.tensor([position for _, position in found], dtype=torch.float64).reshape(-1, 3)
    return Fixes(geodetic, posed.T_map_cam[indices], indices, 'GPS in the EXIF of the photos', _nowhere(),
                 _PHONE_LEVER_SD_M)


def exif_position(path: Path) -> tuple[float, float, float] | None:
    """Latitude and longitude in degrees, altitude in metres (NaN where there is none) of a photo; None without a position."""
    with Image.open(path) as image:
        gps = image.getexif().get_ifd(_GPS_IFD)
    try:
        latitude = _degrees(gps[2]) * _sign(gps[1], 'N', 'S')
        longitude = _degrees(gps[4]) * _sign(gps[3], 'E', 'W')
        altitude_m = float(gps.get(6, math.nan)) * (-1 if gps.get(5) in (1, b'\x01') else 1)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return (latitude, longitude, altitude_m) if _is_place(latitude, longitude) else None


def _is_place(latitude: float, longitude: float) -> bool:
    """In degrees. A receiver that has no fix yet may write zeros."""
    return abs(latitude) <= 90 and abs(longitude) <= 360 and (latitude, longitude) != (0.0, 0.0)


def _sign(letter: str | bytes, positive: str, negative: str) -> int:
    """Of a hemisphere. Some cameras fill its letter up with blanks and zeros, or write the word; KeyError for what names neither."""
    text = letter.decode('ascii', 'replace') if isinstance(letter, bytes) else str(letter)
    return {positive: 1, negative: -1}[text.strip(' \0').upper()[:1]]


def _degrees(parts) -> float:
    degrees, minutes, seconds = map(float, parts)
    return degrees + minutes / 60 + seconds / 3600


def _nowhere() -> Tensor:
    return torch.zeros(3, dtype=torch.float64)


def _with_altitudes(fixes: Fixes) -> tuple[Fixes, str]:
    """Those that have one, and what to say of it; all, where none has. A receiver that knows none may write zero."""
    if (fixes.geodetic[:, 2] == 0).all():
        fixes = replace(fixes, geodetic=torch.cat([fixes.geodetic[:, :2], torch.full_like(fixes.geodetic[:, 2:], math.nan)], 1))
    if fixes.is_flat:
        return fixes, '; no fix has an altitude: that of the map is unknown, and called 0'
    known = fixes.geodetic[:, 2].isfinite()
    return replace(fixes, geodetic=fixes.geodetic[known], T_map_cam=fixes.T_map_cam[known], clusters=fixes.clusters[known]), ''


def _origin(geodetic: Tensor) -> GeodeticOrigin:
    return GeodeticOrigin(*geodetic.tolist())


def _fitted(fixes: Fixes, enu: Tensor) -> tuple[_Place, Tensor, float]:
    """The place, the standard deviations [10] of its parameters and the spread of the fixes along the ground in metres.

    A receiver errs for minutes alike (ionosphere, reflections, an ambiguity that was solved wrongly): what then is known less holds.
    """
    up, up_sd = up_of_cameras(fixes.T_map_cam)
    tilt, height = 1 / max(up_sd, _UP_SD_RAD) ** 2, math.inf if fixes.is_flat else 0.0
    precision = torch.tensor([0.0, tilt, tilt, 0.0, 0.0, 0.0, height] + [fixes.lever_sd_m ** -2] * 3, dtype=torch.float64)

    def terms(place: _Place) -> list[tuple[Tensor, Tensor]]:
        return _terms(place, fixes.T_map_cam, enu)[:1 if fixes.is_flat else 2]
    fit = robust_fit(_start(fixes, enu, up), terms, _Place.moved, precision, fixes.clusters, 1e-3)
    slow = sum(scatter(r, J, w, sigma) for (r, J), w, sigma in zip(terms(fit.state), fit.weights, fit.sigmas))
    variances = torch.maximum(fit.covariance.diagonal(), (fit.inverse @ slow @ fit.inverse).diagonal())
    return fit.state, variances.sqrt(), fit.sigmas[0]


def _start(fixes: Fixes, enu: Tensor, up: Tensor) -> _Place:
    """Upright by the cameras, then turned and scaled along the ground."""
    upright = rotation_between(up, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
    flat = fixes.T_map_cam[:, :3, 3] @ upright.T
    centre_a, centre_b = flat.median(0).values, enu.median(0).values
    a, b = torch.view_as_complex((flat - centre_a)[:, :2].contiguous()), torch.view_as_complex((enu - centre_b)[:, :2].contiguous())
    turn = (a.conj() * b).sum()
    scale = turn.abs().item() / max(a.abs().square().sum().item(), 1e-12)
    about_z = so3_exp(turn.angle() * torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
    rotation = about_z @ upright
    shift = centre_b - scale * about_z @ centre_a
    return _Place(Similarity(max(scale, 1e-9), rotation, shift, 0.0, fixes.source), fixes.lever)


def _terms(place: _Place, T_map_cam: Tensor, enu: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Along the ground [M, 2] and upwards [M, 1], metres, with Jacobians by [10]."""
    c = place.change
    turned = c.scale * T_map_cam[:, :3, 3] @ c.rotation.T
    axes = c.rotation @ T_map_cam[:, :3, :3]
    arm = axes @ place.lever
    residual = turned + arm + c.translation - enu
    eye = torch.eye(3, dtype=torch.float64).expand(len(enu), 3, 3)
    by = torch.cat([turned[..., None], -skew(turned + arm), eye, axes], 2)
    return [(residual[:, :2], by[:, :2]), (residual[:, 2:], by[:, 2:])]
