"""Does odometry move as the images do? Answers that agree with each other tell, whether or not they are believed.

A robot whose odometry stands still, has another unit or is another body's contradicts every answer and is lost for it.
"""

from collections import deque
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from aprloc_ros.geometry import invert, se3_log, so3_log
from aprloc_ros.tracking.motion import Belief, MotionOptions, squared_distance

# Chi-square of 6 degrees of freedom, passed once in a million, and how often in a row that is needed.
_IMPOSSIBLE = 38.3
_TIMES = 3
# A map may be surer than it should be: its standard deviations count so many times.
_DOUBT = 3.0
# How far back is compared. A slow robot has moved after that time; after that way odometry's own noise hides what is wrong.
_WINDOW_S, _WINDOW_M, _WINDOW_RAD = 10.0, 3.0, 1.0
_ASTRAY_RAD = 0.5    # no heading is further off within a window, whatever odometry of a wrong unit makes of its way
_SPACING_S = 0.25    # between two looks
_WITNESSES = 3       # earliest answers of the window; most of them must contradict, since one may be wrong


@dataclass(frozen=True, eq=False)
class _Look:
    """An answer, and how far odometry has gone until then."""

    answer: Belief
    path_m: float
    turned_rad: float


class OdometryCheck:
    """Compares the way from earlier answers to the newest one, as the images and as odometry saw it."""

    def __init__(self):
        self.problem = ''   # what contradicts, in one line; empty: nothing does
        self._looks: deque[_Look] = deque()
        self._against = 0   # in a row

    def see(self, answer: Belief, options: MotionOptions) -> None:
        """An answer with odometry's pose at that moment, if it is known."""
        if self._looks and answer.time_s < self._looks[-1].answer.time_s:
            self.__init__()   # time was set back
        if answer.T_odom_base is None or (self._looks and answer.time_s - self._looks[-1].answer.time_s < _SPACING_S):
            return
        look = self._look(replace(answer, seen_covariance=_DOUBT ** 2 * answer.seen_covariance))
        if self._looks and not _agree(self._looks[-1].answer.moved(answer.time_s, None), look.answer, options):
            self._looks.clear()   # the answers themselves jump: they are no witnesses
        while self._looks and self._is_over(self._looks[0], look):
            self._looks.popleft()
        if len(self._looks) >= _WITNESSES:
            self._compare(look, options)
        self._looks.append(look)

    def _look(self, answer: Belief) -> _Look:
        if not self._looks:
            return _Look(answer, 0.0, 0.0)
        last = self._looks[-1]
        step = invert(last.answer.T_odom_base) @ answer.T_odom_base
        return _Look(answer, last.path_m + step[:3, 3].norm().item(),
                     last.turned_rad + so3_log(step[:3, :3]).norm().item())

    def _is_over(self, first: _Look, last: _Look) -> bool:
        if last.answer.time_s - first.answer.time_s > _WINDOW_S:
            return True
        far = last.path_m - first.path_m > _WINDOW_M or last.turned_rad - first.turned_rad > _WINDOW_RAD
        return far and len(self._looks) > 2 * _WITNESSES

    def _compare(self, last: _Look, options: MotionOptions) -> None:
        witnesses = {self._looks[index]: _expected(self._looks[index], last, options) for index in range(_WITNESSES)}
        agreeing = [first for first, expected in witnesses.items() if _agree(expected, last.answer, options)]
        if 2 * len(agreeing) > _WITNESSES:
            self._against = 0
            stays = replace(witnesses[agreeing[0]], T_map_base=agreeing[0].answer.T_map_base)
            if self.problem and not _agree(stays, last.answer, options):
                self.problem = ''   # both moved, and alike: standing still would prove nothing
            return
        self._against += 1
        if self._against >= _TIMES:
            first = next(first for first in witnesses if first not in agreeing)
            self.problem = _contradiction(first.answer, last.answer)


def _expected(first: _Look, last: _Look, options: MotionOptions) -> Belief:
    """Where odometry says the robot is now, if the first answer was right: with the noise of the way it really went.

    A heading that went wrong on the way leads astray for the rest of it: sideways, and back and forth where it bends.
    """
    moved = first.answer.moved(last.answer.time_s, last.answer.T_odom_base)
    moved = replace(moved, path_m=last.path_m - first.path_m, turned_rad=last.turned_rad - first.turned_rad)
    heading_variance = (moved.covariance(options) - moved.seen_covariance)[5, 5].clamp(max=_ASTRAY_RAD ** 2)
    back = (invert(last.answer.T_odom_base) @ first.answer.T_odom_base)[:3, 3]
    astray = heading_variance * (moved.path_m ** 2 * torch.eye(3, dtype=torch.float64) - torch.outer(back, back))
    return replace(moved, seen_covariance=moved.seen_covariance + torch.block_diag(astray, torch.zeros(3, 3).double()))


def _agree(expected: Belief, seen: Belief, options: MotionOptions) -> bool:
    return squared_distance(expected, seen, options) <= _IMPOSSIBLE


def _contradiction(first: Belief, last: Belief) -> str:
    return (f'odometry contradicts the images: in {last.time_s - first.time_s:.1f} s they moved '
            f'{_motion(first.T_map_base, last.T_map_base)}, odometry {_motion(first.T_odom_base, last.T_odom_base)}')


def _motion(T_a_first: Tensor, T_a_last: Tensor) -> str:
    """How far; of that how far ahead, left and up as the base stood at first; and how far turned."""
    way = invert(T_a_first) @ T_a_last
    x, y, z = (round(metres, 2) + 0.0 for metres in way[:3, 3].tolist())   # no -0.00
    turned_deg = se3_log(way)[3:].norm().rad2deg().item()
    return f'{way[:3, 3].norm().item():.2f} m ({x:.2f} {y:.2f} {z:.2f}) and turned {turned_deg:.0f} deg'
