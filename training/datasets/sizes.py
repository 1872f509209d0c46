"""Images of another size than their camera's, and images of several shapes."""

from collections import Counter
from dataclasses import replace

from aprloc_ros.errors import AprlocError
from aprloc_ros.training.datasets.capture import Frame
from aprloc_ros.training.datasets.files import image_size, is_stored_turned


def has_aspect(size: tuple[int, int], of: tuple[int, int]) -> bool:
    """Whether an image of one size may be a scaled copy of the other, each side rounded to a pixel."""
    (width, height), (of_width, of_height) = sorted((size, of))
    least = max((width - 1) / of_width, (height - 1) / of_height)
    most = min((width + 1) / of_width, (height + 1) / of_height)
    return least < most


def fitted(frames: tuple[Frame, ...]) -> tuple[tuple[Frame, ...], tuple[str, ...]]:
    """The frames with cameras of the size of their files, and what to say of it. Reads headers alone.

    Raises AprlocError where a file is of another aspect than its camera, or its depth image than the file.
    """
    sizes = [image_size(frame.image_path) for frame in frames]
    foreign = [(frame, size) for frame, size in zip(frames, sizes) if not has_aspect(size, _size(frame))]
    if foreign:
        raise AprlocError(_refusal(*foreign[0], len(foreign), len(frames)))
    for frame, size in zip(frames, sizes):
        _check_depth(frame, size)
    scaled = Counter((size, _size(frame)) for frame, size in zip(frames, sizes) if size != _size(frame))
    notes = tuple(f'{count} of {len(frames)} images are {_text(size)}: their intrinsics of {_text(of)} are scaled'
                  for (size, of), count in scaled.most_common())
    return tuple(frame if size == _size(frame) else replace(frame, camera=frame.camera.resized(*size))
                 for frame, size in zip(frames, sizes)), notes


def main_frames(frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
    """The frames of the aspect that most have; of the larger one where two are even."""
    counts = Counter(map(_size, frames))
    alike = {size: sum(count for other, count in counts.items() if has_aspect(other, size)) for size in counts}
    main = max(counts, key=lambda size: (alike[size], counts[size], size))
    return tuple(frame for frame in frames if has_aspect(_size(frame), main))


def shapes(frames: tuple[Frame, ...]) -> tuple[str, ...]:
    """What to say of a capture of several aspects."""
    main = main_frames(frames)
    others = Counter(map(_size, frames)) - Counter(map(_size, main))
    if not others:
        return ()
    text = ', '.join(f'{count} of {_text(size)}' for size, count in others.most_common())
    said = (f'{len(main)} of {len(frames)} images have the shape of {_text(_size(main[0]))}, which the map takes; the '
            f'others ({text}) count where they overlap with it')
    return (said,)


def _size(frame: Frame) -> tuple[int, int]:
    return frame.camera.width, frame.camera.height


def _text(size: tuple[int, int]) -> str:
    return f'{size[0]}x{size[1]}'


def _refusal(frame: Frame, size: tuple[int, int], count: int, total: int) -> str:
    text = (f'{frame.image_path}: the image is {_text(size)} but its camera of {_text(_size(frame))}, of another '
            f'aspect ({count} of {total} images are); ')
    if has_aspect(size[::-1], _size(frame)):
        turned = ' (its EXIF tag asks viewers to turn it)' if is_stored_turned(frame.image_path) else ''
        return text + (f'it is turned by a quarter{turned}, and pixels are taken as they are stored: turn the files, '
                       f'or give intrinsics and poses of the images as stored')
    return text + 'only scaled copies are understood: give the images that were calibrated, or the intrinsics of these'


def _check_depth(frame: Frame, size: tuple[int, int]):
    if frame.depth_path and not has_aspect(image_size(frame.depth_path), size):
        raise AprlocError(f'{frame.depth_path}: the depth image is {_text(image_size(frame.depth_path))} but its '
                          f'colour image {_text(size)}, of another aspect; depth must be registered to colour')
