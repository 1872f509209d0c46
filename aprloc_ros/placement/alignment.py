"""Poses of a map's cameras against a trajectory in another frame: where that frame lies, and how well both fit."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import far_from_origin, nearer, nearest_rotation, pose, skew, so3_exp, so3_log
from aprloc_ros.placement.aligned import Alignment
from aprloc_ros.placement.robust_fit import RobustFit, robust_fit
from aprloc_ros.placement.slow_errors import scatter
from aprloc_ros.placement.upright import mean_rotation, up_of_cameras
from aprloc_ros.similarity import Similarity

FEWEST = 10             # common poses
_TOGETHER = 10          # poses in a row whose errors may be one: AMCL and SLAM err slowly
_CLUSTERS = 40          # at least, where there are poses enough
_LEVER_SD_M, _MOUNT_SD_RAD = 1.0, 1.0   # of where a camera sits on its robot, where nobody says
_MOST_DOUBT_DEG = 1.0   # standard deviation of the frame's rotation
_MOST_OF_RADIUS = 0.15  # median residual
_NEAR_OF_RADIUS = 0.05  # where it is less, positions are right whatever is wrong
_LEVEL = 1e-6           # metres, or cosine: the plane is written with zeros
_UP_DEG = 10.0          # a map whose cameras see up nearer to z than that has z up
_MOST_DEG = 10.0        # median residual
_FEWEST_AGREEING = 0.6  # share of the poses: of two halves in frames of their own either would fit
_MOST_LOG_SCALE = 20.0
_HANGS = 0.5            # cosine to z of what is up by the cameras
_MIRROR = torch.diag(torch.tensor([1.0, -1.0, 1.0, 1.0], dtype=torch.float64))
_SCALE_SIGMAS, _SCALE_OFF = 4.0, 0.01   # a rigid fit whose scale is off by both is refused


class _Misfit(AprlocError):
    """The map's poses and the trajectory are not of one movement."""


@dataclass(frozen=True, eq=False)
class _Model:
    """T_new_body = change(T_map_cam) @ T_cam_body."""

    change: Similarity
    R_cam_body: Tensor   # [3, 3]
    t_cam_body: Tensor   # [3], metres

    def moved(self, step: Tensor) -> '_Model':
        """step [13]: log scale, rotation, translation, then rotation and translation of the mount.

        Where nothing fits, the scale shrinks again and again; it must not vanish.
        """
        c = self.change
        scale = (math.log(c.scale) + step[0]).clamp(-_MOST_LOG_SCALE, _MOST_LOG_SCALE).exp().item()
        change = replace(c, scale=scale, rotation=so3_exp(step[1:4]) @ c.rotation,
                         translation=c.translation + step[4:7])
        return _Model(change, nearest_rotation(self.R_cam_body @ so3_exp(step[7:10])), self.t_cam_body + step[10:])


def align(T_map_cam: Tensor, T_new_body: Tensor, T_cam_body: Tensor | None, with_scale: bool, source: str) -> Alignment:
    """Both [N, 4, 4], of the same moments in their order -> the change of frame that fits most of them.

    T_cam_body [4, 4]: where the body sits on the camera; None: found too, up to what its movement shows. A trajectory in
    the plane (equal z, no roll and pitch) says little of tilts: if the map's z is up, it stays so; else the body is taken
    to be level. Least squares over
    positions along the floor, heights, tilts and headings, each with a spread of its own, robustly (robust_fit). Raises
    AprlocError where there are too few poses, too little movement, or what does not fit.
    """
    if len(T_map_cam) < FEWEST:
        raise AprlocError(f'only {len(T_map_cam)} images have a pose both in the map and in the trajectory; it takes '
                          f'{FEWEST} or more: are its stamps those of the images?')
    radius_m = _radius(T_new_body)
    if not radius_m > 1e-3:
        raise AprlocError(f'the trajectory stays within {radius_m:.4f} m: it says nothing about the frame; drive farther')
    # Whole kilometres nearer to the origin: in a survey's coordinates every turn of the frame would be a shift by millions of metres.
    old_far, new_far = (far_from_origin(T) for T in (T_map_cam, T_new_body))
    old, new = nearer(T_map_cam, old_far), nearer(T_new_body, new_far)
    try:
        found = _nearby(old, new, T_cam_body, with_scale, source, radius_m)
    except _Misfit as error:
        raise AprlocError(f'{error}{_otherwise(old, new, T_cam_body, with_scale, source, radius_m)}') from None
    c = found.change
    is_told = T_cam_body is not None or not planar(T_new_body)
    found = replace(found, is_upside_down=not is_told and (c.rotation @ up_of_cameras(T_map_cam)[0])[2].item() < -_HANGS)
    back = new_far - c.scale * c.rotation @ old_far
    return replace(found, change=replace(c, translation=c.translation + back, scale_about=T_new_body[:, :3, 3].median(0).values))


def _otherwise(T_map_cam: Tensor, T_new_body: Tensor, T_cam_body: Tensor | None, with_scale: bool, source: str, radius_m: float) -> str:
    """What to say of a trajectory that does not fit as it is, but mirrored: in axes that are left-handed, or have x north and y east."""
    try:
        _nearby(T_map_cam, _MIRROR @ T_new_body @ _MIRROR, T_cam_body, with_scale, source, radius_m)
    except AprlocError:
        return ''
    return ' Mirrored it fits: its axes are left-handed, or x is north and y east (headings clockwise): give it with y to the left of x and z up; or the '\
           'map is of mirrored images'


def _nearby(T_map_cam: Tensor, T_new_body: Tensor, T_cam_body: Tensor | None, with_scale: bool, source: str,
            radius_m: float) -> Alignment:
    free = _fitted(T_map_cam, T_new_body, T_cam_body, True, source)
    rigid = free if with_scale else _fitted(T_map_cam, T_new_body, T_cam_body, False, source)
    if free.off_m <= rigid.off_m:   # else it went astray where the drive does not tell the scale from the mount
        _check(free, radius_m)
        if not with_scale:
            _check_scale(free)
    _check(rigid, radius_m)
    return rigid


def _fitted(T_map_cam: Tensor, T_new_body: Tensor, T_cam_body: Tensor | None, with_scale: bool, source: str) -> Alignment:
    start = _start(T_map_cam, T_new_body, T_cam_body, with_scale, source)
    mount = [math.inf] * 6 if T_cam_body is not None else [1 / _MOUNT_SD_RAD ** 2] * 3 + [1 / _LEVER_SD_M ** 2] * 3
    tilt = [math.inf if _stays_upright(T_map_cam, T_new_body) else 0.0] * 2
    precision = torch.tensor([0.0 if with_scale else math.inf] + tilt + [0.0] * 4 + mount, dtype=torch.float64)
    clusters = torch.arange(len(T_map_cam)) // max(1, min(_TOGETHER, len(T_map_cam) // _CLUSTERS))
    fit = robust_fit(start, lambda model: _terms(model, T_map_cam, T_new_body), _Model.moved, precision, clusters, 1e-5)
    known_less = [_agreed_covariance(fit, T_map_cam, T_new_body, precision), _slow_covariance(fit, T_map_cam, T_new_body)]
    return _alignment(fit, known_less, with_scale, source)


def _slow_covariance(fit: RobustFit, T_map_cam: Tensor, T_new_body: Tensor) -> Tensor:
    """[13, 13] of the step, where errors last longer than any part of the drive that a sandwich could take for one."""
    B = sum(scatter(r, J, w, sigma) for (r, J), w, sigma in zip(_terms(fit.state, T_map_cam, T_new_body), fit.weights, fit.sigmas))
    return fit.inverse @ B @ fit.inverse


def _agreed_covariance(fit: RobustFit, T_map_cam: Tensor, T_new_body: Tensor, precision: Tensor) -> Tensor:
    """[13, 13] of the step, from the information of the movement that the map and the trajectory agree on.

    Noise of the poses is in the Jacobians too, and looks like movement: round a circle the mount takes any turn of the frame
    up, yet each noisy pose seems to speak against that. The Jacobians at the map's poses and those at the trajectory's have
    noise of their own each, so that their product holds none of it on the mean (instrumental variables).
    """
    model, free = fit.state, torch.isfinite(precision)
    R_new_cam = T_new_body[:, :3, :3] @ model.R_cam_body.T
    p_new_cam = T_new_body[:, :3, 3] - R_new_cam @ model.t_cam_body
    c = model.change
    again = pose(c.rotation.T @ R_new_cam, (p_new_cam - c.translation) @ c.rotation / c.scale)
    both = sum((J * w[:, None, None]).flatten(0, 1).T @ K.flatten(0, 1) / sigma ** 2 for (_, J), (_, K), w, sigma in
               zip(_terms(model, T_map_cam, T_new_body), _terms(model, again, T_new_body), fit.weights, fit.sigmas))
    values, vectors = torch.linalg.eigh(((both + both.T) / 2)[free][:, free])
    information = vectors @ torch.diag(values.clamp_min(0)) @ vectors.T + torch.diag(precision[free])
    covariance = torch.zeros_like(both)
    covariance[free.outer(free)] = torch.linalg.pinv(information, hermitian=True).flatten()
    return covariance


def _alignment(fit: RobustFit, known_less: Sequence[Tensor], with_scale: bool, source: str) -> Alignment:
    model, covariance = fit.state, fit.covariance[:7, :7]
    all_sd = torch.stack([covariance.diagonal(), *(other.diagonal()[:7] for other in known_less)]).amax(0).sqrt()
    sd = all_sd[0].item() if with_scale else 0.0
    along, height, tilt, heading = fit.residuals
    return Alignment(replace(model.change, scale_sd=sd, source=source), model.R_cam_body, model.t_cam_body, covariance,
                     torch.cat([along, height], 1), torch.rad2deg(torch.cat([tilt, heading], 1)), fit.weights[0] > 0.05,
                     all_sd)


def _terms(model: _Model, T_map_cam: Tensor, T_new_body: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Positions along the floor [N, 2], heights [N, 1], tilts [N, 2] and headings [N, 1] with their Jacobians."""
    R_new_cam = model.change.rotation @ T_map_cam[:, :3, :3]
    turned = model.change.scale * T_map_cam[:, :3, 3] @ model.change.rotation.T
    lever = R_new_cam @ model.t_cam_body
    R_new_body = R_new_cam @ model.R_cam_body
    N, eye = len(T_map_cam), torch.eye(3, dtype=torch.float64)
    position = turned + lever + model.change.translation - T_new_body[:, :3, 3]
    rotation = so3_log(R_new_body @ T_new_body[:, :3, :3].mT)
    zero = torch.zeros(N, 3, 3, dtype=torch.float64)
    by_position = torch.cat([turned[..., None], -skew(turned + lever), eye.expand(N, 3, 3), zero, R_new_cam], 2)
    by_rotation = torch.cat([zero[..., :1], eye.expand(N, 3, 3), zero, R_new_body, zero], 2)
    return [(position[:, :2], by_position[:, :2]), (position[:, 2:], by_position[:, 2:]),
            (rotation[:, :2], by_rotation[:, :2]), (rotation[:, 2:], by_rotation[:, 2:])]


def _start(T_map_cam: Tensor, T_new_body: Tensor, T_cam_body: Tensor | None, with_scale: bool, source: str) -> _Model:
    """By rotations where the mount is known, else by positions as if the body were at the camera."""
    R_map_cam, Q = T_map_cam[:, :3, :3], T_new_body[:, :3, :3]
    if T_cam_body is not None:
        R_cam_body, t_cam_body = T_cam_body[:3, :3], T_cam_body[:3, 3]
        rotation = mean_rotation(Q @ (R_map_cam @ R_cam_body).mT)
    else:
        rotation = _by_positions(T_map_cam[:, :3, 3], T_new_body[:, :3, 3])
        R_cam_body, t_cam_body = mean_rotation((rotation @ R_map_cam).mT @ Q), torch.zeros(3, dtype=torch.float64)
    if _stays_upright(T_map_cam, T_new_body):
        yaw = torch.atan2(rotation[1, 0] - rotation[0, 1], rotation[0, 0] + rotation[1, 1])
        rotation = so3_exp(yaw * torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
        R_cam_body = R_cam_body if T_cam_body is not None else mean_rotation((rotation @ R_map_cam).mT @ Q)
    at_camera = T_new_body[:, :3, 3] - (rotation @ R_map_cam @ t_cam_body)
    scale = _ratio(T_map_cam[:, :3, 3], at_camera) if with_scale else 1.0
    shift = (at_camera - scale * T_map_cam[:, :3, 3] @ rotation.T).median(0).values
    return _Model(Similarity(scale, rotation, shift, 0.0, source), R_cam_body, t_cam_body)


def planar(T: Tensor) -> bool:
    """Whether poses [N, 4, 4] are written as x, y and heading: equal heights, no roll and no pitch."""
    level, flat = (T[:, 2, 2] - 1).abs().max(), (T[:, 2, 3] - T[0, 2, 3]).abs().max()
    return max(level.item(), flat.item()) < _LEVEL


def _stays_upright(T_map_cam: Tensor, T_new_body: Tensor) -> bool:
    """Whether the trajectory is one of the plane, and the map's z up already, as far as its cameras can tell."""
    return planar(T_new_body) and up_of_cameras(T_map_cam)[0][2].item() > math.cos(math.radians(_UP_DEG))


def _by_positions(old: Tensor, new: Tensor) -> Tensor:
    """The rotation [3, 3] between two runs of positions [N, 3] (Umeyama 1991), against outliers."""
    weight = torch.ones(len(old), dtype=torch.float64)
    for _ in range(10):
        a, b = old - (weight @ old) / weight.sum(), new - (weight @ new) / weight.sum()
        rotation = nearest_rotation((weight[:, None] * b).T @ a)
        scale = (weight * b.norm(dim=1) * a.norm(dim=1)).sum() / (weight * a.square().sum(1)).sum()
        off = (b - scale * a @ rotation.T).norm(dim=1)
        weight = 1 / (1 + (off / off.median().clamp_min(1e-9)) ** 2)
    return rotation


def _ratio(old: Tensor, new: Tensor) -> float:
    """Median ratio of the distances between poses half a run apart."""
    half = len(old) // 2
    before, after = ((x[half:] - x[:len(x) - half]).norm(dim=1) for x in (old, new))
    return max((after / before.clamp_min(1e-12)).median().item(), 1e-9)


def _radius(T: Tensor) -> float:
    return (T[:, :3, 3] - T[:, :3, 3].median(0).values).norm(dim=1).median().item()


def _check(found: Alignment, radius_m: float) -> None:
    if not (found.off_m <= _MOST_OF_RADIUS * radius_m and found.off_deg <= _MOST_DEG):
        why = 'is it of this place and of these images, and in the right unit?' if found.off_m > _NEAR_OF_RADIUS * radius_m else \
            'its positions fit: are its quaternions x y z w, and its headings in radians, counter-clockwise from x?'
        raise _Misfit(f'the trajectory does not fit the map: half of the poses are off by more than {found.off_m:.3f} m or '
                      f'{found.off_deg:.1f} degrees, on a way of radius {radius_m:.2f} m; {why}')
    agreeing = int(found.used.sum())
    if agreeing < _FEWEST_AGREEING * len(found.used):
        raise AprlocError(f'the trajectory is not of one frame: {agreeing} of {len(found.used)} poses fit the map in one way, the '
                          f'others do not (at least {_FEWEST_AGREEING:.0%} must); give the part of it that is, after the last time '
                          'it was set anew')
    doubt_deg = found.sd[1:4].max().rad2deg().item()
    if not doubt_deg <= _MOST_DOUBT_DEG:
        raise AprlocError(f'too little movement: the frame is only known to {doubt_deg:.1f} degrees (at most '
                          f'{_MOST_DOUBT_DEG:g}); drive farther, with turns')


def _check_scale(free: Alignment) -> None:
    off, sd = math.log(free.change.scale), free.change.scale_sd
    if abs(off) > max(_SCALE_SIGMAS * sd, _SCALE_OFF):
        raise AprlocError(f'the trajectory is {free.change.scale:.4f} +- {free.change.scale * sd:.4f} times as large as the '
                          'map: give --with-scale if it is the trajectory that is in metres')
