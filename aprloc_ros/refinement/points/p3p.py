"""The pose of a camera that sees three points, for many triples at once (Grunert's solution, after Haralick et al. 1994)."""

import numpy as np

_SLENDEREST = 1e-6   # area of a triangle over its longest side squared
_LEADING = 1e-12
_SIDES_FIT = 1e-4    # relative: the real part of a complex root does not give back the triangle
_NEAREST = 1e-6      # ratio of distances


def p3p(xyz: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Poses T_cam_map [H, 4, 4] float64 that put triples of points on their rays, up to four for each, in no order.

    xyz [M, 3, 3] points in the map; rays [M, 3, 2] their normalised image coordinates, z = 1. Triples whose points lie
    on a line give none.

    With s_i the distances, the law of cosines for the three sides is a quartic in v = s_3 / s_1 (Haralick, Lee,
    Ottenberg and Noelle, IJCV 1994, section 2.1); its roots are the eigenvalues of its companion matrix.
    """
    bearings = np.concatenate([rays, np.ones((*rays.shape[:2], 1))], 2)
    bearings /= np.linalg.norm(bearings, axis=2, keepdims=True)
    sides = np.stack([_squared(xyz[:, i] - xyz[:, j]) for i, j in ((1, 2), (0, 2), (0, 1))])   # a^2, b^2, c^2
    area = _squared(np.cross(xyz[:, 1] - xyz[:, 0], xyz[:, 2] - xyz[:, 0])) ** 0.5
    usable = np.isfinite(bearings).all((1, 2)) & (area > _SLENDEREST * sides.max(0)) & (area > 0)
    xyz, bearings, (a, b, c) = xyz[usable], bearings[usable], sides[:, usable]
    cosines = [(bearings[:, i] * bearings[:, j]).sum(1) for i, j in ((1, 2), (0, 2), (0, 1))]
    v = _roots(_quartic(a / b, c / b, *cosines))                                                # [M, 4]
    with np.errstate(divide='ignore', invalid='ignore', over='ignore'):
        ratios = _ratios(v, *(each[:, None] for each in (a / b, c / b, *cosines)))              # [M, 4, 3]
        first = np.sqrt(b[:, None] / (1 + v ** 2 - 2 * v * cosines[1][:, None]))
        cam = bearings[:, None] * (ratios * first[..., None])[..., None]                        # [M, 4, 3, 3]
        fits = [np.abs(_squared(cam[:, :, i] - cam[:, :, j]) / side[:, None] - 1) < _SIDES_FIT
                for (i, j), side in zip(((1, 2), (0, 2), (0, 1)), (a, b, c))]
        triple, root = (np.logical_and.reduce(fits) & (ratios > _NEAREST).all(2)).nonzero()
    return _aligned(xyz[triple], cam[triple, root])


def _squared(vectors: np.ndarray) -> np.ndarray:
    return (vectors ** 2).sum(-1)


def _quartic(a: np.ndarray, c: np.ndarray, alpha: np.ndarray, beta: np.ndarray, gamma: np.ndarray) -> np.ndarray:
    """Coefficients [5, M] of v^4 ... 1; a and c are squared sides over the second's, the angles are given as cosines."""
    d, e = a - c, 1 - a - c
    return np.stack([
        (d - 1) ** 2 - 4 * c * alpha ** 2,
        4 * (d * (1 - d) * beta - e * alpha * gamma + 2 * c * alpha ** 2 * beta),
        2 * (d ** 2 - 1 + 2 * d ** 2 * beta ** 2 + 2 * (1 - c) * alpha ** 2 - 4 * (a + c) * alpha * beta * gamma
             + 2 * (1 - a) * gamma ** 2),
        4 * (-d * (1 + d) * beta + 2 * a * gamma ** 2 * beta - e * alpha * gamma),
        (1 + d) ** 2 - 4 * a * gamma ** 2])


def _roots(coefficients: np.ndarray) -> np.ndarray:
    """Real parts of the four roots of quartics [5, M] -> [M, 4]."""
    leading = np.where(np.abs(coefficients[0]) > _LEADING, coefficients[0], _LEADING)
    companion = np.zeros((coefficients.shape[1], 4, 4))
    companion[:, 0] = -(coefficients[1:] / leading).T
    companion[:, [1, 2, 3], [0, 1, 2]] = 1
    return np.linalg.eigvals(companion).real


def _ratios(v: np.ndarray, a: np.ndarray, c: np.ndarray, alpha: np.ndarray, beta: np.ndarray,
            gamma: np.ndarray) -> np.ndarray:
    """Distances of the three points over the first's, [M, 4, 3]."""
    d = a - c
    u = ((d - 1) * v ** 2 - 2 * d * beta * v + 1 + d) / (2 * (gamma - v * alpha))
    return np.stack([np.ones_like(v), u, v], -1)


def _aligned(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Transforms [H, 4, 4] that take equal triangles [H, 3, 3] onto each other."""
    rotation = _frames(target) @ _frames(source).swapaxes(1, 2)
    T = np.tile(np.eye(4), (len(source), 1, 1))
    T[:, :3, :3] = rotation
    T[:, :3, 3] = target.mean(1) - (rotation @ source.mean(1)[..., None])[..., 0]
    return T


def _frames(triangles: np.ndarray) -> np.ndarray:
    """Orthonormal axes of triangles [H, 3, 3], in columns."""
    along = triangles[:, 1] - triangles[:, 0]
    along = along / np.linalg.norm(along, axis=1, keepdims=True)
    normal = np.cross(along, triangles[:, 2] - triangles[:, 0])
    normal = normal / np.linalg.norm(normal, axis=1, keepdims=True)
    return np.stack([along, np.cross(normal, along), normal], 2)
