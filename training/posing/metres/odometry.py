"""Metres and up from the movement of the robot: odometry, or any other poses of it, over segments of some seconds."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import nearest_rotation, skew, so3_exp, so3_log
from aprloc_ros.placement.robust_fit import robust_fit
from aprloc_ros.recordings.trajectory import Trajectory
from aprloc_ros.training.posing.metres.clocks import SEARCHED_S, clock_offset, same_movement
from aprloc_ros.training.posing.metres.measured import Measured, Posed, mean_direction, upright

MAX_GAP_S = 0.25             # between two poses; odometry of a few hertz is no odometry
_SHORTEST_S, _LONGEST_S = 1.0, 4.0
_SEGMENTS = 40               # wanted, where the drive is long enough
_FEWEST = 8
_STILL_M, _STILL_RAD = 1e-3, 1e-3   # a body that moves less in half of the segments stands still
_LEVER_SD_M, _MOUNT_SD_RAD = 1.0, 1.0
_TURNS_SIGMAS = 5.0          # of the residuals of rotations: less is no turn
_MOST_DOUBT = 0.05           # standard deviation of log(scale)
_LEAST_USED = 0.5
_FASTEST_M_S = 100.0         # of a body with a camera; no robot's odometry in millimetres is slower


@dataclass(frozen=True, eq=False)
class _Mount:
    """How a camera in an unknown unit rides on a body: T_base_cam with its translation in metres."""

    log_scale: float
    R_base_cam: Tensor   # [3, 3]
    t_base_cam: Tensor   # [3]

    def moved(self, step: Tensor) -> '_Mount':
        """step [7]: log scale, rotation, translation."""
        return _Mount(self.log_scale + step[0].item(), nearest_rotation(so3_exp(step[1:4]) @ self.R_base_cam),
                      self.t_base_cam + step[4:])


def measure_odometry(posed: Posed, trajectory: Trajectory, source: str) -> Measured:
    """The scale by which the camera's way between two images is the body's, and the body's z as up.

    With A = T_base_i^-1 T_base_j of the trajectory and B = T_cam_i^-1 T_cam_j of the images, the mount X = T_base_cam obeys
    A X = X B (hand-eye calibration, Tsai and Lenz 1989), with the translation of B times the scale s:

        R_A = R_X R_B R_X^T,    t_A = s R_X t_B + (I - R_A) t_X

    Over segments of some seconds, end to end: drift adds up over a drive, but a segment holds only its own. s, R_X and the
    lever arm t_X are found together, robustly, each kind of residual with a spread of its own; the deviation of s is the
    sandwich's (robust_fit). Raises AprlocError for a trajectory that is silent, of another clock, or of another movement.
    """
    if posed.stamps_s is None:
        raise AprlocError(f'{source}: the images have no stamps that it could be compared by')
    stamps_s, note = _on_its_clock(posed, trajectory, source)
    T_odom_base, known = trajectory.at(stamps_s, MAX_GAP_S)
    known = known.nonzero()[:, 0]
    start, end = _segments(stamps_s[known])
    if len(start) < _FEWEST:
        raise AprlocError(f'{source}: only {len(start)} segments of {_SHORTEST_S:g} s or more hold images and poses; it takes '
                          f'{_FEWEST}: record for longer')
    T_odom_base, T_map_cam = T_odom_base[known], posed.T_map_cam[known]
    A, B = _relative(T_odom_base, start, end), _relative(T_map_cam, start, end)
    if A[:, :3, 3].norm(dim=1).median() < _STILL_M and so3_log(A[:, :3, :3]).norm(dim=1).median() < _STILL_RAD:
        raise AprlocError(f'{source} is silent: it does not move while the images do')
    speed_m_s = (A[:, :3, 3].norm(dim=1) / (stamps_s[known][end] - stamps_s[known][start])).median().item()
    if speed_m_s > _FASTEST_M_S:
        raise AprlocError(f'{source} moves {speed_m_s:.0f} metres in a second: is it in millimetres? poses of ROS are in metres')
    precision = torch.tensor([0.0] + [_MOUNT_SD_RAD ** -2] * 3 + [_LEVER_SD_M ** -2] * 3, dtype=torch.float64)
    fit = robust_fit(_start(A, B), lambda mount: _terms(mount, A, B), _Mount.moved, precision, torch.arange(len(A)), 1e-6)
    mount, scale_sd = fit.state, fit.covariance[0, 0].sqrt().item()
    used = (fit.weights[0] > 0.05).double().mean().item()
    if not (scale_sd < _MOST_DOUBT and used >= _LEAST_USED):
        raise AprlocError(f'{source} does not fit the images: {used:.0%} of its segments agree, on a scale known to '
                          f'{scale_sd:.1%} (at least {_LEAST_USED:.0%} and {_MOST_DOUBT:.0%})')
    up, up_sd = _up(T_map_cam, T_odom_base, mount, len(T_map_cam) // len(A) + 1)
    turns_rad = so3_log(B[:, :3, :3]).square().sum(1).mean().sqrt().item()
    if turns_rad > _TURNS_SIGMAS * max(fit.sigmas[2:]):
        up_sd = math.hypot(up_sd, fit.covariance.diagonal()[1:3].max().sqrt().item())
    else:   # a straight way: how the camera is rolled on the body shows nowhere
        up_sd = 1.0
    scale = math.exp(mount.log_scale)
    text = (f'{source}: {len(A)} segments of {(stamps_s[known][end] - stamps_s[known][start]).median():.1f} s, {used:.0%} of '
            f'them used; scale known to {100 * scale_sd:.2f} %{note}')
    return Measured(upright(scale, up, scale_sd, source), up_sd, text)


def _on_its_clock(posed: Posed, trajectory: Trajectory, source: str) -> tuple[Tensor, str]:
    stamps_s, (first, last) = posed.stamps_s, (trajectory.stamps_s[0], trajectory.stamps_s[-1])
    inside = (stamps_s >= first) & (stamps_s <= last)
    if inside.double().mean() < 0.5:
        raise AprlocError(f'{source} is from {first:.3f} to {last:.3f} s, the images from {stamps_s.min():.3f} to '
                          f'{stamps_s.max():.3f} s: it is of another clock, or of another time')
    if trajectory.at(stamps_s, MAX_GAP_S)[1].double().mean() < 0.5:
        raise AprlocError(f'{source}: less than half of the images lie between two of its poses that are at most {MAX_GAP_S:g} s '
                          'apart')
    moves = (trajectory.T_a_b[1:, :3] - trajectory.T_a_b[:-1, :3]).abs().amax((1, 2)) > 1e-9
    if not moves.any():
        raise AprlocError(f'{source} is silent: it does not move while the images do')
    offset_s, likeness = clock_offset(stamps_s, posed.T_map_cam, trajectory, MAX_GAP_S)
    if not same_movement(likeness) or abs(offset_s) > 0.9 * SEARCHED_S:
        raise AprlocError(f'{source} does not move as the images do (correlation {likeness:.2f} at best within '
                          f'{SEARCHED_S:g} s): is it of this robot, this drive and this clock?')
    note = f'; its clock is {offset_s:+.2f} s from that of the images, which was taken into account' if offset_s else ''
    return stamps_s + offset_s, note


def _segments(stamps_s: Tensor) -> tuple[Tensor, Tensor]:
    """Indices of the first and the last image of segments, end to end."""
    span = (stamps_s[-1] - stamps_s[0]).item() if len(stamps_s) else 0.0
    length_s = min(max(span / _SEGMENTS, _SHORTEST_S), _LONGEST_S)
    ends = [0]
    for index, stamp_s in enumerate(stamps_s.tolist()):
        if stamp_s - stamps_s[ends[-1]].item() >= length_s - 1e-6:
            ends.append(index)
    return torch.tensor(ends[:-1], dtype=torch.int64), torch.tensor(ends[1:], dtype=torch.int64)


def _relative(T: Tensor, start: Tensor, end: Tensor) -> Tensor:
    return torch.linalg.solve(T[start], T[end])


def _start(A: Tensor, B: Tensor) -> _Mount:
    """Rotation vectors and translations of both as pairs of directions (Kabsch 1976)."""
    scale = (A[:, :3, 3].norm(dim=1) / B[:, :3, 3].norm(dim=1).clamp_min(1e-12)).median().item()
    pairs = torch.zeros(3, 3, dtype=torch.float64)
    for a, b in ((A[:, :3, 3], B[:, :3, 3]), (so3_log(A[:, :3, :3]), so3_log(B[:, :3, :3]))):
        size = (a.norm(dim=1) * b.norm(dim=1)).sum()
        pairs += a.T @ b / size.clamp_min(1e-12)
    return _Mount(math.log(max(scale, 1e-9)), nearest_rotation(pairs), torch.zeros(3, dtype=torch.float64))


def _terms(mount: _Mount, A: Tensor, B: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Along the floor [N, 2], heights [N, 1], tilts [N, 2] and headings [N, 1] in the body's axes, with Jacobians."""
    N, eye, X = len(A), torch.eye(3, dtype=torch.float64), mount.R_base_cam
    turned = math.exp(mount.log_scale) * B[:, :3, 3] @ X.T
    lever = eye - A[:, :3, :3]
    position = turned + lever @ mount.t_base_cam - A[:, :3, 3]
    M = X @ B[:, :3, :3] @ X.T
    rotation = so3_log(A[:, :3, :3].mT @ M)
    none = torch.zeros(N, 3, 1, dtype=torch.float64)
    by_position = torch.cat([turned[..., None], -skew(turned), lever], 2)
    by_rotation = torch.cat([none, M.mT - eye, none.expand(N, 3, 3)], 2)
    return [(position[:, :2], by_position[:, :2]), (position[:, 2:], by_position[:, 2:]),
            (rotation[:, :2], by_rotation[:, :2]), (rotation[:, 2:], by_rotation[:, 2:])]


def _up(T_map_cam: Tensor, T_odom_base: Tensor, mount: _Mount, per: int) -> tuple[Tensor, float]:
    """The trajectory's z in the map, as each image sees it."""
    in_base = T_odom_base[:, 2, :3]                      # z of the trajectory's frame in the body's axes
    return mean_direction((T_map_cam[:, :3, :3] @ mount.R_base_cam.T @ in_base[..., None])[..., 0], per)
