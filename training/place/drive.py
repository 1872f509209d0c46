"""Who moves in the court: a robot with its camera on three drives, and people with a cart around it."""

import math
from dataclasses import dataclass

import numpy as np

from aprloc_ros.training.place.days import Day
from aprloc_ros.training.place.sensor import Sensor
from aprloc_ros.training.place.solids import Box, Cylinder, Ellipsoid, axes_from_yaw

ELLIPSE_M = 11.5, 7.8       # half axes of the ellipse of size 1
PERSONAL_SPACE_M = 1.8      # people and the cart stay at least this far from the camera
# Straight walks that are free of furniture: both ends (x, y).
LANES = (((-12.9, -8.8), (-12.9, 8.8)), ((-11.0, 9.6), (12.0, 9.6)), ((11.8, -6.8), (12.2, 7.2)),
         ((-11.0, -9.0), (0.8, -9.0)), ((-9.0, 0.8), (-3.2, 0.6)), ((3.3, -0.9), (11.0, -0.9)),
         ((0.6, 3.4), (0.8, 9.5)), ((-0.6, -3.2), (-0.4, -8.8)))
CLOTHES = ((0.75, 0.12, 0.1), (0.1, 0.22, 0.6), (0.85, 0.72, 0.15), (0.08, 0.4, 0.2), (0.55, 0.2, 0.55),
           (0.9, 0.9, 0.86), (0.06, 0.06, 0.08))


@dataclass(frozen=True)
class Course:
    """What a drive is planned to be."""

    name: str
    split: str                          # 'train' or 'test'
    number: int                         # makes its random choices its own
    waypoints: tuple                    # (bearing deg, size) on ellipses around the fountain, passed smoothly
    frames: int
    rate_hz: float
    start_s: float                      # stamp of the first frame
    sweep_deg: tuple[float, float]      # amplitude and period (s) of the head turning left and right
    sensor: Sensor


COURSES = (
    Course('drive_1', 'train', 1, (
        *((bearing, 0.98) for bearing in range(285, 616, 30)), (645, 0.8), (675, 0.7),
        *((bearing, 0.7) for bearing in range(705, 1006, 30))),
        180, 2.0, 0.0, (36.0, 5.3), Sensor()),
    Course('drive_2', 'train', 2, (
        *((bearing, 0.58) for bearing in range(60, 451, 30)), (464, 0.76), (453, 0.95),
        *((bearing, 0.97) for bearing in range(435, 75, -30))),
        180, 2.0, 300.0, (36.0, 4.7),
        Sensor(bias=0.65, adaptation_s=4.0, gamma=2.05, vignetting=0.22, balance=(1.05, 1.0, 0.92))),
    Course('held_out', 'test', 3, (
        (-40, 0.6), (-10, 0.72), (20, 0.66), (50, 0.53), (80, 0.74), (110, 0.64), (135, 0.5), (160, 0.66), (182, 0.76)),
        150, 10.0, 600.0, (24.0, 6.0),
        Sensor(bias=0.85, adaptation_s=0.8, start=1.6, gamma=2.3, vignetting=0.18, balance=(0.97, 1.0, 1.05))))
# Trains nothing and scores nothing: a drive to calibrate with, all around the court.
SECOND_DRIVE = Course('second_drive', 'train', 4, (
    (130, 0.72), (165, 0.56), (200, 0.68), (235, 0.54), (270, 0.72), (305, 0.6), (340, 0.52), (375, 0.66), (410, 0.75),
    (445, 0.6), (480, 0.54)),
    250, 5.0, 900.0, (28.0, 6.5),
    Sensor(bias=0.95, adaptation_s=1.5, start=0.7, gamma=2.15, vignetting=0.2, balance=(1.02, 1.0, 0.96)))


@dataclass(frozen=True)
class Drive:
    """A course with everything random decided."""

    course: Course
    T_map_cam: np.ndarray               # [N, 4, 4] float64, OpenCV camera axes
    stamps_s: np.ndarray                # [N]
    walks: tuple                        # (lane, phase, speed m/s, colours) of each person; the last one pushes the cart

    def actors(self, frame: int) -> tuple:
        """The moving solids of a frame."""
        eye, now_s = self.T_map_cam[frame, :2, 3], self.stamps_s[frame]
        solids = []
        for i, (lane, phase, speed_m_s, colours) in enumerate(self.walks):
            start, end = (np.array(p) for p in LANES[lane])
            length_m = float(np.linalg.norm(end - start))
            along = math.cos(now_s * speed_m_s * 2 / length_m + phase)
            place = (start + end) / 2 + (end - start) / 2 * along
            away = place - eye
            distance_m = max(float(np.linalg.norm(away)), 1e-6)
            place = eye + away * max(1.0, PERSONAL_SPACE_M / distance_m)
            yaw = math.atan2(*(end - start)[::-1])
            solids += _person(*place.tolist(), yaw, now_s * speed_m_s * 4, colours)
            if i == len(self.walks) - 1:
                ahead = np.array([math.cos(yaw), math.sin(yaw)])
                side = 1.0 if ahead @ away > 0 else -1.0    # on the far side, so that it keeps its distance too
                solids += cart(*(place + side * 1.1 * ahead).tolist(), yaw, colours)
        return tuple(solids)


def day_course(day: Day) -> Course:
    """A drive of the day's own: as the held-out one, from another side and with other curves."""
    rng = np.random.default_rng([9, day.number])
    waypoints = tuple((40 + 105 * day.number + 28 * i, float(rng.uniform(0.52, 0.76))) for i in range(9))
    return Course(day.name, 'train', 10 + day.number, waypoints, 150, 10.0, 1200.0 + 300 * day.number, (24.0, 6.0), day.sensor)


def plan_drive(course: Course, seed: int = 0) -> Drive:
    """Decide a drive: path, head movements and passers-by all follow from the seed."""
    rng = np.random.default_rng([seed, 7, course.number])
    positions, heading = _path(course.waypoints, course.frames)
    time_s = np.arange(course.frames) / course.rate_hz
    amplitude_deg, period_s = course.sweep_deg
    phase = rng.uniform(0, 2 * np.pi, 6)

    def wave(period, i):
        return np.sin(2 * np.pi * time_s / period + phase[i])

    yaw = heading + np.deg2rad(amplitude_deg) * (0.8 * wave(period_s, 0) + 0.2 * wave(0.37 * period_s, 1))
    pitch = np.deg2rad(4.0 + 2.5 * wave(5.3, 2) + 0.6 * wave(1.1, 3))
    roll = np.deg2rad(1.6 * wave(3.1, 4) + 0.5 * wave(0.9, 5))
    height_m = 1.1 + 0.12 * wave(17.0, 1) + 0.03 * wave(1.3, 4)
    T_map_cam = camera_poses(np.column_stack([positions, height_m]), yaw, pitch, roll)
    colours = rng.permutation(len(CLOTHES))
    walks = tuple((int(lane), float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(0.6, 1.3)),
                   (CLOTHES[colours[i]], CLOTHES[colours[(i + 2) % len(colours)]]))
                  for i, lane in enumerate(rng.permutation(len(LANES))[:5]))
    return Drive(course, T_map_cam, course.start_s + time_s, walks)


def camera_poses(position: np.ndarray, yaw: np.ndarray, pitch: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """Cameras at position [N, 3] that look along yaw (from east to north), raised by pitch, turned about their
    axis by roll (clockwise as they see it); angles [N] in radians -> T_map_cam [N, 4, 4].
    """
    forward = np.stack([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)], -1)
    level = np.stack([np.sin(yaw), -np.cos(yaw), np.zeros_like(yaw)], -1)
    down = np.cross(forward, level)
    c, s = np.cos(roll)[:, None], np.sin(roll)[:, None]
    T_map_cam = np.tile(np.eye(4), (len(position), 1, 1))
    T_map_cam[:, :3, :3] = np.stack([c * level + s * down, c * down - s * level, forward], -1)
    T_map_cam[:, :3, 3] = position
    return T_map_cam


def _path(waypoints, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions [count, 2] at even steps along a Catmull-Rom spline through the waypoints, and headings [count]."""
    bearing, size = np.array(waypoints).T
    p = (size * np.stack([np.cos(np.deg2rad(bearing)), np.sin(np.deg2rad(bearing))])).T * ELLIPSE_M
    p = np.concatenate([[2 * p[0] - p[1]], p, [2 * p[-1] - p[-2]]])
    t = np.linspace(0, 1, 60, endpoint=False)[:, None]
    spline = np.concatenate([0.5 * (
        2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t ** 2 + (3 * b - a - 3 * c + d) * t ** 3)
        for a, b, c, d in zip(p[:-3], p[1:-2], p[2:-1], p[3:])])
    travelled_m = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(spline, axis=0), axis=1))])
    at_m = np.linspace(0, travelled_m[-1], count)
    positions = np.stack([np.interp(at_m, travelled_m, c) for c in spline.T], -1)
    ahead = np.stack([np.interp(at_m + 0.8, travelled_m, c) for c in spline.T], -1)
    behind = np.stack([np.interp(at_m - 0.8, travelled_m, c) for c in spline.T], -1)
    return positions, np.unwrap(np.arctan2(*(ahead - behind).T[::-1]))


def _person(x: float, y: float, yaw: float, stride: float, colours) -> list:
    """Somebody who walks; stride is the phase of the legs."""
    coat, trousers = colours
    axes = axes_from_yaw(yaw)
    step = 0.16 * math.sin(stride)
    dx, dy = step * math.cos(yaw), step * math.sin(yaw)
    ox, oy = -0.09 * math.sin(yaw), 0.09 * math.cos(yaw)
    return [Cylinder('paint', (x + dx + ox, y + dy + oy, 0.0), 0.085, 0.85, trousers),
            Cylinder('paint', (x - dx - ox, y - dy - oy, 0.0), 0.085, 0.85, trousers),
            Ellipsoid('paint', (x, y, 1.13), (0.17, 0.26, 0.4), axes, coat),
            Ellipsoid('paint', (x, y, 1.64), (0.11, 0.1, 0.14), axes, (0.62, 0.42, 0.32))]


def cart(x: float, y: float, yaw: float, colours) -> list:
    """A market cart with a canopy."""
    axes = axes_from_yaw(yaw)
    return [Box('wood', (x, y, 0.62), (0.6, 0.38, 0.27), axes), Box('iron', (x, y, 0.18), (0.5, 0.3, 0.18), axes),
            Cylinder('iron', (x, y, 0.8), 0.03, 1.0), Box('paint', (x, y, 1.83), (0.7, 0.5, 0.06), axes, colours[0])]
