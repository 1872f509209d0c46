"""Which answers to believe: a gate around where the robot must be, and what happens when it holds no more.

States: 'searching' (no pose yet), 'localized', 'lost' (it was known and is not any more). Knows nothing of ROS.
"""

import functools
import math
import threading
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from aprloc_ros.distributions import chi2_quantile
from aprloc_ros.tracking.motion import Belief, MotionOptions, option, squared_distance
from aprloc_ros.tracking.odometry_check import OdometryCheck
from aprloc_ros.tracking.stamp_delay import StampDelay
from aprloc_ros.tracking.stuck_camera import StuckCamera
from aprloc_ros.tracking.warped_stream import WarpedStream

SEARCHING, LOCALIZED, LOST = 'searching', 'localized', 'lost'
# A belief that is lost was wrong beyond its covariance, so its standard deviations are doubled.
_LOST_GROWTH = 2.0
# A first answer waits for its confirmation so many times lost_after_s; later anything would seem to confirm it.
_CONFIRMATION_PATIENCE = 4.0
_ITSELF = torch.eye(4, dtype=torch.float64)   # a camera that is the robot
# Where nothing tells how a robot moves it may soon be anywhere: nearly any answer would agree with one of seconds ago.
_BLIND_S = 0.5


@dataclass(frozen=True)
class TrackingOptions(MotionOptions):
    """Which images are asked about, and when an answer is believed."""

    min_contrast: float = option(
        3.0, 'Reject images whose brightness varies less: standard deviation in grey levels of 255',
        range=(0.0, 50.0), live=True)
    gate_probability: float = option(
        0.99, 'Share of the true poses that pass the gate (chi-square, 6 degrees of freedom); 1.0: no gate',
        range=(0.5, 1.0), live=True)
    lost_after_rejections: int = option(
        5, 'The robot is lost after so many answers in a row that the gate rejects', range=(1, 1000), live=True)
    lost_after_s: float = option(
        1.5, 'The robot is lost after so many seconds without a good pose', range=(0.1, 3600.0), live=True)
    confirmations: int = option(
        2, 'Consistent answers in a row that make a first pose, or one that contradicts the last', range=(1, 20), live=True)


@dataclass(frozen=True, eq=False)
class Attempt:
    """One frame on its way to an answer."""

    time_s: float
    T_odom_base: Tensor | None   # [4, 4]
    start: Tensor | None         # [4, 4] T_map_base to refine from; None: global
    era: int
    T_base_cam: Tensor           # [4, 4], where the camera is said to sit: it may move


@dataclass(frozen=True)
class Verdict:
    """Whether an answer is believed; if not, a word for the counts and a line for the user."""

    accepted: bool
    reason: str = ''
    text: str = ''


@functools.lru_cache
def gate_threshold(probability: float) -> float:
    """The squared Mahalanobis distance of 6 degrees of freedom that true poses stay under with that probability."""
    return math.inf if probability == 1 else chi2_quantile(probability, 6)


def _is_last(belief: Belief) -> bool:
    """Whether an answer that agrees says something: odometry knows the way, or no image lies between."""
    return belief.blind_s == 0 or belief.images <= 1


class Tracker:
    """The state of a robot's localisation. One thread begins and judges attempts; any may search, expect or lose."""

    def __init__(self, options: TrackingOptions):
        self.options = options   # may be replaced at any time
        self._lock = threading.Lock()
        self._odometry = OdometryCheck()
        self.stuck_camera, self.stamp_delay, self.warped_stream = StuckCamera(), StampDelay(), WarpedStream()
        self._era = 0            # of attempts; those of an older one were answered under other circumstances
        self._forget()

    @property
    def state(self) -> str:
        return self._state

    @property
    def contradiction(self) -> str:
        """How odometry contradicts the images, in one line; empty while it does not."""
        return self._odometry.problem

    def search(self) -> None:
        """Forget all, so that the next answers are global."""
        with self._lock:
            self._forget()

    def expect(self, T_map_base: Tensor, covariance: Tensor) -> None:
        """Somebody says where the robot is now: the next frame's start, and the gate of its answer. [4, 4], [6, 6]."""
        with self._lock:
            self._forget()
            self._hint = T_map_base, covariance

    def forget_odometry(self) -> None:
        """It begins anew: what it said so far lets nobody tell how far the robot has gone from then to now."""
        with self._lock:
            self.stamp_delay.forget()
            self._forget_odometry()

    def lose(self) -> None:
        """No good pose came for too long. Nothing happens unless a pose is held."""
        with self._lock:
            if self._held:
                self._lose()

    def begin(self, time_s: float, T_odom_base: Tensor | None, T_base_cam: Tensor = _ITSELF) -> Attempt:
        """A frame of that stamp is to be answered; T_odom_base [4, 4] is odometry's pose then, less stamp_delay.seconds, if known.
        T_base_cam [4, 4]: of the camera on the robot at that moment."""
        with self._lock:
            self._advance(time_s, T_odom_base)
            start = self._belief.T_map_base if self._held else None
            return Attempt(time_s, T_odom_base, start, self._era, T_base_cam)

    def judge(self, attempt: Attempt, T_map_base: Tensor, covariance: Tensor) -> Verdict:
        """The attempt's answer: pose [4, 4], and covariance [6, 6] of xi in T_true = T_map_base @ exp(xi).

        The attempt may know odometry's pose better than it did when it began.
        """
        with self._lock:
            if attempt.era != self._era:
                return Verdict(False, 'overtaken', 'a new search began while the frame was being answered')
            self._advance(attempt.time_s, attempt.T_odom_base)
            seen = Belief(attempt.time_s, T_map_base, covariance, attempt.T_odom_base)
            self._odometry.see(seen, self.options)
            if self.stamp_delay.see(seen, attempt.T_base_cam, self.options):   # from now on odometry is asked at another moment
                self._forget_odometry()
                seen = replace(seen, T_odom_base=None)
            agrees = self._belief is not None and self._agree(self._belief, seen)
            if agrees and (_is_last(self._belief) or self._belief.blind_s <= _BLIND_S):
                return self._accept(seen)
            return self._contradicted(seen) if self._held and not agrees else self._confirm(seen)

    def _forget(self) -> None:
        self._era += 1
        self._state, self._held = SEARCHING, False   # held: answers that contradict the belief are jumps
        self._belief: Belief | None = None
        self._candidate: Belief | None = None
        self._hint: tuple[Tensor, Tensor] | None = None
        self._votes = self._rejections = 0

    def _forget_odometry(self) -> None:
        self._odometry = OdometryCheck()
        self.stuck_camera.forget()
        self._belief, self._candidate = (belief and replace(belief, T_odom_base=None) for belief in (self._belief, self._candidate))

    def _lose(self) -> None:
        self._state, self._held = LOST, False
        self._candidate, self._votes, self._rejections = None, 0, 0
        if self._belief is not None:
            grown = _LOST_GROWTH ** 2 * self._belief.seen_covariance
            self._belief = replace(self._belief, seen_covariance=grown)

    def _advance(self, time_s: float, T_odom_base: Tensor | None) -> None:
        if any(belief and time_s < belief.time_s for belief in (self._belief, self._candidate)):
            self._forget()   # the clock was set back
        if self._hint:
            self._belief, self._held = Belief(time_s, *self._hint, T_odom_base), True
            self._hint = None
        if self._candidate:
            self._candidate = self._candidate.moved(time_s, T_odom_base)
            if self._candidate.unseen_s > _CONFIRMATION_PATIENCE * self.options.lost_after_s:
                self._candidate, self._votes = None, 0
        if self._belief:
            self._belief = self._belief.moved(time_s, T_odom_base)
            if self._held and self._belief.unseen_s > self.options.lost_after_s:
                self._lose()
            if not self._held and self._belief.is_vaguer_than_blind(self.options.lost_after_s, self.options):
                self._belief = None   # nobody knows where the robot went: it could agree with anything

    def _agree(self, expected: Belief, seen: Belief) -> bool:
        return squared_distance(expected, seen, self.options) <= gate_threshold(self.options.gate_probability)

    def _accept(self, seen: Belief) -> Verdict:
        self._state, self._held = LOCALIZED, True
        self._belief, self._candidate = seen, None
        self._votes = self._rejections = 0
        return Verdict(True)

    def _contradicted(self, seen: Belief) -> Verdict:
        self._rejections += 1
        distance = squared_distance(self._belief, seen, self.options)
        gap_m = (seen.T_map_base[:3, 3] - self._belief.T_map_base[:3, 3]).norm().item()
        text = (f'the answer lies {gap_m:.2f} m from where the robot must be: squared distance {distance:.1f}, at most '
                f'{gate_threshold(self.options.gate_probability):.1f} (gate_probability)')
        if self.contradiction:
            text = f'{text}; {self.contradiction}'
        if self._rejections >= self.options.lost_after_rejections:
            self._lose()
        return Verdict(False, 'jump', text)

    def _confirm(self, seen: Belief) -> Verdict:
        confirmed = self._candidate is not None and _is_last(self._candidate) and self._agree(self._candidate, seen)
        self._votes = self._votes + 1 if confirmed else 1
        self._candidate = seen
        if self._votes >= self.options.confirmations:
            return self._accept(seen)
        return Verdict(False, 'unconfirmed', f'{self._votes} of {self.options.confirmations} consistent answers so far')
