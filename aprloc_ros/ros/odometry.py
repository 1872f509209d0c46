"""Where odometry says the robot was at an image's stamp: from its topic or from TF."""

import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import Protocol

from builtin_interfaces.msg import Time
from nav_msgs.msg import Odometry
from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.recordings.message_fields import rigid_transform, stamp_ns
from aprloc_ros.recordings.odometry_break import StampedPose, at_constant_velocity, odometry_break
from aprloc_ros.recordings.stamp_order import StampOrder
from aprloc_ros.ros.messages import time_before
from aprloc_ros.ros.transforms import TfLookup

MAX_GAP_S = 0.2   # odometry further from the image's stamp than this is not used
_ASKED = 5        # images that TF was asked about
_SET_BACK_NS = 1_000_000_000   # less, and it is the moment when an image was taken that was stamped late
_KEPT = 3000      # messages: three seconds at 1 kHz, for an answer is asked about its image when it is there


@dataclass(frozen=True, eq=False)
class OdometryPose:
    """Where the robot is in odometry's frame."""

    frame_id: str
    T_odom_base: Tensor   # [4, 4] float64
    begins_anew: str = ''   # why poses from before lead to nothing that comes, where that was just noticed

    def check_frame(self, map_frame: str, base_frame: str) -> None:
        """AprlocError for one that map -> odom cannot lead to."""
        others = {'': 'no frame', map_frame: 'the frame of the map itself', base_frame: 'the frame of the robot itself'}
        if self.frame_id in others:
            raise AprlocError(f'odom is in {self.frame_id!r}, {others[self.frame_id]}; give odometry in a frame of its own')


class OdometrySource(Protocol):
    """Answers for one moment. Raises AprlocError where odometry says nothing about it."""

    def at(self, stamp: Time) -> OdometryPose: ...


class OdometryAtImage:
    """Odometry's pose at the stamp of the image in hand, and why there is none."""

    def __init__(self, source: OdometrySource | None, map_frame: str, base_frame: str, on_new: Callable[[str], None]):
        """on_new: told why odometry begins anew, before its pose is given out."""
        self._source, self._map_frame, self._base_frame, self._on_new = source, map_frame, base_frame, on_new
        self.pose: OdometryPose | None = None   # as it was asked last
        self.problem = ''

    def ask(self, stamp: Time, before_s: float = 0.0) -> Tensor | None:
        """[4, 4], so many seconds before the stamp; kept with its frame."""
        self.pose = None
        if self._source is None:
            return None
        try:
            pose = self._source.at(time_before(stamp, before_s))
            pose.check_frame(self._map_frame, self._base_frame)
        except AprlocError as error:
            self.problem = str(error)
            return None
        if pose.begins_anew:
            self._on_new(pose.begins_anew)
        self.pose, self.problem = pose, ''
        return pose.T_odom_base


class TfOdometry:
    """The transform odom_frame <- base_frame."""

    def __init__(self, lookup: TfLookup, odom_frame: str, base_frame: str):
        self._lookup, self._odom_frame, self._base_frame = lookup, odom_frame, base_frame
        self._asked: deque[StampedPose] = deque(maxlen=_ASKED)

    def at(self, stamp: Time) -> OdometryPose:
        """One that was set anew is noticed from one image to the next: who listens to TF does not know which of its arrows move the robot."""
        T_odom_base, now_ns = self._lookup(self._odom_frame, self._base_frame, stamp), stamp_ns(stamp)
        since_ns = now_ns - self._asked[-1][0] if self._asked else 1
        break_ = odometry_break(self._asked, now_ns, T_odom_base) if since_ns > 0 else ''
        if break_ or since_ns < -_SET_BACK_NS:
            self._asked.clear()
        if since_ns > 0 or not self._asked:
            self._asked.append((now_ns, T_odom_base))
        return OdometryPose(self._odom_frame, T_odom_base, break_)


class OdometryBuffer:
    """The topic's latest messages, to ask where the robot was at an image's stamp. Thread-safe."""

    def __init__(self, base_frame: str):
        self._base_frame = base_frame
        self._lock = threading.Lock()
        self._order = StampOrder()
        self._poses: deque[StampedPose] = deque(maxlen=_KEPT)
        self._frame_id = ''

    def add(self, message: Odometry) -> str:
        """Messages that come late are dropped. Why odometry begins anew with this one, in one line, or '': poses from before
        lead to nothing that comes. Raises AprlocError for another frame's pose, one that is no pose, or no stamp.
        """
        frame_id = message.header.frame_id.strip('/')
        if message.child_frame_id.strip('/') != self._base_frame:
            raise AprlocError(f'odom is of {message.child_frame_id[:80]!r}, not of the base_frame {self._base_frame!r}')
        pose_message = message.pose.pose
        T_odom_base = rigid_transform(pose_message.position, pose_message.orientation, 'odom')
        now_ns = stamp_ns(message.header.stamp)
        refusal = self._order.refusal(now_ns)
        if now_ns <= 0:
            raise AprlocError(f'odom: {refusal}')
        if refusal:
            return ''
        with self._lock:
            break_ = self._break(now_ns, frame_id, T_odom_base)
            if break_:
                self._poses.clear()
            self._frame_id = frame_id
            self._poses.append((now_ns, T_odom_base))
        return break_

    def _break(self, now_ns: int, frame_id: str, T_odom_base: Tensor) -> str:
        """What parts a message from those before it; '' where it goes on from them."""
        if not self._poses:
            return ''
        if now_ns <= self._poses[-1][0]:
            return 'the clock was set back'
        if frame_id != self._frame_id:
            return f'odometry in {frame_id[:80]!r} took over from {self._frame_id[:80]!r}'
        return odometry_break(self._poses, now_ns, T_odom_base)

    def forget(self) -> None:
        """Time was set back: what comes next is older."""
        with self._lock:
            self._order = StampOrder()
            self._poses.clear()

    def at(self, stamp: Time) -> OdometryPose:
        """At constant velocity between the messages and shortly after the last one."""
        time_ns = stamp_ns(stamp)
        with self._lock:
            frame_id, poses = self._frame_id, tuple(self._poses)
        after = bisect_left(poses, time_ns, key=itemgetter(0))
        gap_s = min((abs(time_ns - t) for t, _ in poses[max(after - 1, 0):after + 1]), default=float('inf')) / 1e9
        if gap_s > MAX_GAP_S:
            raise AprlocError(f'no odometry within {MAX_GAP_S} s of the image' +
                              (f', the nearest is {gap_s:.2f} s away' if poses else ': none has come'))
        return OdometryPose(frame_id, at_constant_velocity(poses, time_ns))
