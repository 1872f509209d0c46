"""Poses of other moments than the images': shifted in time or by images, or in another order."""

from collections.abc import Iterator

import numpy as np
import torch

from aprloc_ros.recordings.trajectory import Trajectory
from aprloc_ros.training.checks.evidence import Evidence
from aprloc_ros.training.checks.fit import Suspect
from aprloc_ros.training.checks.stuck import are_held, repeats
from aprloc_ros.training.datasets.capture import Frame

_FURTHEST = 100     # images
_FINEST = 1 / 32    # of the step between images


def of_other_moments(evidence: Evidence, frames: tuple[Frame, ...], taken: tuple[Frame, ...]) -> Iterator[Suspect]:
    """The simplest ones first. taken: all frames in the order in which they were, frames among them."""
    T = np.stack([frame.T_map_cam.numpy() for frame in taken])
    way = Trajectory(torch.arange(len(T), dtype=torch.float64), torch.from_numpy(T))   # in images, not in seconds
    place = {frame.name: index for index, frame in enumerate(taken)}
    here = np.array([place[frame.name] for frame in frames])
    sequence = np.unique([frame.sequence for frame in taken], return_inverse=True)[1]
    step_s = _step_s(taken)

    def misfit_rad(by: float) -> float:
        residuals_rad = evidence.residuals(_shifted(way, sequence, here, by))
        known = np.isfinite(residuals_rad)
        return float(np.median(residuals_rad[known])) if known.mean() > 0.5 else np.inf
    furthest = min(_FURTHEST, len(taken) // 2)
    whole = min((misfit_rad(side * by), by, side * by) for by in range(1, furthest + 1) for side in (1, -1))[2] if furthest else 1
    part = _refined(misfit_rad, whole)
    yield Suspect(_in_words(whole, step_s), _shifted(way, sequence, here, whole))
    yield Suspect(_in_words(part, step_s), _shifted(way, sequence, here, part), is_fitted=abs(part) < 1)
    if are_held(T):
        yield Suspect('with poses in between where several images have the same one', between_changes(T, sequence)[here], is_told=True)
    yield Suspect('in the opposite order', T[::-1][here])
    as_text = np.argsort(np.argsort([frame.name for frame in taken]))
    if (np.diff(as_text) < 0).any():
        yield Suspect('in the order of the images\' names as text (10 before 2)', T[as_text][here])
        yield Suspect('in the order of the numbers in the images\' names (2 before 10)', T[np.argsort(as_text)][here])


def between_changes(T: np.ndarray, sequence: np.ndarray) -> np.ndarray:
    """Poses [N, 4, 4] that came less often than the images and were held: each is right where it is new, and those in between are on the
    way to the next; NaN where none comes any more in that sequence [N]."""
    is_new = np.ones(len(T), bool)
    is_new[1:] = ~repeats(T) | (sequence[1:] != sequence[:-1])
    new = is_new.nonzero()[0]
    found, known = Trajectory(torch.from_numpy(new).double(), torch.from_numpy(T[new])).at(torch.arange(len(T), dtype=torch.float64), len(T))
    following = np.append(new, len(T) - 1)[np.searchsorted(new, np.arange(len(T)))]
    is_known = known.numpy() & (sequence[following] == sequence)
    return np.where(is_known[:, None, None], found.numpy(), np.nan)


def _step_s(taken: tuple[Frame, ...]) -> float | None:
    """Between images, usually; None without stamps."""
    if len(taken) < 2 or any(frame.stamp_s is None for frame in taken):
        return None
    return float(np.median(np.diff([frame.stamp_s for frame in taken])))


def _refined(misfit_rad, whole: int) -> float:
    """The shift near a whole one, or near none, that fits best, in halves of halves of a step."""
    by, width = min((0.0, whole), key=misfit_rad), 0.5
    while width >= _FINEST:
        by = min((by, by - width, by + width), key=misfit_rad)
        width /= 2
    return by


def _shifted(way: Trajectory, sequence: np.ndarray, here: np.ndarray, by: float) -> np.ndarray:
    """Poses `by` images later [N, 4, 4], in between two on the way from one to the other; NaN beyond a sequence's ends."""
    there = here + by
    found, known = way.at(torch.from_numpy(there.astype(float)), 1.0)
    ends = (sequence[end(there).astype(int).clip(0, len(sequence) - 1)] for end in (np.floor, np.ceil))
    is_there = known.numpy() & np.all([end == sequence[here] for end in ends], axis=0)
    return np.where(is_there[:, None, None], found.numpy(), np.nan)


def _in_words(by: float, step_s: float | None) -> str:
    count = f'{abs(by):.3g}'
    late = '' if step_s is None else f', {abs(by) * step_s:.3f} s off'
    return f'if shifted by {count}: each image has the pose of the one {count} {"before" if by > 0 else "after"} it{late}'
