"""Do the poses of another drive agree with a map? The map's own answers tell, before it is scored or calibrated with them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import invert, pose_errors
from aprloc_ros.manifest import Manifest
from aprloc_ros.scoring.evaluation import FrameRecord

_FEWEST = 10
_MOST = 0.7          # share of the believed answers
_TIMES = 10.0        # the map's own 95 % error
_LEAST_SHARE, _LEAST_DEG = 0.01, 1.0   # of the scene's size
_CONSISTENT = 0.1    # what is left of the differences when one transform is taken out


def check_drive(records: Sequence[FrameRecord], manifest: Manifest, most_far: float = _MOST) -> str:
    """What the map's answers say of the drive's poses, in a line: a WARNING where more than that share is far from them.

    Raises AprlocError where nearly all answers that the gate believes are far from these poses in one and the same way.
    """
    believed = [record for record in records if record.status == 'refined']
    if len(believed) < _FEWEST:
        return f'drive: its poses were not checked, the map believes only {len(believed)} of {len(records)} answers'
    T_drive, T_answer = (torch.stack(column) for column in zip(*((r.T_truth, r.T_estimate) for r in believed)))
    error_m, error_deg = pose_errors(T_answer, T_drive)
    accuracy = manifest.accuracy
    far = ((error_m > max(_TIMES * accuracy.get('p95_m', 0.0), _LEAST_SHARE * manifest.scene.scene_unit_m))
           | (error_deg > max(_TIMES * accuracy.get('p95_deg', 0.0), _LEAST_DEG)))
    text = (f'{int(far.sum())} of {len(believed)} answers that the map believes are far from the poses of the drive (median '
            f'{error_m.median():.3f} m, {error_deg.median():.2f} deg)')
    share = far.double().mean()
    if share < most_far:
        return f'drive: {text}'
    if share < _MOST:
        return f'WARNING: drive: {text}; the map is wrong there, or a part of these poses is'
    for words, differences in (('of another map frame: they fit when turned by {:.1f} deg and moved by {:.3f} m',
                                T_drive @ invert(T_answer)),
                               ('of another frame of the robot, turned by {:.1f} deg and {:.3f} m from the camera',
                                invert(T_drive) @ T_answer)):
        T, left_m, left_deg = _most_common(differences)
        if left_m <= _CONSISTENT * error_m.median() + _noise(accuracy, 'p95_m') \
                and left_deg <= _CONSISTENT * error_deg.median() + _noise(accuracy, 'p95_deg'):
            moved_m, turned_deg = pose_errors(T, torch.eye(4, dtype=T.dtype))
            raise AprlocError(f'the drive contradicts the map: {text}, all alike: its poses are '
                              f'{words.format(turned_deg, moved_m)}; bring them into the map\'s frame')
    return f'WARNING: drive: {text}; the map is wrong there, or these poses are'


def doubt(records: Sequence[FrameRecord], manifest: Manifest) -> str:
    """A warning where poses that a map was scored with contradict it; empty where nothing speaks against them."""
    try:
        text = check_drive(records, manifest)
    except AprlocError as error:
        return f'WARNING: {error}'
    return text if text.startswith('WARNING') else ''


def _noise(accuracy: dict[str, float], key: str) -> float:
    return 2 * accuracy.get(key, 0.0)


def _most_common(T: Tensor) -> tuple[Tensor, float, float]:
    """Of transforms [N, 4, 4] the one that most others are like, and the median difference to it in m and deg."""
    shape = (len(T), len(T), 4, 4)
    error_m, error_deg = pose_errors(T[:, None].expand(shape), T[None].expand(shape))
    left_m, left_deg = error_m.median(1).values, error_deg.median(1).values
    best = int((left_m / left_m.median().clamp_min(1e-9) + left_deg / left_deg.median().clamp_min(1e-9)).argmin())
    return T[best], left_m[best].item(), left_deg[best].item()
