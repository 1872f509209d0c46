"""Poses that are those of a body which carries the camera: how the camera would sit on it, by the images."""

from collections.abc import Iterator

import numpy as np

from aprloc_ros.training.evidence import Evidence

_STEPS = 72
_ROUNDS = 12


def as_those_of_a_body(evidence: Evidence, T_map_body: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """(what they fit, T_map_cam [N, 4, 4]) for poses [N, 4, 4] that would be a body's."""
    for R in (np.eye(3), _mounted_rotation(evidence, T_map_body)):
        T_body_cam = np.eye(4)
        T_body_cam[:3, :3] = R
        T_body_cam[:3, 3] = _mounted_position(evidence, T_map_body, R)
        yield _in_words(T_body_cam), T_map_body @ T_body_cam


def _in_words(T_body_cam: np.ndarray) -> str:
    right, _, forward = T_body_cam[:3, :3].T
    return (f'as those of a body (base_link?) on which the camera sits at about ({_numbers(T_body_cam[:3, 3])}), looks along '
            f'({_numbers(forward)}) and has its right side at ({_numbers(right)}): give the camera\'s poses instead')


def _numbers(values: np.ndarray) -> str:
    return ', '.join(f'{value:.2f}' for value in values)


def _mounted_rotation(evidence: Evidence, T: np.ndarray) -> np.ndarray:
    """R_body_cam that takes the turns which the images say to those of the poses (hand-eye calibration).

    Turns about one axis alone, as a robot on a floor makes, leave the angle about it open: the matches decide.
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
    axis = np.linalg.svd(seen * weights[:, None])[2][0]
    angles = np.linspace(0, 2 * np.pi, _STEPS, endpoint=False)
    for width in (0, 2 * np.pi / _STEPS, 0.25 * 2 * np.pi / _STEPS):
        tried = [R @ _about(axis, angle) for angle in (angles if not width else np.linspace(-width, width, 9))]
        R = tried[int(np.argmin([_misfit(evidence, T, turned) for turned in tried]))]
    return R


def _misfit(evidence: Evidence, T: np.ndarray, R: np.ndarray) -> float:
    mount = np.eye(4)
    mount[:3, :3] = R
    return float(np.median(evidence.residuals(T @ mount)))


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
