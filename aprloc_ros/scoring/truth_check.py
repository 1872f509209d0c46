"""Do the poses of another drive agree with a map? The map's own answers tell, before it is scored or calibrated with them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import invert, pose, pose_errors
from aprloc_ros.manifest import Manifest
from aprloc_ros.scoring.evaluation import FrameRecord

_FEWEST, _FEWEST_LITTLE = 6, 10   # answers, to tell that poses are far off, and that they are off by little
_MOST = 0.7          # share of the believed answers
_TIMES = 10.0        # the map's own 95 % error
_LEAST_SHARE, _LEAST_DEG = 0.01, 1.0   # of the scene's size
_CONSISTENT = 0.1    # what is left of the differences when one transform is taken out
_MUCH = 3.0          # times less is left where a scale is taken out too
# Less than that is noticed where all differences are alike: of the map's own 95 % error so many times, of the scene's size, degrees.
_SMALL, _SMALL_SHARE, _SMALL_DEG, _ALIKE = 3.0, 0.003, 0.3, 0.3


def check_drive(records: Sequence[FrameRecord], manifest: Manifest, most_far: float = _MOST) -> str:
    """What the map's answers say of the drive's poses, in a line: a WARNING where more than that share is far from them.

    Raises AprlocError where nearly all answers that the gate believes are off these poses in one and the same way, however far.
    """
    believed = [record for record in records if record.status == 'refined']
    if len(believed) < _FEWEST:
        return f'drive: its poses were not checked, the map believes only {len(believed)} of {len(records)} answers'
    T_drive, T_answer = (torch.stack(column) for column in zip(*((r.T_truth, r.T_estimate) for r in believed)))
    error_m, error_deg = pose_errors(T_answer, T_drive)
    near_m, near_deg = _near(manifest)
    far = (error_m > near_m) | (error_deg > near_deg)
    median, share = f'median {error_m.median():.3f} m, {error_deg.median():.2f} deg', far.double().mean()
    text = f'{int(far.sum())} of {len(believed)} answers that the map believes are far from the poses of the drive ({median})'
    other = _other_frame(T_drive, T_answer, manifest) if share >= _MOST else _little_off(T_drive, T_answer, manifest)
    if other:
        how = text if share >= _MOST else f'{len(believed)} answers that the map believes are off the poses of the drive by little ({median})'
        alike = ', or keep the drive away from it if it is of another place that looks alike' if share >= _MOST else ''
        raise AprlocError(f'the drive contradicts the map: {how}, all alike: its poses are {other}; bring them into the map\'s frame{alike}')
    if share < most_far:
        return f'drive: {text}'
    if share < _MOST:
        return f'WARNING: drive: {text}; the map is wrong there, or a part of these poses is'
    return f'WARNING: drive: {text}; the map is wrong there, or these poses are'


def doubt(records: Sequence[FrameRecord], manifest: Manifest) -> str:
    """A warning where poses that a map was scored with contradict it; empty where nothing speaks against them."""
    try:
        text = check_drive(records, manifest)
    except AprlocError as error:
        return f'WARNING: {error}'
    return text if text.startswith('WARNING') else ''


def _other_frame(T_drive: Tensor, T_answer: Tensor, manifest: Manifest) -> str:
    """Of which frame poses that are far from the answers [N, 4, 4] are, in words; empty where they are not all alike."""
    error_m, error_deg = (error.median().item() for error in pose_errors(T_answer, T_drive))
    near_m, near_deg = _near(manifest)
    for words, T, left_m, left_deg in _explanations(T_drive, T_answer, manifest):
        if left_m <= _CONSISTENT * error_m + _ALIKE * near_m and left_deg <= _CONSISTENT * error_deg + _ALIKE * near_deg:
            return _told(words, T)
    return ''


def _little_off(T_drive: Tensor, T_answer: Tensor, manifest: Manifest) -> str:
    """The same of poses that are so near that most errors of a map would hide it: each answer is off, and off as all others are."""
    if len(T_drive) < _FEWEST_LITTLE:
        return ''
    error_m, error_deg = (error.median().item() for error in pose_errors(T_answer, T_drive))
    least_m = max(_SMALL * manifest.accuracy.get('p95_m', 0.0), _SMALL_SHARE * manifest.scene.scene_unit_m)
    least_deg = max(_SMALL * manifest.accuracy.get('p95_deg', 0.0), _SMALL_DEG)
    if error_m < least_m and error_deg < least_deg:
        return ''
    words, T, left_m, left_deg = min(_explanations(T_drive, T_answer, manifest), key=lambda found: found[2])
    return _told(words, T) if left_m <= _ALIKE * max(error_m, least_m) and left_deg <= _ALIKE * max(error_deg, least_deg) else ''


def _explanations(T_drive: Tensor, T_answer: Tensor, manifest: Manifest) -> list[tuple[str, Tensor, float, float]]:
    """What poses are of, the transform of most, and the median difference to it in m and deg; of another scale where that fits much better."""
    rigid = [(words, *_most_common(differences)) for words, differences in (
        ('of another map frame: they fit when turned by {:.1f} deg and moved by {:.3f} m', T_drive @ invert(T_answer)),
        ('of another frame of the robot, turned by {:.1f} deg and {:.3f} m from the camera', invert(T_drive) @ T_answer))]
    scale = _scale(T_drive, T_answer, _near(manifest)[0])
    scaled = (f'of another scale: they fit when lengths of the map are taken {scale:.4g} times, turned by {{:.1f}} deg and moved by {{:.3f}} m',
              *_most_common(T_drive @ invert(pose(T_answer[:, :3, :3], scale * T_answer[:, :3, 3]))))
    return [scaled, *rigid] if _MUCH * scaled[2] < min(left_m for _, _, left_m, _ in rigid) else rigid


def _scale(T_drive: Tensor, T_answer: Tensor, near_m: float) -> float:
    """How many times the answers' distances those of the poses are, by pairs that are far apart; 1 where none are."""
    drive_m, answer_m = (torch.pdist(T[:, :3, 3]) for T in (T_drive, T_answer))
    far = (answer_m >= answer_m.median()) & (answer_m > near_m)
    return (drive_m[far] / answer_m[far]).median().item() if far.any() else 1.0


def _told(words: str, T: Tensor) -> str:
    moved_m, turned_deg = pose_errors(T, torch.eye(4, dtype=T.dtype))
    return words.format(turned_deg, moved_m)


def _near(manifest: Manifest) -> tuple[float, float]:
    """Metres and degrees from which on an answer is far: the map's own errors are less, in another light too."""
    return (max(_TIMES * manifest.accuracy.get('p95_m', 0.0), _LEAST_SHARE * manifest.scene.scene_unit_m),
            max(_TIMES * manifest.accuracy.get('p95_deg', 0.0), _LEAST_DEG))


def _most_common(T: Tensor) -> tuple[Tensor, float, float]:
    """Of transforms [N, 4, 4] the one that most others are like, and the median difference to it in m and deg."""
    shape = (len(T), len(T), 4, 4)
    error_m, error_deg = pose_errors(T[:, None].expand(shape), T[None].expand(shape))
    left_m, left_deg = error_m.median(1).values, error_deg.median(1).values
    best = int((left_m / left_m.median().clamp_min(1e-9) + left_deg / left_deg.median().clamp_min(1e-9)).argmin())
    return T[best], left_m[best].item(), left_deg[best].item()
