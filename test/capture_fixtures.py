"""A known scene that the tests of the readers write in each format, and pixels computed with OpenCV alone."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from aprloc_ros.errors import AprlocError
from aprloc_ros.training.datasets import read_capture

WIDTH, HEIGHT = 32, 24
FOCAL = 30.0


@dataclass(frozen=True)
class Scene:
    T_world_cam: np.ndarray   # [N, 4, 4] OpenCV axes
    points: np.ndarray        # [P, 3], in view of every camera

    @property
    def T_cam_world(self) -> np.ndarray:
        return np.linalg.inv(self.T_world_cam)


def make_scene(count: int = 12, seed: int = 0) -> Scene:
    """Cameras on an arc that look at a cloud of points, each with a roll and a little disorder of its own."""
    rng = np.random.default_rng(seed)
    poses = []
    for angle in np.linspace(0, 1.5, count):
        centre = np.array([4 * np.sin(angle), rng.uniform(-0.3, 0.3), -4 * np.cos(angle)])
        z = rng.normal(0, 0.1, 3) - centre
        z /= np.linalg.norm(z)
        x = np.cross([0.2, 1, 0.1], z)
        x /= np.linalg.norm(x)
        T = np.eye(4)
        T[:3, :3] = np.stack([x, np.cross(z, x), z], -1)
        T[:3, 3] = centre
        poses.append(T)
    return Scene(np.array(poses), rng.uniform(-0.7, 0.7, (20, 3)))


def quaternion(R: np.ndarray) -> np.ndarray:
    """w x y z, by OpenCV's rotation vector."""
    vector = cv2.Rodrigues(np.ascontiguousarray(R))[0][:, 0]
    angle = np.linalg.norm(vector)
    return np.array([np.cos(angle / 2), *(np.sin(angle / 2) * vector / max(angle, 1e-12))])


def rotation(q_wxyz) -> np.ndarray:
    """Rotation matrix by rotating the axes with q v q*, as published conventions put it."""
    w, vector = q_wxyz[0], np.array(q_wxyz[1:])
    axes = [axis + 2 * np.cross(vector, np.cross(vector, axis) + w * axis) for axis in np.eye(3)]
    return np.stack(axes, -1)


def picture(index: int) -> np.ndarray:
    """[H, W, 3] uint8 RGB, another one for each index."""
    return np.random.default_rng(index).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def write_picture(path: Path, index: int):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.cvtColor(picture(index), cv2.COLOR_RGB2BGR))


def pixels(frame, points: np.ndarray) -> np.ndarray:
    """Where the frame's pose and camera put world points, by OpenCV: [P, 2], top-left pixel's centre at (0, 0)."""
    T = np.linalg.inv(frame.T_map_cam.numpy())
    vector = cv2.Rodrigues(np.ascontiguousarray(T[:3, :3]))[0]
    camera = frame.camera
    matrix = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
    distortion = np.array(camera.distortion or (0.0,) * 4)
    if camera.model == 'fisheye':
        return cv2.fisheye.projectPoints(points[:, None], vector, T[:3, 3].copy(), matrix, distortion)[0][:, 0]
    return cv2.projectPoints(points[:, None], vector, T[:3, 3:], matrix, distortion)[0][:, 0]


def refused(path: Path, *parts: str, **arguments) -> str:
    """The one-line message with which reading fails; it must contain all the parts."""
    with pytest.raises(AprlocError) as caught:
        read_capture(path, **arguments)
    message = str(caught.value)
    assert '\n' not in message
    for part in parts:
        assert part in message, message
    return message


def replace_line(path: Path, number: int, line: str | None):
    """Replace a line (counted from 1); None removes it."""
    lines = path.read_text().splitlines()
    lines[number - 1:number] = [] if line is None else [line]
    path.write_text('\n'.join(lines) + '\n')
