"""Graduated non-convexity on loss maps: the Gaussian-smoothed cost by iteratively reweighted least squares (NRE 5.2)."""

from dataclasses import dataclass

import numpy as np

from aprloc_ros.camera import Camera
from aprloc_ros.refinement.loss_maps import LossMaps

_NEAR_M = 1e-6
_LOWEST_DAMPING, _FIRST_DAMPING, _HIGHEST_DAMPING = 1e-8, 1e-5, 1e7
_SAME = 1e-4    # relative decrease of the cost that ends a level
_SOFTEST = 0.05


@dataclass(frozen=True)
class Pinhole:
    """Intrinsics in cells of a feature map."""

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    @classmethod
    def of(cls, camera: Camera) -> 'Pinhole':
        """A rectified camera whose pixels are the cells."""
        return cls(camera.fx, camera.fy, camera.cx, camera.cy, camera.width, camera.height)

    def project(self, xyz: np.ndarray, T_cam_map: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Map points [N, 3] -> cells [N, 2], points in the camera [N, 3], in view [N] (bool)."""
        cam = xyz @ T_cam_map[:3, :3].T + T_cam_map[:3, 3]
        z = np.where(cam[:, 2] > _NEAR_M, cam[:, 2], 1.0)
        cells = np.stack([self.fx * cam[:, 0] / z + self.cx, self.fy * cam[:, 1] / z + self.cy], 1)
        inside = ((cam[:, 2] > _NEAR_M) & (cells[:, 0] > -0.5) & (cells[:, 0] < self.width - 0.5)
                  & (cells[:, 1] > -0.5) & (cells[:, 1] < self.height - 0.5))
        return cells, cam, inside

    def jacobian(self, cam: np.ndarray) -> np.ndarray:
        """Of the cell of points [N, 3] in the camera, in xi of T_map_cam @ exp(xi): [N, 2, 6].

        A point moves by -translation - rotation x point; the first factor is that of the perspective division.
        """
        x, y, z = cam.T
        z = np.where(z > _NEAR_M, z, 1.0)
        u, v = x / z, y / z
        a, b = self.fx / z, self.fy / z
        zero = np.zeros_like(x)
        return np.stack([
            np.stack([-a, zero, a * u, self.fx * u * v, -self.fx * (1 + u * u), self.fx * v], 1),
            np.stack([zero, -b, b * v, self.fy * (1 + v * v), -self.fy * u * v, -self.fy * u], 1)], 1)


@dataclass(frozen=True, eq=False)
class Level:
    """Where a minimisation stands."""

    T_cam_map: np.ndarray    # [4, 4]
    cost: float
    iterations: int


@dataclass(frozen=True, eq=False)
class Pull:
    """What Eq. 9 wants of N points at their projections."""

    gain: np.ndarray        # [N] its negative, point by point
    offset: np.ndarray      # [N, 2] to the mean of the cells, weighted by gain and kernel
    stiffness: np.ndarray   # [N, 2, 2], eigenvalues in (0, 1]: its second derivative in units of gain / sigma^2


def pull(maps: LossMaps, cells: np.ndarray, inside: np.ndarray, sigma: float) -> Pull:
    """At projections [N, 2], of which some are inside the map [N].

    The sum of w_q (q - omega) over the cells q of a point is W (mean of q - omega), so each point counts once. The second
    derivative of a point's share of Eq. 9 is gain / sigma^2 times the identity less the mean of (q - omega)(q - omega)^T /
    sigma^2: next to nothing along a plateau of cells, negative where cells are farther than sigma. There it is softened, so
    that points which look for other places do not hold a pose back.
    """
    x, y = np.moveaxis(maps.cells - cells[:, None].astype(np.float32), 2, 0)
    weights = maps.gains * np.exp((x * x + y * y) * np.float32(-0.5 / sigma ** 2)) * inside[:, None]
    total, wx, wy = weights.sum(1), weights * x, weights * y
    safe = np.maximum(total, 1e-20)
    mean = np.stack([wx.sum(1), wy.sum(1)], 1) / safe[:, None]
    xx, xy, yy = (np.einsum('nk,nk->n', *pair) for pair in ((wx, x), (wx, y), (wy, y)))
    second = np.stack([xx, xy, xy, yy], 1).reshape(-1, 2, 2) / safe[:, None, None]
    return Pull(total / (2 * np.pi * sigma ** 2), mean, np.eye(2) - _softened(second / sigma ** 2))


def _softened(moments: np.ndarray) -> np.ndarray:
    """Second moments [N, 2, 2], those with an eigenvalue above 1 - _SOFTEST scaled down to it."""
    a, b, c = moments[:, 0, 0], moments[:, 0, 1], moments[:, 1, 1]
    largest = (a + c) / 2 + np.hypot((a - c) / 2, b)
    return moments / np.maximum(1, largest / (1 - _SOFTEST))[:, None, None]


def minimise(maps: LossMaps, xyz: np.ndarray, camera: Pinhole, T_cam_map: np.ndarray, sigma: float,
             most_iterations: int) -> Level:
    """One level of GNC from T_cam_map [4, 4]: Levenberg-Marquardt steps on the reweighted least squares of Eq. 9.

    Reweighting alone goes only part of the way, as cells that are approached pull back, and outliers with them; the
    second derivative of Eq. 9 knows by how much, and the stiffness restores the full step.
    Ends when the cost falls by less than a given part. (The paper ends a level as Zach and Bourmaud do, ECCV 2018.)
    """
    damping, done = _FIRST_DAMPING, 0
    cells, cam, inside = camera.project(xyz, T_cam_map)
    now = pull(maps, cells, inside, sigma)
    cost = -now.gain.sum()
    while done < most_iterations and cost < 0:
        done += 1
        J = camera.jacobian(cam)
        H, g = normal_equations(J, now.offset, now.gain, now.stiffness)
        step = np.linalg.solve(H + damping * np.diag(np.diag(H) + 1e-12), g)
        moved = exp_se3(-step) @ T_cam_map
        new_cells, new_cam, new_inside = camera.project(xyz, moved)
        new = pull(maps, new_cells, new_inside, sigma)
        new_cost = -new.gain.sum()
        if not new_cost <= cost:
            damping *= 10
            if damping > _HIGHEST_DAMPING:
                break
            continue
        damping = max(damping / 10, _LOWEST_DAMPING)
        gained = cost - new_cost
        T_cam_map, cam, now, cost = moved, new_cam, new, new_cost
        if gained < _SAME * -cost:
            break
    return Level(T_cam_map, float(cost), done)


def normal_equations(J: np.ndarray, residuals: np.ndarray, weights: np.ndarray,
                     stiffness: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """H = sum w J^T K J [6, 6] and g = sum w J^T r [6] of J [N, 2, 6], r [N, 2], w [N], K [N, 2, 2]."""
    weighted = J * weights[:, None, None]
    H = (stiffness @ weighted).reshape(-1, 6).T @ J.reshape(-1, 6)
    return H, weighted.reshape(-1, 6).T @ residuals.reshape(-1)


def exp_se3(xi: np.ndarray) -> np.ndarray:
    """Tangent [6] (translation, rotation) -> [4, 4], by Rodrigues' formula."""
    v, w = xi[:3], xi[3:]
    angle = np.linalg.norm(w)
    K = np.array([[0, -w[2], w[1]], [w[2], 0, -w[0]], [-w[1], w[0], 0]])
    if angle < 1e-8:
        a, b, c = 1.0, 0.5, 1 / 6
    else:
        a, b, c = np.sin(angle) / angle, (1 - np.cos(angle)) / angle ** 2, (angle - np.sin(angle)) / angle ** 3
    T = np.eye(4)
    T[:3, :3] += a * K + b * K @ K
    T[:3, 3] = (np.eye(3) + b * K + c * K @ K) @ v
    return T
