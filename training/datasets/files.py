"""Files that lists name and folders hold, whichever system wrote them."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import groupby
from pathlib import Path, PurePosixPath, PureWindowsPath

import cv2
import numpy as np
from PIL import Image

from aprloc_ros.errors import AprlocError, Unwritten

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png')
SMALLER_COPIES = ('images_2', 'images_4', 'images_8')   # where nerfstudio and LLFF put copies of `images`
_ORIENTATION = 274   # EXIF tag


def tidy(written: str) -> str:
    """A path as POSIX writes it: no backslashes, no `./`."""
    return PurePosixPath(written.strip().replace('\\', '/')).as_posix()


def locate(root: Path, written: str) -> Path:
    """The file that a list below root names; `root / written` where there is none.

    The list may come from another system or machine: backslashes, a drive letter or a home that is not here, a suffix
    that was left out, a folder `images` of which only smaller copies are there; names that differ in their case, or in how
    they write an accent (macOS takes it apart), where one file alone is called so.
    """
    found = next((path for path in _candidates(root, written) if path.is_file()), None)
    alike = (_alike(root, path) for path in _candidates(root, written) if path.is_relative_to(root))
    return found or next((path for path in alike if path and path.is_file()), root / tidy(written))


def _alike(root: Path, path: Path) -> Path | None:
    """What lies below root by that path as systems that do not tell cases read it; None where it is nothing, or several."""
    found = root
    for part in path.relative_to(root).parts:
        if not (found / part).exists():
            called = _called(found, found.stat().st_mtime_ns).get(_plain(part), []) if found.is_dir() else []
            if len(called) != 1:
                return None
            part = called[0]
        found = found / part
    return found


@lru_cache(maxsize=16)
def _called(folder: Path, changed_ns: int) -> dict[str, list[str]]:
    """The names in a folder that are alike."""
    names = {}
    for path in folder.iterdir():
        names.setdefault(_plain(path.name), []).append(path.name)
    return names


def _plain(name: str) -> str:
    return unicodedata.normalize('NFC', name).casefold()


def _candidates(root: Path, written: str) -> Iterator[Path]:
    yield root / written
    parts = PurePosixPath(tidy(written)).parts
    is_absolute = parts[:1] == ('/',) or PureWindowsPath(written).drive
    for tail in (parts[i:] for i in range(1, len(parts))) if is_absolute else (parts,):
        yield from _spellings(root.joinpath(*tail))
        if 'images' in tail:
            at = tail.index('images')
            for copy in SMALLER_COPIES:
                path = root.joinpath(*tail[:at], copy, *tail[at + 1:])
                yield from _spellings(path)
                yield from (path.with_suffix(suffix) for suffix in IMAGE_SUFFIXES if path.suffix)


def _spellings(path: Path) -> Iterator[Path]:
    yield path
    if path.name and path.suffix.lower() not in IMAGE_SUFFIXES:
        yield from (path.with_name(path.name + suffix) for suffix in IMAGE_SUFFIXES)


def visible(folder: Path, pattern: str = '*') -> list[Path]:
    """What lies in a folder, sorted, without what systems leave there (`._NAME`, `.DS_Store`) and what is in hidden folders."""
    return [path for path in sorted(folder.glob(pattern)) if is_seen(path, folder)]


def is_seen(path: Path, folder: Path) -> bool:
    """Whether it lies in the folder, and neither itself nor what it lies in is hidden there."""
    return path.is_relative_to(folder) and not any(part.startswith('.') for part in path.relative_to(folder).parts)


def image_files(folder: Path) -> list[Path]:
    """By their names; a pipe would never end."""
    return [path for path in visible(folder) if path.suffix.lower() in IMAGE_SUFFIXES and not path.is_fifo()]


def beside(paths: Iterable[Path], other: Iterable[Path | None] = ()) -> list[Path]:
    """The images of the same folders and kinds as these, themselves among them. other: files that are no such images."""
    given, other, found = set(paths), set(other), []
    for folder in sorted({path.parent for path in given}):
        kinds = {path.suffix.lower() for path in given if path.parent == folder}
        found += [path for path in image_files(folder) if path.suffix.lower() in kinds and path not in other
                  and not re.search(r'depth|mask', path.stem)]
    return found


def unposed(paths: Iterable[Path], depths: Iterable[Path | None] = ()) -> tuple[str, ...]:
    """What to say of images that lie beside those with poses and have none. depths: files that are no such images."""
    posed, notes = set(paths), []
    for folder, images in groupby(beside(posed, depths), lambda path: path.parent):
        is_posed = [path in posed for path in images]
        if not all(is_posed):
            notes.append(f'{is_posed.count(False)} of {len(is_posed)} images in {folder} have no pose and are not used')
    return tuple(notes)


def save_image(path: Path, bgr: np.ndarray, *parameters: int) -> None:
    """Write an image [H, W, 3] or [H, W] uint8 whole, or not at all: OpenCV says nothing where it cannot. Raises Unwritten."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)   # not through a link
    if not cv2.imwrite(str(path), bgr, parameters):
        path.unlink(missing_ok=True)
        raise Unwritten(f'{path}: cannot be written; is the disk full?')


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) of an image file's pixels as stored, from its header."""
    return _header(path, lambda image: image.size)


def orientation(path: Path) -> int:
    """The EXIF tag that asks viewers to turn or mirror an image: 1 as it is stored, 3 by a half, 6 a quarter clockwise, 8 back."""
    return _header(path, lambda image: image.getexif().get(_ORIENTATION, 1))


def is_stored_turned(path: Path) -> bool:
    """Whether an EXIF tag asks viewers to turn the image by a quarter."""
    return orientation(path) in (5, 6, 7, 8)


def _header(path: Path, read):
    try:
        with Image.open(path) as image:
            return read(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise AprlocError(f'{path}: not a readable image: damaged, or of a format to convert to JPEG first (HEIC, raw)') from None
