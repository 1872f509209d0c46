"""The camera pose that fits what an image's cells say of where they are in the place."""

import cv2
import numpy as np
import torch
from torch import Tensor

from aprloc_ros.camera import Camera
from aprloc_ros.geometry import invert, se3_exp, skew

_FITTED = 250                 # cells at most, the surest first
_TRIPLES = 200                # of the consensus
_AGREES = 2.0                 # cells that an inlier may be off
_KERNELS = 3.0, 1.5           # of the weighted least squares, in cells
_STEPS = 5                    # with each
_FEWEST = 4
_NEAREST = 1e-3               # depth, in units of the coordinates, in front of which nothing is seen
_DAMPING = 1e-6


def fit_pose(xyz: Tensor, deviation: Tensor, cells: Tensor, camera: Camera) -> tuple[Tensor, Tensor] | None:
    """T_scene_cam [4, 4] float64 on the CPU and the share [] of the fitted cells that agree; None where no pose does.

    xyz [N, 3]: where in the place the cells look; deviation [N]: how far that may be off, in cells as the camera sees it;
    cells [N, 2]: (x, y) of their centres; camera: a pinhole whose pixels are the cells.

    Consensus over triples, then least squares with weights 1 / deviation^2 and a Geman-McClure kernel. With gradients on,
    the last step passes them on to the coordinates: that of the minimum, by the implicit function theorem, as far as
    Gauss and Newton's normal matrix stands for the Hessian.
    """
    surest = deviation.detach().argsort(stable=True)[:_FITTED].cpu()
    xyz, deviation, cells = (each.cpu().double()[surest] for each in (xyz, deviation, cells))
    T_cam_scene = _consensus(xyz.detach().numpy(), cells.numpy(), camera)
    if T_cam_scene is None:
        return None
    weight = 1 / deviation.detach().square()
    T_cam_scene = _descended(T_cam_scene, xyz.detach().numpy(), weight.numpy(), cells.numpy(), camera)
    T_cam_scene = _stepped(torch.from_numpy(T_cam_scene), xyz, weight, cells, camera)
    if not torch.isfinite(T_cam_scene).all():
        return None
    error, _ = _errors(T_cam_scene.detach(), xyz.detach(), cells, camera)
    return invert(T_cam_scene), (error.norm(dim=1) < _AGREES).double().mean()


def _consensus(xyz: np.ndarray, cells: np.ndarray, camera: Camera) -> np.ndarray | None:
    if len(xyz) < _FEWEST or not np.isfinite(xyz).all():
        return None
    found, turn, shift, _ = cv2.solvePnPRansac(xyz, cells, camera.matrix, None, iterationsCount=_TRIPLES,
                                               reprojectionError=_AGREES, flags=cv2.SOLVEPNP_AP3P)
    if not found or not np.isfinite([turn, shift]).all():
        return None
    T_cam_scene = np.eye(4)
    T_cam_scene[:3, :3], T_cam_scene[:3, 3] = cv2.Rodrigues(turn)[0], shift[:, 0]
    return T_cam_scene


def _descended(T_cam_scene: np.ndarray, xyz: np.ndarray, weight: np.ndarray, cells: np.ndarray, camera: Camera) -> np.ndarray:
    """Steps of Gauss and Newton. In NumPy: a fifth of the time of small tensors."""
    focal, centre = np.array([camera.fx, camera.fy]), np.array([camera.cx, camera.cy])
    for kernel in np.repeat(_KERNELS, _STEPS):
        points = xyz @ T_cam_scene[:3, :3].T + T_cam_scene[:3, 3]
        x, y, z = np.maximum(points, [-np.inf, -np.inf, _NEAREST]).T
        error = focal * np.stack([x / z, y / z], 1) + centre - cells
        robust = (points[:, 2] > _NEAREST) * weight / (1 + (error ** 2).sum(1) / kernel ** 2) ** 2
        o = np.zeros_like(x)
        jacobian = np.stack([focal[0] * np.stack([1 / z, o, -x / z ** 2, -x * y / z ** 2, 1 + (x / z) ** 2, -y / z]),
                             focal[1] * np.stack([o, 1 / z, -y / z ** 2, -1 - (y / z) ** 2, x * y / z ** 2, x / z])])
        normal = np.einsum('cin,n,cjn->ij', jacobian, robust, jacobian)
        gradient = np.einsum('cin,n,nc->i', jacobian, robust, error)
        damped = normal + _DAMPING * normal.trace() / 6 * np.eye(6)
        if not np.isfinite(damped).all() or damped.trace() == 0:
            return np.full((4, 4), np.nan)
        change = -np.linalg.solve(damped, gradient)
        turn = np.eye(4)
        turn[:3, :3], turn[:3, 3] = cv2.Rodrigues(change[3:])[0], change[:3]
        T_cam_scene = turn @ T_cam_scene
    return T_cam_scene


def _errors(T_cam_scene: Tensor, xyz: Tensor, cells: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """Reprojection minus cell [N, 2], infinite behind the camera; the points in the camera [N, 3]."""
    points = xyz @ T_cam_scene[:3, :3].T + T_cam_scene[:3, 3]
    depth = points[:, 2:].clamp_min(_NEAREST)
    focal, centre = points.new_tensor([camera.fx, camera.fy]), points.new_tensor([camera.cx, camera.cy])
    error = focal * points[:, :2] / depth + centre - cells
    return torch.where(points[:, 2:] > _NEAREST, error, torch.inf), points


def _stepped(T_cam_scene: Tensor, xyz: Tensor, weight: Tensor, cells: Tensor, camera: Camera) -> Tensor:
    """The last step, with a gradient."""
    error, points = _errors(T_cam_scene, xyz, cells, camera)
    ahead = torch.isfinite(error).all(1)
    error, points, weight = error[ahead], points[ahead], weight[ahead]
    robust = (weight / (1 + error.detach().square().sum(1) / _KERNELS[-1] ** 2).square())[:, None, None]
    x, y, z = points.detach().unbind(1)
    o = torch.zeros_like(x)
    slope = torch.stack([camera.fx / z, o, -camera.fx * x / z ** 2, o, camera.fy / z, -camera.fy * y / z ** 2], 1).view(-1, 2, 3)
    jacobian = torch.cat([slope, -slope @ skew(points.detach())], 2)
    normal = (jacobian.mT @ (robust * jacobian)).sum(0)
    normal = normal + _DAMPING * normal.diagonal().mean() * torch.eye(6, dtype=normal.dtype)
    gradient = (jacobian.mT @ (robust * error.unsqueeze(2))).sum(0)[:, 0]
    change, _ = torch.linalg.solve_ex(normal, gradient)   # not finite where cells bear no pose
    return se3_exp(-change) @ T_cam_scene
