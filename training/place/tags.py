"""Tags in photographs of the place: warped from their print by the exact camera."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from aprloc_ros.camera import Camera
from aprloc_ros.geometry import pose

_CELL_PX = 16
_MARGIN = 2   # cells of white around the print
_FINER = 4    # times the resolution, averaged


def print_tag(number: int, dictionary: str = 'APRILTAG_36h11', cells: int = 8) -> tuple[np.ndarray, float]:
    """([S, S] uint8 with a white margin, share of its width that the tag takes)."""
    kind = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, f'DICT_{dictionary}'))
    tag = cv2.aruco.generateImageMarker(kind, number, cells * _CELL_PX)
    sheet = cv2.copyMakeBorder(tag, *[_MARGIN * _CELL_PX] * 4, cv2.BORDER_CONSTANT, value=255)
    return sheet, tag.shape[0] / sheet.shape[0]


def paste(image: np.ndarray, camera: Camera, T_world_cam: Tensor, T_world_tag: Tensor, side_m: float, number: int,
          dictionary: str = 'APRILTAG_36h11') -> np.ndarray:
    """The image [H, W, 3] uint8 with a tag in it that faces along its z axis, or as it was where it shows its back."""
    sheet, share = print_tag(number, dictionary)
    half = side_m / share / 2
    corners = torch.tensor([[-half, half, 0], [half, half, 0], [half, -half, 0], [-half, -half, 0]], dtype=torch.float64)
    in_world = corners @ T_world_tag[:3, :3].T + T_world_tag[:3, 3]
    in_cam = (in_world - T_world_cam[:3, 3]) @ T_world_cam[:3, :3]
    facing = (T_world_cam[:3, 3] - T_world_tag[:3, 3]) @ T_world_tag[:3, 2] > 0.1
    if not facing or in_cam[:, 2].min() < 0.2:
        return image
    u = camera.fx * in_cam[:, 0] / in_cam[:, 2] + camera.cx
    v = camera.fy * in_cam[:, 1] / in_cam[:, 2] + camera.cy
    if u.max() < 0 or v.max() < 0 or u.min() > camera.width or v.min() > camera.height:
        return image
    target = ((torch.stack([u, v], 1) + 0.5) * _FINER - 0.5).numpy().astype(np.float32)
    size = sheet.shape[0]
    source = np.array([[-0.5, -0.5], [size - 0.5, -0.5], [size - 0.5, size - 0.5], [-0.5, size - 0.5]], np.float32)
    H = cv2.getPerspectiveTransform(source, target)
    large = (camera.width * _FINER, camera.height * _FINER)
    ink = cv2.warpPerspective(sheet, H, large, flags=cv2.INTER_AREA)
    cover = cv2.warpPerspective(np.full_like(sheet, 255), H, large, flags=cv2.INTER_AREA)
    ink, cover = (cv2.resize(x, (camera.width, camera.height), interpolation=cv2.INTER_AREA) for x in (ink, cover))
    cover = cover[..., None] / 255
    light = 30 + 0.75 * ink[..., None].astype(float)
    return (image * (1 - cover) + light * cover).round().astype(np.uint8)


def tag_pose(centre: Sequence[float], normal: Sequence[float]) -> Tensor:
    """T_world_tag with z along the horizontal normal [2] and y up."""
    z = torch.tensor([*normal, 0.0], dtype=torch.float64)
    z = z / z.norm()
    y = torch.tensor([0.0, 0, 1], dtype=torch.float64)
    return pose(torch.stack([torch.linalg.cross(y, z), y, z], 1), torch.tensor(centre, dtype=torch.float64))
