"""Rigid transforms: SO(3) and SE(3), pose errors, and every axis flip of the project.

A pose is `T_a_b`, a [..., 4, 4] tensor that takes b-coordinates to a. A tangent vector is [..., 6], translation
first, then rotation (metres, radians), the order of ROS covariances. Poses are float64 outside the networks.
"""

import torch
from torch import Tensor

from aprloc_ros.errors import AprlocError

# Takes OpenCV camera axes (x right, y down, z forward) to OpenGL ones (x right, y up, z back).
GL_FROM_CV = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))
# Takes OpenCV camera axes to LLFF ones (x down, y right, z back).
LLFF_FROM_CV = torch.tensor(
    [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1]], dtype=torch.float64)
# Takes OpenCV (optical) axes to those of a ROS body (REP-103: x forward, y left, z up).
BODY_FROM_CV = torch.tensor(
    [[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]], dtype=torch.float64)


def nearest_rotation(matrix: Tensor) -> Tensor:
    """The rotation nearest in the Frobenius norm, never a reflection (Direct-PoseNet Eq. 5-6, determinant checked).

    matrix: [..., 3, 3] -> [..., 3, 3] with determinant +1.
    """
    u, _, vt = torch.linalg.svd(matrix)
    sign = torch.linalg.det(u @ vt)
    flip = torch.ones_like(matrix[..., 0])
    flip[..., 2] = sign
    return u @ (flip.unsqueeze(-1) * vt)


def pose(rotation: Tensor, translation: Tensor) -> Tensor:
    """Rotation [..., 3, 3] and translation [..., 3] -> [..., 4, 4]."""
    top = torch.cat([rotation, translation.unsqueeze(-1)], -1)
    bottom = torch.zeros_like(top[..., :1, :])
    bottom[..., 0, 3] = 1
    return torch.cat([top, bottom], -2)


def invert(T_a_b: Tensor) -> Tensor:
    """[..., 4, 4] -> T_b_a, [..., 4, 4]."""
    R_b_a = T_a_b[..., :3, :3].transpose(-1, -2)
    return pose(R_b_a, -(R_b_a @ T_a_b[..., :3, 3:])[..., 0])


def skew(v: Tensor) -> Tensor:
    """[..., 3] -> [..., 3, 3] with skew(v) @ x == cross(v, x)."""
    x, y, z = v.unbind(-1)
    o = torch.zeros_like(x)
    return torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).unflatten(-1, (3, 3))


def so3_exp(phi: Tensor) -> Tensor:
    """Rotation vector [..., 3] in radians -> rotation [..., 3, 3]."""
    return _matrix_exp(skew(phi))


def so3_log(R: Tensor) -> Tensor:
    """Rotation [..., 3, 3] -> rotation vector [..., 3] in radians, of length at most pi."""
    q = rotation_to_quaternion(R)
    length = q[..., 1:].norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(length, q[..., :1])
    return torch.where(length > 1e-12, angle / length.clamp_min(1e-12), 2.0) * q[..., 1:]


def se3_exp(xi: Tensor) -> Tensor:
    """Tangent [..., 6] (translation, rotation) -> [..., 4, 4]."""
    generator = torch.zeros(*xi.shape[:-1], 4, 4, dtype=xi.dtype, device=xi.device)
    generator[..., :3, :3] = skew(xi[..., 3:])
    generator[..., :3, 3] = xi[..., :3]
    return _matrix_exp(generator)


def _matrix_exp(generator: Tensor) -> Tensor:
    """torch.linalg.matrix_exp, and NaN where something is not finite, forward and backward.

    PyTorch 2.1 leaves the result as the memory was: a pose that looks right.
    """
    return torch.linalg.matrix_exp(generator) + 0 * generator.sum((-2, -1), keepdim=True)


def se3_log(T: Tensor) -> Tensor:
    """[..., 4, 4] -> tangent [..., 6] (translation, rotation)."""
    phi = so3_log(T[..., :3, :3])
    angle = phi.norm(dim=-1)[..., None, None]
    K = skew(phi)
    half = angle.clamp_min(1e-6) / 2
    coefficient = torch.where(angle > 1e-4, (1 - half / torch.tan(half)) / angle.clamp_min(1e-6) ** 2, 1 / 12)
    V_inverse = torch.eye(3, dtype=T.dtype, device=T.device) - K / 2 + coefficient * K @ K
    return torch.cat([(V_inverse @ T[..., :3, 3:])[..., 0], phi], -1)


def adjoint(T_a_b: Tensor) -> Tensor:
    """[..., 4, 4] -> [..., 6, 6] with exp(adjoint(T) xi) == T exp(xi) T^-1."""
    R, t = T_a_b[..., :3, :3], T_a_b[..., :3, 3]
    top = torch.cat([R, skew(t) @ R], -1)
    bottom = torch.cat([torch.zeros_like(R), R], -1)
    return torch.cat([top, bottom], -2)


def pose_errors(T_estimate: Tensor, T_truth: Tensor) -> tuple[Tensor, Tensor]:
    """Distance of the centres and angle between the rotations, as the literature scores them.

    Both [..., 4, 4] -> (error_m [...], error_deg [...]). The estimate's rotation is projected to SO(3) first.
    """
    R = nearest_rotation(T_estimate[..., :3, :3])
    relative = R.transpose(-1, -2) @ T_truth[..., :3, :3]
    error_m = (T_estimate[..., :3, 3] - T_truth[..., :3, 3]).norm(dim=-1)
    return error_m, torch.rad2deg(so3_log(relative).norm(dim=-1))


def quaternion_to_rotation(q_wxyz: Tensor) -> Tensor:
    """Quaternion [..., 4] (w, x, y, z), of any length but zero -> rotation [..., 3, 3]."""
    w, x, y, z = torch.nn.functional.normalize(q_wxyz, dim=-1).unbind(-1)
    return torch.stack([
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1).unflatten(-1, (3, 3))


def rotation_to_quaternion(R: Tensor) -> Tensor:
    """Rotation [..., 3, 3] -> unit quaternion [..., 4] (w, x, y, z) with w >= 0."""
    m = R.flatten(-2)
    xx, xy, xz, yx, yy, yz, zx, zy, zz = m.unbind(-1)
    # Four forms of the same quaternion, each times twice one of its components: take the best conditioned.
    forms = torch.stack([
        torch.stack([1 + xx + yy + zz, zy - yz, xz - zx, yx - xy], -1),
        torch.stack([zy - yz, 1 + xx - yy - zz, xy + yx, xz + zx], -1),
        torch.stack([xz - zx, xy + yx, 1 - xx + yy - zz, yz + zy], -1),
        torch.stack([yx - xy, xz + zx, yz + zy, 1 - xx - yy + zz], -1)], -2)
    best = torch.diagonal(forms, dim1=-2, dim2=-1).argmax(-1)
    q = torch.gather(forms, -2, best[..., None, None].expand(*best.shape, 1, 4))[..., 0, :]
    q = torch.nn.functional.normalize(q, dim=-1)
    return torch.where(q[..., :1] < 0, -q, q)


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Between all of [..., N, k] and all of [..., M, k] -> [..., N, M], wherever the origin is.

    torch.cdist multiplies out by itself, where what is common to all is squared and lost from the digits: 9 cm in coordinates of
    millions of metres.
    """
    return torch.cdist(a, b, compute_mode='donot_use_mm_for_euclid_dist')


def far_from_origin(T: Tensor) -> Tensor:
    """Whole kilometres from the origin to the middle of poses [N, 4, 4]: [3]. What lies as far nearer keeps its digits."""
    return 1000 * (T[:, :3, 3].median(0).values / 1000).round()


def nearer(T: Tensor, far: Tensor) -> Tensor:
    """Poses [N, 4, 4] as seen from a place [3]."""
    return pose(T[:, :3, :3], T[:, :3, 3] - far)


def check_pose(T: Tensor, where: str) -> Tensor:
    """T [4, 4] when it is a finite rigid transform (rotation within 1e-2), its rotation projected to SO(3).

    Raises AprlocError that begins with `where` (file and line) otherwise.
    """
    if T.shape != (4, 4):
        raise AprlocError(f'{where}: a pose must be a 4x4 matrix, not of shape {tuple(T.shape)}')
    if not torch.isfinite(T).all():
        raise AprlocError(f'{where}: the pose holds NaN or infinity; remove the frame or mend its pose')
    R = T[:3, :3]
    deviation = (R.T @ R - torch.eye(3, dtype=T.dtype)).abs().max().item()
    determinant = torch.linalg.det(R).item()
    if deviation > 1e-2 or determinant < 0:
        raise AprlocError(f'{where}: not a rotation: R^T R differs from identity by {deviation:.3g} (at most 0.01) '
                          f'and det R is {determinant:.3f} (must be +1)')
    return pose(nearest_rotation(R), T[:3, 3])


def average_pose(T_map_cam: Tensor) -> Tensor:
    """Mean position and chordal mean rotation of poses [N, 4, 4] -> [4, 4]."""
    return pose(nearest_rotation(T_map_cam[:, :3, :3].mean(0)), T_map_cam[:, :3, 3].mean(0))
