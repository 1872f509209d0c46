"""Poses that are those of a body which carries the camera: how the camera would sit on it, by the images."""

from collections.abc import Iterator
from itertools import product

import numpy as np

from aprloc_ros.training.checks.evidence import Evidence

_STEPS = 72
_ROUNDS = 12
_STEPS_RAD = 0.01, 0.01, 0.005, 0.005, 0.0025, 0.0025, 0.001, 0.001, 0.0005   # of a turn about each axis
_REACHES_RAD = np.pi, 0.1, 0.1, 0.03, 0.01   # of the angle about the axis, each with the position found before


def as_those_of_a_body(evidence: Evidence, T_map_body: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """(what they fit, T_map_cam [N, 4, 4]) for poses [N, 4, 4] that would be a body's."""
    level = _mounted(evidence, T_map_body, np.eye(3))   # the camera's axes, elsewhere
    yield _in_words(level), T_map_body @ level
    R, axis = _mounted_rotation(evidence, T_map_body)
    T_body_cam = np.eye(4)
    T_body_cam[:3, :3] = R
    for reach_rad in _REACHES_RAD:
        T_body_cam = _mounted(evidence, T_map_body, _turned_best(evidence, T_map_body, T_body_cam, axis, reach_rad))
    T_body_cam = _settled(evidence, T_map_body, T_body_cam)
    yield _in_words(T_body_cam), T_map_body @ T_body_cam


def _mounted(evidence: Evidence, T_map_body: np.ndarray, R: np.ndarray) -> np.ndarray:
    T_body_cam = np.eye(4)
    T_body_cam[:3, :3], T_body_cam[:3, 3] = R, _mounted_position(evidence, T_map_body, R)
    return T_body_cam


def _in_words(T_body_cam: np.ndarray) -> str:
    right, _, forward = T_body_cam[:3, :3].T
    return (f'as those of a body (base_link?) on which the camera sits at about ({_numbers(T_body_cam[:3, 3])}), looks along '
            f'({_numbers(forward)}) and has its right side at ({_numbers(right)}): give the camera\'s poses instead')


def _numbers(values: np.ndarray) -> str:
    return ', '.join(f'{value:.2f}' for value in values)


def _mounted_rotation(evidence: Evidence, T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """R_body_cam that takes the turns which the images say to those of the poses (hand-eye calibration), and the axis of most
    turns [3] in the camera: where there is no other, as with a robot on a floor, the angle about it is open.
    """
    first, second = (T[index, :3, :3] for index in evidence.frames)
    said = np.stack([pair.turn for pair in evidence.pairs])
    known = np.isfinite(said).all((1, 2))
    seen, declared = _vectors(said[known]), _vectors((second.swapaxes(1, 2) @ first)[known])
    weights = np.ones(len(seen))
    for _ in range(_ROUNDS):
        u, _, vt = np.linalg.svd((declared * weights[:, None]).T @ seen)
        R = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
        errors = np.linalg.norm(declared - seen @ R.T, axis=1)
        weights = 1 / errors.clip(0.01)
    return R, np.linalg.svd(seen * weights[:, None])[2][0]


def _turned_best(evidence: Evidence, T_map_body: np.ndarray, T_body_cam: np.ndarray, axis: np.ndarray,
                 reach_rad: float) -> np.ndarray:
    """R_body_cam, turned about the axis so that it fits the matches best."""
    tried = []
    for angle in np.linspace(-reach_rad, reach_rad, _STEPS if reach_rad > 1 else 9):
        turned = T_body_cam.copy()
        turned[:3, :3] = T_body_cam[:3, :3] @ _about(axis, angle)
        tried.append((float(np.median(evidence.residuals(T_map_body @ turned))), angle, turned))
    return min(tried, key=lambda entry: entry[:2])[2][:3, :3]


def _settled(evidence: Evidence, T_map_body: np.ndarray, T_body_cam: np.ndarray) -> np.ndarray:
    """Turned about each of its axes in ever smaller steps as long as the matches fit better: turns between images know it only so
    well, and a lens whose centre is off, which fits nearly the same, would seem the better reason.
    """
    def misfit_rad(T: np.ndarray) -> float:
        return float(np.median(evidence.residuals(T_map_body @ T)))
    least_rad = misfit_rad(T_body_cam)
    for step_rad in _STEPS_RAD:
        for axis, side in product(np.eye(3), (1, -1)):
            turned = _mounted(evidence, T_map_body, T_body_cam[:3, :3] @ _about(axis, side * step_rad))
            if (found_rad := misfit_rad(turned)) < least_rad:
                least_rad, T_body_cam = found_rad, turned
    return T_body_cam


def _vectors(R: np.ndarray) -> np.ndarray:
    """Rotation vectors [P, 3] of [P, 3, 3]."""
    sines = np.stack([R[:, 2, 1] - R[:, 1, 2], R[:, 0, 2] - R[:, 2, 0], R[:, 1, 0] - R[:, 0, 1]], 1) / 2
    sine = np.linalg.norm(sines, axis=1, keepdims=True)
    angle = np.arctan2(sine[:, 0], (np.trace(R, axis1=1, axis2=2) - 1) / 2)[:, None]
    return sines / sine.clip(1e-9) * angle


def _about(axis: np.ndarray, angle: float) -> np.ndarray:
    x, y, z = axis
    K = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * K + (1 - np.cos(angle)) * K @ K


def _mounted_position(evidence: Evidence, T: np.ndarray, R: np.ndarray) -> np.ndarray:
    """t_body_cam [3] for which the matches lie on their epipolar lines, by least squares with weights.

    A match lies on its line where normal . (p_first - p_second) = 0, and the camera stands at p = t + R_map_body t_body_cam.
    Divided by the distance between the two cameras, as one that shrinks to nothing would obey everything.
    """
    first, second = (T[index][evidence.pair_of] for index in evidence.frames)
    R_first, R_second = first[:, :3, :3], second[:, :3, :3]
    far = np.einsum('mij,mj->mi', R_first @ R, evidence.rays[0])
    seen = np.einsum('mij,mj->mi', R_second @ R, evidence.rays[1])
    normal = np.cross(far, seen)
    between = first[:, :3, 3] - second[:, :3, 3]
    rows = np.einsum('mi,mij->mj', normal, R_first - R_second)
    rest = (normal * between).sum(1)
    position = np.zeros(3)
    for _ in range(_ROUNDS):
        distance = np.linalg.norm(between + (R_first - R_second) @ position, axis=1)
        scale = 1 / distance.clip(0.1 * np.median(distance) + 1e-9)
        errors = np.abs(rows @ position + rest) * scale
        weighted = rows * (scale ** 2 / errors.clip(np.median(errors) + 1e-9))[:, None]
        ridge = (1e-4 * np.abs(weighted * rows).sum() + 1e-9) * np.eye(3)   # what no turn shows stays zero
        position = np.linalg.solve(weighted.T @ rows + ridge, -weighted.T @ rest)
    return position
