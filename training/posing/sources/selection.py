"""Which images of a source to take: enough movement between them, the sharpest of their neighbourhood, none twice."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from aprloc_ros.errors import AprlocError
from aprloc_ros.training.posing.sources.shots import Look, Source

_STEP = 0.04             # between neighbours, as a share of the image's diagonal: nine tenths of them overlap
_STEPS_HZ = 2.0          # and so many a second unless it stands still: who walks around a thing sees it hardly move
_LONGEST_S = 1.0         # between looks; a longer pause says nothing
_LOST_STEP = 0.15        # what counts where nothing could be followed
_MOST = 800              # images that nobody asked for by number
_MOST_PHOTOS = 400       # images of a folder of which all are taken
_FEWEST = 3
_FEWEST_KEYS = 50        # with fewer a structure would hang on too little
_CORNERS, _FEWEST_CORNERS = 300, 12
_FOLLOWED = 0.3          # share of the corners
_VIDEO = 0.6             # a folder is a video where this share of its images can be followed
_STILL = 0.0005          # of the diagonal: where nine tenths of the corners move by less, a frame comes twice
_FAINT = 6.0             # grey levels by which an image that shows something varies
_BLURRED = 12.0          # sharpness; sharp photographs have 100 to 3000, blurred by a hundredth of their side at most 12


@dataclass(frozen=True)
class Step:
    """A look beside the one before it in its sequence."""

    index: int
    sequence: str
    sharpness: float         # variance of the Laplacian over the grey levels' own variance, times 50^2
    contrast: float          # standard deviation of the grey levels
    # The upper fifth of the corners that could be followed, a share of the diagonal; None: too few could; 0: a doubled frame.
    moved: float | None
    lasted_s: float = 0.0    # since the one before, as far as that is known


@dataclass(frozen=True)
class Selection:
    """indices: of the looks that are taken, in order; text: how many and why.

    keys: of these the ones between which the picture moves enough for a structure; the rest find their place in it.
    """

    indices: tuple[int, ...]
    is_video: bool
    text: str
    keys: tuple[int, ...]


def measure(looks: Iterable[Look]) -> list[Step]:
    """How sharp each look is and how far it is from the one before, by optical flow (Lucas and Kanade, IJCAI 1981)."""
    steps, before = [], None
    for look in looks:
        follows = before is not None and before.sequence == look.sequence and before.grey.shape == look.grey.shape
        contrast = float(look.grey.std())
        laplacian = cv2.Laplacian(look.grey, cv2.CV_32F).var() * (50 / max(contrast, 20.0)) ** 2
        moved = _moved(before.grey, look.grey) if follows else None
        steps.append(Step(look.index, look.sequence, float(laplacian), contrast, moved, _lasted_s(before, look) if follows else 0.0))
        before = look
    return steps


def _lasted_s(before: Look, after: Look) -> float:
    return 0.0 if None in (before.stamp_s, after.stamp_s) else min(max(after.stamp_s - before.stamp_s, 0.0), _LONGEST_S)


def _moved(before: np.ndarray, after: np.ndarray) -> float | None:
    corners = cv2.goodFeaturesToTrack(before, _CORNERS, 0.01, 7)
    if corners is None or len(corners) < _FEWEST_CORNERS:
        return None
    there, found, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, None, winSize=(15, 15), maxLevel=4)
    back, returned, _ = cv2.calcOpticalFlowPyrLK(after, before, there, None, winSize=(15, 15), maxLevel=4)
    same = (found & returned).astype(bool)[:, 0] & (np.linalg.norm(back - corners, axis=2)[:, 0] < 1.0)
    if same.sum() < max(_FEWEST_CORNERS, _FOLLOWED * len(corners)):
        return None
    shares = np.linalg.norm((there - corners)[same], axis=-1) / np.hypot(*before.shape)
    return 0.0 if np.quantile(shares, 0.9) < _STILL else float(np.quantile(shares, 0.8))


def select(steps: Sequence[Step], source: Source, wanted: int | None) -> Selection:
    """wanted: how many, or None for as many as the movement asks for. AprlocError where the looks show nothing to pose."""
    _check_shown(steps, source)
    is_video = _is_video(steps) if source.is_video is None else source.is_video
    if wanted is not None and wanted < len(steps) or wanted is None and (source.is_video or len(steps) > _MOST_PHOTOS):
        return (_of_video if is_video else _of_photos)(steps, source, wanted)
    doubled = {step.index for step in steps if step.moved == 0}
    kept = [i for i, step in enumerate(steps) if step.index not in doubled]
    text = f'{len(kept)} of {len(steps)} images: all' + (' but those that show the same as the one before' if doubled else '')
    return _selection(steps, kept, is_video, text)


def _of_video(every: Sequence[Step], source: Source, wanted: int | None) -> Selection:
    """Black stretches and the like lead nowhere."""
    steps = [step for step in every if step.contrast >= _FAINT]
    path = _path(steps)
    asked = wanted or _stretches(path)
    if asked < _FEWEST:
        raise AprlocError(f'{source.path}: the camera hardly moves: what it sees shifts by {path[-1]:.1%} of the image over '
                          f'{len(steps)} images; record while it moves through the place')
    chosen = _sharpest_of_each(steps, path, asked)
    text = (f'{len(chosen)} of {len(every)} images looked at: the sharpest of each stretch in which the picture moves by '
            f'{path[-1] / asked:.1%} of its diagonal or half a second passes')
    dark = f'; {len(every) - len(steps)} that show next to nothing are left out' if len(steps) < len(every) else ''
    return _selection(steps, chosen, True, text + (f', as --frames {wanted} asks' if wanted else '') + dark)


def _selection(steps: Sequence[Step], chosen: Sequence[int], is_video: bool, text: str) -> Selection:
    """Of looks at these positions, with the keys among them."""
    path = _path(steps)
    count = max(_stretches(path), _FEWEST_KEYS)
    of_keys = chosen
    if is_video and len(chosen) > count:
        of_keys = [chosen[i] for i in _sharpest_of_each([steps[i] for i in chosen], path[list(chosen)], count)]
    indices, keys = (tuple(steps[i].index for i in some) for some in (chosen, of_keys))
    return Selection(indices, is_video, text, keys)


def _path(steps: Sequence[Step]) -> np.ndarray:
    """[N] how far the looks have led, in diagonals."""
    return np.cumsum([0.0, *map(_advance, steps[1:])])


def _stretches(path: np.ndarray) -> int:
    """As many as the movement asks for."""
    return int(np.clip(path[-1] / _STEP, 1, _MOST))


def _advance(step: Step) -> float:
    """How far a look leads on, as a share of the diagonal."""
    if step.moved is None:
        return _LOST_STEP
    return max(step.moved, _STEP * _STEPS_HZ * step.lasted_s) if step.moved else 0.0


def _sharpest_of_each(steps: Sequence[Step], path: np.ndarray, count: int) -> list[int]:
    """Positions: of `count` stretches of equal movement each one's sharpest look, if it has any."""
    stretch = np.minimum((path / max(path[-1], 1e-9) * count).astype(int), count - 1)
    sharpness = np.array([step.sharpness for step in steps])
    groups = (np.flatnonzero(stretch == number) for number in range(count))
    return [int(group[sharpness[group].argmax()]) for group in groups if len(group)]


def _of_photos(steps: Sequence[Step], source: Source, wanted: int | None) -> Selection:
    chosen = np.unique(np.linspace(0, len(steps) - 1, min(wanted or _MOST, len(steps))).round().astype(int)).tolist()
    return _selection(steps, chosen, False,
                      f'{len(chosen)} of {len(steps)} images of {source.path.name}, evenly: they do not follow one another')


def _is_video(steps: Sequence[Step]) -> bool:
    return sum(step.moved is not None for step in steps) > _VIDEO * len(steps)


def _check_shown(steps: Sequence[Step], source: Source):
    if len(steps) < _FEWEST:
        raise AprlocError(f'{source.path}: {len(steps)} readable image{"" if len(steps) == 1 else "s"}; at least {_FEWEST} '
                          f'from different places are needed, and some hundred make a map'
                          + (f' ({source.notes[0]})' if source.notes else ''))
    faint = sum(step.contrast < _FAINT for step in steps)
    if 2 * faint > len(steps):
        raise AprlocError(f'{source.path}: {faint} of {len(steps)} images show next to nothing (their brightness varies by less '
                          f'than {_FAINT:g} grey levels); is the lens covered, the place dark or a bare wall?')
    blurred = sum(step.sharpness < _BLURRED for step in steps)
    if blurred > 0.9 * len(steps):
        raise AprlocError(f'{source.path}: {blurred} of {len(steps)} images are blurred; lock the focus, move more slowly or '
                          f'give more light')
