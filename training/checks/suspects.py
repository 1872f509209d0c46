"""What usually is wrong with poses: each suspect is the poses as they would have been meant, and says so in words."""

from collections.abc import Iterator, Mapping
from itertools import permutations, product

import numpy as np
import torch
from torch import Tensor

from aprloc_ros.geometry import (
    BODY_FROM_CV,
    GL_FROM_CV,
    LLFF_FROM_CV,
    quaternion_to_rotation,
    rotation_to_quaternion,
)
from aprloc_ros.training.checks.body import as_those_of_a_body
from aprloc_ros.training.checks.evidence import Evidence
from aprloc_ros.training.checks.fit import Suspect
from aprloc_ros.training.checks.moments import of_other_moments
from aprloc_ros.training.datasets.capture import Frame
from aprloc_ros.training.datasets.files import orientation

_SCALES = (*(10.0 ** power for power in (-3, -2, -1, 1, 2, 3)), 0.3048, 3.28084, *np.geomspace(0.5, 2.0, 28))
_SMALL = 0.2              # of the way's extent: a scale of one axis that moves poses by less may fit their errors
_TRIED = 16               # ways to read rotations of which positions are tried
_TURN_RAD = 0.02          # turns that the images say are known so well
_AXES = {
    'with OpenGL and OpenCV camera axes exchanged (y and z turned round)': GL_FROM_CV[:3, :3].numpy(),
    'with LLFF camera axes (x down, y right, z back)': LLFF_FROM_CV[:3, :3].numpy(),
    'with the axes of a robot\'s body (x forward, y left, z up)': BODY_FROM_CV[:3, :3].numpy(),
    'if the images are turned by a half': np.diag([-1.0, -1.0, 1.0]),
    'if the images are turned by a quarter counter-clockwise': np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]),
    'if the images are turned by a quarter clockwise': np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])}

_TURNED = dict(zip((3, 8, 6), list(_AXES.values())[-3:]))   # by their EXIF tags


def usual_suspects(evidence: Evidence, frames: tuple[Frame, ...], taken: tuple[Frame, ...],
                   mounts: Mapping[str, Tensor]) -> Iterator[Suspect]:
    """The simplest ones first. taken: all frames in the order in which they were, frames among them; mounts: see Capture."""
    T = np.stack([frame.T_map_cam.numpy() for frame in frames])
    yield from (Suspect(text, T @ mount.numpy()) for text, mount in mounts.items())
    yield from _as_viewers_turn_them(frames, T)
    yield from of_other_moments(evidence, frames, taken)
    conventions = _of_another_convention(evidence, T)
    yield from (suspect for suspect in conventions if not suspect.is_odd)
    yield from _of_other_units(T)
    yield from (Suspect(text, poses, is_fitted=True) for text, poses in as_those_of_a_body(evidence, T))
    yield from (suspect for suspect in conventions if suspect.is_odd)


def _as_viewers_turn_them(frames: tuple[Frame, ...], T: np.ndarray) -> Iterator[Suspect]:
    """A phone that is held the other way round stores images upside down, and tools that show them turned pose them so."""
    turned = np.stack([_TURNED.get(orientation(frame.image_path), np.eye(3)) for frame in frames])
    if not np.allclose(turned, np.eye(3)):
        yield Suspect('if the images are turned as their EXIF tags say: turn the files', _poses(T[:, :3, :3] @ turned, T[:, :3, 3]))


def _of_another_convention(evidence: Evidence, T: np.ndarray) -> list[Suspect]:
    """Each way to read rotations that the turns between images allow, with each way to read positions, simple ones first."""
    R, t = T[:, :3, :3], T[:, :3, 3]
    read = [(name, rotations, A) for A in _cube() for name, rotations in _rotations(R).items()
            if name in ('', 'transposed') or np.allclose(A, np.eye(3))]
    errors = np.array([turn_error_rad(evidence, rotations @ A) for _, rotations, A in read])
    allowed = [read[index] for index in np.argsort(errors, kind='stable')[:_TRIED]
               if errors[index] < 2 * errors.min() + _TURN_RAD]
    found = []
    for name, rotations, A in allowed:
        world_to_camera = -(rotations @ t[..., None])[..., 0]
        for turned, positions, M in [(True, world_to_camera, np.eye(3)), *((False, t, M) for M in _signed_permutations())]:
            parts = _in_words(name, turned, A, M)
            if parts:
                is_odd = not (np.allclose(M, np.eye(3)) and (_usual_axes(A) or np.allclose(A, np.eye(3))))
                suspect = Suspect(', '.join(parts), _poses(rotations @ A, positions @ M.T), is_odd=is_odd)
                found.append((len(parts), name not in ('', 'transposed'), suspect))
    return [suspect for *_, suspect in sorted(found, key=lambda entry: entry[:2])]


def _of_other_units(T: np.ndarray) -> Iterator[Suspect]:
    for axis, scale in product(range(3), _SCALES):
        scaled = T.copy()
        scaled[:, axis, 3] *= scale
        moved, extent = ((scaled - T)[:, axis, 3].std(), np.linalg.norm(scaled[:, :3, 3].std(0)))
        yield Suspect(f'with positions whose {"xyz"[axis]} is multiplied by {scale:.3g}', scaled, is_fitted=bool(moved < _SMALL * extent))


def turn_error_rad(evidence: Evidence, R: np.ndarray) -> float:
    """Median angle between the turns of rotations [N, 3, 3] and those that pairs of images say."""
    first, second = (R[index] for index in evidence.frames)
    turns = np.stack([pair.turn for pair in evidence.pairs])
    known = np.isfinite(turns).all((1, 2))
    trace = np.einsum('pij,pij->p', second[known].swapaxes(1, 2) @ first[known], turns[known])
    return float(np.median(np.arccos(((trace - 1) / 2).clip(-1, 1)))) if known.any() else np.inf


def _rotations(R: np.ndarray) -> dict[str, np.ndarray]:
    found = {'': R, 'transposed': R.swapaxes(1, 2)}
    for shift in (1, -1):
        found[f'rolled {shift}'] = _rolled(R, shift)
        found[f'rolled {shift}, of world-to-camera'] = _rolled(R.swapaxes(1, 2), shift).swapaxes(1, 2)
    return found


def _rolled(R: np.ndarray, shift: int) -> np.ndarray:
    """The rotations if wxyz was read where xyzw was written (-1), or the other way round (1)."""
    return quaternion_to_rotation(rotation_to_quaternion(torch.from_numpy(R.copy())).roll(shift, -1)).numpy()


def _in_words(rotation: str, turned: bool, A: np.ndarray, M: np.ndarray) -> list[str]:
    """What is other than declared."""
    mirrored, other_axes = np.linalg.det(M) < 0, not np.allclose(A, np.eye(3))
    parts = []
    if rotation == 'transposed':
        parts.append('as world-to-camera poses' if turned else 'with transposed rotations')
    elif rotation:
        parts.append('with quaternions in the other order (wxyz and xyzw exchanged)')
    if turned and rotation != 'transposed':
        parts.append('with translations of world-to-camera')
    if mirrored and other_axes:
        return [*parts, 'with left-handed axes: mirror one axis of positions and rotations (or the images, if they are mirrored)']
    if turned and rotation and np.allclose(A, GL_FROM_CV[:3, :3].numpy()):
        parts = ['as world-to-camera poses of OpenGL axes']
    elif other_axes:
        parts.append(_camera_axes(A))
    if not np.allclose(M, np.eye(3)):
        parts.append(f'with positions {"mirrored" if mirrored else "turned"} to ({_signed_axes(M)})')
    return parts


def _camera_axes(A: np.ndarray) -> str:
    right, down, forward = _signed_axes(A.T).split(', ')
    return _usual_axes(A) or f'with camera axes of which {right} points right, {down} down and {forward} forward'


def _usual_axes(A: np.ndarray) -> str:
    return next((name for name, known in _AXES.items() if np.allclose(A, known)), '')


def _signed_axes(rows: np.ndarray) -> str:
    return ', '.join('-' * bool(row.sum() < 0) + 'xyz'[int(np.abs(row).argmax())] for row in rows)


def _signed_permutations() -> list[np.ndarray]:
    """The 48 ways to name and direct three axes, the ones that change least first."""
    found = [np.diag(signs) @ np.eye(3)[list(order)] for order in permutations(range(3))
             for signs in product((1.0, -1.0), repeat=3)]
    return sorted(found, key=lambda M: -np.trace(M))


def _cube() -> list[np.ndarray]:
    return [M for M in _signed_permutations() if np.linalg.det(M) > 0]


def _poses(R: np.ndarray, t: np.ndarray) -> np.ndarray:
    T = np.tile(np.eye(4), (len(R), 1, 1))
    T[:, :3, :3], T[:, :3, 3] = R, t
    return T
