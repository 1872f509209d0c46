"""What every reader needs: words with their file and line, checked numbers, poses and images."""

import codecs
import re
import stat
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import check_pose, pose, quaternion_to_rotation
from aprloc_ros.training.datasets.capture import Capture, Frame


def read_text(path: Path) -> str:
    """The whole file, UTF-8 or what Windows makes of it. AprlocError when it is missing, unreadable or not text."""
    try:
        content = path.read_bytes()
        wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return content.decode('utf-16' if wide else 'utf-8-sig').replace('\r\n', '\n')
    except UnicodeDecodeError:
        raise AprlocError(f'{path}: not a text file; is it damaged?') from None
    except OSError as error:
        raise AprlocError(f'{path}: cannot be read ({error.strerror})') from None


def read_rows(path: Path) -> list[tuple[str, list[str]]]:
    """('file:line', words) of each line that is neither empty nor a # comment."""
    rows = [(f'{path}:{number}', line.split()) for number, line in enumerate(read_text(path).splitlines(), 1)]
    return [(where, words) for where, words in rows if words and not words[0].startswith('#')]


def floats(words: list[str], where: str) -> list[float]:
    """The words as numbers (NaN included: the pose check names it)."""
    try:
        return [float(word) for word in words]
    except ValueError as error:
        raise AprlocError(f'{where}: expected numbers, but {error}{_separated(words)}') from None


def expect_count(words: list, count: int, meaning: str, where: str):
    if len(words) != count:
        reason = _separated(words) or ('; is the file truncated?' if len(words) < count else '; is it of another format?')
        raise AprlocError(f'{where}: {len(words)} values where {count} belong ({meaning}){reason}')


def _separated(words: list) -> str:
    """words: or rows of them, which their own count has been asked of."""
    separated = any(re.search('[,;]', word) for word in words if isinstance(word, str))
    return '; spaces must separate values, not commas or semicolons' if separated else ''


def quaternion_pose(q_wxyz: list[float], translation: list[float], where: str) -> Tensor:
    """Unit quaternion and translation -> checked pose [4, 4] float64."""
    q = torch.tensor(q_wxyz, dtype=torch.float64)
    length = q.norm().item()
    if torch.isfinite(q).all() and abs(length - 1) > 0.01:
        raise AprlocError(f'{where}: not a rotation: the quaternion has length {length:.4g} (must be 1 within 0.01)')
    return check_pose(pose(quaternion_to_rotation(q), torch.tensor(translation, dtype=torch.float64)), where)


def checked_camera(where: str, *values) -> Camera:
    """Camera(*values), a mistake in which names the place."""
    try:
        return Camera(*values)
    except AprlocError as error:
        raise AprlocError(f'{where}: {error}') from None


def check_image(path: Path, where: str) -> Path:
    """The path, if a file of at least one byte lies there."""
    try:
        found = path.stat()
    except (OSError, ValueError):   # a name that no file can have
        raise AprlocError(f'{where}: image {path} is missing; restore it or remove the line') from None
    if stat.S_ISDIR(found.st_mode):
        raise AprlocError(f'{where}: image {path} is a folder; name the file')
    if found.st_size == 0:
        raise AprlocError(f'{where}: image {path} is empty (0 bytes); restore it or remove the line')
    return path


def note_once(seen: dict[str, str], name: str, where: str):
    """Remember where a frame was listed; refuse it the second time, in whichever split."""
    if name in seen:
        raise AprlocError(f'{where}: frame {name} was already listed at {seen[name]}; remove one of the two')
    seen[name] = where


def natural_key(name: str) -> list:
    """Sort key that puts frame 2 before frame 10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r'(\d+)', name)]


def in_order(frames: Iterable[Frame]) -> tuple[Frame, ...]:
    """As they were taken, sequence by sequence: by their stamps, else by the numbers in their names."""
    return tuple(sorted(frames, key=lambda frame: (frame.sequence, frame.stamp_s or 0.0, natural_key(frame.name))))


def checked_capture(capture: Capture, where: Path) -> Capture:
    """The capture, if both splits hold frames. where: the file that should have named them."""
    for split, frames in (('training', capture.train), ('test', capture.test)):
        if not frames:
            raise AprlocError(f'{where}: the {split} split is empty; it needs at least one frame')
    return capture
