"""Whether odometry was set anew: a pose that is far from where the last ones lead."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from operator import itemgetter

import torch
from torch import Tensor

from aprloc_ros.geometry import invert, se3_exp, se3_log

StampedPose = tuple[int, Tensor]   # stamp in ns, T_odom_base [4, 4]

_BASE_NS = 50_000_000   # two messages tell a velocity over so much; stamps of arrival may be a millisecond apart
# What no robot does between two messages, beside what it does per second: a pose that is so far from where the last ones lead was
# set anew. In m and rad; stamps may be wrong by some milliseconds.
_JUMP, _JUMP_PER_S = (0.5, 0.5), (20.0, 20.0)


def odometry_break(poses: Sequence[StampedPose], now_ns: int, T_odom_base: Tensor) -> str:
    """What parts a later pose [4, 4] from those before it, in one line; '' where it goes on from them."""
    if len(poses) < 2 or not _is_jump(poses[-1][1], T_odom_base, 0.0):   # as nearly all at 1 kHz, where time is short
        return ''
    gap_s = (now_ns - poses[-1][0]) / 1e9
    expected = at_constant_velocity(tuple(poses), now_ns)
    if not _is_jump(expected, T_odom_base, gap_s):
        return ''
    m, rad = _apart(expected, T_odom_base)
    return (f'odometry jumped by {m:.2f} m and {math.degrees(rad):.0f} deg within {gap_s:.3f} s: it was set anew, or its unit is '
            'not the metre')


def odometry_breaks(stamps_s: Tensor, T_odom_base: Tensor) -> list[int]:
    """Indices of the poses [N, 4, 4], at rising stamps [N], with which odometry began anew."""
    steps_m = (T_odom_base[1:, :3, 3] - T_odom_base[:-1, :3, 3]).norm(dim=1)
    cosine = ((T_odom_base[1:, :3, :3] * T_odom_base[:-1, :3, :3]).sum((1, 2)) - 1) / 2
    suspects = 1 + torch.nonzero((steps_m > _JUMP[0]) | (cosine < math.cos(_JUMP[1])))[:, 0]
    stamps_ns, breaks = (1e9 * stamps_s).round().long().tolist(), [0]
    for index in suspects.tolist():
        first = max(breaks[-1], min(bisect_left(stamps_ns, stamps_ns[index - 1] - 2 * _BASE_NS), index - 2))
        before = list(zip(stamps_ns[first:index], T_odom_base[first:index], strict=True))
        if odometry_break(before, stamps_ns[index], T_odom_base[index]):
            breaks.append(index)
    return breaks[1:]


def at_constant_velocity(poses: Sequence[StampedPose], time_ns: int) -> Tensor:
    """[4, 4]: between two of at least one pose, or before or after all; a single one stands still."""
    if len(poses) == 1:
        return poses[0][1]
    after = bisect_left(poses, time_ns, key=itemgetter(0))
    (t0, T0), (t1, T1) = _last_moved(poses) if after == len(poses) else (poses[max(after, 1) - 1], poses[max(after, 1)])
    return T0 @ se3_exp((time_ns - t0) / (t1 - t0) * se3_log(invert(T0) @ T1))


def _last_moved(poses: Sequence[StampedPose]) -> tuple[StampedPose, StampedPose]:
    """The newest of at least two, and the newest that is long enough before it; the oldest where none is."""
    newest = poses[-1]
    return next((pose for pose in reversed(poses[:-1]) if newest[0] - pose[0] >= _BASE_NS), poses[0]), newest


def _apart(T_a: Tensor, T_b: Tensor) -> tuple[float, float]:
    """Metres and radians between two poses [4, 4]."""
    cosine = ((T_a[:3, :3] * T_b[:3, :3]).sum().item() - 1) / 2
    return (T_a[:3, 3] - T_b[:3, 3]).norm().item(), math.acos(min(max(cosine, -1.0), 1.0))


def _is_jump(T_expected: Tensor, T_odom_base: Tensor, gap_s: float) -> bool:
    return any(apart > jump + per_s * gap_s
               for apart, jump, per_s in zip(_apart(T_expected, T_odom_base), _JUMP, _JUMP_PER_S, strict=True))
