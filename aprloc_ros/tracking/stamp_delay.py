"""Are images stamped when they were taken, by odometry's clock? Answers tell wherever the robot speeds up, slows down or begins to turn.

A driver that stamps on arrival, or by another clock, is d seconds late: the answer is of the pose d before. At an even pace nothing
shows it; where the velocity changes by u, images and odometry differ by d u from one look to the next. A wheel that slips
differs there too, but not as often and as much at each change. A camera that moves on the robot (a head that pans) is looked for
where it sat d later: its velocity counts as the robot's does.
"""

from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from aprloc_ros.geometry import adjoint, invert, se3_log
from aprloc_ros.tracking.motion import Belief, MotionOptions

_SPACING_S = 0.25      # between two looks, at least; about as long as most robots take to reach their speed
_APART_S = 0.8         # or further apart they do not show how the velocity went between them
_FITS = 151.0          # or less, as 99 % of a chi-square of 6 degrees of freedom, standard deviations tripled: else an answer is wrong, or odometry
_FITTING = 0.8         # or more of the looks: else no delay is what is wrong
_STRETCH_S = 2.0       # of looks, whose errors are taken for one: slip, a wrong answer
_TELLING_S = 0.3       # a stretch counts that alone says the delay to so much, as one standard deviation
_FEWEST, _REMEMBERED = 8, 12   # stretches
_SURE = 5.0            # standard deviations from zero
_LEAST_S = 0.02        # exposures are as long
_MOST_S = -0.15, 0.5   # odometry is not known further ahead, and robots do not remember further back


@dataclass(frozen=True, eq=False)
class _Look:
    """An answer, and where the camera was said to sit then."""

    answer: Belief
    T_base_cam: Tensor   # [4, 4]

    @property
    def time_s(self) -> float:
        return self.answer.time_s


@dataclass
class _Stretch:
    """What some looks say: they ask for a delay of `pull / weight`, with that inverse variance."""

    since_s: float
    pull: float = 0.0
    weight: float = 0.0
    looks: int = 0
    fitting: int = 0   # of them

    @property
    def is_telling(self) -> bool:
        return self.weight >= _TELLING_S ** -2


class StampDelay:
    """Sees every answer with odometry's pose, and the camera's on the robot, at its stamp less `seconds`; learns what that lacks."""

    def __init__(self):
        self.seconds = 0.0   # images are stamped so late; negative: early
        self.forget()

    def forget(self) -> None:
        """Odometry's poses until now lead to nothing that comes; what is known stays."""
        self._looks: deque[_Look] = deque(maxlen=4)
        self._stretches: deque[_Stretch] = deque(maxlen=_REMEMBERED)

    @property
    def problem(self) -> str:
        """In one line; empty while the stamps are right as far as known."""
        if not self.seconds:
            return ''
        late, before = ('late', 'before') if self.seconds > 0 else ('early', 'after')
        by = f'{abs(self.seconds):.2f} s'
        return (f'the images\' stamps are {by} {late} against odometry: it is asked {by} {before} them, and poses are as unsure as the robot '
                'moves in that time; have the driver stamp images when they are taken, by the clock of odometry')

    def see(self, answer: Belief, T_base_cam: Tensor, options: MotionOptions) -> bool:
        """Whether `seconds` changed: odometry's poses so far are not to be compared with what comes."""
        if self._looks and not 0 <= answer.time_s - self._looks[-1].time_s <= _APART_S:
            self._looks.clear()   # or time was set back
        if answer.T_odom_base is None or (self._looks and answer.time_s - self._looks[-1].time_s < _SPACING_S):
            return False
        self._looks.append(_Look(answer, T_base_cam))
        if len(self._looks) == self._looks.maxlen:
            self._weigh(*self._looks, options)
        return self._learn()

    def _weigh(self, before: _Look, first: _Look, second: _Look, after: _Look, options: MotionOptions) -> None:
        """With D the way from the first to the second as odometry saw it and V its velocities, the images saw
        exp(d V_1) D exp(-d V_2) = D exp(d (Ad(D^-1) V_1 - V_2)) to first order."""
        expected = first.answer.moved(second.time_s, second.answer.T_odom_base)
        D = invert(first.answer.T_odom_base) @ second.answer.T_odom_base
        u = adjoint(invert(D)) @ _velocity(before, second) - _velocity(first, after)
        r = se3_log(invert(expected.T_map_base) @ second.answer.T_map_base)
        information = torch.linalg.inv(expected.covariance(options) + second.answer.seen_covariance)
        pull, weight = (u @ information @ r).item(), (u @ information @ u).item()
        if not self._stretches or abs(second.time_s - self._stretches[-1].since_s) > _STRETCH_S:
            self._close()
            self._stretches.append(_Stretch(second.time_s))
        stretch, delay_s = self._stretches[-1], min(max(pull / max(weight, 1e-9), -_MOST_S[1]), _MOST_S[1])
        stretch.looks += 1
        if (r - delay_s * u) @ information @ (r - delay_s * u) <= _FITS:
            stretch.fitting += 1
            stretch.pull += pull
            stretch.weight += weight

    def _close(self) -> None:
        """The last stretch is over; it counts unless it tells nothing, neither for a delay nor against it."""
        if self._stretches and not self._stretches[-1].is_telling and self._stretches[-1].fitting == self._stretches[-1].looks:
            self._stretches.pop()

    def _learn(self) -> bool:
        over = list(self._stretches)[:-1]
        told = [stretch for stretch in over if stretch.is_telling]
        if len(told) < _FEWEST or sum(stretch.fitting for stretch in over) < _FITTING * sum(stretch.looks for stretch in over):
            return False
        pull, weight = torch.tensor([(stretch.pull, stretch.weight) for stretch in told], dtype=torch.float64).T
        delay_s = pull.sum() / weight.sum()
        # As sure as the covariances say, or as the stretches agree (a cluster-robust variance), whichever is less.
        spread = ((pull - delay_s * weight) ** 2).sum() * len(told) / (len(told) - 1)
        std_s = torch.maximum(weight.sum(), spread).sqrt() / weight.sum()
        further_s = min(max(self.seconds + delay_s.item(), _MOST_S[0]), _MOST_S[1]) - self.seconds
        if abs(further_s) < _LEAST_S or abs(delay_s) < _SURE * std_s:
            return False
        self.seconds += further_s
        if abs(self.seconds) < _LEAST_S:
            self.seconds = 0.0
        self.forget()
        return True


def _velocity(first: _Look, last: _Look) -> Tensor:
    """[6] per second in the base's axes: of odometry, and of the camera on the robot."""
    way = se3_log(invert(first.answer.T_odom_base) @ last.answer.T_odom_base)
    return (way + se3_log(last.T_base_cam @ invert(first.T_base_cam))) / (last.time_s - first.time_s)
